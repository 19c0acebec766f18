"""From photo to score in real processes, for a client that knows only the wire contract (docs/contract.md)."""

import hashlib
import socket
from concurrent.futures import ThreadPoolExecutor

from merlind.merlinface.score import score
from tests.client import form, jpeg, png, post, request
from tests.processes import ProcessCase, until

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


class EndToEndTest(ProcessCase):
    """One task, many tasks, and clients that repeat an upload, go away or are browsers."""

    def test_photo_becomes_a_score(self) -> None:
        """A task is received, waits and is ready; the same POST returns the result; an erased task is not found."""
        face = self.merlinface("--delay=0.5", "--waits=2").start()
        merlind = self.merlind(upstream=face.url).start()
        for name, photo in (("Анна", jpeg(b"one")), ("Zoë", png(64))):
            received = post(merlind.port, name, photo)
            self.assertEqual(received.code, 202)
            task = received.json()["task"]
            self.assertEqual(received.json(), {"status": "received", "task": task, "result": None})
            self.assertEqual(received.headers["Location"], f"?task_id={task}")
            self.assertIn("Retry-After", received.headers)
            waiting = merlind.get(task)
            self.assertEqual((waiting.code, waiting.json()), (202, {"status": "wait", "result": None}))
            ready = merlind.get(task, wait=30)
            self.assertEqual((ready.code, ready.json()), (200, {"status": "ready", "result": score(name, photo)}))
            self.assertEqual(ready.headers["Preference-Applied"], "wait=30")
            again = post(merlind.port, f" {name} ", photo)
            expected = {"status": "ready", "task": task, "result": score(name, photo)}
            self.assertEqual((again.code, again.json()), (200, expected))
            self.assertEqual(merlind.spooled(), [])
            self.assertEqual(request(merlind.port, "DELETE", f"/?task_id={task}").code, 204)
            gone = merlind.get(task)
            self.assertEqual((gone.code, gone.json()), (404, {"status": "not_found", "result": None}))

    def test_embedded_upstream_needs_no_other_process(self) -> None:
        """With ``--upstream=embedded:stand-in`` merlind scores photos on its own."""
        merlind = self.merlind(upstream="embedded:stand-in").start()
        received = post(merlind.port, "Ada", jpeg(), {"Prefer": "wait=30"})
        self.assertEqual((received.code, received.json()["result"]), (200, score("Ada", jpeg())))

    def test_equal_submissions_share_one_upload(self) -> None:
        """The same photo and name, sent 32 times at the same moment, make one task and one upload to the upstream."""
        face = self.merlinface("--delay=0.2").start()
        merlind = self.merlind(upstream=face.url).start()
        photo = png(200)
        with ThreadPoolExecutor(16) as threads:
            replies = list(threads.map(lambda _: post(merlind.port, "Ada", photo), range(32)))
        tasks = {reply.json()["task"] for reply in replies}
        self.assertEqual(len(tasks), 1)
        self.assertEqual(merlind.get(tasks.pop(), wait=30).code, 200)
        uploads = merlind.metric('merlind_upstream_requests_total{kind="upload",outcome="pending"}')
        self.assertEqual(uploads, 1)

    def test_unreliable_upstream_loses_nothing(self) -> None:
        """Fifty tasks all get their own result from an upstream that fails three requests in ten."""
        face = self.merlinface("--delay=0.2", "--waits=1", "--trouble=0.3").start()
        merlind = self.merlind(upstream=face.url).start()
        ledger = self.ledger()
        for number in range(50):
            ledger.post(merlind.port, f"Анна {number % 7}", png(32))
        self.drain(merlind, ledger)
        errors = sum(
            merlind.metric(f'merlind_upstream_requests_total{{kind="{kind}",outcome="transient_error"}}')
            for kind in ("upload", "poll")
        )
        self.assertGreater(errors, 0)
        self.figures(tasks=len(ledger.promises), transient_errors=int(errors), losses=0)

    def test_photo_leaves_the_disk(self) -> None:
        """Once a task is ready, no file in the data directory contains its photo."""
        merlind = self.merlind(upstream="embedded:stand-in").start()
        photo = png(100)
        task = post(merlind.port, "Ada", photo).json()["task"]
        self.assertEqual([hashlib.sha256(path.read_bytes()).digest() for path in merlind.spooled()],
                         [hashlib.sha256(photo).digest()])  # fmt: skip
        self.assertEqual(merlind.get(task, wait=30).code, 200)
        self.assertEqual(merlind.spooled(), [])
        piece = photo[200:232]
        for path in merlind.data.rglob("*"):
            self.assertFalse(path.is_file() and piece in path.read_bytes(), path)

    def test_aborted_upload_leaves_nothing(self) -> None:
        """A client that goes away during an upload leaves no file and no task."""
        merlind = self.merlind().start()
        sent = form("Ada", png(600))
        with socket.create_connection(("127.0.0.1", merlind.port)) as client:
            head = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: {sent.content_type}\r\n"
            client.sendall(f"{head}Content-Length: {len(sent.body)}\r\n\r\n".encode() + sent.body[:60000])
            until(lambda: len(merlind.spooled()) == 1, "the upload to begin")
        until(lambda: merlind.spooled() == [], "the upload to be dropped")
        self.assertEqual(merlind.unfinished(), 0)

    def test_browser_gets_a_form(self) -> None:
        """A browser gets a page with a form; a client that doesn't ask for HTML gets 400 without a ``task_id``."""
        merlind = self.merlind().start()
        page = request(merlind.port, "GET", "/", headers=BROWSER)
        self.assertEqual((page.code, page.headers["Content-Type"]), (200, "text/html; charset=utf-8"))
        for piece in (b"<form", b'name="name"', b'name="photo"', b"multipart/form-data"):
            self.assertIn(piece, page.body)
        self.assertEqual(request(merlind.port, "GET", "/", headers={"Accept": "*/*"}).code, 400)

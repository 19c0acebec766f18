"""Clients that are slow, silent, many or gone: deadlines end them, and merlind serves the others meanwhile.

Codes such as H15 are rows of docs/battery.md.
"""

import contextlib
import http.client
import random
import re
import resource
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from merlind.web.server.phase import BODY_GRACE, HEADER_TIMEOUT, LINGER_TIMEOUT
from tests.client import form, png, post, request
from tests.faults.fuzz import Fuzzer
from tests.faults.support import ROUNDS, need
from tests.processes import HOST, Merlind, ProcessCase, until
from tests.upstream import Upstream, UpstreamRequest, reset

SLACK = 15.0
"""How many seconds late a deadline may be on a slow machine."""


def upload_head(content_type: str, length: int) -> bytes:
    """Return the head of a request that uploads ``length`` bytes."""
    return f"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n".encode()


def drip(port: int, start: bytes, rest: bytes, pause: float) -> tuple[float, bytes]:
    """Send ``start``, then ``rest`` byte by byte until the server closes; return the seconds and the response."""
    began = time.monotonic()
    response = b""
    with socket.create_connection((HOST, port)) as client, contextlib.suppress(OSError):
        client.sendall(start)
        client.settimeout(pause)
        for byte in rest:
            client.sendall(bytes([byte]))
            with contextlib.suppress(TimeoutError):
                if not (piece := client.recv(4096)):
                    break
                response += piece
    return time.monotonic() - began, response


class StatusClient:
    """A client that asks for a finished task all the time, and counts responses and what was wrong with any."""

    def __init__(self, merlind: Merlind, task: int) -> None:
        self._merlind = merlind
        self._task = task
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.responses = 0
        self.slowest = 0.0
        self.wrong: list[str] = []

    def __enter__(self) -> "StatusClient":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.is_set():
            began = time.monotonic()
            try:
                code = self._merlind.get(self._task).code
                if code != 200:
                    self.wrong.append(str(code))
            except (OSError, http.client.HTTPException) as error:
                self.wrong.append(repr(error))
            self.responses += 1
            self.slowest = max(self.slowest, time.monotonic() - began)
            time.sleep(0.01)


class ClientCase(ProcessCase):
    """A test that starts a merlind with one finished task."""

    def start(self, *options: str) -> tuple[Merlind, int]:
        merlind = self.merlind(*options).start()
        reply = post(merlind.port, "Ada", png(), {"Prefer": "wait=60"})
        return merlind, int(reply.json()["task"])


class SlowClientTest(ClientCase):
    """Clients that send or read slowly."""

    def test_deadlines_end_attackers_and_spare_honest_uploads(self) -> None:
        """Dripped headers and bodies get 408 at their deadlines; uploads over a bad line are accepted (H15, H18)."""
        merlind, task = self.start()
        sent = form("Ada", png(64))
        slow_head = [("headers", b"GET / HTTP/1.1\r\n", b"X-Slow: " + b"x" * 10_000)]
        slow_body = [("body", upload_head(sent.content_type, 1_000_000), sent.body[:1000] + bytes(10_000))]
        kinds = (slow_head + slow_body) * 10
        with contextlib.ExitStack() as stack, StatusClient(merlind, task) as status_client:
            for _ in range(200):
                stack.enter_context(socket.create_connection((HOST, merlind.port)))
            with ThreadPoolExecutor(100) as threads:
                slow = [threads.submit(drip, merlind.port, start, rest, 2.0) for _, start, rest in kinds]
                honest = [threads.submit(self.upload_slowly, merlind.port, str(n)) for n in range(50)]
                codes = [future.result() for future in honest]
                ended = [future.result() for future in slow]
        self.assertEqual(codes, [202] * 50)
        longest = {"headers": 0.0, "body": 0.0}
        for (kind, _, _), (seconds, response) in zip(kinds, ended, strict=True):
            self.assertTrue(response.startswith(b"HTTP/1.1 408 "), response[:100])
            longest[kind] = max(longest[kind], seconds)
        self.assertLess(longest["headers"], HEADER_TIMEOUT + SLACK)
        self.assertLess(longest["body"], BODY_GRACE + SLACK)
        self.assertEqual(status_client.wrong, [])
        until(lambda: merlind.unfinished() == 0, "the honest uploads to be scored")
        self.assertEqual(merlind.spooled(), [])
        self.assert_no_traceback(merlind)
        self.figures(
            slow=len(kinds),
            slow_and_honest=50,
            idle=200,
            status_responses=status_client.responses,
            slowest_status=f"{status_client.slowest:.3f} s",
            longest_headers=f"{longest['headers']:.0f} s",
            longest_body=f"{longest['body']:.0f} s",
        )

    def upload_slowly(self, port: int, name: str) -> int:
        """Upload a photo over a bad line, at some 16 KB a second, and return the response's code."""
        sent = form(name, png(300))
        with socket.create_connection((HOST, port)) as client:
            client.sendall(upload_head(sent.content_type, len(sent.body)))
            for start in range(0, len(sent.body), 8000):
                client.sendall(sent.body[start : start + 8000])
                time.sleep(0.5)
            client.settimeout(60)
            return int(client.recv(4096).split()[1])

    def test_slowhttptest(self) -> None:
        """Status requests are served during slowhttptest's slow headers, slow bodies and slow reads at once (H15)."""
        need("slowhttptest")
        merlind, task = self.start()
        url = f"http://{HOST}:{merlind.port}/"
        asked = f"{url}?task_id={task}"
        with StatusClient(merlind, task) as status_client:
            attacks = [
                subprocess.Popen(
                    ["slowhttptest", "-c", "300", "-r", "150", "-l", "6", "-i", "1", *mode],
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
                for mode in (["-H", "-u", url], ["-B", "-u", url], ["-X", "-u", asked, "-k", "3"])
            ]
            for attack in attacks:
                self.addCleanup(attack.kill)
                attack.wait(120)
        self.assertEqual(status_client.wrong, [])
        self.assert_no_traceback(merlind)
        self.figures(
            slow_clients=900, status_responses=status_client.responses, slowest_status=f"{status_client.slowest:.3f} s"
        )


class ManyClientsTest(ClientCase):
    """Many clients at once, and clients that go away."""

    def test_connections_past_the_cap_are_refused(self) -> None:
        """Past ``--max-connections`` a client gets 503 or a close at once; others are served once some close (H18)."""
        merlind, _ = self.start("--max-connections=40", "--max-connections-per-client=0")
        until(lambda: merlind.metric("merlind_connections") == 0, "the first connection to end")
        refused = 0
        with contextlib.ExitStack() as stack:
            for _ in range(40):
                stack.enter_context(socket.create_connection((HOST, merlind.port)))
            until(lambda: merlind.metric("merlind_connections") == 40, "forty connections")
            for _ in range(60):
                with socket.create_connection((HOST, merlind.port)) as client:
                    client.settimeout(30)
                    response = client.recv(4096)
                    self.assertTrue(not response or response.startswith(b"HTTP/1.1 503 "), response[:100])
                    refused += 1
        until(lambda: merlind.metric("merlind_connections") == 0, "the connections to end")
        self.assertEqual(request(merlind.port, "OPTIONS").code, 204)
        self.figures(connections=40, refused=refused)

    def test_idle_connections_slow_nobody_down(self) -> None:
        """Status requests are served beside 2,000 idle connections, or as many as the system allows (H18)."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        crowd = 2000 if hard == resource.RLIM_INFINITY else min(2000, hard // 4)
        merlind, task = self.start()
        with contextlib.ExitStack() as stack, StatusClient(merlind, task) as status_client:
            for _ in range(crowd):
                stack.enter_context(socket.create_connection((HOST, merlind.port)))
            time.sleep(1)
        self.assertEqual(status_client.wrong, [])
        self.figures(
            idle=crowd, status_responses=status_client.responses, slowest_status=f"{status_client.slowest:.3f} s"
        )

    def test_aborted_uploads_leave_nothing(self) -> None:
        """An upload that a close, a reset or half a close cuts short leaves no task, file or active upload (H16)."""
        merlind, _ = self.start()
        before = merlind.open_files()
        clients = 100
        kept = []
        for number in range(clients):
            sent = form(f"gone {number}", png(200))
            client = socket.create_connection((HOST, merlind.port))
            part = sent.body[: random.randrange(1, len(sent.body) - 1)]
            client.sendall(upload_head(sent.content_type, len(sent.body)) + part)
            if number % 3 == 0:
                client.close()
            elif number % 3 == 1:
                reset(client)
            else:
                client.shutdown(socket.SHUT_WR)
                kept.append(client)
        until(lambda: merlind.metric("merlind_active_uploads") == 0, "the uploads to be dropped")
        for client in kept:
            client.close()
        self.assertEqual(merlind.spooled(), [])
        self.assertEqual(merlind.unfinished(), 0)
        until(lambda: merlind.open_files() <= before + 1, "the connections to be closed")
        self.assert_no_traceback(merlind)
        self.figures(aborted_uploads=clients, rows=0, files=0)

    def test_reset_before_the_response_loses_no_task(self) -> None:
        """A task whose client resets after the last byte is kept, and repeating the upload finds it."""
        merlind, _ = self.start()
        for number in range(20):
            name, photo = f"gone {number}", png()
            sent = form(name, photo)
            with socket.create_connection((HOST, merlind.port)) as client:
                client.sendall(upload_head(sent.content_type, len(sent.body)) + sent.body)
                reset(client)
            self.assertIn(post(merlind.port, name, photo).code, (200, 202))
        until(lambda: merlind.unfinished() == 0, "the tasks to finish")
        self.assertEqual(merlind.metric('merlind_tasks{state="ready"}'), 21)
        self.assertEqual(merlind.spooled(), [])
        self.assert_no_traceback(merlind)
        self.figures(gone=20, tasks=20)


class HalfClosedTest(ClientCase):
    """Clients that close their direction once they have sent their requests, as ``nc -N`` does."""

    def ask(self, merlind: Merlind, data: bytes) -> bytes:
        """Send requests, close our direction, and return all that comes back until the connection closes."""
        response = b""
        with socket.create_connection((HOST, merlind.port)) as client:
            client.settimeout(60)
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            while piece := client.recv(65536):
                response += piece
        return response

    def test_half_closed_clients_get_every_response(self) -> None:
        """A response to each request arrives, also to pipelined ones, and then the connection closes."""
        merlind, task = self.start()
        sent = form("Ada", png(200))
        status = b"GET /?task_id=%d HTTP/1.1\r\nHost: x\r\n\r\n" % task
        upload = upload_head(sent.content_type, len(sent.body)) + sent.body
        for _ in range(20):
            self.assertTrue(self.ask(merlind, status).startswith(b"HTTP/1.1 200 "))
            self.assertIn(self.ask(merlind, upload).split()[1], (b"200", b"202"))
            self.assertTrue(self.ask(merlind, b"GET / HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 400 "))
            codes = re.findall(rb"HTTP/1.1 (\d+) ", self.ask(merlind, status + upload + status * 2))
            self.assertEqual(len(codes), 4)
        until(lambda: merlind.metric("merlind_connections") == 0, "the connections to be closed")
        self.assert_no_traceback(merlind)

    def test_long_poll_of_a_gone_client_ends_soon(self) -> None:
        """A long poll ends soon after its client goes away, which looks like half a close at first."""
        upstream = Upstream(self.addCleanup, UpstreamRequest.keep_silent)
        merlind = self.merlind(upstream=upstream.url).start()
        task = post(merlind.port, "Ada", png()).json()["task"]
        long_poll = b"GET /?task_id=%d HTTP/1.1\r\nHost: x\r\nPrefer: wait=60\r\n\r\n" % task
        for _ in range(20):
            with socket.create_connection((HOST, merlind.port)) as client:
                client.sendall(long_poll)
        until(
            lambda: merlind.metric("merlind_connections") == 0, "the connections to be closed", LINGER_TIMEOUT + SLACK
        )
        self.assertEqual(merlind.metric("merlind_long_polls"), 0)
        self.assert_no_traceback(merlind)


class FuzzTest(ClientCase):
    """Random bytes; ``python -m tests.faults.fuzz`` sends more of them."""

    def test_random_bytes_do_no_harm(self) -> None:
        """merlind responds to damaged requests or hangs up, goes on, and keeps nothing of them."""
        merlind, task = self.start()
        fuzzer = Fuzzer(merlind, random.randrange(1 << 32))
        fuzzer.run(ROUNDS * 40)
        self.assertEqual(merlind.get(task).code, 200)
        self.assert_no_traceback(merlind)
        until(lambda: merlind.metric("merlind_active_uploads") == 0, "the uploads to be dropped")
        until(lambda: merlind.unfinished() == 0, "the accepted tasks to finish")
        self.assertEqual(merlind.spooled(), [])
        self.figures(seed=fuzzer.seed, cases=fuzzer.cases, responses=dict(sorted(fuzzer.codes.items())))

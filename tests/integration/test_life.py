"""Stops, kills and new starts: what was acknowledged goes on where it was."""

import http.client
import signal
import socket
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from merlind.storage.sqlite import database
from merlind.tasks.queue import WINDOW
from tests.client import Load, form, jpeg, png, post
from tests.processes import Merlind, ProcessCase, until
from tests.upstream import Exchange, Upstream

UNFINISHED = 100_000


class StopTest(ProcessCase):
    """SIGTERM."""

    def start_with_work_in_hand(self) -> tuple[Merlind, int]:
        """A merlind with an exchange under way, a client that is held and an upload that has begun; and its task."""
        upstream = Upstream(self.addCleanup, Exchange.keep_silent)
        merlind = self.merlind(upstream=upstream.url).start()
        task: int = post(merlind.port, "Ada", jpeg()).json()["task"]
        until(lambda: upstream.exchanges, "the upload to be sent on")
        held = ThreadPoolExecutor(1)
        self.addCleanup(held.shutdown)
        self.held = held.submit(merlind.get, task, 60)
        until(lambda: merlind.metric("merlind_long_polls") == 1, "the client to be held")
        self.uploading = socket.create_connection(("127.0.0.1", merlind.port))
        self.addCleanup(self.uploading.close)
        sent = form("Bob", png(600))
        head = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: {sent.content_type}\r\n"
        self.uploading.sendall(f"{head}Content-Length: {len(sent.body)}\r\n\r\n".encode() + sent.body[:5000])
        until(lambda: merlind.metric("merlind_active_uploads") == 1, "the upload to begin")
        return merlind, task

    def test_work_in_hand(self) -> None:
        """It lets held clients go, gives the rest a few seconds, ends by the signal, and has lost nothing."""
        merlind, task = self.start_with_work_in_hand()
        began = time.monotonic()
        self.assertEqual(merlind.stop(), -signal.SIGTERM)
        took = time.monotonic() - began
        self.assertEqual(self.held.result().code, 202)
        self.assertIn("stopped", merlind.log())
        self.assert_no_traceback(merlind)
        merlind.start()
        self.assertEqual(merlind.get(task).code, 202)
        self.figures(seconds_to_stop=f"{took:.1f}")

    def test_second_signal(self) -> None:
        """A second one ends it at once, and still nothing is lost."""
        merlind, task = self.start_with_work_in_hand()
        merlind.signal(signal.SIGTERM)
        until(lambda: "stopping" in merlind.log(), "the stop to begin")
        self.assertTrue(merlind.running)
        merlind.signal(signal.SIGTERM)
        self.assertEqual(merlind.wait(), 128 + signal.SIGTERM)
        merlind.start()
        self.assertEqual(merlind.get(task).code, 202)

    def test_idle(self) -> None:
        """With nothing in hand, connections that are kept open don't hold it up."""
        merlind = self.merlind().start()
        connection = http.client.HTTPConnection("127.0.0.1", merlind.port)
        self.addCleanup(connection.close)
        connection.request("OPTIONS", "/")
        connection.getresponse().read()
        began = time.monotonic()
        self.assertEqual(merlind.stop(), -signal.SIGTERM)
        self.figures(seconds_to_stop=f"{time.monotonic() - began:.1f}")


class KillTest(ProcessCase):
    """SIGKILL in the middle of work; the fault suite does it more often, and at worse moments."""

    def test_kill_and_start(self) -> None:
        """All that was acknowledged gets ready, and each task has its own result."""
        face = self.merlinface("--delay=0.3", "--waits=1").start()
        merlind = self.merlind(upstream=face.url)
        ledger = self.ledger()
        kills = 0
        with Load(merlind.port, ledger) as load:
            for _ in range(4):
                merlind.start()
                known = len(ledger.promises)
                until(partial(lambda known: len(ledger.promises) > known + 10, known), "some tasks to be acknowledged")
                merlind.kill()
                kills += 1
            merlind.start()
        self.assertEqual(load.broken, [])
        self.drain(merlind, ledger)
        self.assert_no_traceback(merlind)
        self.figures(kills=kills, requests_tried=load.tried, acknowledged=len(ledger.promises), losses=0)

    def test_remains_are_swept(self) -> None:
        """Half of an upload, and a photo without a task, are gone after a new start."""
        merlind = self.merlind().start()
        sent = form("Bob", png(600))
        with socket.create_connection(("127.0.0.1", merlind.port)) as client:
            head = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: {sent.content_type}\r\n"
            client.sendall(f"{head}Content-Length: {len(sent.body)}\r\n\r\n".encode() + sent.body[:60000])
            until(lambda: len(merlind.spooled()) == 1, "the upload to begin")
            merlind.kill()
        (merlind.data / "spool" / "4711").write_bytes(jpeg())
        self.assertEqual(len(merlind.spooled()), 2)
        merlind.start()
        until(lambda: merlind.spooled() == [], "the remains to be swept")


class ManyTasksTest(ProcessCase):
    """A start with very much unfinished."""

    def test_hundred_thousand(self) -> None:
        """It serves before it has read them: pages are read as there is room, and a status is asked of the disk."""
        upstream = Upstream(self.addCleanup, Exchange.keep_silent)
        merlind = self.merlind("--max-pending=200000", upstream=upstream.url)
        merlind.data.mkdir(mode=0o700, parents=True)
        file = merlind.data / "tasks.sqlite"
        database.prepare(file)
        connection = sqlite3.connect(file)
        with connection:
            connection.executemany(
                "INSERT INTO task (id, user, name, sha256, size, media_type, state, since, due, retry_id, attempts)"
                " VALUES (?, '', 'Ada', ?, 1000, 'image/png', 'poll', 0, ?, ?, 0)",
                ((n, n.to_bytes(32, "big"), n / UNFINISHED, f"id-{n}") for n in range(1, UNFINISHED + 1)),
            )
        connection.close()
        began = time.monotonic()
        merlind.start()
        first = merlind.get(UNFINISHED)
        served = time.monotonic() - began
        in_memory = merlind.metric("merlind_tasks_due") + merlind.metric("merlind_upstream_in_flight")
        self.assertEqual(first.code, 202)
        self.assertLessEqual(in_memory, WINDOW)
        self.assertEqual(post(merlind.port, "Bob", jpeg()).code, 202)
        self.assertEqual(merlind.unfinished(), UNFINISHED + 1)
        until(lambda: upstream.exchanges, "the polls to begin")
        self.assertEqual(merlind.get(UNFINISHED // 2).code, 202)
        self.figures(unfinished=UNFINISHED, seconds_to_the_first_answer=f"{served:.2f}", in_memory=int(in_memory))

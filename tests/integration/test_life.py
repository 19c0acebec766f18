"""Stops, kills and restarts: acknowledged tasks continue where they were."""

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
from tests.upstream import Upstream, UpstreamRequest

UNFINISHED = 100_000


class StopTest(ProcessCase):
    """A stop by SIGTERM."""

    def start_with_work_in_flight(self) -> tuple[Merlind, int]:
        """Start a merlind with a request to the upstream, a long poll and an upload in flight; return the task too."""
        upstream = Upstream(self.addCleanup, UpstreamRequest.keep_silent)
        merlind = self.merlind(upstream=upstream.url).start()
        task: int = post(merlind.port, "Ada", jpeg()).json()["task"]
        until(lambda: upstream.requests, "the upload to reach the upstream")
        thread = ThreadPoolExecutor(1)
        self.addCleanup(thread.shutdown)
        self.long_poll = thread.submit(merlind.get, task, 60)
        until(lambda: merlind.metric("merlind_long_polls") == 1, "the long poll to begin")
        self.uploading = socket.create_connection(("127.0.0.1", merlind.port))
        self.addCleanup(self.uploading.close)
        sent = form("Bob", png(600))
        head = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: {sent.content_type}\r\n"
        self.uploading.sendall(f"{head}Content-Length: {len(sent.body)}\r\n\r\n".encode() + sent.body[:5000])
        until(lambda: merlind.metric("merlind_active_uploads") == 1, "the upload to begin")
        return merlind, task

    def test_stop_loses_nothing_in_flight(self) -> None:
        """A stop ends long polls at once, gives the rest a few seconds and ends by the signal; no task is lost."""
        merlind, task = self.start_with_work_in_flight()
        began = time.monotonic()
        self.assertEqual(merlind.stop(), -signal.SIGTERM)
        took = time.monotonic() - began
        self.assertEqual(self.long_poll.result().code, 202)
        self.assertIn("stopped", merlind.log())
        self.assert_no_traceback(merlind)
        merlind.start()
        self.assertEqual(merlind.get(task).code, 202)
        self.figures(seconds_to_stop=f"{took:.1f}")

    def test_second_signal_ends_at_once(self) -> None:
        """A second SIGTERM ends merlind at once, and still no task is lost."""
        merlind, task = self.start_with_work_in_flight()
        merlind.signal(signal.SIGTERM)
        until(lambda: "stopping" in merlind.log(), "the stop to begin")
        self.assertTrue(merlind.running)
        merlind.signal(signal.SIGTERM)
        self.assertEqual(merlind.wait(), 128 + signal.SIGTERM)
        merlind.start()
        self.assertEqual(merlind.get(task).code, 202)

    def test_idle_connections_do_not_delay_a_stop(self) -> None:
        """With nothing in flight, merlind stops although a client keeps its connection open."""
        merlind = self.merlind().start()
        connection = http.client.HTTPConnection("127.0.0.1", merlind.port)
        self.addCleanup(connection.close)
        connection.request("OPTIONS", "/")
        connection.getresponse().read()
        began = time.monotonic()
        self.assertEqual(merlind.stop(), -signal.SIGTERM)
        self.figures(seconds_to_stop=f"{time.monotonic() - began:.1f}")


class KillTest(ProcessCase):
    """Ends by SIGKILL under load; tests/faults/test_kill.py has more of them, at chosen system calls."""

    def test_kills_lose_nothing_acknowledged(self) -> None:
        """Every acknowledged task becomes ready, with its own result."""
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

    def test_restart_removes_orphaned_photos(self) -> None:
        """A start removes what is left of an upload, and sets aside a photo that belongs to no task (D12)."""
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
        until(lambda: merlind.spooled() == [], "the orphans to be removed")
        (lost,) = (merlind.data / "lost").iterdir()
        self.assertRegex(lost.name, r"^4711\.\d+$")
        self.assertEqual(lost.read_bytes(), jpeg())
        until(lambda: "1 photos (" in merlind.log(), "the line about it")


class ManyTasksTest(ProcessCase):
    """A start with a hundred thousand unfinished tasks."""

    def test_serves_before_all_tasks_are_loaded(self) -> None:
        """It responds at once, keeps a window of tasks in memory, and reads other tasks from the database."""
        upstream = Upstream(self.addCleanup, UpstreamRequest.keep_silent)
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
        until(lambda: upstream.requests, "the polls to begin")
        self.assertEqual(merlind.get(UNFINISHED // 2).code, 202)
        self.figures(unfinished=UNFINISHED, seconds_to_first_response=f"{served:.2f}", in_memory=int(in_memory))

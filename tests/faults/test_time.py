"""A wall clock that steps (D7), and too few open files (D6). The codes are rows of docs/battery.md."""

import socket
import time

from tests.client import png, post, request
from tests.faults.support import library
from tests.processes import HOST, ProcessCase, free_port, until
from tests.upstream import Upstream, UpstreamRequest

DAYS = 2 * 86400
"""A large step of the clock: two days, in seconds."""


class SteppingClockTest(ProcessCase):
    """The wall clock steps forward and back (D7)."""

    def test_steps_change_neither_polls_nor_deadlines(self) -> None:
        """Polls go on at their interval, without storm or stall, and no task is given up or deleted too early."""
        stamp = self.folder / "clock"
        stamp.write_text("+0\n")
        env = {
            "LD_PRELOAD": library("libfaketimeMT.so.1"),
            "FAKETIME_TIMESTAMP_FILE": str(stamp),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }

        def script(received: UpstreamRequest) -> object:
            return received.wait(received.retry_id or f"id-{received.name}")

        upstream = Upstream(self.addCleanup, script)
        merlind = self.merlind("--poll-interval=0.25", upstream=upstream.url, env=env).start()
        tasks = [post(merlind.port, str(number), png()).json()["task"] for number in range(10)]
        until(lambda: len(upstream.seen("poll")) > 20, "the polls to begin")

        def date() -> str:
            return str(request(merlind.port, "OPTIONS").headers["Date"])

        def polls_in(seconds: float) -> int:
            before = len(upstream.seen("poll"))
            time.sleep(seconds)
            return len(upstream.seen("poll")) - before

        dates, counts = {date()[:16]}, [polls_in(2.0)]
        for step in (DAYS, 0, -DAYS, 0):
            stamp.write_text(f"{step:+d}\n")
            counts.append(polls_in(2.0))
            dates.add(date()[:16])
        self.assertEqual(len(dates), 3, "the clock didn't step")
        for count in counts:
            # Ten tasks make 80 polls in two seconds; a storm would be thousands, a stall none.
            self.assertGreater(count, 8, counts)
            self.assertLess(count, 400, counts)
        for task in tasks:
            self.assertEqual(merlind.get(task).code, 202)
        self.assert_no_traceback(merlind)
        self.figures(steps=4, polls_in_two_seconds_each=counts)

    def test_results_outlive_a_wrong_clock(self) -> None:
        """Neither a start with a clock 400 days ahead or behind nor a step in mid-run deletes a result (D13)."""
        stamp = self.folder / "clock"
        env = {
            "LD_PRELOAD": library("libfaketimeMT.so.1"),
            "FAKETIME_TIMESTAMP_FILE": str(stamp),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }
        merlind = self.merlind("--retention=60", env=env)
        tasks = []
        for days in (-400, 0, 400, 0):
            stamp.write_text(f"{days * 86400:+d}\n")
            merlind.start()
            tasks.append(post(merlind.port, str(days), png(), {"Prefer": "wait=30"}).json()["task"])
            stamp.write_text(f"{400 * 86400:+d}\n")
            time.sleep(7)  # a sweep comes each 6 s
            self.assertEqual([merlind.get(task).code for task in tasks], [200] * len(tasks))
            merlind.stop()
        self.assert_no_traceback(merlind)
        self.figures(starts=4, results_kept=len(tasks))


class FewFilesTest(ProcessCase):
    """A limit of 64 open files, and more clients than that (D6)."""

    def test_too_many_connections_cause_no_spinning(self) -> None:
        """With 200 connections merlind goes on without spinning, and it serves again once they close."""
        merlind = self.merlind(files=64).start()
        clients = []
        for _ in range(200):
            client = socket.create_connection((HOST, merlind.port))
            client.settimeout(30)
            clients.append(client)
        before = merlind.cpu_seconds()
        time.sleep(3)
        spent = merlind.cpu_seconds() - before
        self.assertLess(spent, 1.5)
        self.assertTrue(merlind.running)
        for client in clients:
            client.close()
        until(merlind.serves, "merlind to serve again")
        self.assertEqual(post(merlind.port, "Ada", png(), {"Prefer": "wait=30"}).code, 200)
        self.assertEqual(merlind.health().code, 200)
        self.assert_no_traceback(merlind)
        self.figures(files=64, connections=200, processor_seconds_in_three=f"{spent:.2f}")

    def test_tasks_outlive_a_shortage_of_files(self) -> None:
        """While no photo can be opened for want of files, tasks wait; afterwards all of them become ready."""
        port = free_port()
        merlind = self.merlind("--poll-interval=0.05", upstream=f"http://{HOST}:{port}/api/", files=64).start()
        ledger = self.ledger()
        for number in range(20):
            ledger.post(merlind.port, str(number), png())
        Upstream(self.addCleanup, UpstreamRequest.score, port)
        floods = 0
        end = time.monotonic() + 4
        while time.monotonic() < end:
            clients = [socket.create_connection((HOST, merlind.port)) for _ in range(100)]
            time.sleep(0.2)
            for client in clients:
                client.close()
            floods += 1
        until(merlind.serves, "merlind to serve again")
        self.drain(merlind, ledger)
        self.assert_no_traceback(merlind)
        self.figures(files=64, floods=floods, tasks=20, losses=0)

    def test_too_many_uploads_are_refused(self) -> None:
        """Of 100 uploads at once some go on and the others get 503 or a close; none leaves a file."""
        merlind = self.merlind(files=64).start()
        accepted = refused = 0
        clients = []
        for _ in range(100):
            client = socket.create_connection((HOST, merlind.port))
            client.settimeout(30)
            clients.append(client)
            head = "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n"
            body = '--b\r\nContent-Disposition: form-data; name="photo"; filename="p"\r\n\r\n'
            try:
                client.sendall(f"{head}Content-Length: 5000\r\n\r\n{body}".encode() + png())
            except OSError:
                refused += 1
        time.sleep(2)  # until all responses have arrived
        self.assertTrue(merlind.running)
        for client in clients:
            try:
                client.setblocking(False)
                refused += bool(client.recv(1000, socket.MSG_PEEK))
            except BlockingIOError:
                accepted += 1
            except OSError:
                refused += 1
            client.close()
        self.assertGreater(accepted, 0)
        self.assertGreater(refused, 0)
        until(lambda: merlind.spooled() == [], "the uploads to be dropped")
        until(merlind.serves, "merlind to serve again")
        self.assert_no_traceback(merlind)
        self.figures(files=64, uploads=100, accepted=accepted, refused=refused)

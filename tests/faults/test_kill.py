"""Kills and stops at any moment: the next start has every acknowledged task.

Codes such as D1 are rows of docs/battery.md.
"""

import os
import random
import signal
import sqlite3
import time
from contextlib import closing
from functools import partial
from threading import Thread

from tests.client import GONE_AWAY, Load, png, post, request
from tests.faults.support import ROUNDS, Strace, died_by, need, spread
from tests.processes import Merlind, ProcessCase, until
from tests.upstream import Upstream, UpstreamRequest

CALLS = ("openat", "write", "rename", "fsync,fdatasync", "syncfs", "pwrite64", "unlink", "sendto")
"""System calls to kill merlind at: those that receive, commit, flush and remove a photo, commit a task, and respond."""


class KillTest(ProcessCase):
    """Ends by SIGKILL (D1, D11)."""

    def test_kills_at_random_moments_lose_nothing(self) -> None:
        """No acknowledged task is lost by kills under load, some of them during the start (D1)."""
        face = self.merlinface("--delay=0.2", "--waits=1", "--trouble=0.1").start()
        merlind = self.merlind(upstream=face.url)
        ledger = self.ledger()
        with Load(merlind.port, ledger, largest=600) as load:
            for _ in range(ROUNDS):
                merlind.spawn()
                time.sleep(random.uniform(0.1, 1.5))
                merlind.kill()
            merlind.start()
            until(lambda: len(ledger.promises) > ROUNDS, "some tasks to be acknowledged")
        self.assertEqual(load.broken, [])
        self.drain(merlind, ledger)
        self.assert_no_traceback(merlind)
        self.figures(kills=ROUNDS, requests_tried=load.tried, acknowledged=len(ledger.promises), losses=0)

    def test_kills_at_system_calls_lose_nothing(self) -> None:
        """No acknowledged task is lost by kills at any of CALLS, at the first such call and at later ones (D1)."""
        face = self.merlinface("--delay=0.1", "--waits=1").start()
        merlind = self.merlind(upstream=face.url)
        ledger = self.ledger()
        kills = tried = 0
        for call in CALLS:
            for when in spread(ROUNDS // 6, 25):
                merlind.start()
                strace = Strace(self, merlind, f"{call}:signal=KILL:when={when}")
                with Load(merlind.port, ledger, largest=700) as load:
                    until(lambda: not merlind.running, f"the kill at {call} number {when}")
                self.assertTrue(died_by(merlind), merlind.log()[-2000:])
                strace.detach()
                self.assertEqual(load.broken, [])
                kills += 1
                tried += load.tried
        merlind.start()
        self.drain(merlind, ledger)
        self.figures(calls=len(CALLS), kills=kills, requests_tried=tried, acknowledged=len(ledger.promises), losses=0)

    def test_killed_first_start_can_be_repeated(self) -> None:
        """After a kill while the database is being made, the next start works (D1)."""
        need("strace")
        kills = starts = 0
        for call, count in (("pwrite64", ROUNDS // 6), ("fsync,fdatasync", ROUNDS // 12)):
            for when in spread(count, 8):
                starts += 1
                merlind = Merlind(self.addCleanup, self.folder / str(starts))
                whole = merlind.command
                # With -D the process that we start is merlind itself, and strace its grandchild.
                inject = f"inject={call}:signal=KILL:when={when}"
                strace = ["strace", "-D", "-f", "-o", "/dev/null", "-e", f"trace={call}", "-e", inject]
                merlind.command = [*strace, *whole]
                merlind.spawn()
                until(
                    partial(lambda daemon: not daemon.running or "starting on" in daemon.log(), merlind),
                    "a kill or a start",
                )
                kills += died_by(merlind)
                merlind.kill()
                merlind.command = whole
                merlind.start()
                self.assertEqual(merlind.health().code, 200, merlind.log())
                self.assertEqual(post(merlind.port, "Ada", png()).code, 202)
                merlind.kill()
                self.assert_no_traceback(merlind)
        self.assertGreater(kills, 0)
        self.figures(first_starts=starts, kills=kills)

    def test_kill_before_the_retry_id_is_stored(self) -> None:
        """A kill between the upstream's response and the storing of its ``retry_id`` costs at most one upload (D11)."""
        rounds = max(3, ROUNDS // 5)

        def script(request: UpstreamRequest) -> object:
            if request.kind == "poll":
                return request.respond_json(status="ready", result=0.5)
            if request.nth > 1:
                return request.wait(f"id-{request.name}")
            # Kill before merlind reads the response or just after it, when the retry_id may be stored or not.
            request.wait(f"id-{request.name}")
            time.sleep(int(request.name) % 3 * 0.001)
            os.kill(merlind.pid, signal.SIGKILL)
            return False

        upstream = Upstream(self.addCleanup, script)
        merlind = self.merlind(upstream=upstream.url)
        tasks: list[int] = []
        for number in range(rounds):
            merlind.start()
            for task in tasks:
                merlind.get(task, wait=30)  # so that each kill hits the upload of one photo only
            tasks.append(post(merlind.port, str(number), png()).json()["task"])
            until(lambda: not merlind.running, "the kill")
        merlind.start()
        for task in tasks:
            self.assertEqual(merlind.get(task, wait=30).json(), {"status": "ready", "result": 0.5})
        uploads = [len(upstream.seen("upload", str(number))) for number in range(rounds)]
        self.assertLessEqual(max(uploads), 2)
        self.figures(kills=rounds, uploads_of_each_photo=uploads)


class KeptPhotosTest(ProcessCase):
    """Kills while tasks are given up, sent again or retried, and the photos kept for that are deleted (D1)."""

    CALLS = ("rename", "unlink", "pwrite64", "fsync,fdatasync")

    def test_kills_lose_no_photo_and_leave_none(self) -> None:
        """After each kill, the photos in the spool are those of the tasks that have one; each can be sent again."""
        self.works = False
        upstream = Upstream(self.addCleanup, self.respond)
        merlind = self.merlind("--give-up-after=0.3", "--keep-failed=1", upstream=upstream.url)
        acknowledged: dict[str, int] = {}
        kills = 0
        for call in self.CALLS:
            for when in spread(max(2, ROUNDS // 12), 25):
                merlind.start()
                strace = Strace(self, merlind, f"{call}:signal=KILL:when={when}")
                self.send_until_killed(merlind, acknowledged)
                self.assertTrue(died_by(merlind), merlind.log()[-2000:])
                strace.detach()
                kills += 1
                merlind.start()
                time.sleep(0.5)  # the sweep of photos at the start takes less
                self.assertEqual(merlind.stop(), -signal.SIGTERM)
                self.assertEqual(self.spooled(merlind), self.with_photo(merlind))

        self.works = True
        merlind.start()
        for name, task in acknowledged.items():
            reply = post(merlind.port, name, self.photo(name))
            self.assertEqual(reply.json()["task"], task)
            self.assertEqual(merlind.get(task, wait=30).json(), {"status": "ready", "result": 0.5})
        until(lambda: merlind.spooled() == [], "the spool to be empty")
        self.assert_no_traceback(merlind)
        self.figures(kills=kills, acknowledged=len(acknowledged), losses=0)

    def respond(self, request: UpstreamRequest) -> object:
        return request.respond_json(status="ready", result=0.5) if self.works else request.respond(503, b"")

    def photo(self, name: str) -> bytes:
        return b"\xff\xd8\xff\xe0 the photo of " + name.encode("ascii")

    def send_until_killed(self, merlind: Merlind, acknowledged: dict[str, int]) -> None:
        """Send some of the same sixty, again and again: some start anew, of others the photo's time is over."""
        while merlind.running:
            for name in map(str, random.sample(range(60), 6)):
                try:
                    reply = post(merlind.port, name, self.photo(name))
                except GONE_AWAY:
                    break
                self.assertEqual(reply.code, 202)
                self.assertEqual(acknowledged.setdefault(name, reply.json()["task"]), reply.json()["task"])
            try:
                request(
                    merlind.admin, "POST", "/tasks/retry", b'{"state":"failed"}', {"Content-Type": "application/json"}
                )
            except GONE_AWAY:
                continue
            time.sleep(random.uniform(0.1, 2.0))

    def spooled(self, merlind: Merlind) -> set[int]:
        return {int(path.name) for path in merlind.spooled()}

    def with_photo(self, merlind: Merlind) -> set[int]:
        """The tasks that have a photo, according to the database."""
        with closing(sqlite3.connect(merlind.data / "tasks.sqlite")) as connection:
            rows = connection.execute("SELECT id FROM task WHERE finished IS NULL OR kept_until IS NOT NULL")
            return {task_id for (task_id,) in rows}


class TerminateTest(ProcessCase):
    """Stops by SIGTERM in the middle of work (D8)."""

    def test_stops_under_load_lose_nothing(self) -> None:
        """Each stop, by one signal or two, ends within its deadline, and no acknowledged task is lost."""
        rounds = max(3, ROUNDS // 6)
        face = self.merlinface("--delay=0.2", "--waits=1").start()
        merlind = self.merlind(upstream=face.url)
        ledger = self.ledger()
        slowest = 0.0
        with Load(merlind.port, ledger, clients=8) as load:
            for number in range(rounds):
                merlind.start()
                known = len(ledger.promises)
                until(partial(lambda known: len(ledger.promises) > known + 20, known), "some tasks to be acknowledged")
                began = time.monotonic()
                merlind.signal(signal.SIGTERM)
                if number % 2:
                    time.sleep(random.uniform(0, 0.05))
                    merlind.signal(signal.SIGTERM)
                status = merlind.wait()
                slowest = max(slowest, time.monotonic() - began)
                self.assertIn(status, (-signal.SIGTERM, 128 + signal.SIGTERM, 0))
            merlind.start()
        self.assertEqual(load.broken, [])
        self.drain(merlind, ledger)
        self.assert_no_traceback(merlind)
        self.figures(
            stops=rounds,
            slowest_seconds=f"{slowest:.1f}",
            requests_tried=load.tried,
            acknowledged=len(ledger.promises),
            losses=0,
        )

    def test_stop_during_a_commit_loses_nothing(self) -> None:
        """A stop while a flush is slow, by one signal or two, ends merlind, and no acknowledged task is lost."""
        merlind = self.merlind()
        ledger = self.ledger()
        for signals in (1, 2):
            merlind.start()
            strace = Strace(self, merlind, "fsync,fdatasync,syncfs:delay_enter=500000")

            def send(signals: int = signals) -> None:
                photo = png()
                try:
                    reply = post(merlind.port, f"{signals} signals", photo)
                    if reply.code == 202:
                        ledger.note(reply, f"{signals} signals", photo)
                except GONE_AWAY:
                    pass

            sender = Thread(target=send)
            sender.start()
            time.sleep(0.3)
            for _ in range(signals):
                merlind.signal(signal.SIGTERM)
                time.sleep(0.2)
            self.assertIn(merlind.wait(), (-signal.SIGTERM, 128 + signal.SIGTERM, 128 + signal.SIGALRM))
            sender.join()
            strace.detach()
        merlind.start()
        self.drain(merlind, ledger)
        self.figures(stops=2, acknowledged=len(ledger.promises), losses=0)

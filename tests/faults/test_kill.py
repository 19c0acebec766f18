"""Kills at any moment (D1, D8, D11): what was acknowledged is there after the next start."""

import os
import random
import signal
import time
from functools import partial
from threading import Thread

from tests.client import GONE_AWAY, Load, png, post
from tests.faults.support import ROUNDS, Strace, died_by, need, spread
from tests.processes import Merlind, ProcessCase, until
from tests.upstream import Upstream, UpstreamRequest

CALLS = ("openat", "write", "rename", "fsync,fdatasync", "syncfs", "pwrite64", "unlink", "sendto")
"""What it is killed at: to take a photo, to place it, to flush, to commit, to remove a photo, to answer."""


class KillTest(ProcessCase):
    """kill -9 (D1)."""

    def test_random_kills(self) -> None:
        """At random moments under load, the start-up among them."""
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

    def test_kills_at_system_calls(self) -> None:
        """At each kind of system call that changes anything, the first and some later ones."""
        face = self.merlinface("--delay=0.1", "--waits=1").start()
        merlind = self.merlind(upstream=face.url)
        ledger = self.ledger()
        kills = tried = 0
        for call in CALLS:
            for when in spread(ROUNDS // 6, 25):
                merlind.start()
                strace = Strace(self, merlind, f"{call}:signal=KILL:when={when}")
                with Load(merlind.port, ledger, largest=700) as load:
                    until(lambda: not merlind.running, f"the end at {call} number {when}")
                self.assertTrue(died_by(merlind), merlind.log()[-2000:])
                strace.detach()
                self.assertEqual(load.broken, [])
                kills += 1
                tried += load.tried
        merlind.start()
        self.drain(merlind, ledger)
        self.figures(calls=len(CALLS), kills=kills, requests_tried=tried, acknowledged=len(ledger.promises), losses=0)

    def test_kills_in_the_first_start(self) -> None:
        """While the database is being made: the next start makes it, or goes on with it."""
        need("strace")
        kills = starts = 0
        for call, count in (("pwrite64", ROUNDS // 6), ("fsync,fdatasync", ROUNDS // 12)):
            for when in spread(count, 8):
                starts += 1
                merlind = Merlind(self.addCleanup, self.folder / str(starts))
                whole = merlind.command
                # -D: the process that is started is merlind, and strace its grandchild.
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

    def test_killed_after_the_yes(self) -> None:
        """Killed when the upstream has taken the photo, and its id isn't stored yet (D11): one more upload at most."""
        rounds = max(3, ROUNDS // 5)

        def script(request: UpstreamRequest) -> object:
            if request.kind == "poll":
                return request.respond_json(status="ready", result=0.5)
            if request.nth > 1:
                return request.wait(f"id-{request.name}")
            # Before the yes arrives, or just after it does, when the id may be stored or not.
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
                merlind.get(task, wait=30)  # so that each photo is under way in one kill alone
            tasks.append(post(merlind.port, str(number), png()).json()["task"])
            until(lambda: not merlind.running, "the kill")
        merlind.start()
        for task in tasks:
            self.assertEqual(merlind.get(task, wait=30).json(), {"status": "ready", "result": 0.5})
        uploads = [len(upstream.seen("upload", str(number))) for number in range(rounds)]
        self.assertLessEqual(max(uploads), 2)
        self.figures(kills=rounds, uploads_of_each_photo=uploads)


class TerminateTest(ProcessCase):
    """SIGTERM in the middle of things (D8)."""

    def test_under_load(self) -> None:
        """Each time it ends within its deadline, and everything acknowledged is there."""
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

    def test_in_a_commit(self) -> None:
        """While a flush takes its time: the commit ends, and then the process; a second signal ends it at once."""
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

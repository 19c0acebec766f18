"""A hostile disk: power loss (D2), failing flushes (D3), full (D4), read-only (D5), files that went bad (D10)."""

import contextlib
import os
import re
import subprocess
import threading
import time
from functools import partial
from pathlib import Path

from merlind.merlinface.score import score_of_digest
from tests.client import Load, png, post
from tests.faults.support import ROUNDS, LoopCase, MountCase, Strace, library, spread
from tests.processes import HOST, Merlind, ProcessCase, free_port, until
from tests.upstream import Upstream, UpstreamRequest

FLUSHES = ("fsync", "fdatasync", "syncfs")
"""The calls that flush."""


class PowerLossTest(LoopCase):
    """The power goes: what was not flushed is gone (D2)."""

    def lose_power_under_load(self, merlind: Merlind) -> tuple[list[str], int, int]:
        """What is lost then, how much was acknowledged, and how many requests were tried."""
        self.make()
        ledger = self.ledger()
        ledger.promises.clear()
        merlind.start()
        # What was there before the load is no part of the question.
        subprocess.run(["sync", "-f", str(self.mountpoint)], check=True)
        with Load(merlind.port, ledger, clients=8, largest=200) as load:
            until(lambda: len(ledger.promises) > 150, "tasks to be acknowledged")
            self.lose_power()
            time.sleep(0.3)
        self.assertEqual(load.broken, [])
        merlind.kill()
        self.unmount()
        self.mount_image()
        merlind.spawn()
        until(lambda: not merlind.running or merlind.serves(), "the start")
        if not merlind.running:
            losses = ["everything"]
        else:
            losses = ledger.losses(merlind.port)
            if not losses:
                self.drain(merlind, ledger)
        merlind.kill()
        self.unmount()
        return losses, len(ledger.promises), load.tried

    def test_power_loss(self) -> None:
        """Nothing that was acknowledged is lost, and the photos are whole."""
        face = self.merlinface("--delay=0.5", "--waits=1").start()
        acknowledged = tried = 0
        rounds = max(1, ROUNDS // 12)
        for _ in range(rounds):
            data = self.mountpoint / "data"
            merlind = self.merlind("--min-free-bytes=0", upstream=face.url, data=data)
            losses, more, requests = self.lose_power_under_load(merlind)
            self.assertEqual(losses, [])
            acknowledged += more
            tried += requests
        self.figures(power_losses=rounds, requests_tried=tried, acknowledged=acknowledged, losses=0)

    def test_control(self) -> None:
        """The same where flushes do nothing has to lose: it shows that the test above could fail."""
        preload = {"LD_PRELOAD": library("libeatmydata.so*")}
        face = self.merlinface("--delay=0.5", "--waits=1").start()
        data = self.mountpoint / "data"
        merlind = self.merlind("--min-free-bytes=0", upstream=face.url, data=data, env=preload)
        losses, acknowledged, tried = self.lose_power_under_load(merlind)
        self.assertNotEqual(losses, [])
        lost = acknowledged if losses == ["everything"] else len(losses)
        self.figures(power_losses=1, requests_tried=tried, acknowledged=acknowledged, losses_without_flushes=lost)


class FailingFlushTest(ProcessCase):
    """A flush fails (D3)."""

    def test_failed_flush(self) -> None:
        """It answers 503, flushes nothing more, and ends with a failure and a last line; the next start is sound."""
        face = self.merlinface("--delay=0.1", "--waits=1").start()
        merlind = self.merlind(upstream=face.url)
        ledger = self.ledger()
        faults = tried = refused = 0
        for call in FLUSHES:
            for when in spread(max(2, ROUNDS // 8), 6):
                merlind.start()
                # SQLite makes its log with the first commit, and passes over a folder that can't be flushed then.
                merlind.health()
                strace = Strace(self, merlind, f"{call}:error=EIO:when={when}", ",".join(FLUSHES))
                known = len(ledger.promises)
                with Load(merlind.port, ledger, clients=8, largest=100) as load:
                    # SQLite may have been built to flush with another call than this.
                    until(
                        partial(lambda known: not merlind.running or len(ledger.promises) > known + 500, known),
                        "the end",
                    )
                if merlind.running:
                    merlind.stop()
                    self.assertFalse([line for line in strace.calls() if f"{call}(" in line])
                    break
                self.assertEqual(merlind.wait(), 1)
                self.assertRegex(merlind.log().splitlines()[-1], r"merlind: the (database|photo spool) failed: ")
                self.assertEqual(load.broken, [])
                calls = strace.calls()
                failed = next(n for n, line in enumerate(calls) if "INJECTED" in line)
                self.assertEqual([line for line in calls[failed + 1 :] if re.search(r"sync\w*\(", line)], [])
                faults += 1
                tried += load.tried
                refused += load.refused
        merlind.start()
        self.drain(merlind, ledger)
        self.assertGreater(refused, 0)
        self.assert_no_traceback(merlind)
        self.figures(
            faults=faults, requests_tried=tried, answered_503=refused, acknowledged=len(ledger.promises), losses=0
        )


class NoRoomTest(MountCase):
    """The disk is full (D4)."""

    def setUp(self) -> None:
        super().setUp()
        self.scores: dict[str, float] = {}
        self.room = threading.Event()
        self.upstream = Upstream(self.addCleanup, self.answer_when_there_is_room)

    def fill(self, leave: int = 0) -> Path:
        """Fill the disk but for so many bytes; returns what fills it."""
        filler = self.mountpoint / "filler"
        room = os.statvfs(self.mountpoint)
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            file.write(bytes(max(0, room.f_bavail * room.f_frsize - leave)))
            while leave == 0 and file.write(bytes(4096)):
                pass
        return filler

    def answer_when_there_is_room(self, request: UpstreamRequest) -> object:
        """Answer at once, but those tasks that are to wait for room not before."""
        if request.kind == "upload":
            self.scores[request.name] = score_of_digest(request.name, request.sha256)
        name = request.name or request.retry_id
        if name.startswith("waiting") and not self.room.is_set():
            return request.wait(name.replace(" ", "-"))
        return request.respond_json(status="ready", result=self.scores[name.replace("-", " ")])

    def run_full(self, option: str, leaves: tuple[int, ...]) -> None:
        """Fill the disk under it and make room again, several times."""
        self.mount("-t", "tmpfs", "-o", "size=12m,mode=700", "tmpfs")
        merlind = self.merlind(option, upstream=self.upstream.url, data=self.mountpoint / "data").start()
        ledger = self.ledger()
        refused = 0
        for leave in leaves:
            self.room.clear()
            ready = ledger.post(merlind.port, f"ready {leave}", png())
            self.assertEqual(merlind.get(ready, wait=30).code, 200)
            waiting = ledger.post(merlind.port, f"waiting {leave}", png())
            before = set(merlind.spooled())
            filler = self.fill(leave)
            for number in range(10):
                reply = post(merlind.port, f"too much {number}", png(500))
                self.assertEqual(reply.code, 503, reply.body)
                self.assertIn("Retry-After", reply.headers)
                self.assertEqual(reply.headers["Content-Type"], "application/problem+json")
                refused += 1
            self.assertEqual(merlind.get(ready).code, 200)
            self.assertIn(merlind.get(waiting).code, (200, 202))
            self.assertLessEqual(set(merlind.spooled()), before)
            if leave == 0 or option != "--min-free-bytes=0":
                health = merlind.health()
                self.assertEqual(health.code, 503)
                self.assertIn("storage", health.json()["reasons"][0])
            filler.unlink()
            self.room.set()
            again = ledger.post(merlind.port, f"again {leave}", png(500))
            self.assertEqual(merlind.get(again, wait=30).code, 200)
            self.assertEqual(merlind.health().code, 200)
        self.drain(merlind, ledger)
        self.assert_no_traceback(merlind)
        merlind.kill()
        self.unmount()
        self.figures(fills=len(leaves), answered_503=refused, acknowledged=len(ledger.promises), losses=0)

    def test_full(self) -> None:
        """To the last byte: 503, GET works, no part of a photo stays, and it goes on by itself when there is room."""
        self.run_full("--min-free-bytes=0", (0, 8192, 100_000))

    def test_almost_full(self) -> None:
        """Below the room that is to be left: the same, before any of a photo is written."""
        self.run_full("--min-free-bytes=4194304", (2 << 20, 4 << 20))

    def run_full_in_part(self, merlind: Merlind, size: int) -> None:
        """Fill what has no room for all, and send until that is met; what was taken before is kept."""
        merlind.start()
        ledger = self.ledger()
        taken = 0
        filler = self.fill(100_000)
        while True:
            name, photo = f"waiting {taken}", png(size)
            reply = post(merlind.port, name, photo)
            if reply.code == 503:
                break
            ledger.note(reply, name, photo)
            taken += 1
            self.assertLess(taken, 3000)
        self.assertIn("Retry-After", reply.headers)
        self.assertEqual(ledger.losses(merlind.port), [])
        self.assertTrue(merlind.running)
        filler.unlink()
        self.room.set()
        ledger.post(merlind.port, name, photo)
        self.assertEqual(merlind.health().code, 200)
        self.drain(merlind, ledger)
        self.assert_no_traceback(merlind)
        merlind.kill()
        self.figures(taken_before=taken, answered_503=1, acknowledged=len(ledger.promises), losses=0)

    def test_spool_full(self) -> None:
        """The spool alone is full, on a file system of its own."""
        self.mountpoint = self.folder / "data" / "spool"
        self.mount("-t", "tmpfs", "-o", "size=4m,mode=700", "tmpfs")
        merlind = self.merlind("--min-free-bytes=0", upstream=self.upstream.url, data=self.folder / "data")
        self.run_full_in_part(merlind, 100)

    def test_database_full(self) -> None:
        """The database alone is full, and so is $TMPDIR."""
        self.mountpoint = self.folder / "data"
        self.mount("-t", "tmpfs", "-o", "size=4m,mode=700", "tmpfs")
        elsewhere = self.folder / "elsewhere"
        elsewhere.mkdir()
        self.mount("--bind", str(elsewhere), at=self.mountpoint / "spool")
        temporary = {"TMPDIR": str(self.mountpoint)}
        merlind = self.merlind("--min-free-bytes=0", upstream=self.upstream.url, data=self.mountpoint, env=temporary)
        self.run_full_in_part(merlind, 8)


class ReadOnlyTest(MountCase):
    """The disk can't be written to any more (D5)."""

    def test_read_only(self) -> None:
        """503, not ready and saying why, GET works; and all is well when it can be written to again."""
        merlind = self.merlind(data=self.mountpoint / "data")
        self.mount("-t", "tmpfs", "-o", "size=64m,mode=700", "tmpfs")
        merlind.command.append("--min-free-bytes=0")
        merlind.start()
        ledger = self.ledger()
        task = ledger.post(merlind.port, "Ada", png())
        self.assertEqual(merlind.get(task, wait=30).code, 200)
        # The open database keeps the mount from being made read-only, so one that is goes over it.
        self.mount("--bind", str(self.mountpoint))
        subprocess.run(["mount", "-o", "remount,bind,ro", str(self.mountpoint)], check=True)
        for number in range(10):
            reply = post(merlind.port, f"too late {number}", png())
            self.assertEqual(reply.code, 503)
            self.assertIn("Retry-After", reply.headers)
        self.assertEqual(merlind.get(task).code, 200)
        health = merlind.health()
        self.assertEqual(health.code, 503)
        self.assertIn("Read-only", health.json()["reasons"][0])
        second = Merlind(self.addCleanup, self.folder / "second", data=self.mountpoint / "other")
        self.assertNotEqual(second.spawn().wait(), 0)
        self.assertRegex(second.log().splitlines()[-1], "^merlind: .*can't be used: Read-only")
        subprocess.run(["umount", str(self.mountpoint)], check=True)
        ledger.post(merlind.port, "Bob", png())
        self.assertEqual(merlind.health().code, 200)
        self.drain(merlind, ledger)
        merlind.kill()
        self.unmount()
        self.figures(answered_503=10, acknowledged=len(ledger.promises), losses=0)


class LostPhotoTest(ProcessCase):
    """Photos that somebody else truncated or deleted (D10)."""

    def test_lost_photos(self) -> None:
        """Their tasks fail, and say so; the others go on; sending a photo again heals its task."""
        port = free_port()
        merlind = self.merlind(upstream=f"http://{HOST}:{port}/api/").start()
        photos = [png() for _ in range(5)]
        tasks = [post(merlind.port, str(number), photo).json()["task"] for number, photo in enumerate(photos)]
        truncated, deleted, *whole = tasks
        os.truncate(merlind.data / "spool" / str(truncated), 20)
        (merlind.data / "spool" / str(deleted)).unlink()
        Upstream(self.addCleanup, UpstreamRequest.score, port)
        for task in whole:
            self.assertEqual(merlind.get(task, wait=60).json()["status"], "ready")
        for task in (truncated, deleted):
            answer = merlind.get(task, wait=60).json()
            self.assertEqual((answer["status"], answer["error"]["code"]), ("failed", "photo_lost"))
        self.assertEqual(merlind.spooled(), [])
        for number, task in enumerate((truncated, deleted)):
            reply = post(merlind.port, str(number), photos[number], {"Prefer": "wait=30"})
            self.assertEqual((reply.json()["task"], reply.json()["status"]), (task, "ready"))
        self.assert_no_traceback(merlind)
        self.figures(photos=5, lost_by_others=2, failed_visibly=2, ready=len(whole))

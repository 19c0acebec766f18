"""A hostile disk: power loss (D2), failing flushes (D3), full (D4), read-only (D5), damaged photos (D10).

The codes are rows of docs/battery.md.
"""

import contextlib
import os
import re
import signal
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
"""The system calls that flush files to the disk."""


class PowerLossTest(LoopCase):
    """The power fails, and with it goes all that was not flushed (D2)."""

    def lose_power_under_load(self, merlind: Merlind) -> tuple[list[str], int, int]:
        """Lose power under load and start again; return the losses and how many tasks and requests there were."""
        self.make()
        ledger = self.ledger()
        ledger.promises.clear()
        merlind.start()
        # Flush the new database: only what the load writes is to be at risk.
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

    def test_power_loss_loses_nothing_acknowledged(self) -> None:
        """After a power loss every acknowledged task becomes ready, so its photo is whole."""
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

    def test_power_loss_without_flushes_loses_tasks(self) -> None:
        """With flushes turned off the same test finds losses, as it would if merlind forgot to flush."""
        preload = {"LD_PRELOAD": library("libeatmydata.so*")}
        face = self.merlinface("--delay=0.5", "--waits=1").start()
        data = self.mountpoint / "data"
        merlind = self.merlind("--min-free-bytes=0", upstream=face.url, data=data, env=preload)
        losses, acknowledged, tried = self.lose_power_under_load(merlind)
        self.assertNotEqual(losses, [])
        lost = acknowledged if losses == ["everything"] else len(losses)
        self.figures(power_losses=1, requests_tried=tried, acknowledged=acknowledged, losses_without_flushes=lost)


class FailingFlushTest(ProcessCase):
    """A flush fails with EIO (D3)."""

    def test_failed_flush_ends_merlind_without_loss(self) -> None:
        """Uploads get 503, merlind never flushes again and exits with status 1 and a last line; no task is lost."""
        face = self.merlinface("--delay=0.1", "--waits=1").start()
        merlind = self.merlind(upstream=face.url)
        ledger = self.ledger()
        faults = tried = refused = 0
        for call in FLUSHES:
            for when in spread(max(2, ROUNDS // 8), 6):
                merlind.start()
                # SQLite makes its log with the first commit, and ignores that the folder can't be flushed then.
                merlind.health()
                strace = Strace(self, merlind, f"{call}:error=EIO:when={when}", ",".join(FLUSHES))
                known = len(ledger.promises)
                with Load(merlind.port, ledger, clients=8, largest=100) as load:
                    # This SQLite may be built to flush with another call, so the fault may never happen.
                    until(
                        partial(lambda known: not merlind.running or len(ledger.promises) > known + 500, known),
                        "merlind to end",
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
            faults=faults, requests_tried=tried, responses_503=refused, acknowledged=len(ledger.promises), losses=0
        )


class FullDiskTest(MountCase):
    """The disk is full (D4)."""

    def setUp(self) -> None:
        super().setUp()
        self.scores: dict[str, float] = {}
        self.room = threading.Event()
        self.upstream = Upstream(self.addCleanup, self.score_when_there_is_room)

    def fill(self, leave: int = 0) -> Path:
        """Fill the disk but for ``leave`` bytes, and return the file that fills it."""
        filler = self.mountpoint / "filler"
        room = os.statvfs(self.mountpoint)
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            file.write(bytes(max(0, room.f_bavail * room.f_frsize - leave)))
            while leave == 0 and file.write(bytes(4096)):
                pass
        return filler

    def score_when_there_is_room(self, request: UpstreamRequest) -> object:
        """Score at once, but tasks with a name that begins with "waiting" only once ``room`` is set."""
        if request.kind == "upload":
            self.scores[request.name] = score_of_digest(request.name, request.sha256)
        name = request.name or request.retry_id
        if name.startswith("waiting") and not self.room.is_set():
            return request.wait(name.replace(" ", "-"))
        return request.respond_json(status="ready", result=self.scores[name.replace("-", " ")])

    def run_full(self, option: str, leaves: tuple[int, ...]) -> None:
        """Fill the disk but for so many bytes and make room again, for each of ``leaves``."""
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
        self.figures(fills=len(leaves), responses_503=refused, acknowledged=len(ledger.promises), losses=0)

    def test_goes_on_after_a_full_disk(self) -> None:
        """On a full disk uploads get 503 and leave no file, GET works, and uploads work again when there is room."""
        self.run_full("--min-free-bytes=0", (0, 8192, 100_000))

    def test_goes_on_after_an_almost_full_disk(self) -> None:
        """Below ``--min-free-bytes`` the same holds, and merlind isn't ready."""
        self.run_full("--min-free-bytes=4194304", (2 << 20, 4 << 20))

    def run_into_full_disk(self, merlind: Merlind, size: int) -> None:
        """Leave little room, upload until a 503, and check that no task accepted before is lost."""
        merlind.start()
        ledger = self.ledger()
        accepted = 0
        filler = self.fill(100_000)
        while True:
            name, photo = f"waiting {accepted}", png(size)
            reply = post(merlind.port, name, photo)
            if reply.code == 503:
                break
            ledger.note(reply, name, photo)
            accepted += 1
            self.assertLess(accepted, 3000)
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
        self.figures(accepted_before=accepted, responses_503=1, acknowledged=len(ledger.promises), losses=0)

    def test_full_spool_loses_nothing(self) -> None:
        """Only the spool, on a file system of its own, is full."""
        self.mountpoint = self.folder / "data" / "spool"
        self.mount("-t", "tmpfs", "-o", "size=4m,mode=700", "tmpfs")
        merlind = self.merlind("--min-free-bytes=0", upstream=self.upstream.url, data=self.folder / "data")
        self.run_into_full_disk(merlind, 100)

    def test_full_database_loses_nothing(self) -> None:
        """Only the file system of the database and of $TMPDIR is full."""
        self.mountpoint = self.folder / "data"
        self.mount("-t", "tmpfs", "-o", "size=4m,mode=700", "tmpfs")
        elsewhere = self.folder / "elsewhere"
        elsewhere.mkdir()
        self.mount("--bind", str(elsewhere), at=self.mountpoint / "spool")
        temporary = {"TMPDIR": str(self.mountpoint)}
        merlind = self.merlind("--min-free-bytes=0", upstream=self.upstream.url, data=self.mountpoint, env=temporary)
        self.run_into_full_disk(merlind, 8)


class ReadOnlyTest(MountCase):
    """The file system becomes read-only (D5)."""

    def test_goes_on_after_a_read_only_disk(self) -> None:
        """Uploads get 503, readiness says why, GET works; all goes on once the file system is writable again."""
        merlind = self.merlind(data=self.mountpoint / "data")
        self.mount("-t", "tmpfs", "-o", "size=64m,mode=700", "tmpfs")
        merlind.command.append("--min-free-bytes=0")
        merlind.start()
        ledger = self.ledger()
        task = ledger.post(merlind.port, "Ada", png())
        self.assertEqual(merlind.get(task, wait=30).code, 200)
        # The open database keeps this mount from becoming read-only, so cover it with a read-only one.
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
        self.figures(responses_503=10, acknowledged=len(ledger.promises), losses=0)


class LostDatabaseTest(ProcessCase):
    """Files of the data directory that somebody deletes or replaces under a running merlind (D12)."""

    def test_ends_and_acknowledges_nothing_more(self) -> None:
        """No photo gets a number from then on, and the process ends with the reason; nothing is deleted."""
        for number, name in enumerate(("tasks.sqlite", "tasks.sqlite-wal", "lock")):
            for load in (True, False):
                with self.subTest(name, load=load):
                    folder = self.folder / f"{number}{load}"
                    merlind = Merlind(self.addCleanup, folder, upstream=f"http://{HOST}:9/").start()
                    kept = post(merlind.port, "Ada", png()).json()["task"]
                    (merlind.data / name).rename(folder / "aside")
                    if load:
                        self.assertEqual(post(merlind.port, "Bob", png()).code, 503)
                    self.assertEqual(merlind.wait(20), 1)
                    self.assertIn(f"{name} was deleted or renamed", merlind.log().splitlines()[-1])
                    photos = {path.name for path in merlind.spooled()}
                    self.assertIn(str(kept), photos)
                    if name != "lock":
                        self.assertNotEqual(merlind.spawn().wait(), 0)
                        self.assertEqual({path.name for path in merlind.spooled()}, photos)
                        (folder / "aside").rename(merlind.data / name)
                    merlind.start()
                    self.assertEqual(merlind.get(kept).code, 202)
                    merlind.kill()

    def test_second_process_without_the_lock(self) -> None:
        """With the lock deleted, a second process is refused as ever, and the first one ends (D9, D12)."""
        first = self.merlind(upstream=f"http://{HOST}:9/").start()
        first.signal(signal.SIGSTOP)  # so that it doesn't end before the second one tries
        (first.data / "lock").unlink()
        second = Merlind(self.addCleanup, self.folder / "second", data=first.data)
        self.assertNotEqual(second.spawn().wait(), 0)
        self.assertIn("is in use by another merlind", second.log())
        first.signal(signal.SIGCONT)
        self.assertEqual(first.wait(20), 1)


class LostPhotoTest(ProcessCase):
    """Photos in the spool that somebody else truncated or deleted (D10)."""

    def test_lost_photo_fails_only_its_task(self) -> None:
        """The task of a lost photo fails with ``photo_lost``, others go on; repeating the upload restarts the task."""
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
            status = merlind.get(task, wait=60).json()
            self.assertEqual((status["status"], status["error"]["code"]), ("failed", "photo_lost"))
        self.assertEqual(merlind.spooled(), [])
        for number, task in enumerate((truncated, deleted)):
            reply = post(merlind.port, str(number), photos[number], {"Prefer": "wait=30"})
            self.assertEqual((reply.json()["task"], reply.json()["status"]), (task, "ready"))
        self.assert_no_traceback(merlind)
        self.figures(photos=5, lost_by_others=2, failed_visibly=2, ready=len(whole))

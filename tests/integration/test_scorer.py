"""The face scorer's workers as real processes: crashes, hangs, memory, kills and stops.

The workers are tests/fake_worker.py: merlind's own but for what they see, so that no extra package is needed.
"""

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from merlind.merlinface.face import FaceScorer
from merlind.merlinface.form import UploadForm
from merlind.merlinface.photo_memory import HeldPhoto, PhotoMemory
from merlind.merlinface.scorer.frames import look_request
from merlind.merlinface.scorer.pool import PoolSettings
from merlind.merlinface.scoring import Refusal, Score, Trouble, Verdict
from tests.processes import environment, until

reactor: Any = _reactor
ROOT = Path(__file__).parents[2]
MEMORY = 2**30
COMMAND = [sys.executable, "-m", "tests.fake_worker", f"--memory={MEMORY}"]

PARENT = f"""
import sys
from twisted.internet import reactor
from merlind.merlinface.face import FaceScorer
from merlind.merlinface.scorer.frames import look_request
from merlind.merlinface.scorer.pool import PoolSettings
scorer = FaceScorer(reactor, PoolSettings(2), [*{COMMAND!r}, "--photo-seconds=60"])
scorer.start()
scorer._pool.ask(look_request(b"hang"))
reactor.run()
"""
"""A process with two workers, one of which hangs."""


def children(parent: int) -> list[int]:
    """Return the processes that a process has started and that still run."""
    text = Path(f"/proc/{parent}/task/{parent}/children").read_text("ascii")
    return [int(word) for word in text.split()]


def runs(pid: int) -> bool:
    """Whether a process runs; one that nobody has waited for yet doesn't."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def workers() -> list[int]:
    """Return this process's workers."""
    return [pid for pid in children(os.getpid()) if b"fake_worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]


class ScorerCase(TestCase):
    """A scorer with two workers, which is stopped in the end: no worker is left."""

    timeout = 60

    def setUp(self) -> None:
        self.patch(os, "environ", {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"})
        self.memory = PhotoMemory(2**30)

    def start(self, photo_seconds: float = 30, workers: int = 2, **more: Any) -> FaceScorer:
        settings = PoolSettings(workers, photo_seconds, MEMORY, **more)
        self.scorer = FaceScorer(reactor, settings, [*COMMAND, f"--photo-seconds={photo_seconds}"])
        self.scorer.start()
        self.addCleanup(self.stop)
        return self.scorer

    async def stop(self) -> None:
        await self.scorer.stop()
        self.assertEqual(workers(), [])
        self.assertEqual(self.memory.used, 0)

    def score(self, photo: bytes, name: str = "Anna") -> Deferred[Verdict]:
        held = HeldPhoto(self.memory)
        held.write(photo)
        return self.scorer.score(UploadForm(name, hashlib.sha256(photo).digest(), held))


class WorkTest(ScorerCase):
    """Photos that do what photos shouldn't."""

    async def test_large_photos(self) -> None:
        """Photos of 20 MB go through the pipes, several at once, each to its own score."""
        self.start()
        sizes = [20_000_000 + size for size in range(1, 5)]
        found = await DeferredList([self.score(bytes(size)) for size in sizes])
        self.assertEqual([verdict for _, verdict in found], [Score(size % 100 / 100, True) for size in sizes])

    async def test_refusal(self) -> None:
        """A refusal comes with its reason."""
        self.start()
        self.assertEqual(await self.score(b"nobody"), Refusal("no face found"))

    async def test_crash(self) -> None:
        """A photo that aborts its worker is tried once more, then trouble; others get their scores meanwhile."""
        self.start()
        crash = self.score(b"crash")
        others = await DeferredList([self.score(bytes(size)) for size in range(1, 20)])
        self.assertEqual([verdict for _, verdict in others], [Score(size / 100, True) for size in range(1, 20)])
        self.assertEqual(await crash, Trouble("the photo makes the scorer fail"))

    async def test_crash_once(self) -> None:
        """A photo that aborts its worker the first time has its score from the second."""
        self.start()
        path = Path(self.mktemp()).absolute()
        self.assertEqual(await self.score(b"once " + os.fsencode(path)), Score(0.01, True))
        self.assertTrue(path.exists())

    async def test_hang(self) -> None:
        """A photo that hangs costs its worker at the limit, and another photo nothing."""
        self.start(photo_seconds=1)
        began = time.monotonic()
        hang = self.score(b"hang")
        await self.score(b"other")
        self.assertEqual(await hang, Trouble("the photo makes the scorer fail"))
        self.assertGreaterEqual(time.monotonic() - began, 2)

    async def test_memory(self) -> None:
        """A photo that needs more memory than a worker may have is refused, by a fresh worker if need be."""
        self.start(workers=1)
        for photo in (b"other", b"hog"):
            verdict = await self.score(photo)
        self.assertEqual(verdict, Refusal("too many pixels"))

    async def test_killed_worker(self) -> None:
        """A worker that is killed is replaced, and its photo scored."""
        self.start(workers=1)
        await self.score(b"other")
        (pid,) = workers()
        os.kill(pid, signal.SIGKILL)
        self.assertEqual(await self.score(b"next"), Score(0.04, True))
        self.assertNotEqual(workers(), [pid])

    async def test_stop_while_one_hangs(self) -> None:
        """A stop ends workers that hang, too, and at once."""
        self.start(workers=2)
        await self.score(b"other")
        hang = self.score(b"hang")
        await deferLater(reactor, 0.3)
        began = time.monotonic()
        await self.scorer.stop()
        self.assertLess(time.monotonic() - began, 3)
        self.assertEqual((workers(), await hang), ([], Trouble("the scorer is stopping")))

    async def test_broken_installation(self) -> None:
        """Workers that can't start are told in the log, and the scorer says that there is trouble."""
        settings = PoolSettings(2)
        self.scorer = FaceScorer(reactor, settings, [sys.executable, "-c", "import no_such_module"])
        self.scorer.start()
        self.addCleanup(self.stop)
        self.assertEqual(await self.score(b"photo"), Trouble("the scorer does not start"))


class EndTest(TestCase):
    """Workers whose parent is gone."""

    def environment(self) -> dict[str, str]:
        return environment({"PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"})

    def test_parent_killed(self) -> None:
        """kill -9 of the parent leaves no worker behind, not even one that hangs."""
        parent = subprocess.Popen([sys.executable, "-c", PARENT], env=self.environment())
        self.addCleanup(parent.wait)
        self.addCleanup(parent.kill)
        pids: list[int] = until(lambda: (found := children(parent.pid)) and len(found) == 2 and found, "two workers")
        time.sleep(1.5)  # until one has its photo
        parent.kill()
        until(lambda: not any(map(runs, pids)), "the workers to end", seconds=5)

    def spawn(self, photo_seconds: float = 30) -> "subprocess.Popen[bytes]":
        """Start a worker alone, and wait until it is ready."""
        worker = subprocess.Popen(
            [*COMMAND, f"--photo-seconds={photo_seconds}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=self.environment(),
        )
        self.addCleanup(worker.communicate)
        self.addCleanup(worker.kill)
        assert worker.stdout is not None
        self.assertEqual(worker.stdout.readline(), b"ready\n")
        return worker

    def test_end_of_input(self) -> None:
        """A worker ends when its standard input does, without a word; it ignores a terminal's Ctrl-C."""
        worker = self.spawn()
        worker.send_signal(signal.SIGINT)
        time.sleep(0.1)
        self.assertIsNone(worker.poll())
        said, _ = worker.communicate(timeout=10)
        self.assertEqual((said, worker.returncode), (b"", 0))

    def test_alarm(self) -> None:
        """A worker that hangs ends itself if nobody else does, five seconds past the limit."""
        worker = self.spawn(photo_seconds=0.1)
        assert worker.stdin is not None
        for piece in look_request(b"hang"):
            worker.stdin.write(piece)
        worker.stdin.flush()
        began = time.monotonic()
        self.assertEqual(worker.wait(20), -signal.SIGALRM)
        self.assertGreaterEqual(time.monotonic() - began, 5)

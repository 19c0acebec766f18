"""The face scorer in real daemons, with its real workers. Skipped where its packages are not installed."""

import os
import signal
import time
from pathlib import Path

from merlind.merlinface.choice import EXTRA, face_installed
from tests.client import png, post
from tests.processes import Daemon, Merlind, ProcessCase, until


def workers(daemon: Daemon) -> list[int]:
    """Return the workers of a daemon that run."""
    children = Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text("ascii")
    return [int(pid) for pid in children.split()]


def running(pids: list[int]) -> list[int]:
    """Return those of the processes that still run; one that nobody has waited for yet doesn't."""

    def runs(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False

    return [pid for pid in pids if runs(pid)]


class FaceTest(ProcessCase):
    """merlind with the face scorer, inside of it and beside it."""

    if not face_installed():
        skip = f"the face scorer is not installed: it comes with {EXTRA}"

    def assert_refused(self, merlind: Merlind) -> None:
        """Check that a picture of nobody fails with the scorer's reason."""
        task = post(merlind.port, "Ada", png(300)).json()["task"]
        reply = merlind.get(task, wait=30)
        expected = {"code": "upstream_422", "detail": "no face found", "source": "upstream"}
        self.assertEqual((reply.code, reply.json()["error"]), (200, expected))

    def test_embedded(self) -> None:
        """``embedded`` takes the face scorer, says so, and tells why a photo has no score; a stop stops its workers."""
        merlind = self.merlind(upstream="embedded").start()
        until(lambda: "the upstream is the embedded face scorer" in merlind.log(), "the log to say so")
        self.assert_refused(merlind)
        pids = workers(merlind)
        self.assertGreater(len(pids), 0)
        began = time.monotonic()
        self.assertEqual(merlind.stop(), -signal.SIGTERM)
        self.figures(seconds_to_stop=f"{time.monotonic() - began:.1f}")
        self.assertEqual(running(pids), [])
        self.assert_no_traceback(merlind)

    def test_names(self) -> None:
        """With --names, an embedded face scorer says what it read, and scores with it."""
        table = self.folder / "names.csv"
        table.write_text("name,sex,year,count\nXyqlor,M,1990,900\nXyqlora,F,1990,900\n", "utf-8")
        merlind = self.merlind(f"--names={table}", upstream="embedded").start()
        photo = (Path(__file__).parents[1] / "portraits" / "astronaut.jpg").read_bytes()
        scores = [
            post(merlind.port, name, photo, {"Prefer": "wait=30"}).json()["result"] for name in ("Xyqlor", "Xyqlora")
        ]
        self.assertIn("names.csv (a plain table), 2 names, 1990", merlind.log())
        self.assertTrue(scores[0] < 0.1 < 0.5 < scores[1], scores)

    def test_beside(self) -> None:
        """``twistd merlinface`` serves merlind over the protocol, with as many workers as are asked for."""
        face = self.merlinface("--workers=2", scorer="face").start()
        merlind = self.merlind(upstream=face.url).start()
        self.assert_refused(merlind)
        pids = workers(face)
        self.assertEqual(len(pids), 2)
        face.stop()
        self.assertEqual(running(pids), [])
        self.assert_no_traceback(face)

    def test_scores(self) -> None:
        """A portrait gets scores that mean something: a woman of that age is rather an Eileen than a Kevin."""
        merlind = self.merlind(upstream="embedded:face").start()
        photo = (Path(__file__).parents[1] / "portraits" / "astronaut.jpg").read_bytes()
        scores = {}
        for name in ("Eileen", "Kevin"):
            reply = post(merlind.port, name, photo, {"Prefer": "wait=30"})
            self.assertEqual(reply.code, 200)
            scores[name] = reply.json()["result"]
        self.assertGreater(scores["Eileen"], 0.5)
        self.assertLess(scores["Kevin"], 0.1)

    def test_killed(self) -> None:
        """kill -9 of a worker costs nothing but its replacement; of the daemon, it leaves no worker."""
        face = self.merlinface("--workers=1", scorer="face").start()
        merlind = self.merlind(upstream=face.url).start()
        self.assert_refused(merlind)
        (pid,) = workers(face)
        os.kill(pid, signal.SIGKILL)
        self.assert_refused(merlind)
        pids: list[int] = until(lambda: [other for other in workers(face) if other != pid], "another worker")
        face.kill()
        until(lambda: running(pids) == [], "the worker to end", seconds=5)

"""A scorer of merlind's own as its upstream."""

import sys
from subprocess import run

from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from merlind.merlinface import choice, embedded
from merlind.merlinface.embedded import Embedded
from tests.unit.merlinface.scorer.processes import ProcessReactor


class EmbeddedTests(SynchronousTestCase):
    """Which scorer it is, and what it says of it."""

    def make(self, asked: str | None, installed: bool) -> list[str]:
        """Start and stop one; returns what it logged."""
        self.patch(embedded, "face_installed", lambda: installed)
        self.patch(embedded, "default_workers", lambda: 3)
        self.reactor = ProcessReactor()
        made = Embedded(self.reactor, asked)
        with capturedLogs() as logs:
            made.start()
        stopped = made.stop()
        for worker in self.reactor.spawned:
            worker.die(signal=15)
        self.successResultOf(stopped)
        return [log["log_format"] for log in logs]

    def test_face_where_it_is_installed(self) -> None:
        """The face scorer is taken where it is installed, with a worker for each core but one."""
        for asked in (None, "face"):
            self.assertEqual(self.make(asked, installed=True), ["the upstream is the embedded {about}"])
            self.assertEqual(len(self.reactor.spawned), 3)

    def test_stand_in(self) -> None:
        """The stand-in is taken if it is asked for, or there is no other: the log says what to install then."""
        line = "the upstream is the embedded stand-in: its scores mean nothing"
        self.assertEqual(self.make("stand-in", installed=True), [line])
        (first, second) = self.make(None, installed=False)
        self.assertEqual(first, line)
        self.assertIn("is not installed", second)
        self.assertEqual(self.reactor.spawned, [])

    def test_names(self) -> None:
        """The workers get the files of names."""
        self.patch(embedded, "face_installed", lambda: True)
        self.patch(embedded, "default_workers", lambda: 1)
        reactor = ProcessReactor()
        Embedded(reactor, None, ["/a", "/b"]).start()
        ((_, command, _),) = reactor.commands
        self.assertEqual(list(command[3:5]), ["--names=/a", "--names=/b"])

    def test_workers(self) -> None:
        """The stand-in has none."""
        self.patch(embedded, "default_workers", lambda: 3)
        for asked, installed, workers in ((None, True, 3), ("face", True, 3), (None, False, 0), ("stand-in", True, 0)):
            self.patch(embedded, "face_installed", lambda installed=installed: installed)
            self.assertEqual(embedded.embedded_workers(asked), workers, (asked, installed))

    def test_not_installed(self) -> None:
        """The face scorer can't be asked for where it isn't installed."""
        error = self.assertRaises(ValueError, self.make, "face", installed=False)
        self.assertIn("merlind[scorer]", str(error))


class ImportTests(SynchronousTestCase):
    """What merlind's own process imports."""

    def test_installed(self) -> None:
        """The face scorer is installed if all of its packages are."""
        self.patch(choice, "_PACKAGES", ("json", "twisted"))
        self.assertTrue(choice.face_installed())
        self.patch(choice, "_PACKAGES", ("json", "no_such_package"))
        self.assertFalse(choice.face_installed())

    def test_no_numbers_here(self) -> None:
        """Neither the face scorer nor the look whether it is installed imports numpy and the like."""
        program = (
            "import sys; from merlind.merlinface import choice, embedded, face; choice.face_installed(); "
            "print(sorted({'numpy', 'PIL', 'onnxruntime', 'anyascii'} & {*sys.modules}))"
        )
        done = run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        self.assertEqual(done.stdout, "[]\n")

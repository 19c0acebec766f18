"""The data directory: for one process at a time, and for us alone."""

import os
import stat
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from merlind.daemon.datadir import DataDir, DataDirUnusable
from tests.unit.support import open_files


class DataDirTests(SynchronousTestCase):
    """Made, locked, unlocked."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp())

    def acquired(self) -> DataDir:
        data_dir = DataDir(self.path)
        data_dir.acquire()
        self.addCleanup(data_dir.release)
        return data_dir

    def test_made(self) -> None:
        """It is made with its parents, for us alone; the paths in it are absolute."""
        self.path = self.path / "below"
        data_dir = self.acquired()
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o700)
        self.assertEqual(stat.S_IMODE((self.path / "lock").stat().st_mode), 0o600)
        self.assertEqual(data_dir.database, self.path.absolute() / "tasks.sqlite")
        self.assertEqual(data_dir.spool, self.path.absolute() / "spool")

    def test_second(self) -> None:
        """A second process is refused with one line while the first has the lock, and leaves no file open."""
        first = self.acquired()
        for _ in range(2):
            before = len(os.listdir("/proc/self/fd"))
            error = self.assertRaises(DataDirUnusable, DataDir(self.path).acquire)
            self.assertEqual(str(error), f"{self.path.absolute()} is in use by another merlind")
            self.assertEqual(len(os.listdir("/proc/self/fd")), before)
        first.release()
        self.acquired()

    def test_release(self) -> None:
        """It may be unlocked more than once, or without a lock."""
        data_dir = self.acquired()
        self.assertIn(str((self.path / "lock").resolve()), open_files())
        data_dir.release()
        data_dir.release()
        self.assertNotIn(str((self.path / "lock").resolve()), open_files())
        DataDir(self.path).release()

    def test_unusable(self) -> None:
        """A file in its place is refused with one line, and so is a lock that can't be opened."""
        self.path.write_bytes(b"")
        error = self.assertRaises(DataDirUnusable, DataDir(self.path).acquire)
        self.assertEqual(str(error), f"{self.path.absolute()} can't be used: File exists")
        error = self.assertRaises(DataDirUnusable, DataDir(self.path / "below").acquire)
        self.assertIn("can't be used: Not a directory", str(error))
        self.path.unlink()
        (self.path / "lock").mkdir(parents=True)
        error = self.assertRaises(DataDirUnusable, DataDir(self.path).acquire)
        self.assertIn("can't be used: Is a directory", str(error))

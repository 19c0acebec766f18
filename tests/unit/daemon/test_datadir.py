"""The data directory: for one process at a time, and for no other user."""

import os
import stat
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from merlind.daemon.datadir import DataDir, DataDirUnusable
from tests.unit.support import open_files


class DataDirTests(SynchronousTestCase):
    """Made, locked and released."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp())

    def acquired(self) -> DataDir:
        """A locked directory."""
        data_dir = DataDir(self.path)
        data_dir.acquire()
        self.addCleanup(data_dir.release)
        return data_dir

    def test_made(self) -> None:
        """The directory is made with its parents, closed to other users; the paths in it are absolute."""
        self.path = self.path / "below"
        data_dir = self.acquired()
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o700)
        self.assertEqual(stat.S_IMODE((self.path / "lock").stat().st_mode), 0o600)
        self.assertEqual(data_dir.database, self.path.absolute() / "tasks.sqlite")
        self.assertEqual(data_dir.spool, self.path.absolute() / "spool")

    def test_second(self) -> None:
        """A second process is refused, in one line, while the first holds the lock; it leaves no file open."""
        first = self.acquired()
        for _ in range(2):
            before = len(os.listdir("/proc/self/fd"))
            error = self.assertRaises(DataDirUnusable, DataDir(self.path).acquire)
            self.assertEqual(str(error), f"{self.path.absolute()} is in use by another merlind")
            self.assertEqual(len(os.listdir("/proc/self/fd")), before)
        first.release()
        self.acquired()

    def test_release(self) -> None:
        """Releasing works more than once, and without a lock."""
        data_dir = self.acquired()
        self.assertIn(str((self.path / "lock").resolve()), open_files())
        data_dir.release()
        data_dir.release()
        self.assertNotIn(str((self.path / "lock").resolve()), open_files())
        DataDir(self.path).release()

    def test_unusable(self) -> None:
        """A file in its place, or a lock that can't be opened, is named in one line."""
        self.path.write_bytes(b"")
        error = self.assertRaises(DataDirUnusable, DataDir(self.path).acquire)
        self.assertEqual(str(error), f"{self.path.absolute()} can't be used: File exists")
        error = self.assertRaises(DataDirUnusable, DataDir(self.path / "below").acquire)
        self.assertIn("can't be used: Not a directory", str(error))
        self.path.unlink()
        (self.path / "lock").mkdir(parents=True)
        error = self.assertRaises(DataDirUnusable, DataDir(self.path).acquire)
        self.assertIn("can't be used: Is a directory", str(error))

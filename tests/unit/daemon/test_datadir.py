"""The data directory: for one process at a time, and for no other user."""

import errno
import fcntl
import os
import stat
from pathlib import Path

from twisted.logger import capturedLogs, formatEvent
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

    def test_lock_deleted(self) -> None:
        """A second process is refused even if the lock was deleted or replaced: the directory is locked, too (D12)."""
        self.acquired()
        lock = self.path / "lock"
        lock.unlink()
        for _ in range(2):  # the first attempt makes it anew
            error = self.assertRaises(DataDirUnusable, DataDir(self.path).acquire)
            self.assertEqual(str(error), f"{self.path.absolute()} is in use by another merlind")

    def test_directories_that_cannot_be_locked(self) -> None:
        """Where a file system locks no directories, the file is the lock, and the log says so."""
        real = fcntl.flock

        def flock(descriptor: int, operation: int) -> None:
            if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                raise OSError(errno.EBADF, "Bad file descriptor")
            real(descriptor, operation)

        self.patch(fcntl, "flock", flock)
        with capturedLogs() as logs:
            self.acquired()
        line = f"{self.path.absolute()} itself can't be locked: Bad file descriptor"
        self.assertEqual([formatEvent(event) for event in logs], [line])
        self.assertRaises(DataDirUnusable, DataDir(self.path).acquire)

    def test_release(self) -> None:
        """Releasing works more than once, and without a lock."""
        data_dir = self.acquired()
        self.assertIn(str((self.path / "lock").resolve()), open_files())
        data_dir.release()
        data_dir.release()
        self.assertNotIn(str((self.path / "lock").resolve()), open_files())
        DataDir(self.path).release()

    def test_open_to_others(self) -> None:
        """A folder of ours that others can write to is closed to them, with a line; the spool, too (D15)."""
        for name in (".", "spool"):
            for mode, now in ((0o777, 0o755), (0o775, 0o755), (0o1777, 0o1755), (0o720, 0o700)):
                folder = self.path / name
                folder.mkdir(parents=True, exist_ok=True)
                folder.chmod(mode)
                with capturedLogs() as logs:
                    self.acquired().release()
                self.assertEqual(stat.S_IMODE(folder.stat().st_mode), now)
                (line,) = [formatEvent(event) for event in logs]
                self.assertEqual(
                    line,
                    f"{folder.absolute()} had mode {mode:04o}, so other users could write to it: now it has {now:04o}",
                )
        with capturedLogs() as logs:
            self.acquired()
        self.assertEqual(logs, [])

    def test_of_another_owner(self) -> None:
        """One that isn't ours is refused if everybody can write to it; if its group can, that is how we get in."""
        self.patch(os, "geteuid", lambda: 12345)
        for name, way in ((".", "chmod o-w it, or let --data-dir be a folder in it"), ("spool", "chmod o-w it")):
            folder = self.path / name
            folder.mkdir(parents=True, exist_ok=True)
            for mode in (0o777, 0o1777):
                folder.chmod(mode)
                before = open_files()
                line = str(self.assertRaises(DataDirUnusable, DataDir(self.path).acquire))
                self.assertIn(f"can be written to by every user (mode {mode:04o}), and isn't ours: {way}", line)
                self.assertNotIn("\n", line)
                self.assertEqual(stat.S_IMODE(folder.stat().st_mode), mode)
                self.assertEqual(open_files(), before)
            folder.chmod(0o2775)
        with capturedLogs() as logs:
            self.acquired()
        self.assertEqual(logs, [])

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

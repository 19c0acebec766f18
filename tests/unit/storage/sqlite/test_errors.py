"""What errors mean: whether they pass, or the disk can't be trusted any more."""

import errno
import os
import sqlite3

from twisted.trial.unittest import SynchronousTestCase

from merlind.core.interfaces import StoreBroken, StoreUnavailable
from merlind.storage.photos.errors import judge_os_error
from merlind.storage.photos.staging import NotWritten
from merlind.storage.sqlite.errors import judge
from tests.unit.support import failing, sqlite_error


def works() -> None:
    """A probe that finds nothing wrong."""


class JudgeTests(SynchronousTestCase):
    """A table of errors."""

    def judged(self, error: Exception, probe: object = works) -> tuple[type[Exception], str]:
        assert isinstance(error, sqlite3.Error | OSError) and callable(probe)
        result = judge(error, probe)
        return type(result), str(result)

    def test_spool(self) -> None:
        """An I/O error breaks the store, unless nothing but a write failed; all other errors of the system pass."""
        self.assertEqual(
            self.judged(OSError(errno.EIO, "Input/output error")),
            (StoreBroken, "the photo spool failed: Input/output error"),
        )
        for error, reason in (
            (NotWritten(errno.EIO, "Input/output error"), "Input/output error"),
            (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
            (OSError(errno.EROFS, "Read-only file system"), "Read-only file system"),
            (FileNotFoundError(errno.ENOENT, "No such file or directory"), "No such file or directory"),
            (OSError("odd"), "odd"),
        ):
            self.assertEqual(self.judged(error), (StoreUnavailable, reason))
            self.assertEqual(str(judge_os_error(error)), reason)

    def test_passing(self) -> None:
        """A database that is full, read-only or locked passes."""
        for name in ("SQLITE_FULL", "SQLITE_READONLY", "SQLITE_BUSY", "SQLITE_CANTOPEN", "SQLITE_NOMEM"):
            self.assertEqual(self.judged(sqlite_error(name)), (StoreUnavailable, f"injected ({name})"))
        self.assertEqual(self.judged(sqlite3.OperationalError("old")), (StoreUnavailable, "old ()"))

    def test_broken(self) -> None:
        """A damaged database and a flush that failed don't, whatever the probe says."""
        for name in ("SQLITE_CORRUPT", "SQLITE_CORRUPT_INDEX", "SQLITE_NOTADB", "SQLITE_IOERR_FSYNC",
                     "SQLITE_IOERR_DIR_FSYNC"):  # fmt: skip
            for probe in (works, failing(errno.ENOSPC)):
                self.assertEqual(
                    self.judged(sqlite_error(name), probe), (StoreBroken, f"the database failed: injected ({name})")
                )

    def test_other_io_errors_are_explained_by_the_probe(self) -> None:
        """They pass where the disk is full or read-only, and break the store where the probe knows no such reason."""
        for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM):
            for name in ("SQLITE_IOERR_WRITE", "SQLITE_IOERR_READ", "SQLITE_IOERR"):
                self.assertEqual(
                    self.judged(sqlite_error(name), failing(number)), (StoreUnavailable, os.strerror(number))
                )
        for probe in (works, failing(errno.EIO), failing(errno.EMFILE)):
            self.assertEqual(
                self.judged(sqlite_error("SQLITE_IOERR_WRITE"), probe),
                (StoreBroken, "the database failed: injected (SQLITE_IOERR_WRITE)"),
            )

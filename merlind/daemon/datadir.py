"""The data directory: made, kept from other users, and held by one process at a time."""

import fcntl
import os
from pathlib import Path


class DataDirUnusable(Exception):
    """The directory can't be used; the message says why."""


class DataDir:
    """A directory (made with mode 0700) of ``tasks.sqlite`` and ``spool/``, locked while this process lives."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.database = self.path / "tasks.sqlite"
        self.spool = self.path / "spool"
        self._lock = -1

    def acquire(self) -> None:
        """Make and lock it. Raises DataDirUnusable."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            raise DataDirUnusable(f"{self.path} is in use by another merlind") from None
        except OSError as error:
            self.release()
            raise DataDirUnusable(f"{self.path} can't be used: {error.strerror}") from None

    def release(self) -> None:
        """Let go of it."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

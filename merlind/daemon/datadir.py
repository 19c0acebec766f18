"""The data directory: made for us alone, and locked by one process at a time."""

import fcntl
import os
from pathlib import Path


class DataDirUnusable(Exception):
    """The directory can't be used. The message is one line that says why."""


class DataDir:
    """A directory that holds ``tasks.sqlite`` and ``spool/``, made with mode 0700, and locked by ``acquire``."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.database = self.path / "tasks.sqlite"
        self.spool = self.path / "spool"
        self._lock = -1

    def acquire(self) -> None:
        """Make it if needed, and lock it until ``release`` or the end of the process. Raises DataDirUnusable."""
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
        """Unlock it. May be called again, or without ``acquire``."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

"""The data directory: made for us alone, closed to others, and locked by one process at a time."""

import fcntl
import os
import stat
from pathlib import Path

from twisted.logger import Logger

from merlind.daemon.user import User

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


class DataDirUnusable(Exception):
    """The directory can't be used. The message is one line that says why."""


class DataDir:
    """A directory that holds ``tasks.sqlite``, ``spool/`` and ``lost/``.

    ``acquire`` makes it with mode 0700 and locks it. It belongs to ``user``, the one that the process will run as.
    """

    _log = Logger()

    def __init__(self, path: Path, user: User | None = None) -> None:
        self.path = path.absolute()
        self.user = user or User()
        self.database = self.path / "tasks.sqlite"
        self.last_commit = self.path / "last-commit"
        self.spool = self.path / "spool"
        self.lock = self.path / "lock"
        self._locked: list[int] = []

    def acquire(self) -> None:
        """Make it if needed, and lock it until ``release`` or the end of the process. Raises DataDirUnusable."""
        try:
            self._make()
            with self.user.acting():
                self._lock()
                for path in (self.path, self.spool):
                    self._close_to_others(path)
        except BlockingIOError:
            self.release()
            raise DataDirUnusable(f"{self.path} is in use by another merlind") from None
        except OSError as error:
            self.release()
            who = "" if self.user.uid is None else f" by user {self.user.uid}"
            raise DataDirUnusable(f"{self.path} can't be used{who}: {error.strerror}") from None
        except DataDirUnusable:
            self.release()
            raise

    def _make(self) -> None:
        """Make it and its parents, as who we are now, and give what was made to the user."""
        missing = []
        for path in (self.path, *self.path.parents):
            if path.exists():
                break
            missing.append(path)
        for path in reversed(missing):
            path.mkdir(mode=0o700, exist_ok=True)
            self.user.own(path)
        self.path.mkdir(exist_ok=True)  # to fail if it is no directory

    def _lock(self) -> None:
        lock = os.open(self.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._locked.append(lock)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The directory as well: a lock file may be deleted, and another one be made and locked in its place.
        folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._locked.append(folder)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError as error:
            # Some network file systems lock no directories; there the file has to do.
            self._log.info("{path} itself can't be locked: {why}", path=str(self.path), why=error.strerror)

    def _close_to_others(self, path: Path) -> None:
        """Take away what lets other users write to a folder. Raises DataDirUnusable if we can't, and OSError."""
        if not path.exists():
            return
        found = path.stat()
        mode = stat.S_IMODE(found.st_mode)
        if not mode & _OTHERS_WRITE:
            return
        if found.st_uid == os.geteuid():
            path.chmod(mode & ~_OTHERS_WRITE)
            self._log.warn(
                "{path} had mode {mode:04o}, so other users could write to it: now it has {now:04o}",
                path=str(path), mode=mode, now=mode & ~_OTHERS_WRITE,
            )  # fmt: skip
        elif mode & stat.S_IWOTH:
            other = ", or let --data-dir be a folder in it, which merlind makes" if path == self.path else ""
            raise DataDirUnusable(
                f"{path} can be written to by every user (mode {mode:04o}), and isn't ours: chmod o-w it{other}"
            )
        # Where a folder isn't ours, its group is how we get in: a volume in Kubernetes with an fsGroup, say.

    def release(self) -> None:
        """Unlock it. May be called again, or without ``acquire``."""
        while self._locked:
            os.close(self._locked.pop())

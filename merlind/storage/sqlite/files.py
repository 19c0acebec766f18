"""Whether the files that merlind has open are still those that the next start will find.

A file that is deleted or replaced goes on to work for the process that has it open, and all that is written to it goes
with that process. Blocks, so it runs in the pool's thread.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from merlind.core.interfaces import StoreBroken


class OpenFiles:
    """The database, its log, and others beside them, such as the lock of the data directory.

    ``remember`` them while they are open; from then on each has to stay the same file under its name.
    """

    def __init__(self, database: Path, others: Sequence[Path] = ()) -> None:
        self._folder = str(database.parent)
        # SQLite keeps the log, from when a database is opened until its last connection closes.
        self._paths = [str(database), f"{database}-wal", *map(str, others)]
        self._opened: list[tuple[int, int]] = []
        self._changed = 0

    def remember(self) -> None:
        """Note which files they are, the first time. Raises StoreBroken if one isn't there."""
        if not self._opened:
            self._opened = [_identity(path) for path in self._paths]

    def check(self) -> None:
        """Compare all of them. Raises StoreBroken where one was deleted or replaced, or OSError."""
        for path, opened in zip(self._paths, self._opened, strict=True):
            if _identity(path) != opened:
                raise StoreBroken(f"{path} was replaced while merlind was running")

    def check_soon(self) -> None:
        """Compare them if anything was made, renamed or deleted in their folder: one system call if not.

        A second change within a tick of the kernel's clock (some ms) is left to ``check``. Raises StoreBroken. An error
        that says nothing about the files is left to ``check`` as well.
        """
        try:
            changed = os.stat(self._folder).st_mtime_ns
            if changed != self._changed:
                self.check()
                self._changed = changed
        except (FileNotFoundError, NotADirectoryError):
            raise StoreBroken(f"{self._folder} was deleted or renamed while merlind was running") from None
        except OSError:
            return


def _identity(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        raise StoreBroken(f"{path} was deleted or renamed while merlind was running") from None
    return found.st_dev, found.st_ino

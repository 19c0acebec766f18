"""The service time of the last commit, kept outside of the database: it tells when the database has lost some.

SQLite can't: a database whose write-ahead log was deleted or emptied, or an older copy, looks as good as any. So each
commit is noted in a small file after it is durable and before anybody is told. The note isn't flushed: after a power
loss it may be older than the database, which says nothing, but never newer, unless commits are missing.
"""

import math
import os
from pathlib import Path


class LastCommit:
    """The file at a path. It is opened when it is needed first, and blocks, so use it off the reactor."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self._descriptor = -1

    def note(self, now: float) -> None:
        """Note a commit that is durable, by its service time. Raises OSError."""
        if self._descriptor < 0:
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.pwrite(self._descriptor, b"%-31s\n" % repr(now).encode("ascii"), 0)

    def close(self) -> None:
        """Close the file. May be called again."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def read_last_commit(path: Path) -> float | None:
    """Return what was noted, or None where there is nothing, or nothing legible. Raises OSError."""
    try:
        noted = float(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return noted if math.isfinite(noted) else None

"""What an error of SQLite means, at the start and later."""

import sqlite3
from collections.abc import Callable

from merlind.core.interfaces import StoreBroken, StoreUnavailable
from merlind.storage.photos.errors import PASSING, judge_os_error


class DatabaseUnusable(Exception):
    """The file is not a database of ours, or one of a version that we can't use. The message is one line."""


def judge(error: sqlite3.Error | OSError, probe: Callable[[], None]) -> StoreUnavailable | StoreBroken:
    """Return StoreUnavailable for what passes, StoreBroken where the disk can't be trusted any more.

    ``probe`` writes to the same disk, and raises OSError. It is asked where SQLite doesn't say what a write met.
    """
    if isinstance(error, OSError):
        return judge_os_error(error)
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith("SQLITE_IOERR") and "FSYNC" not in name and (reason := _passing_reason(probe)):
        return StoreUnavailable(reason)
    if name.startswith(("SQLITE_IOERR", "SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return StoreBroken(f"the database failed: {error} ({name})")
    return StoreUnavailable(f"{error} ({name})")


def _passing_reason(probe: Callable[[], None]) -> str | None:
    try:
        probe()
    except OSError as error:
        if error.errno in PASSING:
            return error.strerror
    return None

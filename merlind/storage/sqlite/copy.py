"""A copy of a database that a running merlind writes to: consistent, and taken without its help.

It reads the original through a connection that can't write, and so makes no checkpoint either: the engine's connection
stays the only one that does. Blocks.
"""

import json
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from merlind.core.interfaces import TaskCounts
from merlind.storage.sqlite import database, statements
from merlind.storage.sqlite.errors import DatabaseUnusable

_NEED_PHOTOS = "SELECT id, size, sha256 FROM task WHERE finished IS NULL OR kept_until IS NOT NULL"
_THESE = "(SELECT value FROM json_each(?))"


@dataclass(frozen=True, slots=True)
class NeededPhoto:
    """The photo that a task still needs: to be uploaded, or to be tried again."""

    task_id: int
    size: int
    sha256: bytes


class DatabaseCopy:
    """A copy that is a file of its own, as it was when it was taken. Its methods raise DatabaseUnusable."""

    def __init__(self, path: Path) -> None:
        """Open a copy. Raises DatabaseUnusable if it is no database of this merlind's version."""
        database.check_current(path)
        self._path = path
        self._connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None)
        try:
            for pragma in ("synchronous = OFF", "secure_delete = ON"):
                self._connection.execute(f"PRAGMA {pragma}").fetchall()
        except sqlite3.Error as error:
            self._connection.close()
            raise DatabaseUnusable(f"{path} can't be used ({error})") from None

    def close(self) -> None:
        """Close it: then all of it is in the one file, of the kind that has a write-ahead log when it is used.

        May be called again.
        """
        self._connection.close()
        # SQLite empties and deletes it with the last connection, and doesn't tell if it can't.
        if self._path.with_name(f"{self._path.name}-wal").exists():
            raise DatabaseUnusable(f"{self._path} could not be written as a whole: is the disk full?")

    def needed_photos(self) -> list[NeededPhoto]:
        """Return the photos that its tasks need."""
        try:
            return [NeededPhoto(*row) for row in self._connection.execute(_NEED_PHOTOS)]
        except sqlite3.Error as error:
            raise self._damaged(error) from None

    def counts(self) -> TaskCounts:
        """Count its tasks."""
        try:
            return statements.count(self._connection.cursor())
        except sqlite3.Error as error:
            raise self._damaged(error) from None

    def fault(self) -> str | None:
        """Return what is wrong with the file, if anything is."""
        try:
            found = str(self._connection.execute("PRAGMA integrity_check(1)").fetchone()[0])
        except sqlite3.Error as error:
            return str(error)
        return None if found == "ok" else found

    def _damaged(self, error: sqlite3.Error) -> DatabaseUnusable:
        return DatabaseUnusable(f"{self._path} is damaged ({error})")

    def renew(self, original: Path, task_ids: Iterable[int]) -> list[NeededPhoto]:
        """Give some tasks the rows that the original has now, or none if they are gone there; returns those photos that
        they need now.

        What tells the time comes with them, so that it isn't before their own.
        """
        ids = json.dumps(list(task_ids))
        try:
            # One transaction: it sees the original as of one commit.
            self._connection.execute("ATTACH ? AS original", (_read_only(original),))
            self._connection.execute("BEGIN")
            self._connection.execute(f"DELETE FROM main.task WHERE id IN {_THESE}", (ids,))
            (version,) = self._connection.execute("PRAGMA original.user_version").fetchone()
            if version != database.VERSION:
                raise DatabaseUnusable(f"{original} was upgraded meanwhile: start again")
            self._connection.execute(f"INSERT INTO main.task SELECT * FROM original.task WHERE id IN {_THESE}", (ids,))
            for table in ("clock", "setting"):
                self._connection.execute(f"DELETE FROM main.{table}")
                self._connection.execute(f"INSERT INTO main.{table} SELECT * FROM original.{table}")
            self._connection.execute("COMMIT")
            self._connection.execute("DETACH original")
            needed = self._connection.execute(f"SELECT * FROM ({_NEED_PHOTOS}) WHERE id IN {_THESE}", (ids,))
            return [NeededPhoto(*row) for row in needed]
        except sqlite3.Error as error:
            raise DatabaseUnusable(f"{original} can't be read ({error})") from None


def take_copy(original: Path, path: Path) -> DatabaseCopy:
    """Copy a database as it is at this moment, whoever writes to it. Raises DatabaseUnusable and OSError."""
    database.check_current(original)
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    try:
        with (
            closing(sqlite3.connect(_read_only(original), uri=True)) as source,
            closing(sqlite3.connect(path)) as target,
        ):
            # In one step: in several, it would begin anew with each commit.
            source.backup(target)
    except sqlite3.Error as error:
        raise DatabaseUnusable(f"{original} can't be copied ({error})") from None
    return DatabaseCopy(path)


def _read_only(path: Path) -> str:
    return f"{path.absolute().as_uri()}?mode=ro"

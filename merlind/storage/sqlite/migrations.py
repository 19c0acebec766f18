"""The schema of the database: numbered scripts, each of which upgrades from the version before it.

A new database runs all of them. An older one is copied first and then upgraded in one transaction, so that it is either
of the new version or as it was. The version is SQLite's user_version.
"""

import filecmp
import os
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from importlib.resources import files
from importlib.resources.abc import Traversable
from itertools import count
from pathlib import Path

from twisted.logger import Logger

from merlind.storage.sqlite.errors import DatabaseUnusable

APPLICATION_ID = 0x6D65726C  # "merl"
"""SQLite's application_id of our databases."""

SCHEMA = files("merlind.storage.sqlite").joinpath("schema")
"""The folder of the scripts: 1.sql, 2.sql and so on. None of them begins or ends a transaction."""

_log = Logger()


def read_scripts(folder: Traversable = SCHEMA) -> list[str]:
    """Return the scripts in their order: the length of the list is the newest version."""
    scripts: list[str] = []
    while (script := folder.joinpath(f"{len(scripts) + 1}.sql")).is_file():
        scripts.append(script.read_text("utf-8"))
    return scripts


def create(path: Path, scripts: Sequence[str], configure: Callable[[sqlite3.Connection], None]) -> None:
    """Make a database of the newest version where there is none, or an empty one. Raises DatabaseUnusable."""
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            path.chmod(0o600)
            configure(connection)
            _run(connection, scripts, len(scripts))
    except sqlite3.Error as error:
        raise DatabaseUnusable(f"{path} cannot be made ({error})") from None


def upgrade(path: Path, version: int, scripts: Sequence[str], configure: Callable[[sqlite3.Connection], None]) -> None:
    """Bring a database from an older version to the newest; a copy of the old one stays beside it.

    Raises DatabaseUnusable; then the database is as it was.
    """
    newest = len(scripts)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        try:
            configure(connection)
            backup = back_up(connection, path, newest)
        except (sqlite3.Error, OSError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise DatabaseUnusable(
                f"{path} is of version {version}, and was left so: it can't be copied before the upgrade ({why})"
            ) from None
        try:
            _run(connection, scripts[version:], newest)
        except sqlite3.Error as error:
            raise DatabaseUnusable(
                f"{path} can't be upgraded from version {version} to {newest} ({error}); "
                f"it was left as it was, and {backup} is a copy of it"
            ) from None
    _log.info(
        "upgraded {path} from version {old} to {new}; {backup} is a copy of the old one: delete it when all is well",
        path=path, old=version, new=newest, backup=backup,
    )  # fmt: skip


def _run(connection: sqlite3.Connection, scripts: Sequence[str], version: int) -> None:
    # Closing the connection rolls back what a script that failed leaves open.
    script = "\n".join(scripts)
    connection.executescript(
        f"BEGIN IMMEDIATE;\n{script}\n"
        f"PRAGMA application_id = {APPLICATION_ID};\nPRAGMA user_version = {version};\nCOMMIT;"
    )


def back_up(connection: sqlite3.Connection, path: Path, version: int) -> Path:
    """Copy a database to ``<its name>.before-v<version>``, durably and readable by us alone; returns the copy's path.

    Overwrites nothing: a copy with another content that is there already keeps its name, and this one gets a number. An
    equal one is taken as it is, so that a start that fails again and again doesn't fill the disk. Raises sqlite3.Error
    or OSError.
    """
    name = f"{path.name}.before-v{version}"
    part = path.with_name(f"{name}.part")
    try:
        # An earlier start that was killed here may have left one.
        part.unlink(missing_ok=True)
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        with closing(sqlite3.connect(part)) as target:
            connection.backup(target)
        _fsync(part)
        for number in count(1):
            backup = path.with_name(name if number == 1 else f"{name}.{number}")
            if not os.path.lexists(backup):
                part.rename(backup)
                break
            if backup.is_file() and filecmp.cmp(part, backup, shallow=False):
                part.unlink()
                break
        _fsync(path.parent)
    except BaseException:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise
    return backup


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

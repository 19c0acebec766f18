"""The database file: made, checked and opened. Everything here runs before the reactor, or in the pool's thread."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from importlib.resources import files
from pathlib import Path
from typing import Any

from twisted.enterprise.adbapi import ConnectionPool

from merlind.storage.sqlite.errors import DatabaseUnusable as DatabaseUnusable

VERSION = 1
"""The version of the schema that this merlind reads and writes."""

OLDEST_SQLITE = (3, 33, 0)
"""The first SQLite that knows UPDATE FROM."""

_SMALLEST = 512  # bytes: SQLite takes less for an empty database, and it may be anything

_APPLICATION_ID = 0x6D65726C  # "merl"


def prepare(path: Path) -> None:
    """Make the database if it isn't there, and see that it is one we can use.

    Raises DatabaseUnusable, without having changed anything.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        wanted = ".".join(map(str, OLDEST_SQLITE))
        raise DatabaseUnusable(f"this Python has SQLite {sqlite3.sqlite_version}; merlind needs {wanted} or newer")
    if not path.exists() or path.stat().st_size == 0:
        _create(path)
        return
    try:
        # Reading alone: a file that isn't ours must not get as much as a log beside it. Without one that a crash left,
        # the file is all there is, and "immutable" keeps SQLite from making one.
        log = path.with_name(f"{path.name}-wal")
        how = "mode=ro" if log.exists() else "mode=ro&immutable=1"
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True)
        try:
            application_id = connection.execute("PRAGMA application_id").fetchone()[0]
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise DatabaseUnusable(f"{path} is not a database that can be read ({error})") from None
    if application_id == 0 and tables == 0 and path.stat().st_size >= _SMALLEST:
        _create(path)
    elif application_id != _APPLICATION_ID:
        raise DatabaseUnusable(f"{path} is a database, but not one of merlind's")
    elif version > VERSION:
        raise DatabaseUnusable(f"{path} is of version {version}; this merlind knows versions up to {VERSION}")


def _create(path: Path) -> None:
    schema = files("merlind.storage.sqlite").joinpath(f"schema/{VERSION}.sql").read_text("utf-8")
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            path.chmod(0o600)
            configure(connection)
            connection.executescript(
                f"BEGIN IMMEDIATE;\n{schema}\n"
                f"PRAGMA application_id = {_APPLICATION_ID};\nPRAGMA user_version = {VERSION};\nCOMMIT;"
            )
    except sqlite3.Error as error:
        raise DatabaseUnusable(f"{path} cannot be made ({error})") from None


def configure(connection: sqlite3.Connection) -> None:
    """Set what every connection needs: commits that survive a power loss, and no remains of what was deleted."""
    for pragma in (
        "journal_mode = WAL",
        "synchronous = FULL",
        "secure_delete = ON",
        "wal_autocheckpoint = 0",  # SQLite ignores a checkpoint that failed; the engine makes its own, and doesn't
        "cache_size = -65536",  # KiB: random task ids touch pages all over the tree
        "temp_store = MEMORY",
        "busy_timeout = 5000",  # ms: a backup may hold the lock for a moment
    ):
        connection.execute(f"PRAGMA {pragma}").fetchall()


def open_pool(
    path: Path,
    reactor: Any,
    make_pool: Callable[..., ConnectionPool] = ConnectionPool,
    configure: Callable[[sqlite3.Connection], None] = configure,
) -> ConnectionPool:
    """Return a pool of one connection and one thread over a prepared database; it connects when it is first used."""
    return make_pool(
        "sqlite3",
        str(path),
        check_same_thread=False,
        isolation_level=None,
        cp_min=1,
        cp_max=1,
        cp_openfun=configure,
        cp_reactor=reactor,
    )


def service_time(path: Path) -> float:
    """Return the service time at the last commit, in seconds: the next run's begins there. Raises DatabaseUnusable."""
    try:
        with closing(sqlite3.connect(path)) as connection:
            return float(connection.execute("SELECT now FROM clock").fetchone()[0])
    except (sqlite3.Error, TypeError) as error:
        raise DatabaseUnusable(f"{path} is damaged ({error})") from None

"""The database file: made or upgraded, checked, and opened for the engine.

Blocks: everything here runs before the reactor does, or in the pool's thread.
"""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from twisted.enterprise.adbapi import ConnectionPool

from merlind.core.pause import Pause
from merlind.storage.sqlite import migrations
from merlind.storage.sqlite.errors import DatabaseUnusable as DatabaseUnusable
from merlind.storage.sqlite.migrations import APPLICATION_ID, SCHEMA

OLDEST_SQLITE = (3, 33, 0)
"""The first SQLite that knows UPDATE FROM."""

VERSION = len(migrations.read_scripts())
"""The version of the schema that this merlind reads and writes."""

_SMALLEST = 512  # bytes: SQLite takes less for an empty database, and it may be anything


def prepare(path: Path, schema: Traversable = SCHEMA) -> None:
    """Make the database if it isn't there, upgrade it if it is older than the schema, and see that we can use it.

    Raises DatabaseUnusable, and then the database is as it was.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        wanted = ".".join(map(str, OLDEST_SQLITE))
        raise DatabaseUnusable(f"this Python has SQLite {sqlite3.sqlite_version}; merlind needs {wanted} or newer")
    scripts = migrations.read_scripts(schema)
    newest = len(scripts)
    if why_empty(path) is not None:
        migrations.create(path, scripts, configure)
        return
    application_id, version, _ = _identify(path)
    if application_id != APPLICATION_ID:
        raise DatabaseUnusable(f"{path} is a database, but not one of merlind's")
    elif not 1 <= version <= newest:
        raise DatabaseUnusable(f"{path} is of version {version}; this merlind knows versions up to {newest}")
    elif version < newest:
        migrations.upgrade(path, version, scripts, configure)


def check_current(path: Path) -> None:
    """See that there is a database of this merlind's version, without changing anything. Raises DatabaseUnusable."""
    if (why := why_empty(path)) is not None:
        raise DatabaseUnusable(f"{path} is {why}")
    application_id, version, _ = _identify(path)
    if application_id != APPLICATION_ID:
        raise DatabaseUnusable(f"{path} is a database, but not one of merlind's")
    if version != VERSION:
        raise DatabaseUnusable(f"{path} is of version {version}, and this merlind is of version {VERSION}")


def schema_version(path: Path) -> int:
    """Return the version of a database's schema, without changing anything. Raises DatabaseUnusable."""
    return _identify(path)[1]


def why_empty(path: Path) -> str | None:
    """Say in a word why there is no database here yet, "missing" or "empty"; None if there is one, ours or not."""
    if not path.exists():
        return "missing"
    if path.stat().st_size == 0:
        return "empty"
    if path.stat().st_size < _SMALLEST:
        return None
    application_id, _, tables = _identify(path)
    return "empty" if application_id == 0 and tables == 0 else None


def _identify(path: Path) -> tuple[int, int, int]:
    """Return application_id, version and number of tables of a database, without changing anything."""
    # Read-only: a file that isn't ours must not get as much as a log beside it. Where a crash left no log, the file is
    # all there is, and "immutable" keeps SQLite from making one.
    log = path.with_name(f"{path.name}-wal")
    mode = "mode=ro" if log.exists() else "mode=ro&immutable=1"
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True)) as connection:
            return (
                connection.execute("PRAGMA application_id").fetchone()[0],
                connection.execute("PRAGMA user_version").fetchone()[0],
                connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0],
            )
    except sqlite3.Error as error:
        raise DatabaseUnusable(f"{path} is not a database that can be read ({error})") from None


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
    return float(_first(path, "SELECT now FROM clock"))


def pause(path: Path) -> Pause:
    """Return the pause that the last run was in, if any. Raises DatabaseUnusable."""
    text = _first(path, "SELECT coalesce((SELECT value FROM setting WHERE name = 'pause'), '{}')")
    try:
        return Pause(**json.loads(text))
    except (ValueError, TypeError) as error:
        raise DatabaseUnusable(f"{path} is damaged ({error})") from None


def identity(path: Path) -> str:
    """Return what tells this database from any other. Raises DatabaseUnusable."""
    return str(_first(path, "SELECT id FROM identity"))


def count_needed_photos(path: Path) -> int:
    """Return the number of tasks whose photo is still to be uploaded, or may be again. Raises DatabaseUnusable."""
    uploads = "SELECT count(*) FROM task INDEXED BY task_due WHERE finished IS NULL AND state = 'upload'"
    kept = "SELECT count(*) FROM task INDEXED BY task_photo_kept WHERE kept_until IS NOT NULL"
    return int(_first(path, f"SELECT ({uploads}) + ({kept})"))


def _first(path: Path, query: str) -> Any:
    try:
        with closing(sqlite3.connect(path)) as connection:
            return connection.execute(query).fetchone()[0]
    except (sqlite3.Error, TypeError) as error:
        raise DatabaseUnusable(f"{path} is damaged ({error})") from None

"""Tasks as rows of SQLite: each function is a statement or two within the caller's transaction, and blocks.

Many tasks go into one statement where they can: each execution gives up the interpreter's lock, and waits for it.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

from merlind.core.interfaces import Cursor, DedupKey, TaskCounts
from merlind.core.outcome import Source, TaskError
from merlind.core.pause import Pause
from merlind.core.task import Photo, State, Task

T = TypeVar("T")

MAX_ROWS = 32
"""The most rows that one statement writes: each number of rows is a statement of its own, and sqlite3 caches 128."""

_NAMES = (
    "id", "user", "name", "sha256", "size", "media_type", "state", "since", "due", "retry_id", "attempts", "trouble",
    "result", "error_code", "error_detail", "error_source", "finished", "failed_at", "blamed", "unknown_handle",
    "uploads", "reuploads", "received", "kept_until",
)  # fmt: skip
_CHANGING = _NAMES.index("state")
COLUMNS = ", ".join(_NAMES)
"""What a SELECT has to name for ``task_of``."""

_SETTINGS = ", ".join(f"{name} = new.column{number}" for number, name in enumerate(_NAMES[_CHANGING:], 2))
_NEW_FINISHED = f"new.column{2 + _NAMES.index('finished') - _CHANGING}"
_KEPT_SINCE = f"kept_since = CASE WHEN {_NEW_FINISHED} IS NOT NULL THEN coalesce(task.kept_since, ?) END"
_THESE = "(SELECT value FROM json_each(?))"
_GET = f"SELECT {COLUMNS} FROM task WHERE id IN {_THESE}"
_UNFINISHED = f"SELECT {COLUMNS} FROM task WHERE finished IS NULL AND (due, id) > (?, ?) ORDER BY due, id LIMIT ?"
_EXPIRED = f"SELECT {COLUMNS} FROM task WHERE finished IS NOT NULL AND kept_since <= ? ORDER BY kept_since LIMIT ?"
_OLDEST = "SELECT min(since) FROM task INDEXED BY task_due WHERE finished IS NULL"
# Two limits, as the time for which photos are kept may have become shorter since.
_KEPT_PHOTOS = (
    f"SELECT {COLUMNS} FROM task INDEXED BY task_photo_kept WHERE kept_until IS NOT NULL "
    "AND (kept_until <= ? OR kept_since <= ?) ORDER BY kept_until LIMIT ?"
)
# By id: the indexes of tasks with photos would have to be read as a whole.
_HAVE_PHOTOS = f"SELECT id, finished IS NULL OR kept_until IS NOT NULL FROM task NOT INDEXED WHERE id IN {_THESE}"


# Writing.


def portions(values: Sequence[T]) -> Iterator[Sequence[T]]:
    """Split what is to be written into as many as one statement takes."""
    for start in range(0, len(values), MAX_ROWS):
        yield values[start : start + MAX_ROWS]


def insert(cursor: sqlite3.Cursor, tasks: Sequence[Task]) -> None:
    """Add up to MAX_ROWS tasks. Raises sqlite3.IntegrityError if an id is taken, and adds none then."""
    cursor.execute(f"INSERT INTO task ({COLUMNS}) {_values(len(tasks), len(_NAMES))}", _flat(map(_row, tasks)))


def update(cursor: sqlite3.Cursor, tasks: Iterable[Task], now: float) -> set[int]:
    """Record what can change of tasks; of one that comes twice, the last counts. Returns the ids of unknown tasks.

    A task that is finished now, at ``now`` (service time), is kept from then on.
    """
    unknown: set[int] = set()
    for some in portions(list({task.id: task for task in tasks}.values())):
        new = _values(len(some), 1 + len(_NAMES) - _CHANGING)
        cursor.execute(
            f"UPDATE task SET {_SETTINGS}, {_KEPT_SINCE} FROM ({new}) AS new WHERE task.id = new.column1",
            [now, *_flat((task.id, *_row(task)[_CHANGING:]) for task in some)],
        )
        if cursor.rowcount < len(some):
            ids = [task.id for task in some]
            unknown.update(set(ids).difference(get(cursor, ids)))
    return unknown


def delete(cursor: sqlite3.Cursor, task_ids: list[int]) -> None:
    """Delete tasks."""
    if task_ids:
        cursor.execute(f"DELETE FROM task WHERE id IN {_THESE}", (json.dumps(task_ids),))


def record_time(cursor: sqlite3.Cursor, now: float) -> None:
    """Record the service time, in seconds."""
    cursor.execute("UPDATE clock SET now = ?", (now,))


def save_pause(cursor: sqlite3.Cursor, pause: Pause) -> None:
    """Record whether there is a pause."""
    cursor.execute("INSERT OR REPLACE INTO setting VALUES ('pause', ?)", (json.dumps(asdict(pause)),))


# Reading.


def find(cursor: sqlite3.Cursor, keys: Sequence[DedupKey]) -> dict[DedupKey, Task]:
    """Return the tasks that there are of these dedup keys."""
    found: dict[DedupKey, Task] = {}
    for some in portions(keys):
        cursor.execute(
            f"SELECT {COLUMNS} FROM ({_values(len(some), 3)}) AS wanted CROSS JOIN task "
            "ON (sha256, user, name) = (wanted.column1, wanted.column2, wanted.column3)",
            _flat(some),
        )
        for task in map(task_of, cursor.fetchall()):
            found[task.photo.sha256, task.user, task.name] = task
    return found


def get(cursor: sqlite3.Cursor, task_ids: list[int]) -> dict[int, Task]:
    """Return the tasks that there are of these ids."""
    rows = cursor.execute(_GET, (json.dumps(task_ids),)).fetchall()
    return {row[0]: task_of(row) for row in rows}


def list_unfinished(cursor: sqlite3.Cursor, after: Cursor, limit: int) -> list[Task]:
    """Return the next unfinished tasks behind a position, in order of (due, id)."""
    return [task_of(row) for row in cursor.execute(_UNFINISHED, (*after, limit)).fetchall()]


def list_expired(cursor: sqlite3.Cursor, kept_since: float, limit: int) -> list[Task]:
    """Return the tasks that finished first, of those that finished by a service time."""
    return [task_of(row) for row in cursor.execute(_EXPIRED, (kept_since, limit)).fetchall()]


def oldest_unfinished(cursor: sqlite3.Cursor) -> float | None:
    """Return the smallest ``since`` of all unfinished tasks."""
    since: float | None = cursor.execute(_OLDEST).fetchone()[0]
    return since


def list_kept_photos(cursor: sqlite3.Cursor, now: float, keep: float, limit: int) -> list[Task]:
    """Return tasks whose photo was kept until ``now`` (service time), or has been kept for ``keep`` seconds."""
    return [task_of(row) for row in cursor.execute(_KEPT_PHOTOS, (now, now - keep, limit)).fetchall()]


def have_photos(cursor: sqlite3.Cursor, task_ids: list[int]) -> dict[int, bool]:
    """Return whether they have a photo (Task.has_photo), of the ids whose task is there."""
    rows = cursor.execute(_HAVE_PHOTOS, (json.dumps(task_ids),)).fetchall()
    return {task_id: bool(has) for task_id, has in rows}


def count(cursor: sqlite3.Cursor) -> TaskCounts:
    """Count the tasks."""
    # Sums over indexes, without a sort: after a start, others wait for this first.
    unfinished, uploads, photo_bytes = cursor.execute(
        f"SELECT count(*), count(*) FILTER (WHERE state = '{State.UPLOAD}'), total(size) "
        "FROM task INDEXED BY task_due WHERE finished IS NULL"
    ).fetchone()
    finished, ready, kept_bytes = cursor.execute(
        f"SELECT count(*), count(*) FILTER (WHERE state = '{State.READY}'), "
        "(SELECT total(size) FROM task INDEXED BY task_photo_kept WHERE kept_until IS NOT NULL) "
        "FROM task INDEXED BY task_kept WHERE finished IS NOT NULL"
    ).fetchone()
    by_state = {
        State.UPLOAD.value: uploads,
        State.POLL.value: unfinished - uploads,
        State.READY.value: ready,
        State.FAILED.value: finished - ready,
    }
    return TaskCounts(by_state, int(photo_bytes + kept_bytes))


# Rows and values.


def _values(rows: int, columns: int) -> str:
    row = f"({', '.join('?' * columns)})"
    return f"VALUES {', '.join([row] * rows)}"


def _flat(rows: Iterable[Sequence[Any]]) -> list[Any]:
    return [value for row in rows for value in row]


def _row(task: Task) -> tuple[Any, ...]:
    photo, error = task.photo, task.error
    return (
        task.id,
        task.user,
        task.name,
        photo.sha256,
        photo.size,
        photo.media_type,
        str(task.state),
        task.since,
        task.due,
        task.retry_id,
        task.attempts,
        task.last_error,
        task.result,
        error.code if error else None,
        error.detail if error else None,
        str(error.source) if error else None,
        task.finished_at,
        task.failed_at,
        task.blamed,
        task.unknown_handle,
        task.uploads,
        task.reuploads,
        task.received,
        task.kept_until,
    )


def task_of(row: Iterable[Any]) -> Task:
    """Return the task of a row with COLUMNS."""
    (
        task_id, user, name, sha256, size, media_type, state, since, due,
        retry_id, attempts, last_error, result, code, detail, source, finished_at,
        failed_at, blamed, unknown_handle, uploads, reuploads, received, kept_until,
    ) = row  # fmt: skip
    return Task(
        id=task_id,
        user=user,
        name=name,
        photo=Photo(sha256, size, media_type),
        since=since,
        due=due,
        state=State(state),
        retry_id=retry_id,
        attempts=attempts,
        last_error=last_error,
        result=result,
        error=None if code is None else TaskError(code, detail, Source(source)),
        finished_at=finished_at,
        failed_at=failed_at,
        blamed=blamed,
        unknown_handle=unknown_handle,
        uploads=uploads,
        reuploads=reuploads,
        received=received,
        kept_until=kept_until,
    )

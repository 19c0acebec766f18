"""Tasks as rows in SQLite: each function is a statement or two within somebody else's transaction, and blocks.

Many tasks go into one statement where they can: the interpreter's lock is given up with each, and waited for.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

from merlind.core.interfaces import DedupKey, TaskCounts
from merlind.core.outcome import TaskError
from merlind.core.task import Photo, State, Task

T = TypeVar("T")

MOST = 32
"""The most rows of a statement: each number of them is a statement of its own, and sqlite3 keeps 128 prepared."""

_NAMES = (
    "id", "user", "name", "sha256", "size", "media_type", "state", "since", "due", "retry_id", "attempts", "trouble",
    "result", "error_code", "error_detail", "finished",
)  # fmt: skip
_CHANGING = _NAMES.index("state")
_COLUMNS = ", ".join(_NAMES)
_SETTINGS = ", ".join(f"{name} = new.column{number}" for number, name in enumerate(_NAMES[_CHANGING:], 2))
_BY_ID = f"SELECT {_COLUMNS} FROM task WHERE id = ?"
_BY_IDS = f"SELECT {_COLUMNS} FROM task WHERE id IN (SELECT value FROM json_each(?))"
_PAGE = f"SELECT {_COLUMNS} FROM task WHERE finished IS NULL AND (due, id) > (?, ?) ORDER BY due, id LIMIT ?"
_OLDEST = "SELECT min(since) FROM task INDEXED BY task_due WHERE finished IS NULL"
_OLD = f"SELECT {_COLUMNS} FROM task WHERE finished IS NOT NULL AND finished <= ? ORDER BY finished LIMIT ?"


class Cursor(Protocol):
    """What is used of a database cursor."""

    connection: Any

    def execute(self, sql: str, parameters: Sequence[Any] = ...) -> "Cursor": ...
    def fetchone(self) -> Any: ...
    def fetchall(self) -> list[Any]: ...


# Writing.


def portions(values: Sequence[T]) -> Iterator[Sequence[T]]:
    """The same in as many as one statement takes at a time."""
    for start in range(0, len(values), MOST):
        yield values[start : start + MOST]


def insert(cursor: Cursor, tasks: Sequence[Task]) -> None:
    """Add up to MOST tasks; sqlite3.IntegrityError if one of their numbers is taken, and then none is added."""
    cursor.execute(f"INSERT INTO task ({_COLUMNS}) {_values(len(tasks), len(_NAMES))}", _flat(map(_row, tasks)))


def update(cursor: Cursor, tasks: Iterable[Task]) -> None:
    """Record what changes of tasks: where they stand. Of one that comes twice the last counts; none is added."""
    for some in portions(list({task.id: task for task in tasks}.values())):
        new = _values(len(some), 1 + len(_NAMES) - _CHANGING)
        cursor.execute(
            f"UPDATE task SET {_SETTINGS} FROM ({new}) AS new WHERE task.id = new.column1",
            _flat((task.id, *_row(task)[_CHANGING:]) for task in some),
        )


def erase(cursor: Cursor, task_id: int) -> None:
    """Delete a task."""
    cursor.execute("DELETE FROM task WHERE id = ?", (task_id,))


def record_time(cursor: Cursor, now: float) -> None:
    """Record the service time, in seconds."""
    cursor.execute("UPDATE clock SET now = ?", (now,))


# Reading.


def dedup_key(cursor: Cursor, wanted: Sequence[DedupKey]) -> dict[DedupKey, Task]:
    """Those tasks that are the same as what is wanted."""
    found: dict[DedupKey, Task] = {}
    for some in portions(wanted):
        cursor.execute(
            f"SELECT {_COLUMNS} FROM ({_values(len(some), 3)}) AS wanted CROSS JOIN task "
            "ON (sha256, user, name) = (wanted.column1, wanted.column2, wanted.column3)",
            _flat(some),
        )
        for task in map(_task, cursor.fetchall()):
            found[task.photo.sha256, task.user, task.name] = task
    return found


def by_id(cursor: Cursor, task_id: int) -> Task | None:
    """The task of a number."""
    row = cursor.execute(_BY_ID, (task_id,)).fetchone()
    return None if row is None else _task(row)


def by_ids(cursor: Cursor, task_ids: list[int]) -> dict[int, Task]:
    """The tasks of some numbers, as far as there are any."""
    rows = cursor.execute(_BY_IDS, (json.dumps(task_ids),)).fetchall()
    return {row[0]: _task(row) for row in rows}


def page(cursor: Cursor, after: tuple[float, int], limit: int) -> list[Task]:
    """The next unfinished tasks in order of (due, id), behind the place ``after``."""
    return [_task(row) for row in cursor.execute(_PAGE, (*after, limit)).fetchall()]


def ended_by(cursor: Cursor, finished_before: float, limit: int) -> list[Task]:
    """The tasks that were over first, of those that were before a time of the wall clock."""
    return [_task(row) for row in cursor.execute(_OLD, (finished_before, limit)).fetchall()]


def oldest(cursor: Cursor) -> float | None:
    """The service time since which the oldest unfinished task is worked on."""
    since: float | None = cursor.execute(_OLDEST).fetchone()[0]
    return since


def unfinished(cursor: Cursor, task_id: int) -> bool:
    """Whether there is such a task, and it isn't over."""
    cursor.execute("SELECT 1 FROM task WHERE id = ? AND finished IS NULL", (task_id,))
    return cursor.fetchone() is not None


def count(cursor: Cursor) -> TaskCounts:
    """Count the tasks."""
    # Sums over an index, without a sort: this is the first thing after a start that others wait for.
    going_on, uploads, photo_bytes = cursor.execute(
        f"SELECT count(*), count(*) FILTER (WHERE state = '{State.UPLOAD}'), total(size) "
        "FROM task INDEXED BY task_due WHERE finished IS NULL"
    ).fetchone()
    over, ready = cursor.execute(
        f"SELECT count(*), count(*) FILTER (WHERE state = '{State.READY}') "
        "FROM task INDEXED BY task_finished WHERE finished IS NOT NULL"
    ).fetchone()
    tasks = {
        State.UPLOAD.value: uploads,
        State.POLL.value: going_on - uploads,
        State.READY.value: ready,
        State.FAILED.value: over - ready,
    }
    return TaskCounts(tasks, int(photo_bytes))


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
        task.finished_at,
    )


def _task(row: Iterable[Any]) -> Task:
    (
        task_id, user, name, sha256, size, media_type, state, since, due,
        retry_id, attempts, last_error, result, code, detail, finished_at,
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
        error=None if code is None else TaskError(code, detail),
        finished_at=finished_at,
    )

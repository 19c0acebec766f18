"""Lists of tasks for operators: the newest first, and each page by an index, however many tasks there are."""

import sqlite3
from typing import Any

from merlind.core.listing import Failures, Position, TaskFilter
from merlind.core.task import State, Task
from merlind.storage.sqlite.statements import COLUMNS, task_of

# Of no more rows than are asked for, by the index: this is looked up while others wait.
_FAILURES = (
    "SELECT error_code, count(*), count(kept_until) FROM (SELECT error_code, kept_until FROM task "
    "INDEXED BY task_failed WHERE state = 'failed' AND received >= ? ORDER BY received DESC, id DESC LIMIT ?) "
    "GROUP BY error_code ORDER BY count(*) DESC, error_code"
)


def count_failures(cursor: sqlite3.Cursor, since: float, most: int) -> list[Failures]:
    """Return how many of the newest failed tasks have each code, those of the most tasks first."""
    return [Failures(*row) for row in cursor.execute(_FAILURES, (since, most)).fetchall()]


def list_tasks(cursor: sqlite3.Cursor, wanted: TaskFilter, after: Position, limit: int) -> list[Task]:
    """Return the next tasks that match, behind a position."""
    if wanted.matches_nothing:
        return []
    query, values = _query(wanted)
    rows = cursor.execute(
        f"SELECT {COLUMNS} FROM task {query} AND (received, id) < (?, ?) ORDER BY received DESC, id DESC LIMIT ?",
        (*values, after.received, after.task_id, limit),
    )
    return [task_of(row) for row in rows.fetchall()]


def _query(wanted: TaskFilter) -> tuple[str, list[Any]]:
    """Return the index and the condition, and the values for it.

    The unfinished tasks have no index in this order: they are sorted, and --max-pending says how many they can be.
    """
    state = wanted.only_state
    unfinished = state in (State.UPLOAD, State.POLL)
    index = "task_failed" if state is State.FAILED else "task_due" if unfinished else "task_received"
    terms, values = ["1"], list[Any]()
    if unfinished:
        terms.append("finished IS NULL")
    if state is not None:
        terms.append(f"state = '{state}'")  # a partial index is used for a literal alone
    if wanted.code is not None:
        terms.append("error_code = ?")
        values.append(wanted.code)
    if wanted.retryable:
        terms.append("kept_until IS NOT NULL")
    if wanted.since is not None:
        terms.append("received >= ?")
        values.append(wanted.since)
    return f"INDEXED BY {index} WHERE {' AND '.join(terms)}", values

"""Tasks in SQLite, through adbapi: one connection, one thread, and one transaction for all that waits at a time.

Knows no HTTP and no upstream. Of the spool it knows that photos are placed before the commit that refers to them, and
removed after the commit that ends their task.
"""

import errno
import json
import sqlite3
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from twisted.enterprise.adbapi import ConnectionPool
from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger
from twisted.python.failure import Failure

from merlind.clock import ServiceClock
from merlind.spool import FULL, READ_ONLY, Spool, Staged, remove
from merlind.task import Photo, State, Task, TaskError, retried

T = TypeVar("T")

CHECKPOINT_EVERY = 500
"""Writes after which the write-ahead log is moved into the database."""

MAX_BATCH = 512
"""The most operations that share one transaction: it bounds how long the first of them waits for the last."""

_COLUMNS = (
    "id, user, name, sha256, size, media_type, state, since, due, retry_id, attempts, trouble, result, "
    "error_code, error_detail, finished"
)
_MARKS = ", ".join("?" * 16)
_INSERT = f"INSERT INTO task ({_COLUMNS}) VALUES ({_MARKS})"
_UPDATE = (
    "UPDATE task SET state = ?, since = ?, due = ?, retry_id = ?, attempts = ?, trouble = ?, result = ?, "
    "error_code = ?, error_detail = ?, finished = ? WHERE id = ?"
)
_SAME = f"SELECT {_COLUMNS} FROM task WHERE sha256 = ? AND user = ? AND name = ?"
_BY_ID = f"SELECT {_COLUMNS} FROM task WHERE id = ?"
_BY_IDS = f"SELECT {_COLUMNS} FROM task WHERE id IN (SELECT value FROM json_each(?))"
_PAGE = f"SELECT {_COLUMNS} FROM task WHERE finished IS NULL AND (due, id) > (?, ?) ORDER BY due, id LIMIT ?"
_OLDEST = "SELECT min(since) FROM task INDEXED BY task_due WHERE finished IS NULL"
_NEWEST = (
    "SELECT finished, state, id, user, result, error_code, error_detail FROM task INDEXED BY task_finished "
    "WHERE finished IS NOT NULL AND (finished, state, id) < (?, ?, ?) "
    "ORDER BY finished DESC, state DESC, id DESC LIMIT ?"
)
_OLD = f"SELECT {_COLUMNS} FROM task WHERE finished IS NOT NULL AND finished <= ? ORDER BY finished LIMIT ?"


class StoreUnavailable(Exception):
    """The operation was not done, and nothing is lost: the disk is full or can't be written to just now."""


class StoreBroken(Exception):
    """A flush or a commit failed: what is on the disk is unknown, and only a new start finds out."""


@dataclass(frozen=True, slots=True)
class Submission:
    """What a client sent: whose it is, the name, and the photo as it was staged."""

    user: str
    name: str
    staged: Staged
    media_type: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """The task that a submission belongs to, and what it was before, if it was there."""

    task: Task
    before: Task | None

    @property
    def fresh(self) -> bool:
        """Whether work on it begins with this submission."""
        return self.before is not self.task


@dataclass(frozen=True, slots=True)
class Ended:
    """What is told of a finished task, and its place in the order of their ends: (finished, state, number)."""

    place: tuple[float, str, int]
    user: str
    result: float | None
    error: TaskError | None

    @property
    def id(self) -> int:
        return self.place[2]


@dataclass(frozen=True, slots=True)
class Census:
    """How many tasks there are by state, and the bytes of their photos."""

    tasks: dict[str, int]
    photo_bytes: int


@dataclass(slots=True)
class _Changes:
    """What a transaction wants of the spool."""

    place: list[tuple[str, int]] = field(default_factory=list)
    discard: list[str] = field(default_factory=list)
    remove: set[int] = field(default_factory=set)


class Cursor(Protocol):
    """What is used of a database cursor."""

    rowcount: int
    connection: Any

    def execute(self, sql: str, parameters: Sequence[Any] = ...) -> "Cursor": ...
    def fetchone(self) -> Any: ...
    def fetchall(self) -> list[Any]: ...


@dataclass(slots=True)
class _Operation(Generic[T]):
    name: str
    run: Callable[[Cursor, _Changes], T]
    writes: bool
    done: "Deferred[T]"


class Store:
    """The tasks, behind named operations that all return Deferreds.

    Operations that come while a transaction is under way wait for it and then share the next one (group commit): it
    costs one flush however many they are. Each fails with StoreUnavailable or StoreBroken; after the first StoreBroken
    nothing is tried any more, and ``on_broken`` has been told why.
    """

    _log = Logger()

    def __init__(
        self,
        pool: ConnectionPool,
        spool: Spool,
        clock: ServiceClock,
        new_id: Callable[[], int],
        on_broken: Callable[[str], None],
    ) -> None:
        self._pool = pool
        self._spool = spool
        self._clock = clock
        self._new_id = new_id
        self._on_broken = on_broken
        self._waiting: deque[_Operation[Any]] = deque()
        self._asked: list[tuple[int, Deferred[Task | None]]] | None = None
        self._busy = False
        self._unmoved = 0
        self._idle: list[Deferred[None]] = []
        self._broken: StoreBroken | None = None
        self.trouble: str | None = None
        """Why the last write was not done; None if it was."""

    @property
    def broken(self) -> bool:
        """Whether the disk failed so that nothing is tried any more."""
        return self._broken is not None

    # What callers ask for.

    def accept(self, submission: Submission) -> "Deferred[Accepted]":
        """Find or make the one task of (user, name, photo); when it fires, the task and its photo are durable.

        The staged file is the store's from here on: it is in place, or gone.
        """
        d = self._write("accept", lambda cursor, changes: self._accept(cursor, changes, submission))
        return d.addErrback(self._discard_staged, submission.staged.path)

    def save(self, task: Task) -> "Deferred[None]":
        """Record what became of a task; its photo goes if it is over. A task deleted meanwhile stays deleted."""
        return self._write("save", lambda cursor, changes: _save(cursor, changes, task))

    def delete(self, task_id: int, user: str) -> "Deferred[Task | None]":
        """Erase a user's task and its photo; fires with what it was, or None if it wasn't there."""
        return self._write("delete", lambda cursor, changes: _delete(cursor, changes, task_id, user))

    def get(self, task_id: int) -> "Deferred[Task | None]":
        """The task, if there is one. Those that are asked for in a row share a query if they have to wait."""
        d: Deferred[Task | None] = Deferred()
        if self._asked is not None and len(self._asked) < MAX_BATCH:
            self._asked.append((task_id, d))
            return d
        asked = [(task_id, d)]
        found = self._read("get", lambda cursor: _by_ids(cursor, [task_id for task_id, _ in asked]))
        found.addCallbacks(_tell, _tell_failure, callbackArgs=(asked,), errbackArgs=(asked,))
        self._asked = asked if self._waiting else None
        return d

    def page(self, after: tuple[float, int], limit: int) -> "Deferred[list[Task]]":
        """The next ``limit`` unfinished tasks in order of (due, id), behind the place ``after``."""
        return self._read("page", lambda cursor: [_task(r) for r in cursor.execute(_PAGE, (*after, limit)).fetchall()])

    def newest(self, before: tuple[float, str, int], limit: int) -> "Deferred[list[Ended]]":
        """The ``limit`` finished tasks that were over last before the place ``before``, the newest first."""
        return self._read("newest", lambda cursor: _newest(cursor, before, limit))

    def census(self) -> "Deferred[Census]":
        """Count the tasks."""
        return self._read("census", _census)

    def oldest(self) -> "Deferred[float | None]":
        """The service time since which the oldest unfinished task is worked on."""
        return self._read("oldest", lambda cursor: cursor.execute(_OLDEST).fetchone()[0])

    def expire(self, finished_before: float, limit: int) -> "Deferred[list[Task]]":
        """Forget up to ``limit`` tasks that were over before a time of the wall clock; fires with what they were."""
        return self._write("expire", lambda cursor, _: _expire(cursor, finished_before, limit))

    def sweep_photos(self, task_ids: Sequence[int]) -> "Deferred[None]":
        """Unlink those of the named photos whose task is over or unknown."""
        return self._write("sweep", lambda cursor, changes: _sweep(cursor, changes, task_ids))

    def check(self) -> "Deferred[None]":
        """See that the database and the spool can be written to."""

        def run(cursor: Cursor, changes: _Changes) -> None:
            self._spool.probe()

        return self._write("check", run)

    def compact(self) -> "Deferred[None]":
        """Move the write-ahead log into the database and empty it, so that nothing erased stays in it."""

        if self._broken is not None:
            return fail(self._broken)
        d: Deferred[Any] = self._pool.runWithConnection(self._checkpoint, "TRUNCATE")
        return d.addErrback(self._judge_failure).addBoth(self._checkpointed)

    def drained(self) -> "Deferred[None]":
        """Fires when nothing is waiting or under way."""
        d: Deferred[None] = Deferred()
        self._idle.append(d)
        self._pump()
        return d

    # How they are done.

    def _read(self, name: str, run: Callable[[Cursor], T]) -> "Deferred[T]":
        return self._enqueue(_Operation(name, lambda cursor, _: run(cursor), False, Deferred()))

    def _write(self, name: str, run: Callable[[Cursor, _Changes], T]) -> "Deferred[T]":
        return self._enqueue(_Operation(name, run, True, Deferred()))

    def _enqueue(self, operation: _Operation[T]) -> "Deferred[T]":
        if self._broken is not None:
            operation.done.errback(self._broken)
            return operation.done
        self._asked = None
        self._waiting.append(operation)
        self._pump()
        return operation.done

    def _pump(self) -> None:
        if self._busy:
            return
        if not self._waiting:
            idle, self._idle = self._idle, []
            for d in idle:
                d.callback(None)
            return
        batch = [self._waiting.popleft() for _ in range(min(MAX_BATCH, len(self._waiting)))]
        self._asked = None
        self._busy = True
        self._pool.runWithConnection(self._run_batch, batch, self._clock.now()).addErrback(
            lambda failure: [self._judge_failure(failure)] * len(batch)
        ).addCallback(self._batch_done, batch)

    def _checkpointed(self, result: "Failure | None") -> "Failure | None":
        self._unmoved = 0
        if isinstance(result, Failure) and isinstance(result.value, StoreBroken):
            self._break(result.value)
        return result

    def _batch_done(self, results: list[Any], batch: list[_Operation[Any]]) -> None:
        self._busy = False
        wrote = [r for r, operation in zip(results, batch, strict=True) if operation.writes]
        if wrote:
            self.trouble = next((r.getErrorMessage() for r in wrote if isinstance(r, Failure)), None)
        for r in results:
            if isinstance(r, Failure) and isinstance(r.value, StoreBroken):
                self._break(r.value)
        self._unmoved += len(wrote)
        if self._unmoved >= CHECKPOINT_EVERY and self._broken is None:
            self._unmoved = 0
            self._pool.runWithConnection(self._checkpoint, "PASSIVE").addBoth(self._checkpointed).addErrback(
                lambda failure: self._log.warn("{why}", why=failure.getErrorMessage())
            )
        # The next batch starts before these results are looked at: the disk doesn't wait for us.
        self._pump()
        for operation, result in zip(batch, results, strict=True):
            operation.done.callback(result)

    def _break(self, broken: StoreBroken) -> None:
        if self._broken is not None:
            return
        self._broken = broken
        waiting = list(self._waiting)
        self._waiting.clear()
        self._asked = None
        self._on_broken(str(broken))
        for operation in waiting:
            operation.done.errback(broken)

    def _discard_staged(self, failure: Failure, path: str) -> Failure:
        remove(path)
        return failure

    # In the pool's thread.

    def _run_batch(self, connection: Any, batch: list[_Operation[Any]], now: float) -> list[Any]:
        cursor = connection.cursor()
        if any(operation.writes for operation in batch):
            results = self._attempt(lambda: self._transaction(cursor, batch, now))
            if not isinstance(results, Failure):
                return results
            failure = results
        # What only reads works on a full or a read-only disk too.
        return [
            failure if operation.writes else self._attempt(partial(operation.run, cursor, _Changes()))
            for operation in batch
        ]

    def _checkpoint(self, connection: Any, mode: str) -> "Failure | None":
        # Outside of any transaction, where SQLite wants it.
        return self._attempt(lambda: _ignore(connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()))

    def _attempt(self, run: Callable[[], T]) -> "T | Failure":
        try:
            return run()
        except (sqlite3.Error, OSError) as error:
            return Failure(self._judge(error))

    def _transaction(self, cursor: Cursor, batch: list[_Operation[Any]], now: float) -> list[Any]:
        changes = _Changes()
        cursor.execute("BEGIN IMMEDIATE")
        try:
            results = [operation.run(cursor, changes) for operation in batch]
            self._spool.place(changes.place)
            cursor.execute("UPDATE clock SET now = ?", (now,))
            cursor.execute("COMMIT")
        except BaseException:
            self._undo(cursor, changes)
            raise
        self._tidy(changes)
        return results

    def _undo(self, cursor: Cursor, changes: _Changes) -> None:
        try:
            # After some errors, such as a full disk, SQLite has rolled back by itself.
            if cursor.connection.in_transaction:
                cursor.execute("ROLLBACK")
            stray = _Changes()
            _sweep(cursor, stray, [task_id for _, task_id in changes.place])
        except sqlite3.Error as error:
            # The next start sweeps what may lie in the spool without a task.
            self._log.warn("a transaction could not be undone: {error}", error=error)
        else:
            self._tidy(stray)

    def _tidy(self, changes: _Changes) -> None:
        for path in [*changes.discard, *map(self._spool.path, changes.remove)]:
            try:
                remove(path)
            except OSError as error:
                # The next start sweeps it; the commit stands.
                self._log.warn("a photo could not be removed: {error}", error=error.strerror)

    def _judge_failure(self, failure: Failure) -> Failure:
        """The same for what failed before a batch began, such as opening the database."""
        if isinstance(failure.value, sqlite3.Error | OSError):
            return Failure(self._judge(failure.value))
        return failure

    def _judge(self, error: sqlite3.Error | OSError) -> StoreUnavailable | StoreBroken:
        """Whether an error passes, or means that the disk can't be trusted."""
        if isinstance(error, OSError):
            what = error.strerror or str(error)
            return (
                StoreBroken(f"the photo spool failed: {what}") if error.errno == errno.EIO else StoreUnavailable(what)
            )
        name = getattr(error, "sqlite_errorname", "")
        if name.startswith("SQLITE_IOERR") and "FSYNC" not in name and (passing := self._passing_reason()):
            return StoreUnavailable(passing)
        if name.startswith(("SQLITE_IOERR", "SQLITE_CORRUPT", "SQLITE_NOTADB")):
            return StoreBroken(f"the database failed: {error} ({name})")
        return StoreUnavailable(f"{error} ({name})")

    def _passing_reason(self) -> str | None:
        # SQLite does not tell which error a write met; the spool lies on the same file system.
        try:
            self._spool.probe()
        except OSError as error:
            if error.errno in FULL | READ_ONLY:
                return error.strerror
        return None

    def _accept(self, cursor: Cursor, changes: _Changes, submission: Submission) -> Accepted:
        staged = submission.staged
        found = _one(cursor.execute(_SAME, (staged.sha256, submission.user, submission.name)))
        if found is not None and found.state is not State.FAILED:
            changes.discard.append(staged.path)
            return Accepted(found, before=found)
        now = self._clock.now()
        if found is not None:
            task = retried(replace(found, photo=replace(found.photo, media_type=submission.media_type)), now)
            _update(cursor, task)
        else:
            photo = Photo(staged.sha256, staged.size, submission.media_type)
            task = self._insert(cursor, Task(0, submission.user, submission.name, photo, since=now, due=now))
        changes.place.append((staged.path, task.id))
        changes.remove.discard(task.id)
        return Accepted(task, before=found)

    def _insert(self, cursor: Cursor, task: Task) -> Task:
        """The new task, under a number that no other has."""
        while True:
            numbered = replace(task, id=self._new_id())
            try:
                cursor.execute(_INSERT, _row(numbered))
            except sqlite3.IntegrityError:
                self._log.info("a task number was taken, and another one drawn")
            else:
                return numbered


def _by_ids(cursor: Cursor, task_ids: list[int]) -> dict[int, Task]:
    # A query for each would give up the interpreter's lock, and wait for it, several times as often.
    rows = cursor.execute(_BY_IDS, (json.dumps(task_ids),)).fetchall()
    return {row[0]: _task(row) for row in rows}


def _tell(found: dict[int, Task], asked: "list[tuple[int, Deferred[Task | None]]]") -> None:
    for task_id, d in asked:
        d.callback(found.get(task_id))


def _tell_failure(failure: Failure, asked: "list[tuple[int, Deferred[Task | None]]]") -> None:
    for _, d in asked:
        d.errback(failure)


def _save(cursor: Cursor, changes: _Changes, task: Task) -> None:
    _update(cursor, task)
    if task.over:
        changes.remove.add(task.id)


def _update(cursor: Cursor, task: Task) -> None:
    row = _row(task)
    cursor.execute(_UPDATE, (*row[6:], task.id))


def _delete(cursor: Cursor, changes: _Changes, task_id: int, user: str) -> Task | None:
    found = _one(cursor.execute(_BY_ID, (task_id,)))
    if found is None or found.user != user:
        return None
    cursor.execute("DELETE FROM task WHERE id = ?", (task_id,))
    changes.remove.add(task_id)
    return found


def _expire(cursor: Cursor, finished_before: float, limit: int) -> list[Task]:
    old = [_task(row) for row in cursor.execute(_OLD, (finished_before, limit)).fetchall()]
    for task in old:
        cursor.execute("DELETE FROM task WHERE id = ?", (task.id,))
    return old


def _sweep(cursor: Cursor, changes: _Changes, task_ids: Sequence[int]) -> None:
    for task_id in task_ids:
        cursor.execute("SELECT 1 FROM task WHERE id = ? AND finished IS NULL", (task_id,))
        if cursor.fetchone() is None:
            changes.remove.add(task_id)


def _newest(cursor: Cursor, before: tuple[float, str, int], limit: int) -> list[Ended]:
    rows = cursor.execute(_NEWEST, (*before, limit)).fetchall()
    return [Ended(row[:3], row[3], row[4], None if row[5] is None else TaskError(row[5], row[6])) for row in rows]


def _census(cursor: Cursor) -> Census:
    # Sums over an index, without a sort: this is the first thing after a start that others wait for.
    unfinished, uploads, photo_bytes = cursor.execute(
        f"SELECT count(*), count(*) FILTER (WHERE state = '{State.UPLOAD}'), total(size) "
        "FROM task INDEXED BY task_due WHERE finished IS NULL"
    ).fetchone()
    over, ready = cursor.execute(
        f"SELECT count(*), count(*) FILTER (WHERE state = '{State.READY}') "
        "FROM task INDEXED BY task_finished WHERE finished IS NOT NULL"
    ).fetchone()
    tasks = {
        State.UPLOAD.value: uploads,
        State.POLL.value: unfinished - uploads,
        State.READY.value: ready,
        State.FAILED.value: over - ready,
    }
    return Census(tasks, int(photo_bytes))


def _ignore(_: object) -> None:
    """For an operation whose rows nobody wants."""


def _one(cursor: Cursor) -> Task | None:
    row = cursor.fetchone()
    return None if row is None else _task(row)


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
        task.trouble,
        task.result,
        error.code if error else None,
        error.detail if error else None,
        task.finished,
    )


def _task(row: Iterable[Any]) -> Task:
    (
        task_id, user, name, sha256, size, media_type, state, since, due,
        retry_id, attempts, trouble, result, code, detail, finished,
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
        trouble=trouble,
        result=result,
        error=None if code is None else TaskError(code, detail),
        finished=finished,
    )

"""Tasks in SQLite, through adbapi: one connection, one thread, and one transaction for all that waits at a time.

Knows no HTTP and no upstream. Of the spool it knows that photos are placed before the commit that refers to them, and
removed after the commit that ends their task.
"""

import errno
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import Any, TypeVar

from twisted.enterprise.adbapi import ConnectionPool
from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger
from twisted.python.failure import Failure

from merlind.core.interfaces import Accepted, DedupKey, StoreBroken, StoreUnavailable, Submission, TaskCounts
from merlind.core.task import Photo, State, Task, restart
from merlind.daemon.clock import ServiceClock
from merlind.storage.photos.spool import FULL, READ_ONLY, NotWritten, Spool, Staged, remove
from merlind.storage.sqlite import statements as rows
from merlind.storage.sqlite.statements import Cursor

T = TypeVar("T")

CHECKPOINT_EVERY = 500
"""Writes after which the write-ahead log is moved into the database."""

MAX_BATCH = 512
"""The most operations that share one transaction: it bounds how long the first of them waits for the last."""


@dataclass(slots=True)
class _Changes:
    """What a transaction wants of the spool."""

    place: list[tuple[Staged, int]] = field(default_factory=list)
    discard: list[Staged] = field(default_factory=list)
    remove: set[int] = field(default_factory=set)


@dataclass(slots=True)
class _Operation:
    """What somebody waits for. Those of one ``run`` are done together; it returns a result for each argument."""

    rank: int
    run: Callable[[Cursor, _Changes, list[Any]], list[Any]]
    argument: Any
    writes: bool
    done: "Deferred[Any]"


# The order within a batch: a task that just failed begins anew, if it is sent again in the same batch.
_SAVES, _ACCEPTS, _OTHERS = range(3)


class Store:
    """The tasks, behind named operations that all return Deferreds.

    Operations that come while a transaction is under way wait for it and then share the next one (group commit): it
    costs one flush however many they are, and those of one kind share their statements. Each fails with
    StoreUnavailable or StoreBroken; after the first StoreBroken nothing is tried any more, and ``on_broken`` has been
    told why.
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
        self._waiting: deque[_Operation] = deque()
        self._asking: deque[_Operation] = deque()
        self._turns = deque((self._waiting, self._asking))
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
        d: Deferred[Accepted] = self._enqueue(_Operation(_ACCEPTS, self._accept, submission, True, Deferred()))
        return d.addErrback(self._discard_staged, submission.photo)

    def save(self, task: Task) -> "Deferred[None]":
        """Record what became of a task; its photo goes if it is over. A task deleted meanwhile stays deleted."""
        return self._enqueue(_Operation(_SAVES, _save, task, True, Deferred()))

    def delete(self, task_id: int, user: str) -> "Deferred[Task | None]":
        """Erase a user's task and its photo; fires with what it was, or None if it wasn't there."""
        return self._write(lambda cursor, changes: _delete(cursor, changes, task_id, user))

    def get(self, task_id: int) -> "Deferred[Task | None]":
        """The task, if there is one."""
        return self._enqueue(_Operation(_OTHERS, _get, task_id, False, Deferred()), self._asking)

    def unfinished(self, after: tuple[float, int], limit: int) -> "Deferred[list[Task]]":
        """The next ``limit`` unfinished tasks in order of (due, id), behind the place ``after``."""
        return self._read(lambda cursor: rows.page(cursor, after, limit))

    def count(self) -> "Deferred[TaskCounts]":
        """Count the tasks."""
        return self._read(rows.count)

    def oldest_unfinished(self) -> "Deferred[float | None]":
        """The service time since which the oldest unfinished task is worked on."""
        return self._read(rows.oldest)

    def expire(self, finished_before: float, limit: int) -> "Deferred[list[Task]]":
        """Forget up to ``limit`` tasks that were over before a time of the wall clock; fires with what they were."""
        return self._write(lambda cursor, _: _expire(cursor, finished_before, limit))

    def sweep_photos(self, task_ids: Sequence[int]) -> "Deferred[None]":
        """Unlink those of the named photos whose task is over or unknown."""
        return self._write(lambda cursor, changes: _sweep(cursor, changes, task_ids))

    def check(self) -> "Deferred[None]":
        """See that the database and the spool can be written to."""

        def run(cursor: Cursor, changes: _Changes) -> None:
            self._spool.probe()

        return self._write(run)

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

    def _read(self, run: Callable[[Cursor], T]) -> "Deferred[T]":
        return self._enqueue(_Operation(_OTHERS, lambda cursor, *_: [run(cursor)], None, False, Deferred()))

    def _write(self, run: Callable[[Cursor, _Changes], T]) -> "Deferred[T]":
        return self._enqueue(
            _Operation(_OTHERS, lambda cursor, changes, _: [run(cursor, changes)], None, True, Deferred())
        )

    def _enqueue(self, operation: _Operation, queue: deque[_Operation] | None = None) -> "Deferred[Any]":
        if self._broken is not None:
            operation.done.errback(self._broken)
            return operation.done
        (self._waiting if queue is None else queue).append(operation)
        self._pump()
        return operation.done

    def _pump(self) -> None:
        if self._busy:
            return
        # By turns: who asks for a task waits for no flush but the one under way.
        queue = self._turns[0] or self._turns[1]
        if queue is self._turns[0]:
            self._turns.rotate()
        if not queue:
            idle, self._idle = self._idle, []
            for d in idle:
                d.callback(None)
            return
        batch = [queue.popleft() for _ in range(min(MAX_BATCH, len(queue)))]
        batch.sort(key=attrgetter("rank"))
        self._busy = True
        self._pool.runWithConnection(self._run_batch, batch, self._clock.now()).addErrback(
            lambda failure: [self._judge_failure(failure)] * len(batch)
        ).addCallback(self._batch_done, batch)

    def _checkpointed(self, result: "Failure | None") -> "Failure | None":
        self._unmoved = 0
        if isinstance(result, Failure) and isinstance(result.value, StoreBroken):
            self._break(result.value)
        return result

    def _batch_done(self, results: list[Any], batch: list[_Operation]) -> None:
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
        waiting = [*self._waiting, *self._asking]
        for queue in self._turns:
            queue.clear()
        self._on_broken(str(broken))
        for operation in waiting:
            operation.done.errback(broken)

    def _discard_staged(self, failure: Failure, staged: Staged) -> Failure:
        staged.drop()
        return failure

    # In the pool's thread.

    def _run_batch(self, connection: Any, batch: list[_Operation], now: float) -> list[Any]:
        cursor = connection.cursor()
        if any(operation.writes for operation in batch):
            results = self._attempt(lambda: self._transaction(cursor, batch, now))
        else:
            results = self._attempt(lambda: _run(cursor, _Changes(), batch))
        if not isinstance(results, Failure):
            return results
        # What only reads works on a full or a read-only disk too.
        return [results if one.writes else self._attempt(partial(_run_alone, cursor, one)) for one in batch]

    def _checkpoint(self, connection: Any, mode: str) -> "Failure | None":
        # Outside of any transaction, where SQLite wants it.
        return self._attempt(lambda: _ignore(connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()))

    def _attempt(self, run: Callable[[], T]) -> "T | Failure":
        try:
            return run()
        except (sqlite3.Error, OSError) as error:
            return Failure(self._judge(error))

    def _transaction(self, cursor: Cursor, batch: list[_Operation], now: float) -> list[Any]:
        changes = _Changes()
        cursor.execute("BEGIN IMMEDIATE")
        try:
            results = _run(cursor, changes, batch)
            self._spool.place(changes.place)
            rows.record_time(cursor, now)
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
        steps: list[Callable[[], None]] = [staged.drop for staged in changes.discard]
        steps += [partial(remove, self._spool.path(task_id)) for task_id in changes.remove]
        for step in steps:
            try:
                step()
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
            if error.errno == errno.EIO and not isinstance(error, NotWritten):
                return StoreBroken(f"the photo spool failed: {what}")
            return StoreUnavailable(what)
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

    def _accept(self, cursor: Cursor, changes: _Changes, submissions: list[Submission]) -> list[Accepted]:
        tasks = rows.dedup_key(cursor, [submission.dedup_key for submission in submissions])
        begun = self._begin(cursor, [submission for submission in submissions if submission.dedup_key not in tasks])
        again: list[Task] = []
        accepted: list[Accepted] = []
        for submission in submissions:
            before = tasks.get(submission.dedup_key)
            if before is not None and before.state is not State.FAILED:
                changes.discard.append(submission.photo)
                accepted.append(Accepted(before, before))
                continue
            if before is None:
                task = begun[submission.dedup_key]
            else:
                photo = replace(before.photo, media_type=submission.media_type)
                task = restart(replace(before, photo=photo), self._clock.now())
                again.append(task)
            # The next one that is the same finds it.
            tasks[submission.dedup_key] = task
            changes.place.append((submission.photo, task.id))
            changes.remove.discard(task.id)
            accepted.append(Accepted(task, before))
        rows.update(cursor, again)
        return accepted

    def _begin(self, cursor: Cursor, submissions: list[Submission]) -> dict[DedupKey, Task]:
        """New tasks, under numbers that no others have."""
        now = self._clock.now()
        begun: dict[DedupKey, Task] = {}
        for submission in submissions:
            if submission.dedup_key not in begun:
                photo = Photo(submission.photo.sha256(), submission.photo.size, submission.media_type)
                task = Task(self._new_id(), submission.user, submission.name, photo, since=now, due=now)
                begun[submission.dedup_key] = task
        for same in rows.portions(list(begun)):
            try:
                rows.insert(cursor, [begun[one] for one in same])
            except sqlite3.IntegrityError:
                begun.update((one, self._insert(cursor, begun[one])) for one in same)
        return begun

    def _insert(self, cursor: Cursor, task: Task) -> Task:
        """The new task, under another number if another has its own."""
        while True:
            try:
                rows.insert(cursor, [task])
            except sqlite3.IntegrityError:
                self._log.info("a task number was taken, and another one drawn")
                task = replace(task, id=self._new_id())
            else:
                return task


def _run(cursor: Cursor, changes: _Changes, batch: list[_Operation]) -> list[Any]:
    results: list[Any] = []
    for run, operations in groupby(batch, attrgetter("run")):
        results += run(cursor, changes, [operation.argument for operation in operations])
    return results


def _run_alone(cursor: Cursor, operation: _Operation) -> Any:
    return _run(cursor, _Changes(), [operation])[0]


def _get(cursor: Cursor, changes: _Changes, task_ids: list[int]) -> list[Task | None]:
    found = rows.by_ids(cursor, task_ids)
    return [found.get(task_id) for task_id in task_ids]


def _save(cursor: Cursor, changes: _Changes, tasks: list[Task]) -> list[None]:
    rows.update(cursor, tasks)
    changes.remove.update(task.id for task in tasks if task.finished)
    return [True] * len(tasks)


def _delete(cursor: Cursor, changes: _Changes, task_id: int, user: str) -> Task | None:
    found = rows.by_id(cursor, task_id)
    if found is None or found.user != user:
        return None
    rows.erase(cursor, task_id)
    changes.remove.add(task_id)
    return found


def _expire(cursor: Cursor, finished_before: float, limit: int) -> list[Task]:
    old = rows.ended_by(cursor, finished_before, limit)
    for task in old:
        rows.erase(cursor, task.id)
    return old


def _sweep(cursor: Cursor, changes: _Changes, task_ids: Sequence[int]) -> None:
    changes.remove.update(task_id for task_id in task_ids if not rows.unfinished(cursor, task_id))


def _ignore(_: object) -> None:
    """For an operation whose rows nobody wants."""

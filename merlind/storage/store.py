"""The store of tasks: queues operations, and lets those that wait share one transaction (group commit).

Knows no database: an Engine does what is asked for. docs/how-it-works.md tells about durability and group commit.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger
from twisted.python.failure import Failure

from merlind.core.interfaces import Accepted, Cursor, Moment, SetAside, StagedPhoto, StoreBroken, Submission, TaskCounts
from merlind.core.listing import Failures, Position, TaskFilter
from merlind.core.pause import Pause
from merlind.core.task import Task
from merlind.storage import operations
from merlind.storage.engine import Engine
from merlind.storage.operations import Operation

MAX_BATCH = 512
"""The most operations that share one transaction: it bounds how long the first of them waits for the last."""

CHECKPOINT_EVERY = 500
"""Operations that write after which the engine is asked for a checkpoint."""

_Entry = tuple[Operation, "Deferred[Any]"]


class Store:
    """A TaskStore (core.interfaces) over an engine.

    Operations that come while a transaction is in flight wait for it, and then share the next one: it costs one flush
    however many they are. After the first StoreBroken nothing is tried any more, and ``on_broken`` was called with the
    reason.
    """

    _log = Logger()

    def __init__(self, engine: Engine, now: Callable[[], Moment], on_broken: Callable[[str], None]) -> None:
        self._engine = engine
        self._now = now
        self._on_broken = on_broken
        self._lookups: deque[_Entry] = deque()
        self._others: deque[_Entry] = deque()
        self._turns = deque((self._others, self._lookups))
        self._running = False
        self._writes = 0
        self._drains: list[Deferred[None]] = []
        self._broken: StoreBroken | None = None
        self.last_error: str | None = None
        """Why the last write failed; None if it succeeded."""

    @property
    def broken(self) -> bool:
        """Whether the store has failed for good."""
        return self._broken is not None

    # The operations, as TaskStore describes them.

    def accept(self, submission: Submission) -> "Deferred[Accepted]":
        """Find or create the one task of (photo, user, name); fires when the task and its photo are durable."""
        accepted = self._ask(operations.Accept(submission))
        accepted.addErrback(self._discard, submission.photo)
        return accepted

    def save(self, task: Task) -> "Deferred[bool]":
        """Record a task's progress; fires with whether the task is still there."""
        return self._ask(operations.Save(task))

    def delete(self, task_id: int, user: str) -> "Deferred[Task | None]":
        """Erase a user's task and its photo; fires with what it was, or None."""
        return self._ask(operations.Delete(task_id, user))

    def get(self, task_id: int) -> "Deferred[Task | None]":
        """Fire with the task, or None."""
        return self._ask(operations.Get(task_id))

    def unfinished(self, after: Cursor, limit: int) -> "Deferred[list[Task]]":
        """Fire with the next unfinished tasks behind a cursor."""
        return self._ask(operations.Unfinished(after, limit))

    def count(self) -> "Deferred[TaskCounts]":
        """Count the tasks."""
        return self._ask(operations.Count())

    def oldest_unfinished(self) -> "Deferred[float | None]":
        """Fire with the smallest ``since`` of all unfinished tasks, or None."""
        return self._ask(operations.OldestUnfinished())

    def list_tasks(self, wanted: TaskFilter, after: Position, limit: int) -> "Deferred[list[Task]]":
        """Fire with the next tasks that match, the newest first."""
        return self._ask(operations.ListTasks(wanted, after, limit))

    def count_failures(self, since: float, most: int) -> "Deferred[list[Failures]]":
        """Fire with how many of the newest failed tasks there are of each code."""
        return self._ask(operations.CountFailures(since, most))

    def retry(self, task_ids: Sequence[int]) -> "Deferred[list[tuple[Task, Task]]]":
        """Start failed tasks anew whose photo is kept; fires with what each was, and is now."""
        return self._ask(operations.Retry(task_ids))

    def expire(self, finished_by: float, limit: int) -> "Deferred[list[Task]]":
        """Delete the tasks that finished first; fires with what they were."""
        return self._ask(operations.Expire(finished_by, limit))

    def delete_kept(self, now: float, keep: float, limit: int) -> "Deferred[list[Task]]":
        """Delete photos of failed tasks that are kept no longer; fires with the tasks as they were."""
        return self._ask(operations.DeleteKept(now, keep, limit))

    def expire_lost(self, set_aside_by: float) -> "Deferred[int]":
        """Delete lost photos; fires with how many."""
        return self._ask(operations.ExpireLost(set_aside_by))

    def sweep_photos(self, task_ids: Sequence[int]) -> "Deferred[SetAside]":
        """Delete those of the named photos whose task has none any more, and set aside those of unknown tasks."""
        return self._ask(operations.SweepPhotos(task_ids))

    def check(self) -> "Deferred[None]":
        """Find out whether tasks and photos can be written."""
        return self._ask(operations.Check())

    def check_files(self) -> "Deferred[None]":
        """See that the files that are open are still those that the next start will find."""
        return self._ask(operations.CheckFiles())

    def save_pause(self, pause: Pause) -> "Deferred[None]":
        """Record whether there is a pause, so that the next run goes on with it."""
        return self._ask(operations.SavePause(pause))

    def record_time(self) -> "Deferred[None]":
        """Record the service time, so that the next run goes on from there."""
        return self._ask(operations.RecordTime())

    def compact(self) -> "Deferred[None]":
        """Leave nothing of what was erased in a log or a journal."""
        return fail(self._broken) if self._broken is not None else self._maintain(self._engine.compact)

    def drained(self) -> "Deferred[None]":
        """Fire when no operation is waiting or in flight."""
        d: Deferred[None] = Deferred()
        self._drains.append(d)
        self._run_next()
        return d

    # Batches.

    def _ask(self, operation: Operation) -> "Deferred[Any]":
        if self._broken is not None:
            return fail(self._broken)
        d: Deferred[Any] = Deferred()
        queue = self._lookups if isinstance(operation, operations.Get) else self._others
        queue.append((operation, d))
        self._run_next()
        return d

    def _next_batch(self) -> list[_Entry]:
        """Alternate between lookups and all else, so that a lookup waits for at most one flush."""
        queue = self._turns[0] or self._turns[1]
        if queue is self._turns[0]:
            self._turns.rotate()
        batch = [queue.popleft() for _ in range(min(MAX_BATCH, len(queue)))]
        batch.sort(key=lambda entry: entry[0].rank)
        return batch

    def _run_next(self) -> None:
        if self._running:
            return
        batch = self._next_batch()
        if not batch:
            drains, self._drains = self._drains, []
            for d in drains:
                d.callback(None)
            return
        self._running = True
        results = self._engine.run([operation for operation, _ in batch], self._now())
        results.addErrback(lambda failure: [failure] * len(batch)).addCallback(self._batch_done, batch)

    def _batch_done(self, results: list[Any], batch: list[_Entry]) -> None:
        self._running = False
        written = [result for result, (operation, _) in zip(results, batch, strict=True) if operation.writes]
        if written:
            self.last_error = next((r.getErrorMessage() for r in written if isinstance(r, Failure)), None)
        for result in results:
            self._stop_if_broken(result)
        self._count_writes(len(written))
        # Start the next batch before anybody looks at these results: the disk doesn't wait for us.
        self._run_next()
        for (_, d), result in zip(batch, results, strict=True):
            d.callback(result)

    # Maintenance.

    def _count_writes(self, count: int) -> None:
        self._writes += count
        if self._writes >= CHECKPOINT_EVERY and self._broken is None:
            self._writes = 0
            self._maintain(self._engine.checkpoint).addErrback(
                lambda failure: self._log.warn("a checkpoint failed: {why}", why=failure.getErrorMessage())
            )

    def _maintain(self, work: "Callable[[], Deferred[None]]") -> "Deferred[None]":
        def done(result: "Failure | None") -> "Failure | None":
            self._writes = 0
            self._stop_if_broken(result)
            return result

        return work().addBoth(done)

    # Failures.

    def _stop_if_broken(self, result: object) -> None:
        """On the first StoreBroken, fail all that waits, and say so."""
        if self._broken is not None or not isinstance(result, Failure) or not isinstance(result.value, StoreBroken):
            return
        self._broken = result.value
        waiting = [d for queue in (self._others, self._lookups) for _, d in queue]
        self._others.clear()
        self._lookups.clear()
        self._on_broken(str(self._broken))
        for d in waiting:
            d.errback(self._broken)

    def _discard(self, failure: Failure, photo: StagedPhoto) -> Failure:
        try:
            photo.discard()
        except OSError as error:
            # The next start deletes it.
            self._log.warn("a photo could not be removed: {why}", why=error.strerror)
        return failure

"""What merlind does for a client, knowing no HTTP: take a submission, tell how a task stands, wait for it, erase it."""

from collections.abc import Callable
from dataclasses import dataclass

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from merlind.core.interfaces import Accepted, StoreBroken, StoreUnavailable, Submission, TaskCounts
from merlind.core.outcome import TaskError
from merlind.core.task import State, Task
from merlind.storage.photos.spool import Spool, Staging
from merlind.storage.store import Store
from merlind.tasks.scheduler import Scheduler

ANONYMOUS = ""
"""The one user there is without sign-in."""

REMEMBERED = 100_000
"""How many finished tasks' results are kept in memory, for answers without a look into the database."""

SMALL_UPLOAD = 256 * 1024
"""The largest upload that is kept in memory until it is durable, in bytes: most photos, on their way to a scoring API,
are smaller."""

MAX_SMALL_BYTES = 64 * 1024 * 1024
"""How many bytes of uploads there may be, in hand and in the store's hands, for one of them to be kept in memory."""


class OverCapacity(Exception):
    """No more photos can be taken just now; the message says what there is too much, or too little, of."""


@dataclass(frozen=True, slots=True)
class Status:
    """How a task stands, for its owner: the result or the error if it is over, neither if it isn't."""

    user: str
    result: float | None = None
    error: TaskError | None = None

    @property
    def finished(self) -> bool:
        return self.result is not None or self.error is not None


@dataclass(frozen=True, slots=True)
class Limits:
    """How much there may be at once: unfinished tasks, bytes left on the disk, uploads in hand and their bytes."""

    max_pending: int
    min_free_bytes: int
    max_uploads: int
    max_upload_bytes: int


class Reservation:
    """Room for one photo: its staging, and its place among the uploads in hand until it is closed."""

    def __init__(self, staging: Staging, close: Callable[[], None]) -> None:
        self.staging = staging
        self._close: Callable[[], None] | None = close

    def close(self) -> None:
        """Give the room back. May be called again."""
        if self._close is not None:
            self._close()
            self._close = None


class Gateway:
    """The tasks of all users."""

    _log = Logger()

    def __init__(self, store: Store, spool: Spool, limits: Limits) -> None:
        self._store = store
        self._spool = spool
        self._limits = limits
        self._remembered: dict[int, Status] = {}
        self._watchers: dict[int, set[Callable[[], None]]] = {}
        self._accepting = 0
        self._accepting_bytes = 0
        self.scheduler: Scheduler
        self.uploads = 0
        """How many uploads are in hand."""
        self.upload_bytes = 0
        """How large they may become, in bytes."""
        self.counts = {str(state): 0 for state in State}
        """Tasks by state."""
        self.photo_bytes = 0
        """The size of all photos in place, in bytes."""
        self.held = 0
        """How many clients wait for a task to be over."""
        self.draining = False
        """Whether nothing new is taken, because the end has begun."""

    def start(self) -> None:
        """Count what there is, and go on with what is unfinished."""
        self._store.count().addCallbacks(self._counted, self._log_failure, errbackArgs=("counting the tasks",))
        self.scheduler.start()

    def _counted(self, census: TaskCounts) -> None:
        self.counts.update(census.by_state)
        self.photo_bytes = census.photo_bytes

    @property
    def pending(self) -> int:
        """How many tasks are unfinished."""
        return self.counts[State.UPLOAD] + self.counts[State.POLL]

    # Taking photos.

    def open_upload(self, size: int) -> Reservation:
        """Make room for a photo of up to ``size`` bytes. Raises Full."""
        if self.draining:
            raise OverCapacity("the server is stopping")
        if self._store.broken:
            raise OverCapacity("the server can't keep tasks any more")
        if self.pending + self._accepting >= self._limits.max_pending:
            raise OverCapacity("there are too many unfinished tasks")
        if self.uploads >= self._limits.max_uploads or self.upload_bytes + size > self._limits.max_upload_bytes:
            raise OverCapacity("there are too many uploads at once")
        try:
            free = self._spool.free_bytes()
        except OSError as error:
            raise OverCapacity("the disk can't be used") from error
        on_its_way = self.upload_bytes + self._accepting_bytes
        if free - on_its_way - size < self._limits.min_free_bytes:
            raise OverCapacity("the disk is almost full")
        self.uploads += 1
        self.upload_bytes += size

        def close() -> None:
            self.uploads -= 1
            self.upload_bytes -= size

        in_memory = size <= SMALL_UPLOAD and on_its_way + size <= MAX_SMALL_BYTES
        return Reservation(self._spool.stage(in_memory), close)

    def submit(self, submission: Submission) -> "Deferred[Task]":
        """Find or begin the task of a submission; when it fires, task and photo are durable.

        Fails with StoreUnavailable or StoreBroken; then nothing of it remains.
        """
        size = submission.photo.size
        self._accepting += 1
        self._accepting_bytes += size

        def counted(result: "Accepted | Failure") -> "Accepted | Failure":
            self._accepting -= 1
            self._accepting_bytes -= size
            return result

        return self._store.accept(submission).addBoth(counted).addCallback(self._accepted)

    def _accepted(self, accepted: Accepted) -> Task:
        task = accepted.task
        if accepted.starts:
            self._count(accepted.before, task)
            self._remembered.pop(task.id, None)
            self._log.info("task {task}: received, {size} bytes", task=task.id, size=task.photo.size)
            self.scheduler.add(task)
        return task

    # Telling how they stand.

    def peek(self, task_id: int) -> Status | None:
        """How a task stands, if memory knows; None says nothing."""
        status = self._remembered.get(task_id)
        if status is not None:
            return status
        task = self.scheduler.get(task_id)
        return None if task is None else Status(task.user)

    def find(self, task_id: int) -> "Deferred[Status | None]":
        """How a task stands; None if there is none. Fails with StoreUnavailable or StoreBroken."""
        status = self.peek(task_id)
        return succeed(status) if status is not None else self._store.get(task_id).addCallback(self._found)

    def _found(self, task: Task | None) -> Status | None:
        if task is None:
            return None
        return self._remember(task) if task.finished else Status(task.user)

    def _remember(self, task: Task) -> Status:
        status = Status(task.user, task.result, task.error)
        self._remembered[task.id] = status
        if len(self._remembered) > REMEMBERED:
            del self._remembered[next(iter(self._remembered))]
        return status

    def watch(self, task_id: int, wake: Callable[[], None]) -> None:
        """Call ``wake`` once when the task is over, or erased, or nothing more can be waited for."""
        self._watchers.setdefault(task_id, set()).add(wake)
        self.held += 1

    def unwatch(self, task_id: int, wake: Callable[[], None]) -> None:
        """Don't call it any more."""
        watchers = self._watchers.get(task_id, set())
        if wake in watchers:
            watchers.remove(wake)
            self.held -= 1
            if not watchers:
                del self._watchers[task_id]

    def _wake(self, task_id: int) -> None:
        watchers = self._watchers.pop(task_id, ())
        self.held -= len(watchers)
        for wake in watchers:
            wake()

    def release(self) -> None:
        """Let all waiting clients go: the end has begun."""
        for task_id in list(self._watchers):
            self._wake(task_id)

    # What becomes of them.

    def erase(self, user: str, task_id: int) -> "Deferred[bool]":
        """Cancel a user's task and erase photo, name and result; fires with whether there was such a task."""
        return self._store.delete(task_id, user).addCallback(self._erased)

    def _erased(self, task: Task | None) -> bool:
        if task is None:
            return False
        # As it was counted last: where the scheduler has it may not be saved yet.
        known = self.scheduler.get(task.id)
        self._count(task if known is None or known.finished else known, None)
        self._remembered.pop(task.id, None)
        self.scheduler.forget(task.id)
        self._log.info("task {task}: erased", task=task.id)
        self._wake(task.id)
        return True

    def moved(self, before: Task, after: Task) -> None:
        """A task went on, durably if it is over now."""
        self._count(before, after)
        if after.finished:
            self._remember(after)
            self._wake(after.id)

    def expire(self, finished_before: float, limit: int) -> "Deferred[int]":
        """Forget up to ``limit`` tasks that were over before a time of the wall clock; fires with how many."""
        return self._store.expire(finished_before, limit).addCallback(self._expired)

    def _expired(self, gone: list[Task]) -> int:
        for task in gone:
            self._count(task, None)
            self._remembered.pop(task.id, None)
        return len(gone)

    def _count(self, before: Task | None, after: Task | None) -> None:
        for task, sign in ((before, -1), (after, 1)):
            if task is not None:
                self.counts[task.state] += sign
                if not task.finished:
                    self.photo_bytes += sign * task.photo.size

    def _log_failure(self, failure: Failure, what: str) -> None:
        failure.trap(StoreUnavailable, StoreBroken)
        self._log.error("{what} failed: {why}", what=what, why=failure.getErrorMessage())

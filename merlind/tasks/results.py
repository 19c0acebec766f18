"""Reports how a task stands, from memory where it can, and wakes those who wait for it to finish."""

from dataclasses import dataclass

from twisted.internet.defer import Deferred, succeed

from merlind.core.interfaces import TaskStore
from merlind.core.outcome import TaskError
from merlind.core.task import Task
from merlind.tasks.counts import LiveCounts
from merlind.tasks.queue import TaskQueue

MAX_CACHED = 100_000
"""How many finished tasks' results are kept in memory, so that reporting them needs no look into the database."""


@dataclass(frozen=True, slots=True)
class Status:
    """How a task stands: its owner, and its result or its error once it is finished."""

    user: str
    result: float | None = None
    error: TaskError | None = None

    @property
    def finished(self) -> bool:
        return self.result is not None or self.error is not None


class Results:
    """The status of all tasks, a cache of finished ones, and the waiters (the clients of long polls)."""

    def __init__(self, store: TaskStore, queue: TaskQueue, counts: LiveCounts) -> None:
        self._store = store
        self._queue = queue
        self._counts = counts
        self._cache: dict[int, Status] = {}
        self._waiters: dict[int, set[Deferred[None]]] = {}
        self._draining = False
        self.waiting = 0
        """How many waiters there are."""

    def peek(self, task_id: int) -> Status | None:
        """Return how a task stands if memory knows; None says nothing."""
        status = self._cache.get(task_id)
        if status is not None:
            return status
        task = self._queue.get(task_id)
        return None if task is None else Status(task.user)

    def find(self, task_id: int) -> "Deferred[Status | None]":
        """Fire with how a task stands, or None if there is none. Fails with StoreUnavailable or StoreBroken."""
        status = self.peek(task_id)
        return succeed(status) if status is not None else self._store.get(task_id).addCallback(self._found)

    def _found(self, task: Task | None) -> Status | None:
        if task is None:
            return None
        return self._remember(task) if task.finished else Status(task.user)

    def _remember(self, task: Task) -> Status:
        status = Status(task.user, task.result, task.error)
        self._cache[task.id] = status
        if len(self._cache) > MAX_CACHED:
            del self._cache[next(iter(self._cache))]
        return status

    def wait(self, task_id: int) -> "Deferred[None]":
        """Fire when the task is finished or erased, or when merlind stops. Cancel it to stop waiting."""
        if self._draining:
            return succeed(None)

        def cancel(waiter: "Deferred[None]") -> None:
            waiters = self._waiters.get(task_id, set())
            if waiter in waiters:
                waiters.remove(waiter)
                self.waiting -= 1
                if not waiters:
                    del self._waiters[task_id]

        waiter: Deferred[None] = Deferred(cancel)
        self._waiters.setdefault(task_id, set()).add(waiter)
        self.waiting += 1
        return waiter

    def _wake(self, task_id: int) -> None:
        waiters = self._waiters.pop(task_id, set())
        self.waiting -= len(waiters)
        for waiter in waiters:
            if not waiter.called:  # one that was woken may have cancelled another
                waiter.callback(None)

    def release(self) -> None:
        """Let all waiters go, and nobody wait from here on: merlind is stopping."""
        self._draining = True
        for task_id in list(self._waiters):
            self._wake(task_id)

    def on_transition(self, before: Task | None, after: Task) -> None:
        """Take note of a task that is new or in another state; a finished one must be durable by now."""
        self._counts.change(before, after)
        if after.finished:
            self._remember(after)
            self._wake(after.id)
        else:
            self._cache.pop(after.id, None)

    def forget(self, task: Task) -> None:
        """Take note of a task that no longer exists; ``task`` is what ``on_transition`` was last told of it."""
        self._counts.change(task, None)
        self._cache.pop(task.id, None)
        self._wake(task.id)

"""Reports how a task stands, from memory where it can, and wakes those who wait for it to finish."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime

from merlind.core.client_limit import ClientLimit
from merlind.core.interfaces import TaskStore
from merlind.core.outcome import TaskError
from merlind.core.task import Task
from merlind.tasks.counts import LiveCounts
from merlind.tasks.queue import TaskQueue
from merlind.tasks.refusals import ClientOverLimit

T = TypeVar("T")

MAX_CACHED = 100_000
"""How many finished tasks' results are kept in memory, so that reporting them needs no look into the database."""

WAKE_PORTION = 50
"""How many waiters are woken in one turn of the reactor, so that others are served between two portions."""


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
    """The status of all tasks, a cache of finished ones, and the waiters (the clients of long polls).

    A client may have ``most_per_client`` waiters, 0 for any number; ``on_refused(limit, by)`` is called for each that
    it can't have.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        store: TaskStore,
        queue: TaskQueue,
        counts: LiveCounts,
        most_per_client: int,
        on_refused: Callable[[str, str], None],
    ) -> None:
        self._reactor = reactor
        self._store = store
        self._queue = queue
        self._counts = counts
        self._cache: dict[int, Status] = {}
        self._by_client = ClientLimit(most_per_client)
        self._on_refused = on_refused
        self._waiters: dict[int, dict[Deferred[None], None]] = {}  # a dict keeps their order
        self._to_wake: deque[Deferred[None]] = deque()
        self._waking = False
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

    def wait(self, task_id: int, client: str) -> "Deferred[None]":
        """Fire when the task is finished or erased, or when merlind stops. Cancel it to stop waiting.

        Raises ClientOverLimit.
        """
        if self._draining:
            return succeed(None)
        if not self._by_client.enter(client):
            self._on_refused("long_polls", "client")
            raise ClientOverLimit("long_polls", self._by_client.most, client)

        def cancel(waiter: "Deferred[None]") -> None:
            waiters = self._waiters.get(task_id, {})
            if waiter in waiters:
                del waiters[waiter]
                if not waiters:
                    del self._waiters[task_id]

        def ended(result: T) -> T:
            self.waiting -= 1
            self._by_client.leave(client)
            return result

        waiter: Deferred[None] = Deferred(cancel)
        waiter.addBoth(ended)
        self._waiters.setdefault(task_id, {})[waiter] = None
        self.waiting += 1
        return waiter

    def _wake(self, task_id: int) -> None:
        self._to_wake.extend(self._waiters.pop(task_id, ()))
        if self._to_wake and not self._waking:
            self._waking = True
            self._reactor.callLater(0, self._wake_portion)

    def _wake_portion(self) -> None:
        for _ in range(min(WAKE_PORTION, len(self._to_wake))):
            waiter = self._to_wake.popleft()
            if not waiter.called:  # it may have been cancelled meanwhile
                waiter.callback(None)
        self._waking = bool(self._to_wake)
        if self._waking:
            self._reactor.callLater(0, self._wake_portion)

    def release(self) -> None:
        """Let all waiters go, soon, and nobody wait from here on: merlind is stopping."""
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

    def photo_deleted(self, task: Task) -> None:
        """Take note that the photo of a failed task is kept no longer; ``task`` is what it was."""
        self._counts.change(task, replace(task, kept_until=None))

    def forget(self, task: Task) -> None:
        """Take note of a task that no longer exists; ``task`` is what ``on_transition`` was last told of it."""
        self._counts.change(task, None)
        self._cache.pop(task.id, None)
        self._wake(task.id)

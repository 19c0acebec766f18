"""Drives every unfinished task to its end: who is due, how many at once, and what becomes of them.

It keeps the unfinished tasks that are due first in memory, up to a window; the rest stays in the store until there is
room. The rule that nothing is forgotten by: a task that is not in memory lies in the store behind the horizon, a place
(due, number) in due order; loading goes on from the horizon.
"""

import math
from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Protocol

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from merlind.core.breaker import Breaker
from merlind.core.interfaces import PhotoMissing, StoreBroken, StoreUnavailable
from merlind.core.outcome import Outcome, TaskError, TransientError
from merlind.core.task import Policy, State, Task, advance, fail, miss_deadline
from merlind.daemon.clock import ServiceClock
from merlind.storage.store import Store

WINDOW = 20_000
"""How many unfinished tasks are kept in memory; those due later wait in the store."""

TICK = 0.005
"""Tasks due within this many seconds of each other share one timer."""

SAVE_RETRY = 5.0
"""Seconds until a save that the disk didn't take is tried again."""

_EVERYTHING = (math.inf, 0)
_NOTHING = (-math.inf, 0)


class Upstream(Protocol):
    """What the scheduler needs of the upstream: exchanges that end with an outcome, whatever happens.

    They may fail with PhotoMissing, and with CancelledError when cancelled.
    """

    def upload(self, task: Task) -> "Deferred[Outcome]": ...
    def poll(self, task: Task) -> "Deferred[Outcome]": ...


class Scheduler:
    """One timer for the earliest due task, and at most as many exchanges as the breaker allows.

    ``moved`` is told what a task was and is each time its state changes; if it is over, once that is durable.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        clock: ServiceClock,
        store: Store,
        upstream: Upstream,
        policy: Policy,
        breaker: Breaker,
        moved: Callable[[Task, Task], None],
        window: int = WINDOW,
    ) -> None:
        self._reactor = reactor
        self._clock = clock
        self._store = store
        self._upstream = upstream
        self._policy = policy
        self._moved = moved
        self._window = window
        self.breaker = breaker
        self._tasks: dict[int, Task] = {}
        self._horizon = _NOTHING
        self._loading = False
        self._due: list[tuple[float, int]] = []
        self._ready: dict[State, deque[int]] = {State.UPLOAD: deque(), State.POLL: deque()}
        self._give_up_at = math.inf
        self._turn = State.UPLOAD
        self._exchanges: dict[int, Deferred[None]] = {}
        self._timer: IDelayedCall | None = None
        self._timer_at = math.inf
        self._save_timers: set[IDelayedCall] = set()
        self._stopping: Deferred[None] | None = None
        self._running = False
        self.misconfigured: str | None = None
        """What the upstream said that shows our side to be set up wrongly; None since it last answered well."""
        self.last_progress = 0.0
        """When an exchange last ended well, in service time."""

    def start(self) -> None:
        """Begin with what is unfinished in the store."""
        self._running = True
        self.last_progress = self._clock.now()
        if self._due:
            self._wake_at(self._due[0][0])
        self._load()

    def stop(self, grace: float) -> "Deferred[None]":
        """Begin nothing more; exchanges under way get ``grace`` seconds, then they are left to the next start."""
        self._running = False
        self._stopping = Deferred()
        self._cancel_timer()
        for timer in self._save_timers:
            timer.cancel()
        self._save_timers.clear()
        if not self._exchanges:
            return succeed(None)
        deadline = self._reactor.callLater(grace, self._abandon)
        stopping = self._stopping

        def stopped(result: object) -> None:
            if deadline.active():
                deadline.cancel()

        return stopping.addCallback(stopped)

    def add(self, task: Task) -> None:
        """Take on a task that has become durable."""
        if task.id in self._tasks:
            return
        place = (task.due, task.id)
        if len(self._tasks) >= self._window and place > self._horizon:
            return
        if len(self._tasks) >= self._window and self._horizon == _EVERYTHING:
            self._horizon = (task.due, task.id - 1)
            return
        self._tasks[task.id] = task
        self._schedule(task)

    def forget(self, task_id: int) -> None:
        """Its task was deleted: let go of it, in mid-exchange too."""
        if self._tasks.pop(task_id, None) is not None and task_id in self._exchanges:
            self._exchanges[task_id].cancel()
        self._load()

    def get(self, task_id: int) -> Task | None:
        """An unfinished task, if it is in memory."""
        return self._tasks.get(task_id)

    @property
    def in_flight(self) -> int:
        """How many exchanges are under way."""
        return len(self._exchanges)

    @property
    def waiting(self) -> int:
        """How many tasks are due and wait for their turn."""
        return sum(map(len, self._ready.values()))

    # Who is due.

    def _schedule(self, task: Task) -> None:
        heappush(self._due, (task.due, task.id))
        self._wake_at(task.due)

    def _wake_at(self, when: float) -> None:
        if not self._running or when >= self._timer_at:
            return
        self._cancel_timer()
        self._timer_at = when
        self._timer = self._reactor.callLater(max(0.0, when - self._clock.now()), self._tick)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timer_at = math.inf

    def _tick(self) -> None:
        self._timer, self._timer_at = None, math.inf
        now = self._clock.now()
        while self._due and self._due[0][0] <= now + TICK:
            due, task_id = heappop(self._due)
            task = self._tasks.get(task_id)
            if task is None or task.due != due or task.finished:
                continue
            if self._expired(task, now):
                self._finish(task, miss_deadline(task, self._clock.wall()))
            else:
                self._ready[task.state].append(task_id)
                self._give_up_at = min(self._give_up_at, task.since + self._policy.give_up_after)
        if now + TICK >= self._give_up_at:
            self._expire_ready(now)
        self._dispatch()
        if self._due:
            self._wake_at(self._due[0][0])
        if self.waiting:
            self._wake_at(self._give_up_at)

    def _expired(self, task: Task, now: float) -> bool:
        return now + TICK >= task.since + self._policy.give_up_after

    def _expire_ready(self, now: float) -> None:
        """Give up on those that wait for their turn for too long."""
        self._give_up_at = math.inf
        for task_id in [*self._ready[State.UPLOAD], *self._ready[State.POLL]]:
            task = self._tasks.get(task_id)
            if task is None or task.finished:
                continue
            if self._expired(task, now):
                self._finish(task, miss_deadline(task, self._clock.wall()))
            else:
                self._give_up_at = min(self._give_up_at, task.since + self._policy.give_up_after)

    # Exchanges.

    def _dispatch(self) -> None:
        now = self._clock.now()
        while self._running and len(self._exchanges) < self.breaker.allowance(now):
            task = self._next_ready()
            if task is None:
                return
            self._begin(task)
        if self._running and self.breaker.limit == 0 and not self._exchanges and self.waiting:
            # A moment later: rounded, the time at which the timer goes off may lie just before the one it was set for.
            self._wake_at(self.breaker.probe_at + TICK)

    def _next_ready(self) -> Task | None:
        """The next task whose turn it is: uploads and polls take turns, so that neither starves the other."""
        while self.waiting:
            self._turn = State.POLL if self._turn is State.UPLOAD else State.UPLOAD
            queue = self._ready[self._turn]
            if queue:
                task = self._tasks.get(queue.popleft())
                if task is not None and not task.finished and task.id not in self._exchanges:
                    return task
        return None

    def _begin(self, task: Task) -> None:
        send = self._upstream.poll if task.state is State.POLL else self._upstream.upload
        exchange = maybeDeferred(send, task)
        done: Deferred[None] = exchange.addCallbacks(
            self._answered, self._not_answered, callbackArgs=(task,), errbackArgs=(task,)
        )
        if not done.called:
            self._exchanges[task.id] = done
        done.addBoth(self._ended, task.id)

    def _ended(self, result: object, task_id: int) -> None:
        self._exchanges.pop(task_id, None)
        if isinstance(result, Failure):
            self._log.failure("task {task}: an exchange failed unforeseen", failure=result, task=task_id)
        if self._stopping is not None and not self._exchanges and not self._stopping.called:
            self._stopping.callback(None)
        # From the timer, not from here: an exchange that ends at once must not recurse.
        if self.waiting:
            self._wake_at(self._clock.now())

    def _answered(self, outcome: Outcome, task: Task) -> None:
        now = self._clock.now()
        if isinstance(outcome, TransientError):
            self.breaker.failure(now, outcome.retry_after)
            if outcome.misconfigured:
                self.misconfigured = outcome.reason
                self._log.error(
                    "task {task}: set up wrongly? The upstream says {kind}", task=task.id, kind=outcome.reason
                )
            else:
                self._log.warn("task {task}: trouble upstream: {kind}", task=task.id, kind=outcome.reason)
        else:
            self.breaker.success()
            self.misconfigured = None
            self.last_progress = now
        if self._tasks.get(task.id) is not task:
            return  # deleted meanwhile
        moved = advance(task, outcome, now, self._clock.wall(), self._policy)
        if moved.finished:
            self._finish(task, moved)
        else:
            self._go_on(task, moved)

    def _not_answered(self, failure: Failure, task: Task) -> None:
        if failure.check(CancelledError):
            return  # stopped or deleted: what it was is what it stays
        if not failure.check(PhotoMissing):
            self._log.failure("task {task}: an exchange failed unforeseen", failure=failure, task=task.id)
            self._answered(TransientError("unforeseen"), task)
            return
        self._log.error("task {task}: its photo is lost: {why}", task=task.id, why=failure.getErrorMessage())
        if self._tasks.get(task.id) is task:
            error = TaskError("photo_lost", "the photo was lost on the server; please send it again")
            self._finish(task, fail(task, error, self._clock.wall()))

    def _abandon(self) -> None:
        for exchange in list(self._exchanges.values()):
            exchange.cancel()

    # What becomes of them.

    def _go_on(self, before: Task, task: Task) -> None:
        self._tasks[task.id] = task
        if task.state is not before.state:
            self._moved(before, task)
        if len(self._tasks) > self._window and (task.due, task.id) > self._horizon:
            self._evict(task)
            return
        if (task.state, task.retry_id) != (before.state, before.retry_id):
            self._log.info("task {task}: {state}", task=task.id, state=task.state.value)
            self._persist(task)
        self._schedule(task)

    def _persist(self, task: Task) -> None:
        """Record where a task is, so that a new start goes on from there."""

        def failed(failure: Failure) -> None:
            if failure.check(StoreUnavailable):
                self._later(lambda: self._persist_again(task.id))
            else:
                failure.trap(StoreBroken)

        self._store.save(task).addErrback(failed)

    def _persist_again(self, task_id: int) -> None:
        task = self._tasks.get(task_id)
        if task is not None and not task.finished:
            self._persist(task)

    def _evict(self, task: Task) -> None:
        """Its turn lies behind the horizon: leave it to the store."""

        def saved(_: None) -> None:
            if self._tasks.get(task.id) is not task:
                return
            if (task.due, task.id) > self._horizon:
                del self._tasks[task.id]
                self._load()
            else:
                self._schedule(task)

        def failed(failure: Failure) -> None:
            failure.trap(StoreUnavailable, StoreBroken)
            if self._tasks.get(task.id) is task:
                self._schedule(task)

        self._store.save(task).addCallbacks(saved, failed)

    def _finish(self, before: Task, task: Task) -> None:
        """A task is over: make that durable, then tell. Until then it counts as unfinished."""
        self._tasks[task.id] = task

        def saved(_: None) -> None:
            if self._tasks.get(task.id) is not task:
                return
            del self._tasks[task.id]
            why = f", {task.error.code}" if task.error else ""
            self._log.info("task {task}: {state}{why}", task=task.id, state=task.state.value, why=why)
            self._moved(before, task)
            self._load()

        def failed(failure: Failure) -> None:
            if failure.check(StoreUnavailable):
                self._later(lambda: self._finish(before, task) if self._tasks.get(task.id) is task else None)
            else:
                failure.trap(StoreBroken)

        self._store.save(task).addCallbacks(saved, failed)

    def _later(self, function: Callable[[], None]) -> None:
        if not self._running:
            return

        def run() -> None:
            self._save_timers.discard(timer)
            function()

        timer = self._reactor.callLater(SAVE_RETRY, run)
        self._save_timers.add(timer)

    # The window.

    def _load(self) -> None:
        """Take the next page from the store if there is more behind the horizon, and room."""
        room = self._window - len(self._tasks)
        if self._loading or not self._running or self._horizon == _EVERYTHING or room < max(1, self._window // 2):
            return
        self._loading = True
        limit = min(room, 1000)
        self._store.unfinished(self._horizon, limit).addCallbacks(self._loaded, self._not_loaded, (limit,))

    def _loaded(self, page: list[Task], limit: int) -> None:
        self._loading = False
        self._horizon = (page[-1].due, page[-1].id) if len(page) == limit else _EVERYTHING
        for task in page:
            if task.id not in self._tasks:
                self._tasks[task.id] = task
                self._schedule(task)
        self._load()

    def _not_loaded(self, failure: Failure) -> None:
        self._loading = False
        if failure.check(StoreUnavailable):
            self._later(self._load)
        else:
            failure.trap(StoreBroken)

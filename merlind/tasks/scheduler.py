"""Runs unfinished tasks to completion: one timer for the next task due, and as many requests as the limiter allows."""

import math
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from merlind.core.interfaces import StoreBroken, StoreUnavailable, TaskStore, TaskTime, Upstream
from merlind.core.limiter import Limiter
from merlind.core.task import Policy, Task, miss_deadline
from merlind.tasks.pauses import Pauses, run
from merlind.tasks.queue import TICK, TaskQueue
from merlind.tasks.worker import SAVE_RETRY, Worker

LOAD_PAGE = 250
"""The most tasks that are loaded from the store at a time."""

LOAD_PAUSE = 0.01
"""Seconds between two pages, so that clients who ask for a task after a start are answered first."""


class Scheduler:
    """Starts attempts when they are due, and stops them in order.

    ``on_transition(before, after)`` is called when a task's state changes; if it is finished, once that is durable.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        clock: TaskTime,
        store: TaskStore,
        queue: TaskQueue,
        upstream: Upstream,
        policy: Policy,
        limiter: Limiter,
        on_transition: Callable[[Task, Task], None],
    ) -> None:
        self._reactor = reactor
        self._clock = clock
        self._store = store
        self._queue = queue
        self._timer: IDelayedCall | None = None
        self._timer_at = math.inf
        self._pauses = Pauses(reactor)
        self._loading = False
        self._running = False
        self.limiter = limiter
        self.worker = Worker(reactor, clock, store, queue, upstream, policy, limiter, on_transition, self._look_again)

    def start(self) -> None:
        """Begin with the unfinished tasks in the store."""
        self._running = True
        self.worker.start()
        self._look_again()

    def stop(self, grace: float) -> "Deferred[None]":
        """Start no more attempts; fires when those in flight have ended, or were cancelled after ``grace`` seconds."""
        self._running = False
        self._cancel_timer()
        self._pauses.stop()
        return self.worker.stop(grace)

    def add(self, task: Task) -> None:
        """Take on a task that has become durable."""
        self._queue.add(task)
        self.limiter.arrived(self._clock.now())
        self._wake_at(task.due)

    def forget(self, task_id: int) -> None:
        """Let go of a task that was deleted, in mid-request too."""
        if self._queue.remove(task_id):
            self.worker.cancel(task_id)
        self._look_again()

    def pause_changed(self) -> None:
        """Start no more attempts while there is a pause; requests in flight end. Else go on."""
        self._cancel_timer()
        self._look_again()

    # The timer.

    def _look_again(self) -> None:
        # By the timer, even if something is ready now: a request that ends at once must not recurse.
        self._wake_at(self._clock.now() if self._queue.ready else self._queue.next_time())
        self._load()

    def _wake_at(self, when: float) -> None:
        if not self._running or self._clock.pause.paused or when >= self._timer_at:
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
        for task in self._queue.collect(now):
            late = miss_deadline(task, self._clock.wall(), self.limiter.misconfigured)
            self.worker.run(self.worker.finish(task, late))
        self._dispatch(now)
        self._wake_at(self._queue.next_time())

    def _dispatch(self, now: float) -> None:
        while self._running and (task := self._queue.take_allowed(self.limiter, now)) is not None:
            self.worker.run(self.worker.attempt(task))
        outage = self.limiter.outage
        if outage is not None and not self.worker.in_flight and self._queue.ready:
            # A moment later: by rounding, the timer may go off just before the time that it was set for.
            self._wake_at(outage.probe_at + TICK)

    # The window.

    def _load(self) -> None:
        if self._running and not self._loading and self._queue.room():
            self._loading = True
            run(self._load_pages(), self._log)

    async def _load_pages(self) -> None:
        """Load tasks from the store until memory is half full or the store has no more."""
        try:
            while room := self._queue.room():
                limit = min(room, LOAD_PAGE)
                try:
                    page = await self._store.unfinished(self._queue.horizon, limit)
                except StoreUnavailable:
                    await self._pauses.wait(SAVE_RETRY)
                    continue
                except StoreBroken:
                    return
                self._queue.load(page, is_last=len(page) < limit)
                self._wake_at(self._queue.next_time())
                if self._queue.room():
                    await self._pauses.wait(LOAD_PAUSE)
        finally:
            self._loading = False

"""One attempt at a task: a request to the upstream, what it taught us, and what became of the task."""

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from merlind.core.interfaces import PhotoMissing, StoreBroken, StoreUnavailable, TaskStore, TaskTime, Upstream
from merlind.core.limiter import Limiter
from merlind.core.names import without_name
from merlind.core.outcome import UNEXPECTED, Fault, HandleExpired, Outcome, Source, TaskError, TransientError
from merlind.core.task import Policy, Repeat, Task, advance, fail, keep_photo, repeat_of
from merlind.tasks.pauses import Pauses, run
from merlind.tasks.queue import TaskQueue

T = TypeVar("T")

SAVE_RETRY = 5.0
"""Seconds until a task that the disk had no room for is saved again."""

_LOST = TaskError("photo_lost", "the photo was lost on the server; please send it again", Source.MERLIND)

_log = Logger()


class Worker:
    """Makes attempts, any number at a time.

    ``on_transition(before, after)`` is called when a task's state changes; if it is finished, once that is durable.
    ``on_change()`` is called when a request has ended or a task was scheduled or removed.
    """

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
        on_change: Callable[[], None],
    ) -> None:
        self._reactor = reactor
        self._clock = clock
        self._store = store
        self._queue = queue
        self._upstream = upstream
        self._policy = policy
        self._limiter = limiter
        self._on_transition = on_transition
        self._on_change = on_change
        self._requests: dict[int, Deferred[Outcome]] = {}
        self._pauses = Pauses(reactor)
        self._idle: Deferred[None] | None = None
        self._started = 0.0
        self.repeated_uploads = dict.fromkeys(Repeat, 0)
        """How often a photo was sent to the upstream again, by the reason."""

    @property
    def in_flight(self) -> int:
        """How many requests are in flight."""
        return len(self._requests)

    def start(self) -> None:
        """Take note that this run begins: an earlier one may have sent the photos of tasks from before it."""
        self._started = self._clock.now()

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Run ``attempt`` or ``finish`` on its own."""
        run(work, _log)

    async def attempt(self, task: Task) -> None:
        """Send one request for a task, and apply what came back."""
        began = self._clock.now()
        self._limiter.start(task, began)
        try:
            outcome = await self._request(task)
        except PhotoMissing as missing:
            _log.error("task {task}: its photo is missing: {why}", task=task.id, why=str(missing))
            if self._queue.is_current(task):
                await self.finish(task, fail(task, _LOST, self._clock.wall()))
            return
        now = self._clock.now()
        after = advance(task, outcome, now, self._clock.wall(), self._policy, self._limiter.last_success(task.state))
        self._learn(task, after, outcome, began, now)
        if not self._queue.is_current(task):
            return  # erased meanwhile
        if after.finished:
            await self.finish(task, after)
        else:
            await self._continue(task, after)

    async def _request(self, task: Task) -> Outcome:
        request = self._requests[task.id] = Deferred.fromCoroutine(self._upstream.send(task))
        try:
            return await request.addBoth(self._request_ended, task.id)
        except (CancelledError, PhotoMissing):
            raise
        except Exception:
            _log.failure("task {task}: unexpected error in a request to the upstream", task=task.id)
            return TransientError(UNEXPECTED)

    def _request_ended(self, result: T, task_id: int) -> T:
        # Now, and not when the attempt ends: what is saved after it holds up no other request.
        del self._requests[task_id]
        self._limiter.end(task_id)
        if self._idle is not None and not self._requests:
            self._idle.callback(None)
        self._on_change()
        return result

    def _learn(self, before: Task, after: Task, outcome: Outcome, began: float, now: float) -> None:
        """Tell the limiter, the metrics and the log how a request ended that began at ``began``."""
        self._limiter.learn(before, after, outcome, began, now)
        if (repeat := repeat_of(before, after, self._started)) is not None:
            self.repeated_uploads[repeat] += 1
        match outcome:
            case TransientError(reason, _, fault):
                self._log_error(before, after, reason, fault)
            case HandleExpired():
                then = "giving up" if after.finished else "asking again" if after.retry_id else "uploading again"
                _log.warn("task {task}: the upstream doesn't know its retry_id: {then}", task=after.id, then=then)

    def _log_error(self, before: Task, after: Task, reason: str, fault: Fault) -> None:
        if fault is Fault.MISCONFIGURED:
            _log.error(
                "task {task}: the upstream rejects our requests ({why}): check --upstream", task=after.id, why=reason
            )
        else:
            _log.warn("task {task}: transient error: {why}", task=after.id, why=reason)
        if after.suspect and not before.suspect:
            _log.warn("task {task}: it keeps failing while others succeed", task=after.id)

    async def finish(self, before: Task, after: Task) -> None:
        """Save a finished task, then notify. It counts as unfinished until the commit."""
        after = keep_photo(after, self._clock.moment().service, self._policy.keep_failed)
        self._queue.hold(after)
        while self._queue.is_current(after):
            try:
                ours = await self._store.save(after)
            except StoreUnavailable:
                await self._pauses.wait(SAVE_RETRY)
                continue
            except StoreBroken:
                return
            if self._queue.is_current(after):  # not erased meanwhile
                self._queue.remove(after.id)
                if ours:
                    self._log_finished(after)
                    self._on_transition(before, after)
                self._on_change()
            return

    def _log_finished(self, task: Task) -> None:
        seconds = round(self._clock.now() - task.since, 3)
        if task.error is None:
            _log.info("task {task}: ready after {seconds} s", task=task.id, seconds=seconds)
        else:
            _log.info(
                "task {task}: failed after {seconds} s, {code}: {why}",
                task=task.id, seconds=seconds, code=task.error.code, why=without_name(task.error.detail, task.name),
            )  # fmt: skip

    async def _continue(self, before: Task, after: Task) -> None:
        """Schedule the next attempt at a task, and save what a new start must know."""
        self._queue.hold(after)
        if after.state is not before.state:
            self._on_transition(before, after)
        if self._queue.must_evict(after):
            await self._evict(after)
            return
        self._queue.schedule(after)
        self._on_change()
        if (after.state, after.retry_id) != (before.state, before.retry_id):
            _log.info("task {task}: {state}", task=after.id, state=after.state.value)
            await self._persist(after)
        elif after.blamed > before.blamed:
            await self._persist(after)

    async def _evict(self, task: Task) -> None:
        """Leave a task that is due behind the horizon to the store, which loads it again later."""
        try:
            await self._store.save(task)
        except (StoreUnavailable, StoreBroken):
            saved = False
        else:
            saved = True
        if self._queue.is_current(task):
            if saved and self._queue.is_behind_horizon(task):
                self._queue.remove(task.id)
            else:
                self._queue.schedule(task)
            self._on_change()

    async def _persist(self, task: Task) -> None:
        """Save where a task stands, or where it has got to by the time that the disk has room."""
        current: Task | None = task
        while current is not None and not current.finished:
            try:
                if not await self._store.save(current):
                    self._queue.remove(task.id)
                return
            except StoreBroken:
                return
            except StoreUnavailable:
                await self._pauses.wait(SAVE_RETRY)
            current = self._queue.get(task.id)

    def cancel(self, task_id: int) -> None:
        """End the request for a task, if one is in flight, and close its connection."""
        if task_id in self._requests:
            self._requests[task_id].cancel()

    def stop(self, grace: float) -> "Deferred[None]":
        """Fire when no request is in flight; those that are get ``grace`` seconds, then a new start repeats them."""
        self._pauses.stop()
        if not self._requests:
            return succeed(None)
        self._idle = Deferred()
        deadline = self._reactor.callLater(grace, self._cancel_all)

        def stopped(_: None) -> None:
            if deadline.active():
                deadline.cancel()

        return self._idle.addCallback(stopped)

    def _cancel_all(self) -> None:
        for task_id in list(self._requests):
            self.cancel(task_id)

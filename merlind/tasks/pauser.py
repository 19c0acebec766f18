"""Pauses the requests to the upstream when an operator orders it, and resumes them."""

from datetime import UTC, datetime

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from merlind.core.interfaces import StoreBroken, StoreUnavailable, TaskStore, TaskTime
from merlind.core.pause import Pause, begin, end
from merlind.tasks.pauses import run
from merlind.tasks.scheduler import Scheduler


class Pauser:
    """Orders pauses, makes them durable, and ends them when their time is over.

    While there is one, task time stands still, and the scheduler starts no attempt; requests in flight end.
    """

    _log = Logger()

    def __init__(self, reactor: IReactorTime, clock: TaskTime, store: TaskStore, scheduler: Scheduler) -> None:
        self._reactor = reactor
        self._clock = clock
        self._store = store
        self._scheduler = scheduler
        self._timer: IDelayedCall | None = None

    @property
    def current(self) -> Pause:
        """The pause that there is, or what there was of earlier ones."""
        return self._clock.pause

    @property
    def left(self) -> float | None:
        """The seconds until the pause ends by itself; None without such an end."""
        return self.current.left(self._clock.wall())

    def describe(self) -> str | None:
        """Say that there is a pause, and until when; None without one."""
        if not self.current.paused:
            return None
        if self.current.until is None:
            return "paused: no requests to the upstream until somebody resumes them (POST /resume)"
        until = datetime.fromtimestamp(self.current.until, UTC)
        return f"paused: no requests to the upstream until {until:%Y-%m-%d %H:%M:%S} UTC, in {self.left:.0f} s"

    def start(self) -> None:
        """Go on with the pause that the last run was in, if any."""
        if (why := self.describe()) is not None:
            self._log.info("{why}", why=why)
            self._set_timer()

    def stop(self) -> None:
        """Let no pause end any more: the next run goes on with it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def pause(self, seconds: float | None) -> None:
        """Pause at once, for ``seconds`` or without end; returns when a new start would know of it, too.

        In a pause, this changes its end. Raises StoreUnavailable or StoreBroken; then all is as it was.
        """
        before, now = self.current, self._clock.moment()
        after = begin(before, now.service, now.wall, seconds)
        self._apply(after)
        try:
            await self._store.save_pause(after)
        except (StoreUnavailable, StoreBroken):
            if self.current is after:
                self._apply(before if before.paused else end(after, self._clock.moment().service))
            raise
        self._log.info("{why}", why=self.describe() or "paused, and resumed meanwhile")

    async def resume(self) -> None:
        """End the pause, if there is one, as soon as a new start would know of it.

        Raises StoreUnavailable or StoreBroken; then the pause goes on.
        """
        before = self.current
        if not before.paused:
            return
        after = end(before, self._clock.moment().service)
        await self._store.save_pause(after)
        if self.current is before:  # and nobody paused it anew meanwhile
            self._apply(after)
            self._log.info("resumed")

    def _apply(self, pause: Pause) -> None:
        self._clock.pause = pause
        self._scheduler.pause_changed()
        self._set_timer()

    def _set_timer(self) -> None:
        self.stop()
        left = self.left
        if self.current.paused and left is not None:
            self._timer = self._reactor.callLater(left, self._time_is_over)

    def _time_is_over(self) -> None:
        self._timer = None
        after = end(self.current, self._clock.moment().service)
        self._apply(after)
        self._log.info("the time of the pause is over: resumed")
        run(self._record(after), self._log)

    async def _record(self, pause: Pause) -> None:
        try:
            await self._store.save_pause(pause)
        except (StoreUnavailable, StoreBroken) as error:
            # A new start finds a pause whose time is over, and ends it.
            self._log.warn("the end of the pause could not be stored: {why}", why=str(error))

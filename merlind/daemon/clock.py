"""The times that merlind knows: the wall clock's, and service and task time, which no step of that can change."""

import time
from collections.abc import Callable

from twisted.internet.base import ReactorBase
from twisted.internet.interfaces import IReactorTime

from merlind.core.interfaces import Moment, ServiceTime
from merlind.core.pause import Pause


class ServiceClock:
    """Service time: the seconds that merlind has run, summed over all its runs.

    ``start`` is where the last run ended, ``wall`` returns the wall clock's time. What is due, and what expires, is in
    service time: neither a step of the wall clock nor time spent switched off causes a storm of polls, a stall, or
    tasks that fail before their time.
    """

    def __init__(self, reactor: IReactorTime, start: float = 0.0, wall: Callable[[], float] = time.time) -> None:
        self._reactor = reactor
        self._start = start
        self._began: float | None = None
        self.wall = wall
        """Return the wall clock's time, in seconds since the epoch."""

    def now(self) -> float:
        """Return the service time, in seconds. It starts to run with the first call."""
        if self._began is None:
            self._began = self._reactor.seconds()
        return self._start + self._reactor.seconds() - self._began


class TaskClock:
    """Task time: service time without the pauses. ``pause`` says whether it stands still, and for how long it did."""

    def __init__(self, service: ServiceTime, pause: Pause) -> None:
        self._service = service
        self.pause = pause

    def now(self) -> float:
        """Return the task time, in seconds."""
        return self.pause.task_time(self._service.now())

    def moment(self) -> Moment:
        """Return the service time, the task time and the wall clock's time."""
        service = self._service.now()
        return Moment(service, self.pause.task_time(service), self.wall())

    @property
    def wall(self) -> Callable[[], float]:
        """Returns the wall clock's time, in seconds since the epoch."""
        return self._service.wall


def use_monotonic_time(reactor: object) -> None:
    """Make the reactor's timers follow the monotonic clock. Call it before any timer is set.

    Twisted's timers follow the wall clock: after a step back of 30 seconds they stop for 30 seconds.
    """
    if isinstance(reactor, ReactorBase) and not reactor.getDelayedCalls():
        reactor.seconds = time.monotonic

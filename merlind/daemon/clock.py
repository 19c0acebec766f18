"""The two times merlind knows: the wall clock's, and its own, which no step of the wall clock can move."""

import time
from collections.abc import Callable

from twisted.internet.base import ReactorBase
from twisted.internet.interfaces import IReactorTime


class ServiceClock:
    """Service time: the seconds that merlind has run, all its runs together.

    Due times and patience are counted in it, so that neither a step of the wall clock nor a time of being switched
    off makes a storm of polls, a stall, or a task that is given up unasked.
    """

    def __init__(self, reactor: IReactorTime, start: float = 0.0, wall: Callable[[], float] = time.time) -> None:
        self._reactor = reactor
        self._start = start
        self._began: float | None = None
        self.wall = wall
        """The wall clock's time, in seconds since the epoch."""

    def now(self) -> float:
        """The service time, in seconds. It runs from the first look at it."""
        if self._began is None:
            self._began = self._reactor.seconds()
        return self._start + self._reactor.seconds() - self._began


def use_monotonic_time(reactor: object) -> None:
    """Let the reactor's timers follow the monotonic clock.

    Twisted's follow the wall clock: after a step back of 30 seconds they stand still for 30 seconds. To be called
    before any timer is set.
    """
    if isinstance(reactor, ReactorBase) and not reactor.getDelayedCalls():
        reactor.seconds = time.monotonic

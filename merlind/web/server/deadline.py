"""A deadline that moves often and seldom passes."""

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime


class Deadline:
    """Calls ``passed`` at a time that can be moved cheaply: one timer, which is set again if it fires too early."""

    def __init__(self, reactor: IReactorTime, passed: Callable[[], None]) -> None:
        self._reactor = reactor
        self._passed: Callable[[], None] | None = passed
        self._timer: IDelayedCall | None = None
        self._timer_at = 0.0
        self._at: float | None = None

    def set(self, seconds: float | None) -> None:
        """Move the deadline to ``seconds`` from now; None for no deadline."""
        if seconds is None:
            self._at = None
            return
        self._at = self._reactor.seconds() + seconds
        if self._timer is None or self._at < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._start(seconds)

    def end(self) -> None:
        """Never call ``passed`` again, and let go of it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._at = self._passed = None

    def _start(self, seconds: float) -> None:
        self._timer_at = self._reactor.seconds() + seconds
        self._timer = self._reactor.callLater(seconds, self._fired)

    def _fired(self) -> None:
        self._timer = None
        if self._at is None or self._passed is None:
            return
        left = self._at - self._reactor.seconds()
        if left > 0:
            self._start(left)
        else:
            self._at = None
            self._passed()

"""The circuit breaker before the upstream: how many exchanges it may have at once. Knows no clock and no network."""

from collections.abc import Callable
from enum import StrEnum

from merlind.core.backoff import backoff

THRESHOLD = 5
"""Troubles in a row that open the breaker."""

PROBE_CAP = 60.0
"""The longest pause between two probes, in seconds."""


class BreakerState(StrEnum):
    """Closed: all is well. Open: one probe at a time. Opening: more and more at once."""

    CLOSED = "closed"
    OPEN = "open"
    OPENING = "opening"


class Breaker:
    """Says how many exchanges may be under way, from how the last ones ended.

    After THRESHOLD troubles in a row it lets a single probe through at a time, with a back-off between probes. After
    the first success it allows one, and one more for each success, until ``concurrency`` is reached again: every round
    trip doubles it, so a recovered upstream meets no herd.
    """

    def __init__(self, concurrency: int, base: float, jitter: Callable[[], float]) -> None:
        self._concurrency = concurrency
        self._base = base
        self._jitter = jitter
        self._failures = 0
        self._failed_probes = 0
        self.limit = concurrency
        self.probe_at = 0.0

    @property
    def state(self) -> BreakerState:
        if self.limit == 0:
            return BreakerState.OPEN
        return BreakerState.CLOSED if self.limit == self._concurrency else BreakerState.OPENING

    def allowance(self, now: float) -> int:
        """How many exchanges may be under way at ``now``, in seconds of the clock that the caller uses throughout."""
        if self.limit:
            return self.limit
        return 1 if now >= self.probe_at else 0

    def success(self) -> None:
        """The upstream answered sensibly."""
        self._failures = self._failed_probes = 0
        self.limit = min(self._concurrency, self.limit + 1)

    def failure(self, now: float, after: float = 0.0) -> None:
        """The upstream was in trouble at ``now``, and asked for a pause of ``after`` seconds."""
        if self.limit == 0:
            if now < self.probe_at:
                return  # an exchange from before the breaker opened: no news
            self._failed_probes += 1
        else:
            self._failures += 1
            if self._failures < min(THRESHOLD, self.limit):
                return
        self.limit = 0
        # At least half a second: a probe that fails at once must not become a loop.
        pause = max(0.5, backoff(self._failed_probes, self._base, self._jitter(), PROBE_CAP))
        self.probe_at = now + max(pause, after)

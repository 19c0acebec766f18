"""The circuit breaker before the upstream: how many requests may be in flight."""

from collections.abc import Callable
from enum import StrEnum

from merlind.core.backoff import backoff

THRESHOLD = 5
"""Failures in a row that open the breaker."""

PROBE_CAP = 60.0
"""The longest pause between two probes, in seconds."""

MIN_PROBE_PAUSE = 0.5
"""The shortest one: a probe that fails at once must not become a loop."""


class BreakerState(StrEnum):
    """Closed: no limit but the concurrency. Open: one probe at a time. Opening: more and more at once."""

    CLOSED = "closed"
    OPEN = "open"
    OPENING = "opening"


class Breaker:
    """Decides from how the last requests ended how many may be in flight.

    After THRESHOLD failures in a row it allows one probe at a time, with a back-off between probes. After the first
    success it allows one request, and one more for each success, until ``concurrency`` is reached again: the number
    doubles with every round trip, so that a recovered upstream meets no herd.
    """

    def __init__(self, concurrency: int, base: float, jitter: Callable[[], float]) -> None:
        self._concurrency = concurrency
        self._base = base
        self._jitter = jitter
        self._failures = 0
        self._failed_probes = 0
        self.limit = concurrency
        """How many requests may be in flight; 0 while the breaker is open."""
        self.probe_at = 0.0
        """When an open breaker allows the next probe, in seconds of the clock that the caller uses."""

    @property
    def state(self) -> BreakerState:
        if self.limit == 0:
            return BreakerState.OPEN
        return BreakerState.CLOSED if self.limit == self._concurrency else BreakerState.OPENING

    def allowance(self, now: float) -> int:
        """Return how many requests may be in flight at ``now``, in seconds of the clock that the caller uses."""
        if self.limit:
            return self.limit
        return 1 if now >= self.probe_at else 0

    def success(self) -> None:
        """Take note of a good response."""
        self._failures = self._failed_probes = 0
        self.limit = min(self._concurrency, self.limit + 1)

    def failure(self, now: float, retry_after: float = 0.0) -> None:
        """Take note of a transient error at ``now``, and of the pause in seconds that the upstream asked for."""
        if self.limit == 0:
            if now < self.probe_at:
                return  # a request from before the breaker opened: no news
            self._failed_probes += 1
        else:
            self._failures += 1
            if self._failures < min(THRESHOLD, self.limit):
                return
        self.limit = 0
        pause = max(MIN_PROBE_PAUSE, backoff(self._failed_probes, self._base, self._jitter(), PROBE_CAP))
        self.probe_at = now + max(pause, retry_after)

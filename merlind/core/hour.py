"""What the last hour was like, minute by minute: outcomes, durations, unfinished tasks. Pure: callers pass the time in.

It takes the same memory, some 200 KB, however much happens.
"""

import math
from array import array
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

MINUTES = 60
"""How many minutes are kept, the current one included."""

MINUTE = 60.0
"""Seconds of a minute."""

SHORTEST = 0.001
"""Seconds: what takes no longer than this is all the same."""

LONGEST = 10 * 86400.0
"""Seconds: what takes longer counts as this."""

_GROWTH = 1.1
_LOG_GROWTH = math.log(_GROWTH)
_CLASSES = 2 + int(math.log(LONGEST / SHORTEST) / _LOG_GROWTH)


class Durations:
    """Durations in classes, each 10 % longer than the one before, so that a percentile is within 5 % of the true one.

    Durations from SHORTEST to LONGEST, that is: those beyond count as if they were one of these two.
    """

    __slots__ = ("_classes", "count")

    def __init__(self) -> None:
        self._classes = array("L", bytes(array("L").itemsize * _CLASSES))
        self.count = 0
        """How many there are."""

    def add(self, seconds: float) -> None:
        """Count one more."""
        within = min(max(seconds, SHORTEST), LONGEST)
        self._classes[math.ceil(math.log(within / SHORTEST) / _LOG_GROWTH - 1e-9)] += 1
        self.count += 1

    def include(self, other: "Durations") -> None:
        """Count all of another one's as well."""
        for index, count in enumerate(other._classes):
            self._classes[index] += count
        self.count += other.count

    def percentile(self, share: float) -> float | None:
        """Return what a ``share`` of the durations (0.5, 0.95) doesn't exceed, in seconds; None if there are none."""
        if not self.count:
            return None
        rank, seen, index = max(1, math.ceil(share * self.count)), 0, -1
        while seen < rank:
            index += 1
            seen += self._classes[index]
        # The geometric middle of a class is off by no more than half of its width, either way.
        return SHORTEST if index == 0 else min(LONGEST, SHORTEST * _GROWTH ** (index - 0.5))


@dataclass(slots=True)
class Minute:
    """What happened in a minute, or in several; and how many tasks were unfinished at its end."""

    unfinished: int = 0
    scored: int = 0
    failed: int = 0
    requests: Durations = field(default_factory=Durations)
    """Of requests to the upstream that ended."""
    waits: Durations = field(default_factory=Durations)
    """Of tasks that were scored: from their acceptance to the score."""


class LastHour:
    """The last MINUTES minutes. Every ``now`` is in seconds, and never goes back."""

    def __init__(self) -> None:
        self._minutes: deque[Minute] = deque(maxlen=MINUTES)
        self._newest = 0

    def set_unfinished(self, now: float, count: int) -> None:
        """Take note of how many tasks are unfinished."""
        self._at(now).unfinished = count

    def scored(self, now: float, seconds: float) -> None:
        """Count a task whose score took ``seconds``."""
        minute = self._at(now)
        minute.scored += 1
        minute.waits.add(seconds)

    def failed(self, now: float) -> None:
        """Count a task that failed for good."""
        self._at(now).failed += 1

    def requested(self, now: float, seconds: float) -> None:
        """Count a request to the upstream that took ``seconds``."""
        self._at(now).requests.add(seconds)

    def minutes(self, now: float) -> list[tuple[float, Minute]]:
        """Return the minutes so far, the oldest first, each with the time at which it began."""
        self._at(now)
        return list(zip(self._beginnings(), self._minutes, strict=True))

    def _beginnings(self) -> Iterator[float]:
        first = self._newest - len(self._minutes) + 1
        return ((first + index) * MINUTE for index in range(len(self._minutes)))

    def _at(self, now: float) -> Minute:
        """Return the minute that it is, after those since the last look: in them nothing has changed."""
        number = int(now // MINUTE)
        if not self._minutes:
            self._minutes.append(Minute())
            self._newest = number
        passed = number - self._newest
        if passed > 0:
            unfinished = self._minutes[-1].unfinished
            self._minutes.extend(Minute(unfinished) for _ in range(min(passed, MINUTES)))
            self._newest = number
        return self._minutes[-1]


def sum_up(minutes: Iterable[Minute]) -> Minute:
    """Return all minutes as one."""
    whole = Minute()
    for minute in minutes:
        whole.unfinished = minute.unfinished
        whole.scored += minute.scored
        whole.failed += minute.failed
        whole.requests.include(minute.requests)
        whole.waits.include(minute.waits)
    return whole

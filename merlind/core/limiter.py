"""How many requests to the upstream may be in flight, and which tasks they are for. Pure: callers pass the time in.

An outage is told from tasks that can't be scored: in an outage, nobody succeeds. docs/how-it-works.md has the rule.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from merlind.core.outcome import Fault, HandleExpired, Outcome, TransientError
from merlind.core.task import State, Task

THRESHOLD = 5
"""The fewest tasks whose failures can make an outage."""

CUT = 0.7
"""What is left of the limit when the upstream is unavailable."""

CUT_AFTER = 3
"""How many tasks in a row must fail for the limit to be cut: of fewer, it may be their own fault."""

MAX_SUSPECTS = 4
"""The most requests for suspects in flight; and never more than one in so many."""

SHORTEST_PAUSE = 0.5
"""Seconds between two probes, at least: a probe that fails at once must not become a loop."""

PAUSE_GROWTH = 1.5
"""How much longer each pause is than the one before it."""

PAUSE_CAPS = {Fault.RESPONSE: 5.0, Fault.UNAVAILABLE: 60.0, Fault.MISCONFIGURED: 60.0}
"""The longest pause between two probes, in seconds: who responds at all can be asked again soon."""

RETRY_AFTER_CAP = 60.0
"""How long a Retry-After holds up tasks other than its own, in seconds, and that in an outage alone."""

NEWCOMER_PAUSE = 5.0
"""Seconds from a probe to that with a newcomer, at least: it may tell an outage from tasks that nobody can score."""

NEWCOMER_INTERVAL = 30.0
"""Seconds between two probes with newcomers, at least: in an outage they all fail."""


class Lane(StrEnum):
    """Suspects (Task.suspect) have a small lane of their own, so that they hold up nobody else."""

    MAIN = "main"
    SUSPECTS = "suspects"

    __hash__ = str.__hash__  # as for State


class Pick(StrEnum):
    """Which ready task is next: the first that was ready, a fair choice of the least tried, a probe, a newcomer."""

    FIRST = "first"
    FAIR = "fair"
    PROBE = "probe"
    NEWCOMER = "newcomer"


class LimiterState(StrEnum):
    """As many requests as are configured, fewer, or one probe at a time."""

    FULL = "full"
    REDUCED = "reduced"
    OUTAGE = "outage"


@dataclass(frozen=True, slots=True)
class Outage:
    """Nobody succeeds. Times are in seconds of task time.

    The next probe is at ``probe_at``. A newcomer may have it earlier, but not before ``newcomer_at``; ``newcomer`` says
    that it has.
    """

    since: float
    failed_probes: int
    probe_at: float
    newcomer_at: float
    newcomer: bool = False


class Limiter:
    """Decides from how the last requests ended how many may be in flight.

    The caller tells it when a request starts and ends, and what it ``learn``s from how it ended. Every time is in
    seconds of task time. ``jitter`` returns a random number from 0 to 1.
    """

    def __init__(self, concurrency: int, jitter: Callable[[], float]) -> None:
        self._concurrency = concurrency
        self._jitter = jitter
        self._in_flight: dict[int, Lane] = {}
        self._suspects_in_flight = 0
        self._since_suspect = 0
        self._limit = float(concurrency)
        self._slow_start_until = float(concurrency)
        self._cut_at = self._last_newcomer = -math.inf
        self._failing: set[int] = set()
        self._last_success = {State.UPLOAD: -math.inf, State.POLL: -math.inf}
        self.outage: Outage | None = None
        """The outage that there is, if any."""
        self.last_probe: int | None = None
        """The id of the last task that was a probe in this outage."""
        self.failing_since: float | None = None
        """When the first request failed after the last success: None if none did."""
        self.last_error: str | None = None
        """How the last request failed, in a few words; None if the limit is full again."""
        self.misconfigured: str | None = None
        """What the upstream said that points at our own settings; None since it last answered well."""

    # What is allowed.

    @property
    def state(self) -> LimiterState:
        if self.outage is not None:
            return LimiterState.OUTAGE
        return LimiterState.FULL if self.limit == self._concurrency else LimiterState.REDUCED

    @property
    def limit(self) -> int:
        """How many requests may be in flight; 1 in an outage, and that only from ``outage.probe_at`` on."""
        return 1 if self.outage is not None else int(self._limit)

    @property
    def pick(self) -> Pick:
        """How to pick a task. While not all is well, a crowd of tasks that fail must hide nobody."""
        if self.outage is not None:
            return Pick.NEWCOMER if self.outage.newcomer else Pick.PROBE
        recovering = self._limit < self._slow_start_until
        return Pick.FAIR if self._failing or recovering else Pick.FIRST

    def next_lane(self, now: float, ready: int, suspects: int) -> Lane | None:
        """Return the lane of which a request may start now, or None.

        ``ready`` and ``suspects`` are how many tasks wait in the main lane and in that of the suspects.
        """
        if self.outage is not None and now < self.outage.probe_at:
            return None
        if len(self._in_flight) >= self.limit:
            return None
        if suspects and (not ready or self._suspect_may_start()):
            return Lane.SUSPECTS if self._suspects_in_flight < self._most_suspects() else None
        return Lane.MAIN if ready else None

    def _most_suspects(self) -> int:
        return max(1, min(MAX_SUSPECTS, self.limit // MAX_SUSPECTS))

    def _suspect_may_start(self) -> bool:
        """Whether a suspect may go before others: one request in flight in four, or below four every fourth start."""
        if self.outage is not None or self._suspects_in_flight >= self._most_suspects():
            return False
        return self.limit >= MAX_SUSPECTS or self._since_suspect >= MAX_SUSPECTS - 1

    def last_success(self, kind: State) -> float:
        """Return when an upload or a poll (``kind``) last succeeded; minus infinity if none did."""
        return self._last_success[kind]

    # What happened.

    def arrived(self, now: float) -> None:
        """Take note that a new task has come.

        In an outage, those that have failed may have themselves to blame. Nobody has tried this one, so it need not
        wait for long until it is probed.
        """
        outage = self.outage
        if outage is not None:
            at = max(now, outage.newcomer_at, self._last_newcomer + NEWCOMER_INTERVAL)
            if at <= outage.probe_at:
                self.outage = replace(outage, probe_at=at, newcomer=True)

    def start(self, task: Task, now: float) -> None:
        """Take note that a request for a task starts."""
        lane = self._in_flight[task.id] = Lane.SUSPECTS if task.suspect else Lane.MAIN
        if lane is Lane.SUSPECTS:
            self._suspects_in_flight += 1
            self._since_suspect = 0
        else:
            self._since_suspect += 1
        if self.outage is not None:
            self.last_probe = task.id
            if self.outage.newcomer:
                self._last_newcomer = now

    def end(self, task_id: int) -> None:
        """Take note that the request for a task has ended, one way or another."""
        if self._in_flight.pop(task_id) is Lane.SUSPECTS:
            self._suspects_in_flight -= 1

    def learn(self, before: Task, after: Task, outcome: Outcome, began: float, now: float) -> None:
        """Take note of how a request ended that began at ``began``, and what that made of its task."""
        match outcome:
            case TransientError():
                self._failed(after, outcome, began, now)
            case HandleExpired():
                self._answered()  # the upstream is there; but this says nothing about whether it scores
            case _:
                self._last_success[before.state] = now
                self.misconfigured = None
                self._answered()

    def _answered(self) -> None:
        self._failing.clear()
        self.failing_since = None
        if self.outage is not None:
            # A herd is kept from an upstream that has just come back: one request, then twice as many a round trip.
            self.outage = self.last_probe = None
            self._limit, self._slow_start_until = 1.0, float(self._concurrency)
        else:
            more = 1.0 if self._limit < self._slow_start_until else 1.0 / self._limit
            self._limit = min(float(self._concurrency), self._limit + more)
        if self._limit == self._concurrency:
            self.last_error = None

    def _failed(self, task: Task, error: TransientError, began: float, now: float) -> None:
        if self.outage is not None:
            if task.id == self.last_probe:  # else it began before the outage: no news
                self._probe_failed(task, error, now)
            return
        if task.suspect:
            return  # evidence of nothing but itself
        self._note(error)
        self._failing.add(task.id)
        self.failing_since = now if self.failing_since is None else self.failing_since
        unavailable = error.fault is Fault.UNAVAILABLE and len(self._failing) >= CUT_AFTER
        if unavailable and began > self._cut_at:  # once a round trip
            self._limit = self._slow_start_until = max(1.0, self._limit * CUT)
            self._cut_at = now
        if len(self._failing) >= max(THRESHOLD, self.limit):
            self.outage = self._outage(now, now, 0, error)

    def _probe_failed(self, task: Task, error: TransientError, now: float) -> None:
        assert self.outage is not None
        failed_probes = self.outage.failed_probes
        if not task.suspect:
            self._note(error)
            failed_probes += 1
        self.outage = self._outage(self.outage.since, now, failed_probes, error)

    def _note(self, error: TransientError) -> None:
        self.last_error = error.reason
        if error.fault is Fault.MISCONFIGURED:
            self.misconfigured = error.reason

    def _outage(self, since: float, now: float, failed_probes: int, error: TransientError) -> Outage:
        """Return the outage after a request that failed at ``now``."""
        grown = min(PAUSE_CAPS[error.fault], SHORTEST_PAUSE * PAUSE_GROWTH ** min(failed_probes, 32))
        pause = max(SHORTEST_PAUSE, grown * (1.0 + self._jitter()) / 2.0)
        asked = min(error.retry_after, RETRY_AFTER_CAP)
        return Outage(since, failed_probes, now + max(pause, asked), now + max(NEWCOMER_PAUSE, asked))

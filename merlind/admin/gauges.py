"""The values that are read when metrics are asked for."""

from functools import partial
from typing import Any

from merlind.core.interfaces import StoreBroken, StoreUnavailable, TaskStore, TaskTime
from merlind.core.limiter import LimiterState
from merlind.core.task import Repeat, State
from merlind.daemon.metrics import Metrics
from merlind.tasks.counts import LiveCounts
from merlind.tasks.intake import Intake
from merlind.tasks.queue import TaskQueue
from merlind.tasks.results import Results
from merlind.tasks.scheduler import Scheduler
from merlind.web.server.site import EdgeSite


class Gauges:
    """Reads them from the parts that know."""

    def __init__(
        self,
        reactor: Any,
        clock: TaskTime,
        store: TaskStore,
        counts: LiveCounts,
        queue: TaskQueue,
        results: Results,
        intake: Intake,
        scheduler: Scheduler,
        site: EdgeSite,
    ) -> None:
        self._reactor = reactor
        self._clock = clock
        self._store = store
        self._counts = counts
        self._queue = queue
        self._results = results
        self._intake = intake
        self._scheduler = scheduler
        self._limiter = scheduler.limiter
        self._repeated = scheduler.worker.repeated_uploads
        self._site = site
        self._oldest: float | None = None

    async def refresh(self) -> None:
        """Look up what only the store knows; if it fails, the last value stays."""
        try:
            self._oldest = await self._store.oldest_unfinished()
        except (StoreUnavailable, StoreBroken):
            return

    def define(self, metrics: Metrics) -> None:
        """Add the gauges to the metrics."""
        counts = self._counts.by_state
        metrics.gauges(
            "merlind_tasks",
            "Tasks by state.",
            "state",
            {state.value: partial(counts.__getitem__, state) for state in State},
        )
        metrics.gauges(
            "merlind_upstream_limiter",
            "How many requests the upstream may have at once: all, fewer, or one probe. 1 for the state it is in.",
            "state",
            {state.value: partial(self._limiter_is, state) for state in LimiterState},
        )
        metrics.counts(
            "merlind_upstream_repeated_uploads",
            "Photos sent to the upstream again. After a restart also those of which it is unknown.",
            "reason",
            {reason.value: partial(self._repeated.__getitem__, reason) for reason in Repeat},
        )
        for name, text, read in (
            (
                "merlind_oldest_unfinished_seconds",
                "Age of the oldest unfinished task, in seconds of service time without pauses.",
                lambda: 0.0 if self._oldest is None else self._clock.now() - self._oldest,
            ),
            ("merlind_spool_bytes", "Size of the photos in the spool.", lambda: self._counts.photo_bytes),
            ("merlind_connections", "Open connections on the public listener.", lambda: self._site.connections),
            ("merlind_active_uploads", "Uploads being received.", lambda: self._intake.active_uploads),
            ("merlind_long_polls", "Clients that wait for their task to finish.", lambda: self._results.waiting),
            ("merlind_upstream_in_flight", "Requests to the upstream in flight.", self._in_flight),
            ("merlind_upstream_limit", "Requests that the upstream may have at once.", lambda: self._limiter.limit),
            ("merlind_upstream_probe_seconds", "In an outage, seconds until the next probe.", self._until_probe),
            ("merlind_paused", "Whether requests to the upstream are paused: 1 or 0.", self._paused),
            ("merlind_suspects", "Tasks in memory that keep failing while others succeed.", self._suspects),
            ("merlind_tasks_due", "Tasks that are due and wait for a free request.", lambda: self._queue.ready),
            ("merlind_timers", "Timers that are set.", lambda: len(self._reactor.getDelayedCalls())),
        ):
            metrics.gauge(name, text, read)

    def _limiter_is(self, state: LimiterState) -> float:
        return float(self._limiter.state is state)

    def _until_probe(self) -> float:
        outage = self._limiter.outage
        return 0.0 if outage is None else max(0.0, outage.probe_at - self._clock.now())

    def _paused(self) -> float:
        return float(self._clock.pause.paused)

    def _suspects(self) -> float:
        return self._queue.suspects

    def _in_flight(self) -> float:
        return self._scheduler.worker.in_flight

"""The values that are read when metrics are asked for."""

from functools import partial
from typing import Any

from merlind.core.breaker import BreakerState
from merlind.core.interfaces import ServiceTime, StoreBroken, StoreUnavailable, TaskStore
from merlind.core.task import State
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
        clock: ServiceTime,
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
            "merlind_breaker_state",
            "The circuit breaker before the upstream: 1 for the state it is in.",
            "state",
            {state.value: partial(self._breaker_is, state) for state in BreakerState},
        )
        for name, text, read in (
            (
                "merlind_oldest_unfinished_seconds",
                "Age of the oldest unfinished task, in seconds of service time.",
                lambda: 0.0 if self._oldest is None else self._clock.now() - self._oldest,
            ),
            ("merlind_spool_bytes", "Size of the photos in the spool.", lambda: self._counts.photo_bytes),
            ("merlind_connections", "Open connections on the public listener.", lambda: self._site.connections),
            ("merlind_active_uploads", "Uploads being received.", lambda: self._intake.active_uploads),
            ("merlind_long_polls", "Clients that wait for their task to finish.", lambda: self._results.waiting),
            ("merlind_upstream_in_flight", "Requests to the upstream in flight.", self._in_flight),
            ("merlind_tasks_due", "Tasks that are due and wait for a free request.", lambda: self._queue.ready),
            ("merlind_timers", "Timers that are set.", lambda: len(self._reactor.getDelayedCalls())),
        ):
            metrics.gauge(name, text, read)

    def _breaker_is(self, state: BreakerState) -> float:
        return float(self._scheduler.breaker.state is state)

    def _in_flight(self) -> float:
        return self._scheduler.worker.in_flight

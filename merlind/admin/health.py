"""Whether merlind can take photos, and whether it makes progress with them; and if not, why."""

from dataclasses import dataclass, field

from merlind.core.interfaces import PhotoStore, StoreBroken, StoreUnavailable, TaskStore, TaskTime
from merlind.core.limiter import LimiterState
from merlind.settings import Settings
from merlind.tasks.counts import LiveCounts
from merlind.tasks.intake import Intake
from merlind.tasks.pauser import Pauser
from merlind.tasks.queue import TaskQueue
from merlind.tasks.scheduler import Scheduler

STALL = 300.0
"""Seconds without a good response, since a request first failed, after which merlind makes no progress."""


@dataclass(frozen=True)
class Progress:
    """The reasons why there is no progress, none if there is; and notes on what slows it down."""

    reasons: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Health:
    """Looks at the parts that can keep merlind from taking photos or from getting on with them."""

    def __init__(
        self,
        clock: TaskTime,
        store: TaskStore,
        photos: PhotoStore,
        counts: LiveCounts,
        intake: Intake,
        queue: TaskQueue,
        scheduler: Scheduler,
        pauser: Pauser,
        settings: Settings,
    ) -> None:
        self._clock = clock
        self._store = store
        self._photos = photos
        self._counts = counts
        self._intake = intake
        self._queue = queue
        self._limiter = scheduler.limiter
        self._worker = scheduler.worker
        self._pauser = pauser
        self._settings = settings

    async def readiness(self) -> list[str]:
        """Return the reasons why merlind can't take photos, or could have none scored; none if it is ready."""
        reasons = []
        if self._intake.draining:
            reasons.append("stopping")
        try:
            await self._store.check()
            if self._photos.free_bytes() < self._settings.min_free_bytes:
                reasons.append("storage: the disk is almost full")
        except (StoreUnavailable, StoreBroken, OSError) as error:
            reasons.append(f"storage: {error}")
        if self._counts.unfinished >= self._settings.max_pending:
            reasons.append("tasks: there are too many unfinished ones")
        return [*reasons, *self._misconfiguration()]

    def _misconfiguration(self) -> list[str]:
        """Wrong settings stay wrong until somebody acts: better take no photos. Trouble of the upstream passes."""
        why = self._limiter.misconfigured
        return [] if why is None else [f"upstream: it rejects our requests ({why}): check --upstream"]

    def progress(self) -> Progress:
        """Return whether tasks get on, and what keeps them from it."""
        now, limiter = self._clock.now(), self._limiter
        found = Progress(self._misconfiguration())
        if (pause := self._pauser.describe()) is not None:
            found.reasons.append(pause)
        if limiter.outage is not None:
            lasted, probe = now - limiter.outage.since, max(0.0, limiter.outage.probe_at - now)
            found.reasons.append(
                f"upstream: an outage for {lasted:.0f} s ({limiter.last_error}); the next request in {probe:.0f} s"
            )
        if limiter.failing_since is not None and now - limiter.failing_since > STALL:
            silence = now - limiter.failing_since
            found.reasons.append(f"upstream: no good response for {silence:.0f} s ({limiter.last_error})")
        if limiter.state is LimiterState.REDUCED:
            found.notes.append(
                f"upstream: limited to {limiter.limit} of {self._settings.upstream_concurrency} requests "
                f"({limiter.last_error})"
            )
        if self._queue.suspects:
            found.notes.append(f"tasks: {self._queue.suspects} keep failing while others succeed")
        if self._queue.reuploads:
            found.notes.append(f"tasks: {self._queue.reuploads} were uploaded again, their retry_id unknown")
        return found

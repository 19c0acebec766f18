"""Whether merlind is ready, and if not, why."""

from merlind.core.interfaces import PhotoStore, ServiceTime, StoreBroken, StoreUnavailable, TaskStore
from merlind.settings import Settings
from merlind.tasks.counts import LiveCounts
from merlind.tasks.intake import Intake
from merlind.tasks.queue import TaskQueue
from merlind.tasks.worker import Worker

STALL = 300.0
"""Seconds without a good response, while tasks are due, after which merlind is not ready."""


class Health:
    """Looks at the parts that can keep merlind from taking photos or from getting on with them."""

    def __init__(
        self,
        clock: ServiceTime,
        store: TaskStore,
        photos: PhotoStore,
        counts: LiveCounts,
        intake: Intake,
        queue: TaskQueue,
        worker: Worker,
        settings: Settings,
    ) -> None:
        self._clock = clock
        self._store = store
        self._photos = photos
        self._counts = counts
        self._intake = intake
        self._queue = queue
        self._worker = worker
        self._settings = settings

    async def readiness(self) -> list[str]:
        """Return the reasons why merlind is not ready, none if it is: can it write, and does it make progress?"""
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
        if self._worker.misconfigured is not None:
            reasons.append(f"upstream: it rejects our requests ({self._worker.misconfigured}): check --upstream")
        silence = self._clock.now() - self._worker.last_progress
        if self._queue.ready and silence > STALL:
            reasons.append(f"upstream: no good response for {silence:.0f} s")
        return reasons

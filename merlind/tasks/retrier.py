"""Starts failed tasks anew when an operator asks for it: those whose photo is kept."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from merlind.core.interfaces import TaskStore
from merlind.core.listing import NEWEST, TaskFilter, position_of
from merlind.core.task import Task
from merlind.tasks.counts import LiveCounts
from merlind.tasks.pauses import Pauses
from merlind.tasks.results import Results
from merlind.tasks.scheduler import Scheduler

PORTION = 100
"""The most tasks that start anew in one transaction and in one turn of the reactor, which takes some milliseconds."""

PORTION_PAUSE = 0.005
"""Seconds between two portions, so that clients are answered first."""


@dataclass(frozen=True, slots=True)
class Retried:
    """How many tasks started anew, and whether these were all.

    They weren't if there are as many unfinished tasks as there may be, or if merlind stops.
    """

    count: int
    complete: bool


class Retrier:
    """Retries tasks in portions, so that clients are served between them, up to ``max_pending`` unfinished ones."""

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        store: TaskStore,
        counts: LiveCounts,
        results: Results,
        scheduler: Scheduler,
        max_pending: int,
    ) -> None:
        self._store = store
        self._counts = counts
        self._results = results
        self._scheduler = scheduler
        self._max_pending = max_pending
        self._pauses = Pauses(reactor)
        self._stopped = False

    def stop(self) -> None:
        """Begin no other portion."""
        self._stopped = True
        self._pauses.stop()

    async def retry(self, task_ids: Sequence[int]) -> Retried:
        """Retry those of some tasks that can be. Raises StoreUnavailable or StoreBroken; some may be retried then."""
        ids = list(dict.fromkeys(task_ids))
        left, count = ids, 0
        while left and (room := await self._room(first=left is ids)):
            portion, left = left[:room], left[room:]
            count += await self._start_anew(portion)
        return self._done(count, complete=not left)

    async def retry_matching(self, wanted: TaskFilter) -> Retried:
        """Retry all tasks that match and can be retried. Raises StoreUnavailable or StoreBroken, as ``retry``."""
        wanted, position, count = replace(wanted, retryable=True), NEWEST, 0
        # What starts anew is received now, which lies before the position: nothing is seen twice.
        while room := await self._room(first=position is NEWEST):
            page = await self._store.list_tasks(wanted, position, room)
            count += await self._start_anew([task.id for task in page])
            if len(page) < room:
                return self._done(count, complete=True)
            position = position_of(page[-1])
        return self._done(count, complete=False)

    async def _room(self, first: bool) -> int:
        """Return how many tasks the next portion may have, after a pause unless it is the first one; 0 ends it."""
        if not first:
            with suppress(CancelledError):
                await self._pauses.wait(PORTION_PAUSE)
        return 0 if self._stopped else max(0, min(PORTION, self._max_pending - self._counts.unfinished))

    async def _start_anew(self, task_ids: Sequence[int]) -> int:
        if not task_ids:
            return 0
        retried: list[tuple[Task, Task]] = await self._store.retry(task_ids)
        for before, after in retried:
            self._results.on_transition(before, after)
            self._scheduler.add(after)
        return len(retried)

    def _done(self, count: int, complete: bool) -> Retried:
        self._log.info("{count} failed tasks start anew", count=count)
        return Retried(count, complete)

"""How merlind stands at one moment, as operators see it: what it says of itself at the admin listener's ``/``."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from twisted.internet.interfaces import IReactorTime

from merlind.admin.health import Health, Progress
from merlind.core.interfaces import PhotoStore, StoreBroken, StoreUnavailable, TaskStore, TaskTime
from merlind.core.limiter import LimiterState
from merlind.core.pause import Pause
from merlind.settings import Settings
from merlind.tasks.counts import LiveCounts
from merlind.tasks.queue import TaskQueue
from merlind.tasks.scheduler import Scheduler


@dataclass(frozen=True, slots=True)
class UpstreamLimit:
    """How many requests the upstream may have at once: ``limit`` of the ``most`` that are configured, and why."""

    state: LimiterState
    limit: int
    most: int
    last_error: str | None
    """How the last request failed, in a few words; None if all is well."""
    outage_for: float | None = None
    """The seconds that an outage has lasted, a pause not counted; None without one, as in the next line."""
    next_request_in: float | None = None
    """The seconds until the next request that may end it, a pause not counted."""

    def as_json(self) -> dict[str, Any]:
        return {
            "state": self.state,
            "limit": self.limit,
            "most": self.most,
            "last_error": self.last_error,
            "outage_for": self.outage_for,
            "next_request_in": self.next_request_in,
        }


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How merlind stands. ``wall`` is when, in seconds since the epoch; all other times are in seconds."""

    wall: float
    version: str
    uptime: float
    not_taking: list[str]
    """Why it can't take photos; empty if it can."""
    progress: Progress
    pause: Pause
    pause_left: float | None
    """The seconds until the pause ends by itself; None without such an end."""
    upstream: UpstreamLimit
    by_state: Mapping[str, int]
    """How many tasks there are in each state."""
    unfinished: int
    due: int
    """How many tasks wait for a free request."""
    in_flight: int
    """How many requests to the upstream are in flight."""
    oldest: float | None
    """The age of the oldest unfinished task, pauses not counted; None if there is none, or nobody knows."""
    disk_free: int | None
    """The bytes that are free; None if the disk can't be asked."""
    min_disk_free: int
    """The bytes to be left free: below, no photos are taken."""
    spool_bytes: int
    """The bytes of all photos that are kept."""

    def as_json(self) -> dict[str, Any]:
        """Return it as docs/contract.md, "Admin side", has it."""
        return {
            "version": self.version,
            "uptime": round(self.uptime, 3),
            "taking": {"yes": not self.not_taking, "reasons": self.not_taking},
            "working": {
                "yes": not self.progress.reasons,
                "reasons": self.progress.reasons,
                "notes": self.progress.notes,
            },
            "paused": {
                "yes": self.pause.paused,
                "until": self.pause.until,
                "seconds_left": None if self.pause_left is None else round(self.pause_left, 3),
            },
            "upstream": self.upstream.as_json(),
            "tasks": {
                **self.by_state,
                "unfinished": self.unfinished,
                "due": self.due,
                "in_flight": self.in_flight,
                "oldest": None if self.oldest is None else round(self.oldest, 3),
            },
            "disk": {"free": self.disk_free, "min_free": self.min_disk_free, "photos": self.spool_bytes},
        }


class Overview:
    """Takes a snapshot of the parts that know. ``version`` is merlind's own."""

    def __init__(
        self,
        reactor: IReactorTime,
        clock: TaskTime,
        store: TaskStore,
        photos: PhotoStore,
        counts: LiveCounts,
        queue: TaskQueue,
        scheduler: Scheduler,
        health: Health,
        settings: Settings,
        version: str,
    ) -> None:
        self._reactor = reactor
        self._began = reactor.seconds()
        self._clock = clock
        self._store = store
        self._photos = photos
        self._counts = counts
        self._queue = queue
        self._scheduler = scheduler
        self._health = health
        self._settings = settings
        self._version = version

    async def look(self) -> Snapshot:
        """Return how merlind stands. What can't be looked up is None, and the reasons say why."""
        not_taking = await self._health.readiness()
        oldest = await self._oldest()
        pause, wall = self._clock.pause, self._clock.wall()
        return Snapshot(
            wall=wall,
            version=self._version,
            uptime=self._reactor.seconds() - self._began,
            not_taking=not_taking,
            progress=self._health.progress(),
            pause=pause,
            pause_left=pause.left(wall),
            upstream=self._upstream(),
            by_state=dict(self._counts.by_state),
            unfinished=self._counts.unfinished,
            due=self._queue.ready,
            in_flight=self._scheduler.worker.in_flight,
            oldest=oldest,
            disk_free=self._disk_free(),
            min_disk_free=self._settings.min_free_bytes,
            spool_bytes=self._counts.photo_bytes,
        )

    async def _oldest(self) -> float | None:
        try:
            since = await self._store.oldest_unfinished()
        except (StoreUnavailable, StoreBroken):
            return None
        return None if since is None else max(0.0, self._clock.now() - since)

    def _disk_free(self) -> int | None:
        try:
            return self._photos.free_bytes()
        except OSError:
            return None

    def _upstream(self) -> UpstreamLimit:
        limiter, most, now = self._scheduler.limiter, self._settings.upstream_concurrency, self._clock.now()
        outage = limiter.outage
        if outage is None:
            return UpstreamLimit(limiter.state, limiter.limit, most, limiter.last_error)
        lasted, left = now - outage.since, max(0.0, outage.probe_at - now)
        return UpstreamLimit(limiter.state, limiter.limit, most, limiter.last_error, round(lasted, 3), round(left, 3))

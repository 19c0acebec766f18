"""Deletes expired results, and photos that no task needs any more; sets aside those of unknown tasks."""

from collections.abc import Iterator
from itertools import islice

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from merlind.core.interfaces import PhotoStore, ServiceTime, StoreBroken, StoreUnavailable, TaskStore
from merlind.tasks.pauses import Pauses, run
from merlind.tasks.results import Results

LONGEST_PAUSE = 3600.0
"""The most seconds between two sweeps."""

EXPIRE_PAGE = 1000
"""The most tasks that are deleted in one transaction."""

KEPT_PAGE = 250
"""The most photos of failed tasks that are deleted in one transaction."""

PHOTO_PAGE = 250
"""How many photos are looked up in one transaction after a start."""

PHOTO_PAUSE = 0.02
"""Seconds between two of those, so that clients are answered first."""

_SET_ASIDE = (
    "{photos} photos ({size} bytes) belong to no task in the database: moved to lost/ in the data directory, and kept "
    "there for {retention:.0f} s. A crash may leave a few, of requests that got no response; more mean that the "
    "database, or its log, was lost or is an older copy: restore it, and move the photos back"
)


class Retention:
    """Deletes finished tasks ``retention`` seconds after they finished, and the photos of those that were given up
    ``keep_failed`` seconds after that: at start, and then from time to time.

    The seconds are of service time: no step of the wall clock deletes anything before its time.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        clock: ServiceTime,
        store: TaskStore,
        photos: PhotoStore,
        results: Results,
        retention: float,
        keep_failed: float,
    ) -> None:
        self._clock = clock
        self._store = store
        self._photos = photos
        self._results = results
        self._retention = retention
        self._keep_failed = keep_failed
        self._interval = min(max(min(retention, keep_failed or retention) / 10, 1.0), LONGEST_PAUSE)
        self._pauses = Pauses(reactor)

    def start(self) -> None:
        """Sweep the photos once, and the results again and again."""
        for work in (self._sweep_photos(self._photos.stored()), self._sweep_results()):
            run(work, self._log)

    def stop(self) -> None:
        """Start no more sweeps."""
        self._pauses.stop()

    async def _sweep_photos(self, stored: Iterator[int]) -> None:
        """Delete photos that no task needs, set aside those of unknown ones; new photos have their task by now."""
        photos = size = 0
        try:
            while page := list(islice(stored, PHOTO_PAGE)):
                aside = await self._store.sweep_photos(page)
                photos += aside.photos
                size += aside.size
                await self._pauses.wait(PHOTO_PAUSE)
        except (StoreUnavailable, StoreBroken, OSError) as error:
            self._log.warn("sweeping photos failed: {why}", why=getattr(error, "strerror", None) or str(error))
        finally:
            if photos:
                self._log.warn(_SET_ASIDE, photos=photos, size=size, retention=self._retention)

    async def _sweep_results(self) -> None:
        while True:
            try:
                await self._delete_kept_photos()
                await self._delete_expired()
            except (StoreUnavailable, StoreBroken) as error:
                self._log.warn("deleting expired tasks failed: {why}", why=str(error))
            await self._pauses.wait(self._interval)

    async def _delete_kept_photos(self) -> None:
        deleted = 0
        while page := await self._store.delete_kept(self._clock.now(), self._keep_failed, KEPT_PAGE):
            for task in page:
                self._results.photo_deleted(task)
            deleted += len(page)
            await self._pauses.wait(0)
        if deleted:
            self._log.info("{count} photos of failed tasks deleted: nobody tried them again", count=deleted)

    async def _delete_expired(self) -> None:
        before = self._clock.now() - self._retention
        if lost := await self._store.expire_lost(before):
            self._log.info("{count} lost photos deleted, whose tasks were unknown for the retention", count=lost)
        deleted = 0
        while True:
            page = await self._store.expire(before, EXPIRE_PAGE)
            for task in page:
                self._results.forget(task)
            deleted += len(page)
            if len(page) < EXPIRE_PAGE:
                break
            await self._pauses.wait(0)  # clients come first, and a stop ends it here
        if deleted:
            self._log.info("{count} expired tasks deleted", count=deleted)
            await self._store.compact()

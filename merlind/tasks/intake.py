"""Takes photos in: reserves room within the limits, and turns a submission into a durable task."""

from collections.abc import Callable
from dataclasses import dataclass

from twisted.logger import Logger

from merlind.core.interfaces import PhotoStore, StagedPhoto, Submission, TaskStore
from merlind.core.task import Task
from merlind.tasks.counts import LiveCounts
from merlind.tasks.results import Results
from merlind.tasks.scheduler import Scheduler

SMALL_UPLOAD = 256 * 1024
"""The largest upload that stays in memory until it is durable, in bytes: most photos are smaller."""

MAX_SMALL_BYTES = 64 * 1024 * 1024
"""With more bytes than this in uploads, active or being committed, further ones go to files even if they are small."""


class OverCapacity(Exception):
    """No photo can be taken just now: a limit is reached, and the message names it."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much there may be at once: unfinished tasks, active uploads and their bytes; and the bytes to leave free."""

    max_pending: int
    min_free_bytes: int
    max_uploads: int
    max_upload_bytes: int


class Reservation:
    """A reservation for one upload: its staged photo, which counts against the limits until ``close``."""

    def __init__(self, photo: StagedPhoto, close: Callable[[], None]) -> None:
        self.photo = photo
        self._close: Callable[[], None] | None = close

    def close(self) -> None:
        """Give the room back. May be called again."""
        if self._close is not None:
            self._close()
            self._close = None


class Intake:
    """Reservations and submissions."""

    _log = Logger()

    def __init__(
        self,
        store: TaskStore,
        photos: PhotoStore,
        counts: LiveCounts,
        limits: Limits,
        results: Results,
        scheduler: Scheduler,
    ) -> None:
        self._store = store
        self._photos = photos
        self._counts = counts
        self._limits = limits
        self._results = results
        self._scheduler = scheduler
        self._committing = 0
        self._committing_bytes = 0
        self.active_uploads = 0
        """How many reservations are open."""
        self.active_bytes = 0
        """How large their photos may become, in bytes."""
        self.draining = False
        """Whether new photos are refused because merlind is stopping."""

    def reserve(self, size: int) -> Reservation:
        """Reserve room for a photo of up to ``size`` bytes. Raises OverCapacity."""
        if self.draining:
            raise OverCapacity("the server is stopping")
        if self._store.broken:
            raise OverCapacity("the server can't keep tasks any more")
        if self._counts.unfinished + self._committing >= self._limits.max_pending:
            raise OverCapacity("there are too many unfinished tasks")
        if self.active_uploads >= self._limits.max_uploads or self.active_bytes + size > self._limits.max_upload_bytes:
            raise OverCapacity("there are too many uploads at once")
        try:
            free = self._photos.free_bytes()
        except OSError as error:
            raise OverCapacity("the disk can't be used") from error
        incoming = self.active_bytes + self._committing_bytes
        if free - incoming - size < self._limits.min_free_bytes:
            raise OverCapacity("the disk is almost full")
        self.active_uploads += 1
        self.active_bytes += size

        def close() -> None:
            self.active_uploads -= 1
            self.active_bytes -= size

        in_memory = size <= SMALL_UPLOAD and incoming + size <= MAX_SMALL_BYTES
        return Reservation(self._photos.stage(in_memory), close)

    async def submit(self, submission: Submission) -> Task:
        """Find or create the task of a submission; returns when task and photo are durable.

        Raises StoreUnavailable or StoreBroken; then nothing of the submission remains.
        """
        size = submission.photo.size
        self._committing += 1
        self._committing_bytes += size
        try:
            accepted = await self._store.accept(submission)
        finally:
            self._committing -= 1
            self._committing_bytes -= size
        task = accepted.task
        if accepted.starts:
            self._results.on_transition(accepted.before, task)
            self._log.info("task {task}: received, {size} bytes", task=task.id, size=task.photo.size)
            self._scheduler.add(task)
        return task

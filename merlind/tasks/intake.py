"""Takes photos in: reserves room within the limits, and turns a submission into a durable task."""

from collections.abc import Callable
from dataclasses import dataclass

from twisted.logger import Logger

from merlind.core.client_limit import ClientLimit
from merlind.core.interfaces import PhotoStore, StagedPhoto, Submission, TaskStore
from merlind.core.task import Task
from merlind.tasks.counts import LiveCounts
from merlind.tasks.refusals import ClientOverLimit, OverCapacity, Refused
from merlind.tasks.results import Results
from merlind.tasks.scheduler import Scheduler

SMALL_UPLOAD = 256 * 1024
"""The largest upload that stays in memory until it is durable, in bytes: most photos are smaller."""

MAX_SMALL_BYTES = 64 * 1024 * 1024
"""With more bytes than this in uploads, active or being committed, further ones go to files even if they are small."""

_log = Logger()


@dataclass(frozen=True, slots=True)
class Limits:
    """How much there may be at once: unfinished tasks, active uploads and their bytes; and the bytes to leave free.

    ``max_uploads_per_client`` is for each client; 0 sets no limit.
    """

    max_pending: int
    min_free_bytes: int
    max_uploads: int
    max_upload_bytes: int
    max_uploads_per_client: int = 0


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
    """Reservations and submissions. ``on_refused(limit, by)`` is called for each reservation that isn't made."""

    def __init__(
        self,
        store: TaskStore,
        photos: PhotoStore,
        counts: LiveCounts,
        limits: Limits,
        results: Results,
        scheduler: Scheduler,
        on_refused: Callable[[str, str], None],
    ) -> None:
        self._store = store
        self._photos = photos
        self._counts = counts
        self._limits = limits
        self._results = results
        self._scheduler = scheduler
        self._on_refused = on_refused
        self._uploads_by_client = ClientLimit(limits.max_uploads_per_client)
        self._committing = 0
        self._committing_bytes = 0
        self.active_uploads = 0
        """How many reservations are open."""
        self.active_bytes = 0
        """How large their photos may become, in bytes."""
        self.draining = False
        """Whether new photos are refused because merlind is stopping."""

    def reserve(self, size: int, client: str) -> Reservation:
        """Reserve room for a client's photo of up to ``size`` bytes. Raises OverCapacity or ClientOverLimit."""
        try:
            self._check(size, client)
        except Refused as refused:
            self._on_refused(refused.limit, refused.by)
            raise
        photo = self._photos.stage(size <= SMALL_UPLOAD and self._incoming_bytes + size <= MAX_SMALL_BYTES)
        self.active_uploads += 1
        self.active_bytes += size
        self._uploads_by_client.add(client)

        def close() -> None:
            self.active_uploads -= 1
            self.active_bytes -= size
            self._uploads_by_client.leave(client)

        return Reservation(photo, close)

    def _check(self, size: int, client: str) -> None:
        limits, tasks, uploads = self._limits, self._counts.by_client, self._uploads_by_client
        if self.draining:
            raise OverCapacity("stopping", "the server is stopping")
        if self._store.broken:
            raise OverCapacity("storage", "the server can't keep tasks any more")
        if tasks.full(client):
            raise ClientOverLimit("tasks", tasks.most, client)
        if uploads.full(client):
            raise ClientOverLimit("uploads", uploads.most, client)
        if self._counts.unfinished + self._committing >= limits.max_pending:
            raise OverCapacity("tasks", "there are too many unfinished tasks")
        if self.active_uploads >= limits.max_uploads or self.active_bytes + size > limits.max_upload_bytes:
            raise OverCapacity("uploads", "there are too many uploads at once")
        try:
            free = self._photos.free_bytes()
        except OSError as error:
            raise OverCapacity("disk", "the disk can't be used") from error
        if free - self._incoming_bytes - size < limits.min_free_bytes:
            raise OverCapacity("disk", "the disk is almost full")

    @property
    def _incoming_bytes(self) -> int:
        """The bytes of photos that may not be on the disk yet."""
        return self.active_bytes + self._committing_bytes

    async def submit(self, submission: Submission, client: str) -> Task:
        """Find or create the task of a client's submission; returns when task and photo are durable.

        Raises StoreUnavailable or StoreBroken; then nothing of the submission remains.
        """
        size = submission.photo.size
        self._committing += 1
        self._committing_bytes += size
        self._counts.by_client.add(client)
        starts = False
        try:
            accepted = await self._store.accept(submission)
            starts = accepted.starts
        finally:
            self._committing -= 1
            self._committing_bytes -= size
            if not starts:
                self._counts.by_client.leave(client)
        task = accepted.task
        if starts:
            self._counts.belongs(task.id, client)
            self._results.on_transition(accepted.before, task)
            _log.info("task {task}: received, {size} bytes", task=task.id, size=task.photo.size)
            self._scheduler.add(task)
        return task

"""What the parts of merlind ask of each other: the stores and the upstream as Protocols, and the errors they may raise.

Whoever keeps tasks, keeps photos or scores them implements one of these; nobody else needs to know how.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Protocol

from twisted.internet.defer import Deferred

from merlind.core.listing import Failures, Position, TaskFilter
from merlind.core.outcome import Outcome
from merlind.core.pause import Pause
from merlind.core.task import Task

DedupKey = tuple[bytes, str, str]
"""What makes two submissions equal: the photo's SHA-256 digest, the user, the name."""

Cursor = tuple[float, int]
"""A position in the order of unfinished tasks: (due, task id)."""


class StoreUnavailable(Exception):
    """The operation was not done, and nothing is lost: the disk is full or can't be written to just now."""


class StoreBroken(Exception):
    """A flush or a commit failed: what is on the disk is unknown, and only a new start finds out."""


class PhotoMissing(Exception):
    """The photo of a task is not where it should be, or not whole."""


class StagedPhoto(Protocol):
    """A photo on its way in. It ends committed by the store that accepts its task, or discarded."""

    @property
    def size(self) -> int:
        """The bytes received so far."""

    def sha256(self) -> bytes:
        """Return the digest of the whole photo. May read it from disk, so call it off the reactor. Raises OSError."""

    def write(self, data: bytes) -> None:
        """Add the next bytes. Raises OSError, for example on a full disk."""

    def finish(self) -> None:
        """Say that the photo is whole. Raises OSError."""

    def discard(self) -> None:
        """Delete what there is of it; does nothing once it is committed. Raises OSError."""


class PhotoStore(Protocol):
    """Photos by the id of their task."""

    def stage(self, in_memory: bool = False) -> StagedPhoto:
        """Begin to receive a photo. ``in_memory`` keeps a small one off the disk until it is committed."""

    def open(self, task: Task) -> IO[bytes]:
        """Open the photo of a task. Raises PhotoMissing, or OSError where it may be there but can't be opened."""

    def stored(self) -> Iterator[int]:
        """Iterate over the ids of the tasks that have a photo here. Raises OSError."""

    def free_bytes(self) -> int:
        """Return the room left for photos, in bytes. Raises OSError."""


@dataclass(frozen=True, slots=True)
class Submission:
    """What a client sent: the user, the name, and the staged photo with its media type."""

    user: str
    name: str
    photo: StagedPhoto
    media_type: str

    @property
    def dedup_key(self) -> DedupKey:
        """What an equal submission has in common. May read the photo: see StagedPhoto.sha256."""
        return self.photo.sha256(), self.user, self.name


@dataclass(frozen=True, slots=True)
class Accepted:
    """The task that a submission belongs to, and what it was before, if it existed."""

    task: Task
    before: Task | None

    @property
    def starts(self) -> bool:
        """Whether work on the task starts with this submission."""
        return self.before is not self.task


@dataclass(frozen=True, slots=True)
class TaskCounts:
    """How many tasks there are by state, and the bytes of the photos that are kept."""

    by_state: dict[str, int]
    photo_bytes: int


@dataclass(frozen=True, slots=True)
class SetAside:
    """How many photos of unknown tasks were set aside, and their bytes together."""

    photos: int
    size: int


@dataclass(frozen=True, slots=True)
class Moment:
    """One moment: the service time, the task time, and the wall clock's time in seconds since the epoch."""

    service: float
    tasks: float
    wall: float


class ServiceTime(Protocol):
    """The two clocks: service time, which counts only while merlind runs, and the wall clock."""

    def now(self) -> float:
        """Return the service time, in seconds."""

    @property
    def wall(self) -> Callable[[], float]:
        """Returns the wall clock's time, in seconds since the epoch."""


class TaskTime(Protocol):
    """The clock for tasks: task time, which is service time without the pauses."""

    pause: Pause
    """Whether it stands still."""

    def now(self) -> float:
        """Return the task time, in seconds."""

    def moment(self) -> Moment:
        """Return what all clocks show."""

    @property
    def wall(self) -> Callable[[], float]:
        """Returns the wall clock's time, in seconds since the epoch."""


class TaskStore(Protocol):
    """Tasks, durable. Every operation fails with StoreUnavailable or StoreBroken.

    After the first StoreBroken every later operation fails with it, too.
    """

    @property
    def broken(self) -> bool:
        """Whether the store has failed for good."""

    def accept(self, submission: Submission) -> "Deferred[Accepted]":
        """Find or create the one task of (photo, user, name); fires when the task and its photo are durable.

        The store owns the staged photo from here on: it commits it or discards it.
        """

    def save(self, task: Task) -> "Deferred[bool]":
        """Record a task's progress, and delete its photo unless it still has one (Task.has_photo).

        Fires with whether the task is still ours: False if it was deleted meanwhile, and stays so.
        """

    def delete(self, task_id: int, user: str) -> "Deferred[Task | None]":
        """Erase a user's task and its photo; fires with what it was, or None if there was none."""

    def get(self, task_id: int) -> "Deferred[Task | None]":
        """Fire with the task, or None."""

    def unfinished(self, after: Cursor, limit: int) -> "Deferred[list[Task]]":
        """Fire with the next ``limit`` unfinished tasks behind a cursor, in order of (due, id)."""

    def count(self) -> "Deferred[TaskCounts]":
        """Count the tasks."""

    def oldest_unfinished(self) -> "Deferred[float | None]":
        """Fire with the smallest ``since`` of all unfinished tasks, in seconds of task time, or None."""

    def list_tasks(self, wanted: TaskFilter, after: Position, limit: int) -> "Deferred[list[Task]]":
        """Fire with up to ``limit`` tasks that match, and come behind a position, in their order (listing.Position)."""

    def count_failures(self, since: float, most: int) -> "Deferred[list[Failures]]":
        """Count the failed tasks received at or after ``since`` (epoch), by code: the ``most`` newest of them alone."""

    def retry(self, task_ids: Sequence[int]) -> "Deferred[list[tuple[Task, Task]]]":
        """Start those tasks anew that can be retried (Task.retryable); fires with what each was, and is now."""

    def expire(self, finished_by: float, limit: int) -> "Deferred[list[Task]]":
        """Delete up to ``limit`` tasks that finished by a service time, the first ones first; fires with them."""

    def delete_kept(self, now: float, keep: float, limit: int) -> "Deferred[list[Task]]":
        """Delete the photos of up to ``limit`` failed tasks that are kept no longer; fires with the tasks as they were.

        At ``now`` (service time), none is kept that has been kept for ``keep`` seconds, whatever it was kept for.
        """

    def expire_lost(self, set_aside_by: float) -> "Deferred[int]":
        """Delete the lost photos that were set aside by a service time; fires with how many they were."""

    def sweep_photos(self, task_ids: Sequence[int]) -> "Deferred[SetAside]":
        """Delete those of the named photos whose task has none any more, and set aside those of unknown tasks."""

    def check(self) -> "Deferred[None]":
        """Find out whether tasks and photos can be written."""

    def check_files(self) -> "Deferred[None]":
        """Fail with StoreBroken if what is stored now would not be found by the next start."""

    def save_pause(self, pause: Pause) -> "Deferred[None]":
        """Record whether there is a pause, so that the next run goes on with it."""

    def record_time(self) -> "Deferred[None]":
        """Record the service time, so that the next run goes on from there."""

    def compact(self) -> "Deferred[None]":
        """Leave nothing of what was erased in a log or a journal."""

    def drained(self) -> "Deferred[None]":
        """Fire when no operation is waiting or running."""


class Upstream(Protocol):
    """The scoring API."""

    async def send(self, task: Task) -> Outcome:
        """Send one request for a task: its photo, or a poll once it has a retry_id.

        Returns an outcome whatever the upstream does. Raises PhotoMissing, and CancelledError when cancelled.
        """

"""What can be asked of a store: one small class for each kind of operation.

An engine does all operations of one kind that follow each other in a batch together. Each class says whether its kind
writes, and its rank: a batch is done in the order of ranks, and in the order of asking within a rank.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from merlind.core.interfaces import Cursor, Submission
from merlind.core.listing import Position, TaskFilter
from merlind.core.pause import Pause
from merlind.core.task import Task

# A task that just failed restarts if it is sent again in the same batch, so saves come before accepts.
_SAVES, _ACCEPTS, _OTHERS = range(3)


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that is asked of the store. Its class is its kind; the docstring of each says what its result is."""

    writes: ClassVar[bool]
    rank: ClassVar[int] = _OTHERS


@dataclass(frozen=True, slots=True)
class Accept(Operation):
    """Find or create the task of a submission: an Accepted."""

    writes = True
    rank = _ACCEPTS
    submission: Submission


@dataclass(frozen=True, slots=True)
class Save(Operation):
    """Record a task's progress: whether the task is still there."""

    writes = True
    rank = _SAVES
    task: Task


@dataclass(frozen=True, slots=True)
class Get(Operation):
    """Look a task up: the Task, or None."""

    writes = False
    task_id: int


@dataclass(frozen=True, slots=True)
class Delete(Operation):
    """Erase a user's task: the Task that it was, or None."""

    writes = True
    task_id: int
    user: str


@dataclass(frozen=True, slots=True)
class Unfinished(Operation):
    """Page through the unfinished tasks in order of (due, id): a list of Task."""

    writes = False
    after: Cursor
    limit: int


@dataclass(frozen=True, slots=True)
class Count(Operation):
    """Count the tasks: a TaskCounts."""

    writes = False


@dataclass(frozen=True, slots=True)
class OldestUnfinished(Operation):
    """Find when the oldest unfinished task began: its ``since``, or None."""

    writes = False


@dataclass(frozen=True, slots=True)
class ListTasks(Operation):
    """Page through the tasks that match, the newest first: a list of Task."""

    writes = False
    wanted: TaskFilter
    after: Position
    limit: int


@dataclass(frozen=True, slots=True)
class CountFailures(Operation):
    """Count the newest failed tasks by code: a list of Failures, those of the most tasks first."""

    writes = False
    since: float
    most: int


@dataclass(frozen=True, slots=True)
class Retry(Operation):
    """Start failed tasks anew whose photo is kept: a list of what each was, and is now."""

    writes = True
    task_ids: Sequence[int]


@dataclass(frozen=True, slots=True)
class Expire(Operation):
    """Delete the tasks that finished first, by a service time: a list of the Task that they were."""

    writes = True
    finished_by: float
    limit: int


@dataclass(frozen=True, slots=True)
class DeleteKept(Operation):
    """Delete photos of failed tasks that are kept no longer: a list of the Task that they were."""

    writes = True
    now: float
    keep: float
    limit: int


@dataclass(frozen=True, slots=True)
class ExpireLost(Operation):
    """Delete the lost photos that were set aside by a service time: how many they were."""

    writes = False  # to no row
    set_aside_by: float


@dataclass(frozen=True, slots=True)
class SweepPhotos(Operation):
    """Delete those photos whose task has none any more, and set aside those of unknown tasks: a SetAside."""

    writes = True
    task_ids: Sequence[int]


@dataclass(frozen=True, slots=True)
class Check(Operation):
    """Write to the database and to the spool, and leave nothing: None."""

    writes = True


@dataclass(frozen=True, slots=True)
class CheckFiles(Operation):
    """See that the files that are open are still those that the next start will find: None."""

    writes = False


@dataclass(frozen=True, slots=True)
class SavePause(Operation):
    """Record whether there is a pause: None."""

    writes = True
    pause: Pause


@dataclass(frozen=True, slots=True)
class RecordTime(Operation):
    """Record the service time, as every transaction does: None."""

    writes = True

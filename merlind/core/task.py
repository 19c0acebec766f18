"""A task, and how an outcome changes it: pure functions from values to values."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from merlind.core.backoff import backoff
from merlind.core.outcome import HandleExpired, Outcome, Pending, Rejected, Scored, TaskError, TransientError

MAX_TASK_ID = 2**53 - 1
"""The largest integer that a JSON number holds exactly in a browser (docs/contract.md)."""


class State(StrEnum):
    """Where a task stands: its photo is still to be uploaded, or polled for, or it is finished one way or the other."""

    UPLOAD = "upload"
    POLL = "poll"
    READY = "ready"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Photo:
    """What is known of a photo: SHA-256 digest, size in bytes, media type."""

    sha256: bytes
    size: int
    media_type: str


@dataclass(frozen=True, slots=True)
class Task:
    """One name with one photo of one user, on its way to a score.

    ``since`` (when this run of attempts began) and ``due`` are seconds of service time, which counts only while merlind
    runs. ``finished_at`` is wall-clock time, in seconds since the epoch. ``attempts`` counts the failed requests since
    the last good response, and ``last_error`` says how the last one failed.
    """

    id: int
    user: str
    name: str
    photo: Photo
    since: float
    due: float
    state: State = State.UPLOAD
    retry_id: str | None = None
    attempts: int = 0
    last_error: str | None = None
    result: float | None = None
    error: TaskError | None = None
    finished_at: float | None = None

    @property
    def finished(self) -> bool:
        """Whether it has a result or has failed for good."""
        return self.finished_at is not None


@dataclass(frozen=True, slots=True)
class Policy:
    """How patient merlind is with a task, in seconds; ``jitter`` returns a random number from 0 to 1."""

    poll_interval: float
    give_up_after: float
    jitter: Callable[[], float]

    def deadline(self, task: Task) -> float:
        """The service time at which an unfinished task fails, in seconds."""
        return task.since + self.give_up_after


def advance(task: Task, outcome: Outcome, now: float, wall: float, policy: Policy) -> Task:
    """Return the task after a request to the upstream that ended at ``now`` (service time) and ``wall`` (epoch)."""
    match outcome:
        case Scored(result):
            return replace(task, state=State.READY, result=result, retry_id=None, last_error=None, finished_at=wall)
        case Rejected(error):
            return fail(task, error, wall)
        case Pending(retry_id, retry_after):
            due = now + max(policy.poll_interval, retry_after)
            after = replace(task, state=State.POLL, retry_id=retry_id or task.retry_id, attempts=0, last_error=None)
        case HandleExpired():
            due = now + _pause(task, policy)
            after = replace(
                task, state=State.UPLOAD, retry_id=None, attempts=task.attempts + 1, last_error="retry_id expired"
            )
        case TransientError(reason, retry_after):
            due = now + max(_pause(task, policy), retry_after)
            after = replace(task, attempts=task.attempts + 1, last_error=reason)
    return replace(after, due=min(due, policy.deadline(task)))


def _pause(task: Task, policy: Policy) -> float:
    return backoff(task.attempts, max(policy.poll_interval, 0.1), policy.jitter())


def miss_deadline(task: Task, wall: float) -> Task:
    """Return the task failed because it got no score in time, with the reason."""
    waiting = "still waiting for a score" if task.state is State.POLL else "never reached the upstream"
    return fail(task, TaskError("gave_up", f"no score in time; last: {task.last_error or waiting}"), wall)


def fail(task: Task, error: TaskError, wall: float) -> Task:
    """Return the task, failed for good."""
    return replace(task, state=State.FAILED, error=error, retry_id=None, last_error=None, finished_at=wall)


def restart(task: Task, now: float) -> Task:
    """Return a failed task as it starts anew, when its owner submits the same again (docs/contract.md)."""
    return replace(task, state=State.UPLOAD, since=now, due=now, attempts=0, error=None, finished_at=None)

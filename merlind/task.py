"""A task, and what becomes of it: pure values, knowing no clock, no database and no network."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

MAX_TASK_ID = 2**53 - 1
"""The largest integer that a browser's JSON number holds exactly (contract: task numbers)."""

BACKOFF_CAP = 300.0
"""The longest back-off between two tries of one task, in seconds (the issue "The service, end to end")."""

MAX_RETRY_AFTER = 3600.0
"""The longest wait that an upstream can ask for, in seconds: past it the answer is clamped."""


class State(StrEnum):
    """Where a task is: its photo still to upload, to be polled for, or over."""

    UPLOAD = "upload"
    POLL = "poll"
    READY = "ready"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class TaskError:
    """Why a task failed: a stable ``code``, and a sentence for its owner."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Photo:
    """What is known of a photo: SHA-256 digest, size in bytes, media type."""

    sha256: bytes
    size: int
    media_type: str


@dataclass(frozen=True, slots=True)
class Task:
    """One name with one photo of one user, on its way to a score.

    ``since`` (the start of the present try) and ``due`` are seconds of service time: time during which merlind ran.
    ``finished`` is the wall clock's time at which the task was over, in seconds since the epoch. ``attempts`` counts
    the troubles since the last good answer.
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
    trouble: str | None = None
    result: float | None = None
    error: TaskError | None = None
    finished: float | None = None

    @property
    def over(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.finished is not None


@dataclass(frozen=True, slots=True)
class Done:
    """The upstream has the score."""

    result: float


@dataclass(frozen=True, slots=True)
class Wait:
    """The upstream works on it: ask again with ``retry_id`` (None: the one at hand), not before ``after`` seconds."""

    retry_id: str | None
    after: float = 0.0


@dataclass(frozen=True, slots=True)
class Refused:
    """The upstream says no, for this one task."""

    error: TaskError


@dataclass(frozen=True, slots=True)
class Forgotten:
    """The upstream no longer knows the retry_id."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Nothing was learned: ``kind`` names it for logs and metrics.

    ``ours`` says that our side is set up wrongly, and not theirs in a bad way; ``after`` is what they asked us to
    wait, in seconds.
    """

    kind: str
    after: float = 0.0
    ours: bool = False


Outcome = Done | Wait | Refused | Forgotten | Trouble


@dataclass(frozen=True, slots=True)
class Policy:
    """How patient a task is, in seconds; ``jitter`` returns a number from 0 to 1."""

    poll_interval: float
    give_up_after: float
    jitter: Callable[[], float]


def backoff(attempts: int, base: float, jitter: float, cap: float = BACKOFF_CAP) -> float:
    """Seconds to wait after ``attempts`` failures in a row: full jitter below an exponential, capped.

    (The "full jitter" of the AWS Architecture Blog, "Exponential Backoff And Jitter".)
    """
    return jitter * min(cap, math.ldexp(base, min(attempts, 32)))


def advance(task: Task, outcome: Outcome, now: float, wall: float, policy: Policy) -> Task:
    """The task after an exchange with the upstream that ended at ``now`` (service time) and ``wall`` (epoch)."""
    match outcome:
        case Done(result):
            return replace(task, state=State.READY, result=result, retry_id=None, trouble=None, finished=wall)
        case Refused(error):
            return fail(task, error, wall)
        case Wait(retry_id, after):
            due = now + max(policy.poll_interval, after)
            moved = replace(task, state=State.POLL, retry_id=retry_id or task.retry_id, attempts=0, trouble=None)
        case Forgotten():
            due = now + _pause(task, policy)
            moved = replace(
                task, state=State.UPLOAD, retry_id=None, attempts=task.attempts + 1, trouble="retry_id forgotten"
            )
        case Trouble(kind, after):
            due = now + max(_pause(task, policy), after)
            moved = replace(task, attempts=task.attempts + 1, trouble=kind)
    return replace(moved, due=min(due, task.since + policy.give_up_after))


def _pause(task: Task, policy: Policy) -> float:
    return backoff(task.attempts, max(policy.poll_interval, 0.1), policy.jitter())


def give_up(task: Task, wall: float) -> Task:
    """The task failed because it got nowhere for too long, with the reason."""
    reason = task.trouble or ("still waiting for a score" if task.state is State.POLL else "never reached the upstream")
    return fail(task, TaskError("gave_up", f"no score in time; last: {reason}"), wall)


def fail(task: Task, error: TaskError, wall: float) -> Task:
    """The task, failed for good."""
    return replace(task, state=State.FAILED, error=error, retry_id=None, trouble=None, finished=wall)


def retried(task: Task, now: float) -> Task:
    """A failed task, started anew because its owner sent the same again (contract: POST, the same, failed)."""
    return replace(
        task,
        state=State.UPLOAD,
        since=now,
        due=now,
        attempts=0,
        error=None,
        finished=None,
    )

"""A task, and how an outcome changes it: pure functions from values to values."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from merlind.core.backoff import backoff, growing_pause
from merlind.core.outcome import (
    HandleExpired,
    Outcome,
    Pending,
    Rejected,
    Scored,
    Source,
    TaskError,
    TransientError,
    source_of,
)

MAX_TASK_ID = 2**53 - 1
"""The largest integer that a JSON number holds exactly in a browser (docs/contract.md)."""

MAX_ATTEMPTS = 100
"""How often a task may fail while others succeed, by default."""

HANDLE_ATTEMPTS = 4
"""How often a retry_id that the upstream doesn't know is asked for again before the photo is uploaded anew."""

MAX_REUPLOADS = 5
"""How often a photo is uploaded anew because its retry_id had expired."""

HANDLE_PAUSE = 1.0
"""The least base of the pauses after an unknown retry_id, in seconds: a young one may not be known everywhere yet."""

UNKNOWN_HANDLE = "unknown retry_id"
"""The ``last_error`` of a task whose retry_id the upstream doesn't know."""

GIVEN_UP = frozenset({"gave_up", "too_many_attempts", "handle_expired"})
"""The codes of failures that are no fault of photo or name: the same task may get a score later."""


class State(StrEnum):
    """Where a task stands: its photo is still to be uploaded, or polled for, or it is finished one way or the other."""

    UPLOAD = "upload"
    POLL = "poll"
    READY = "ready"
    FAILED = "failed"

    __hash__ = str.__hash__  # Enum's own is written in Python, and states are looked up all the time


@dataclass(frozen=True, slots=True)
class Photo:
    """What is known of a photo: SHA-256 digest, size in bytes, media type."""

    sha256: bytes
    size: int
    media_type: str


@dataclass(frozen=True, slots=True)
class Task:
    """One name with one photo of one user, on its way to a score.

    ``since`` (when this run of attempts began), ``due`` and ``failed_at`` (when the last request failed, None if it
    didn't) are seconds of task time, which counts only while merlind runs and isn't paused. ``received`` (when it was
    accepted, first or again; 0 if that is unknown) and ``finished_at`` are wall-clock time, in seconds since the epoch.

    ``kept_until`` is the service time until which the photo of a failed task is kept, so that it can be tried again;
    None if it isn't.

    Since the last good response, ``attempts`` counts the failed requests, ``blamed`` those of them that are the task's
    own fault (others succeeded meanwhile), ``unknown_handle`` the responses that didn't know the retry_id; and
    ``last_error`` says how the last one failed. Since the run began, ``uploads`` counts the requests that may have
    brought the photo to the upstream, and ``reuploads`` how many of them were needed because the retry_id had expired.
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
    failed_at: float | None = None
    blamed: int = 0
    unknown_handle: int = 0
    uploads: int = 0
    reuploads: int = 0
    received: float = 0.0
    kept_until: float | None = None

    @property
    def finished(self) -> bool:
        """Whether it has a result or has failed for good."""
        return self.finished_at is not None

    @property
    def has_photo(self) -> bool:
        """Whether its photo is kept."""
        return self.finished_at is None or self.kept_until is not None

    @property
    def retryable(self) -> bool:
        """Whether it can start anew without being sent again: it failed, and its photo is kept."""
        return self.state is State.FAILED and self.kept_until is not None

    @property
    def suspect(self) -> bool:
        """Whether it keeps failing while others succeed."""
        return self.blamed > 0


@dataclass(frozen=True, slots=True)
class Policy:
    """How patient merlind is with a task.

    ``poll_interval`` and ``give_up_after`` are in seconds. ``jitter`` returns a random number from 0 to 1.
    ``max_attempts`` is how often a task may fail while others succeed. ``keep_failed`` is how long the photo of a task
    that was given up is kept, in seconds of service time.
    """

    poll_interval: float
    give_up_after: float
    jitter: Callable[[], float]
    max_attempts: int = MAX_ATTEMPTS
    keep_failed: float = 0.0

    def deadline(self, task: Task) -> float:
        """The task time at which an unfinished task fails, in seconds."""
        return task.since + self.give_up_after


def advance(
    task: Task, outcome: Outcome, now: float, wall: float, policy: Policy, last_success: float = -math.inf
) -> Task:
    """Return the task after a request to the upstream that ended at ``now`` (task time) and ``wall`` (epoch).

    ``last_success`` is when a request of the same kind last succeeded, whichever task's it was (task time).
    """
    if task.state is State.UPLOAD and not (isinstance(outcome, TransientError) and not outcome.sent):
        task = replace(task, uploads=task.uploads + 1)
    match outcome:
        case Scored(result):
            return replace(task, state=State.READY, result=result, retry_id=None, last_error=None, finished_at=wall)
        case Rejected(error):
            return fail(task, error, wall)
        case Pending(retry_id, retry_after):
            due = min(now + max(policy.poll_interval, retry_after), policy.deadline(task))
            return replace(task, **_CALM, state=State.POLL, retry_id=retry_id or task.retry_id, due=due)
        case HandleExpired():
            return _handle_unknown(task, now, wall, policy)
        case TransientError(reason, retry_after):
            pause = backoff(task.attempts, max(policy.poll_interval, 0.1), policy.jitter())
            due = now + max(pause, retry_after)
            blamed = task.blamed + _is_blamed(task, outcome, last_success)
            due = min(due, policy.deadline(task))
            after = replace(task, attempts=task.attempts + 1, blamed=blamed, failed_at=now, last_error=reason, due=due)
            if blamed > task.blamed and blamed >= policy.max_attempts:
                return fail(after, _too_many_attempts(blamed, outcome), wall)
            return after


_CALM: dict[str, Any] = {"attempts": 0, "blamed": 0, "unknown_handle": 0, "failed_at": None, "last_error": None}
"""What is left of a task's failures after a good response."""


def _is_blamed(task: Task, error: TransientError, last_success: float) -> bool:
    """Whether a failure is the task's own: it failed twice in a row, and another task succeeded between the two.

    In an outage nobody succeeds, and nobody is blamed. Nor is a task whose request never went out.
    """
    return error.sent and task.failed_at is not None and last_success > task.failed_at


def _too_many_attempts(failures: int, last: TransientError) -> TaskError:
    detail = f"failed {failures} times while others succeeded; last: {last.reason}"
    return TaskError("too_many_attempts", detail, last.source)


def _handle_unknown(task: Task, now: float, wall: float, policy: Policy) -> Task:
    """Return the task after a response that didn't know its retry_id: ask again, upload anew, or give it up."""
    base, jitter = max(policy.poll_interval, HANDLE_PAUSE), policy.jitter()
    task = replace(task, attempts=task.attempts + 1, last_error=UNKNOWN_HANDLE)
    if task.unknown_handle < HANDLE_ATTEMPTS:
        due = now + growing_pause(task.unknown_handle, base, jitter)
        after = replace(task, unknown_handle=task.unknown_handle + 1)
    elif task.reuploads < MAX_REUPLOADS:
        due = now + growing_pause(task.reuploads + 1, base, jitter)
        after = replace(task, state=State.UPLOAD, retry_id=None, unknown_handle=0, reuploads=task.reuploads + 1)
    else:
        detail = f"the upstream forgot it {MAX_REUPLOADS + 1} times: it took the photo, then didn't know the retry_id"
        return fail(task, TaskError("handle_expired", detail), wall)
    return replace(after, due=min(due, policy.deadline(task)))


class Repeat(StrEnum):
    """Why a photo was sent to the upstream again."""

    HANDLE_EXPIRED = "handle_expired"
    TRANSIENT_ERROR = "transient_error"
    RESTART = "restart"


def repeat_of(before: Task, after: Task, started: float) -> Repeat | None:
    """Return why the request between two states of a task sent a photo again; None if it didn't.

    ``started`` is when this run of merlind began (task time): whether an earlier one sent the photo is unknown, and
    counts as if it had.
    """
    if after.uploads == before.uploads:
        return None
    if before.uploads == 0:
        return Repeat.RESTART if before.since < started else None
    return Repeat.HANDLE_EXPIRED if before.last_error == UNKNOWN_HANDLE else Repeat.TRANSIENT_ERROR


def miss_deadline(task: Task, wall: float, misconfigured: str | None = None) -> Task:
    """Return the task failed because it got no score in time, with the reason.

    ``misconfigured`` is what the upstream says that points at our own settings, None if it doesn't.
    """
    waiting = "still waiting for a score" if task.state is State.POLL else "never reached the upstream"
    source = source_of(task.last_error) if misconfigured is None else Source.MERLIND
    why = misconfigured or task.last_error or waiting
    return fail(task, TaskError("gave_up", f"no score in time; last: {why}", source), wall)


def fail(task: Task, error: TaskError, wall: float) -> Task:
    """Return the task, failed for good."""
    return replace(task, state=State.FAILED, error=error, retry_id=None, last_error=None, finished_at=wall)


def keep_photo(task: Task, now: float, seconds: float) -> Task:
    """Return a task that finishes at ``now`` (service time), with its photo kept for ``seconds`` if it was given up.

    What the upstream rejected, it would reject again.
    """
    given_up = task.error is not None and task.error.code in GIVEN_UP
    return replace(task, kept_until=now + seconds) if given_up and seconds > 0 else task


def restart(task: Task, now: float, wall: float) -> Task:
    """Return a failed task as it starts anew at ``now`` (task time) and ``wall`` (epoch)."""
    return replace(
        task, **_CALM, state=State.UPLOAD, since=now, due=now, received=wall, uploads=0, reuploads=0, error=None,
        finished_at=None, kept_until=None,
    )  # fmt: skip

"""What one request to the upstream came to: the values that decide what a task becomes."""

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class TaskError:
    """Why a task failed: a stable ``code``, and a sentence for its owner."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Scored:
    """The upstream has the score."""

    result: float


@dataclass(frozen=True, slots=True)
class Pending:
    """The upstream is still working: ask again with ``retry_id`` (None keeps the one we have).

    ``retry_after`` is how long it asked us to wait, in seconds.
    """

    retry_id: str | None
    retry_after: float = 0.0


@dataclass(frozen=True, slots=True)
class Rejected:
    """The upstream refuses this one task."""

    error: TaskError


@dataclass(frozen=True, slots=True)
class HandleExpired:
    """The upstream no longer knows the retry_id."""


class Fault(StrEnum):
    """What a transient error points at: the one response, an upstream that is away or overloaded, or our settings."""

    RESPONSE = "response"
    UNAVAILABLE = "unavailable"
    MISCONFIGURED = "misconfigured"


@dataclass(frozen=True, slots=True)
class TransientError:
    """The request failed in a way that may pass; ``reason`` names it for logs and metrics.

    ``retry_after`` is how long the upstream asked us to wait, in seconds.
    """

    reason: str
    retry_after: float = 0.0
    fault: Fault = Fault.RESPONSE


Outcome = Scored | Pending | Rejected | HandleExpired | TransientError

"""What one request to the upstream came to: the values that decide what a task becomes."""

from dataclasses import dataclass
from enum import StrEnum


class Source(StrEnum):
    """Whose fault it is that a task failed."""

    UPSTREAM = "upstream"
    MERLIND = "merlind"


@dataclass(frozen=True, slots=True)
class TaskError:
    """Why a task failed: a stable ``code``, a sentence for its owner, and whose fault it is."""

    code: str
    detail: str
    source: Source = Source.UPSTREAM


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
    """The upstream doesn't know the retry_id: not yet, or no longer."""


class Fault(StrEnum):
    """What a transient error points at: the one response, an upstream that is away or overloaded, or our settings."""

    RESPONSE = "response"
    UNAVAILABLE = "unavailable"
    MISCONFIGURED = "misconfigured"


TOO_FEW_FILES = "too few open files"
"""The reason of a request that wasn't made because merlind may open no more files."""

UNEXPECTED = "unexpected error"
"""The reason of a request that a bug in merlind ended."""

_OURS = frozenset({TOO_FEW_FILES, UNEXPECTED})


def source_of(reason: str | None) -> Source:
    """Return whose fault a transient error is by its reason alone; one of our settings can't be told by it."""
    return Source.MERLIND if reason in _OURS else Source.UPSTREAM


@dataclass(frozen=True, slots=True)
class TransientError:
    """The request failed in a way that may pass; ``reason`` names it for logs and metrics.

    ``retry_after`` is how long the upstream asked us to wait, in seconds. ``sent`` says whether the upstream may have
    got the request, or a part of it.
    """

    reason: str
    retry_after: float = 0.0
    fault: Fault = Fault.RESPONSE
    sent: bool = True

    @property
    def source(self) -> Source:
        """Whose fault it is."""
        return Source.MERLIND if self.fault is Fault.MISCONFIGURED else source_of(self.reason)


Outcome = Scored | Pending | Rejected | HandleExpired | TransientError

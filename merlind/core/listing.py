"""Which tasks an operator asks for, and in what order they are listed. Pure."""

import re
from dataclasses import dataclass

from merlind.core.task import MAX_TASK_ID, State, Task

_POSITION = re.compile(r"([0-9][0-9.e+-]{0,30})_([0-9]{1,16})")


@dataclass(frozen=True, slots=True)
class TaskFilter:
    """Tasks of a ``state``, with an error's ``code``, received at or after ``since`` (seconds since the epoch).

    None is any. ``retryable`` are only those that can be retried (Task.retryable).
    """

    state: State | None = None
    code: str | None = None
    since: float | None = None
    retryable: bool = False

    @property
    def only_state(self) -> State | None:
        """The one state that a matching task can have, None if there are several: only failed ones have an error."""
        return State.FAILED if self.state is None and (self.retryable or self.code is not None) else self.state

    @property
    def matches_nothing(self) -> bool:
        """Whether it asks for what no task can be."""
        return self.state not in (None, State.FAILED) and (self.retryable or self.code is not None)


@dataclass(frozen=True, slots=True)
class Failures:
    """How many failed tasks have an error's ``code``, and how many of these can be retried."""

    code: str
    count: int
    retryable: int


@dataclass(frozen=True, slots=True)
class Position:
    """A position in the list of all tasks: the newest come first, by when they were received, and by number."""

    received: float
    task_id: int

    def __str__(self) -> str:
        return f"{self.received!r}_{self.task_id}"


NEWEST = Position(float("inf"), MAX_TASK_ID)
"""The position before all tasks."""


def position_of(task: Task) -> Position:
    """Return the position of a task."""
    return Position(task.received, task.id)


def read_position(text: str) -> Position:
    """Return the position that a text names. Raises ValueError."""
    found = _POSITION.fullmatch(text)
    if found is None:
        raise ValueError("this is no position")
    return Position(float(found[1]), int(found[2]))

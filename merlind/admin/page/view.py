"""What an address of the page asks to see: which tasks, from where on, and what was done just before. Pure.

All addresses are a query alone, so that they are right below any path that a proxy serves the page at.
"""

from dataclasses import dataclass, replace
from urllib.parse import urlencode

from merlind.admin.parameters import Parameters, code, position, take, whole_number, word
from merlind.admin.tasks import A_CODE
from merlind.core.listing import NEWEST, Failures, Position, TaskFilter
from merlind.core.task import State

MAX_AGE = 3660 * 86400
"""The greatest age in seconds that can be asked for."""

FILTER = ("state", "code", "age", "retryable", "cursor")
"""The parameters that choose tasks."""

PARAMETERS = (*FILTER, "refresh", "did", "count", "complete")
"""All parameters of the page."""


@dataclass(frozen=True, slots=True)
class Done:
    """What a form did: ``paused``, ``resumed`` or ``retried``; how many tasks, and whether these were all."""

    did: str
    count: int = 0
    complete: bool = True


@dataclass(frozen=True, slots=True)
class View:
    """Tasks of a ``state``, with an error's ``code``, of an ``age`` of up to so many seconds, from a cursor on.

    None is any. ``retryable`` are only those that can be retried.
    """

    state: State | None = None
    code: str | None = None
    age: int | None = None
    retryable: bool = False
    cursor: Position | None = None

    @property
    def filtered(self) -> bool:
        """Whether it leaves any task out."""
        return self.first_page != View()

    @property
    def first_page(self) -> "View":
        """The same from the newest task on."""
        return replace(self, cursor=None)

    @property
    def after(self) -> Position:
        """The position behind which its tasks come."""
        return self.cursor or NEWEST

    def since(self, wall: float) -> float:
        """Return the earliest time (epoch) at which its tasks were received, 0 for any, at ``wall``."""
        return 0.0 if self.age is None else max(0.0, wall - self.age)

    def wanted(self, wall: float) -> TaskFilter:
        """Return the filter for its tasks at ``wall`` (epoch)."""
        since = None if self.age is None else self.since(wall)
        return TaskFilter(self.state, self.code, since, self.retryable)

    @property
    def failed_only(self) -> bool:
        """Whether all its tasks are failed ones."""
        return TaskFilter(self.state, self.code, None, self.retryable).only_state is State.FAILED

    def retryable_of(self, failures: list[Failures]) -> int:
        """Return how many of its tasks can be retried, if ``failures`` are those of its age."""
        return sum(each.retryable for each in failures if self.code in (None, each.code)) if self.failed_only else 0

    def fields(self) -> list[tuple[str, str]]:
        """Return the parameters that ask for this, by name."""
        found = {
            "state": self.state,
            "code": self.code,
            "age": self.age,
            "retryable": "true" if self.retryable else None,
            "cursor": None if self.cursor is None else str(self.cursor),
        }
        return [(name, str(value)) for name, value in found.items() if value is not None]

    def link(self, done: Done | None = None) -> str:
        """Return the address that shows this, and what was ``done``."""
        fields = self.fields()
        if done is not None:
            fields.append(("did", done.did))
            if done.did == "retried":
                fields += [("count", str(done.count)), ("complete", "true" if done.complete else "false")]
        return "?" + urlencode(fields) if fields else "./"


def read_view(found: Parameters) -> View:
    """Return what the parameters ask for. Raises HTTPError, 400."""
    state = take(found, "state", word(*State), f"one of {', '.join(State)}")
    return View(
        None if state is None else State(state),
        take(found, "code", code, A_CODE),
        take(found, "age", whole_number(1, MAX_AGE), f"a whole number of seconds from 1 to {MAX_AGE}"),
        take(found, "retryable", word("true", "false"), "true or false") == "true",
        take(found, "cursor", position, "the cursor of an earlier page"),
    )


def read_done(found: Parameters) -> Done | None:
    """Return what a form did, as the address tells that it led to. Raises HTTPError, 400."""
    did = take(found, "did", word("paused", "resumed", "retried"), "paused, resumed or retried")
    count = take(found, "count", whole_number(0, 10**12), "a number of tasks") or 0
    complete = take(found, "complete", word("true", "false"), "true or false") != "false"
    return None if did is None else Done(did, count, complete)

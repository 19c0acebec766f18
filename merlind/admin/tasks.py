"""The admin listener's list of tasks: what becomes of each, and neither names nor photos."""

from dataclasses import dataclass
from typing import Any

from klein import Klein

from merlind.admin.errors import NO_SUCH_PATH, not_allowed, refuse
from merlind.admin.parameters import code, number, position, read_query, take, whole_number, word
from merlind.core.interfaces import Moment, TaskStore, TaskTime
from merlind.core.listing import NEWEST, Position, TaskFilter, position_of
from merlind.core.task import State, Task
from merlind.tasks.queue import TaskQueue
from merlind.web.response import Response, json_response
from merlind.web.router import Router
from merlind.web.server.interfaces import HandledRequest

DEFAULT_LIMIT = 100
"""How many tasks a page has if nobody says."""

MAX_LIMIT = 500
"""The most tasks of a page: to look them up and write them takes some milliseconds."""

A_CODE = "an error's code, such as gave_up"
A_TIME = "a time in seconds since the epoch"


@dataclass(frozen=True, slots=True)
class TaskPage:
    """Some tasks, each as docs/contract.md describes it, and the cursor to the next page, None if this is the last."""

    tasks: list[dict[str, Any]]
    cursor: str | None


class TaskList:
    """Looks tasks up: what the store has, and of unfinished ones what memory knows."""

    def __init__(self, clock: TaskTime, store: TaskStore, queue: TaskQueue) -> None:
        self._clock = clock
        self._store = store
        self._queue = queue

    async def page(self, wanted: TaskFilter, after: Position, limit: int) -> TaskPage:
        """Return the next tasks that match, the newest first. Raises StoreUnavailable or StoreBroken."""
        page = await self._store.list_tasks(wanted, after, limit)
        moment = self._clock.moment()
        tasks = [_describe(self._latest(task), moment) for task in page]
        return TaskPage(tasks, str(position_of(page[-1])) if len(page) == limit else None)

    def _latest(self, task: Task) -> Task:
        """Return a task as memory has it: not every attempt is stored."""
        known = self._queue.get(task.id)
        return task if known is None or task.finished or known.finished else known


class TaskRoutes:
    """``GET /tasks``: docs/contract.md, "Admin side"."""

    app = Klein()

    def __init__(self, tasks: TaskList) -> None:
        self._tasks = tasks
        self.respond = Router(self.app, refuse, not_allowed(b"GET, HEAD"), NO_SUCH_PATH)
        """Returns the response to a request, or what fires with it."""

    @app.route("/tasks", methods=["GET"])  # type: ignore[type-var]
    async def list(self, request: HandledRequest) -> Response:
        """List a page of tasks, the newest first, with a cursor to the next one."""
        found = read_query(request, ["state", "code", "since", "retryable", "limit", "cursor"])
        state = take(found, "state", word(*State), f"one of {', '.join(State)}")
        wanted = TaskFilter(
            None if state is None else State(state),
            take(found, "code", code, A_CODE),
            take(found, "since", number(0.0, 1e11), A_TIME),
            take(found, "retryable", word("true", "false"), "true or false") == "true",
        )
        limit = take(found, "limit", whole_number(1, MAX_LIMIT), f"a number from 1 to {MAX_LIMIT}") or DEFAULT_LIMIT
        after = take(found, "cursor", position, "the cursor of an earlier response") or NEWEST
        page = await self._tasks.page(wanted, after, limit)
        return json_response(200, {"tasks": page.tasks, "cursor": page.cursor})


def _describe(task: Task, now: Moment) -> dict[str, Any]:
    """Return what operators are told of a task. Seconds are from now on, or until now."""
    error = task.error
    return {
        "task": task.id,
        "received": task.received or None,
        "age": round(max(0.0, now.wall - task.received), 3) if task.received else None,
        "state": task.state,
        "attempts": task.attempts,
        "last_error": task.last_error,
        "next_attempt": None if task.finished else round(max(0.0, task.due - now.tasks), 3),
        "error": None if error is None else {"code": error.code, "detail": error.detail, "source": error.source},
        "size": task.photo.size,
        "type": task.photo.media_type,
        "photo_kept_for": None if task.kept_until is None else round(max(0.0, task.kept_until - now.service), 3),
    }

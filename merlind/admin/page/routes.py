"""The admin listener's ``/``: the page for operators, the same state as JSON for programs, and what its forms do."""

from klein import Klein

from merlind.admin.errors import NO_SUCH_PATH, not_allowed, refuse
from merlind.admin.overview import Overview
from merlind.admin.page.document import admin_page
from merlind.admin.page.tasks import MAX_COUNTED, PAGE
from merlind.admin.page.view import FILTER, PARAMETERS, Done, View, read_done, read_view
from merlind.admin.parameters import Parameters, number, read_body, read_query, take, task_ids, word
from merlind.admin.pause import MAX_SECONDS
from merlind.admin.tasks import A_TIME, TaskList
from merlind.core.interfaces import TaskStore
from merlind.core.listing import TaskFilter
from merlind.core.task import State
from merlind.tasks.history import History
from merlind.tasks.pauser import Pauser
from merlind.tasks.retrier import Retrier
from merlind.web.accept import prefers_html
from merlind.web.response import HTTPError, Response, json_response, problem
from merlind.web.router import Router
from merlind.web.server.interfaces import HandledRequest


class PageRoutes:
    """``GET /`` and ``POST /``: docs/contract.md, "Admin side"."""

    app = Klein()

    def __init__(
        self,
        overview: Overview,
        history: History,
        tasks: TaskList,
        store: TaskStore,
        pauser: Pauser,
        retrier: Retrier,
    ) -> None:
        self._overview = overview
        self._history = history
        self._tasks = tasks
        self._store = store
        self._pauser = pauser
        self._retrier = retrier
        self.respond = Router(self.app, refuse, not_allowed(b"GET, HEAD, POST"), NO_SUCH_PATH)
        """Returns the response to a request, or what fires with it."""

    @app.route("/", methods=["GET"])  # type: ignore[type-var]
    async def show(self, request: HandledRequest) -> Response:
        """Show how merlind stands: to a browser as a page, with tasks and the last hour."""
        found = read_query(request, PARAMETERS)
        view, done = read_view(found), read_done(found)
        take(found, "refresh", word("off"), "off")
        snapshot = await self._overview.look()
        if not prefers_html(request.head):
            return json_response(200, snapshot.as_json(), (b"Vary", b"Accept"))
        page = await self._tasks.page(view.wanted(snapshot.wall), view.after, PAGE)
        failures = await self._store.count_failures(view.since(snapshot.wall), MAX_COUNTED)
        # What somebody has chosen, or is reading, must not change under their hands.
        return admin_page(view, snapshot, self._history.minutes(), page, failures, done, refreshes=not found)

    @app.route("/", methods=["POST"])  # type: ignore[type-var]
    async def act(self, request: HandledRequest) -> Response:
        """Do what a form of the page asks for, when that is durable lead back to the page, which says what was done."""
        found = read_body(request, ["do", "seconds", "task", "since", *FILTER])
        do = take(found, "do", word("pause", "resume", "retry"), "pause, resume or retry")
        view = read_view(found)
        match do:
            case "pause":
                what = f"a number from 1 to {MAX_SECONDS:.0f}"
                await self._pauser.pause(take(found, "seconds", number(1.0, MAX_SECONDS), what))
                done = Done("paused")
            case "resume":
                await self._pauser.resume()
                done = Done("resumed")
            case "retry":
                done = await self._retry(found, view)
            case _:
                raise HTTPError(problem(400, "bad_parameter", "say what to do: pause, resume or retry"))
        return Response(303, b"", b"text/html; charset=utf-8", ((b"Location", view.link(done).encode("ascii")),))

    async def _retry(self, found: Parameters, view: View) -> Done:
        """Retry one task, or all failed ones of the view that were received since it was shown to begin."""
        ids = take(found, "task", task_ids, "a task's number")
        if ids is not None:
            retried = await self._retrier.retry(ids)
        elif view.failed_only:
            since = take(found, "since", number(0.0, 1e11), A_TIME)
            retried = await self._retrier.retry_matching(TaskFilter(State.FAILED, view.code, since))
        else:
            raise HTTPError(problem(400, "bad_parameter", "say which: a task, or state=failed for all of a view"))
        return Done("retried", retried.count, retried.complete)

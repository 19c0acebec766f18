"""The routes of the one entry point, ``/``, as docs/contract.md, "Public side", has them."""

import re
from collections.abc import Callable
from typing import Any, TypeVar

from klein import Klein
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from merlind.core.interfaces import Submission
from merlind.core.task import Task
from merlind.daemon.metrics import Metrics
from merlind.tasks.eraser import Eraser
from merlind.tasks.intake import Intake
from merlind.tasks.refusals import ClientOverLimit
from merlind.tasks.results import Results, Status
from merlind.web.accept import language_in_query, prefers_html
from merlind.web.description import description_for
from merlind.web.entry import no_storage
from merlind.web.erase_form import EraseForm
from merlind.web.mistakes import METHOD_NOT_ALLOWED, NO_SUCH_PATH
from merlind.web.page.links import link
from merlind.web.page.texts import LANGUAGES
from merlind.web.query import task_id_in
from merlind.web.refusals import over_limit
from merlind.web.response import ALLOW, HTTPError, Response, json_response
from merlind.web.router import Router
from merlind.web.server.head import Head
from merlind.web.server.interfaces import HandledRequest
from merlind.web.status import NOT_FOUND, StatusResponses
from merlind.web.upload import PhotoForm

T = TypeVar("T")

MAX_WAIT = 60
"""The longest long poll, in seconds."""

_OPTIONS = Response(204, headers=((b"Allow", ALLOW),))
# RFC 7240, section 2, as far as it concerns the one preference that we know.
_WAIT = re.compile(rb'\s*wait\s*=\s*"?([0-9]{1,9})"?\s*(?:;.*)?', re.IGNORECASE)


class Routes:
    """What each method does, for the requests that the entry point leaves to the router."""

    app = Klein()

    def __init__(
        self,
        reactor: IReactorTime,
        intake: Intake,
        results: Results,
        eraser: Eraser,
        metrics: Metrics,
        status: StatusResponses,
        form_page: Callable[[Head], Response],
    ) -> None:
        self._reactor = reactor
        self._intake = intake
        self._results = results
        self._eraser = eraser
        self._metrics = metrics
        self._status = status
        self._form_page = form_page
        self.respond = Router(self.app, _refuse, METHOD_NOT_ALLOWED, NO_SUCH_PATH)
        """Returns the response to a request, or what fires with it."""

    @app.route("/", methods=["POST"])  # type: ignore[type-var]
    async def submit(self, request: HandledRequest) -> Response:
        """Accept a name and a photo: respond when the task is durable, or finished if the client waits for that."""
        form = request.receiver
        if isinstance(form, EraseForm):
            return await self._erase_by_form(request, form.finish())
        assert isinstance(form, PhotoForm), "the entry point opens one of the two for each POST here"
        name, photo, media_type = form.finish()
        request.receiver = None
        began = self._reactor.seconds()
        submission = Submission(request.user, name, photo, media_type)
        task = await self._intake.submit(submission, request.client)
        self._metrics.accept_seconds.observe(self._reactor.seconds() - began)
        status: Status | None = Status(task.user, task.result, task.error)
        wait = _preferred_wait(request)
        if wait and not task.finished:
            try:
                status = await self._wait_until_finished(request, task.id, wait)
            except ClientOverLimit:
                wait = None  # RFC 7240, section 2: a preference may be ignored, and the task is accepted
        return _with_wait(self._received(task, status), wait)

    async def _erase_by_form(self, request: HandledRequest, task_id: int) -> Response:
        """Erase a task, and lead the browser back to its page, which says that it is gone."""
        found = await self._eraser.erase(request.user, task_id)
        location = link(language_in_query(request.head, LANGUAGES), task_id, erased=found).encode("ascii")
        return Response(303, b"", b"text/html; charset=utf-8", ((b"Location", location),))

    def _received(self, task: Task, status: Status | None) -> Response:
        # Relative (RFC 9110, section 10.2.2), so that it is right below any path that a proxy serves merlind at.
        link = b"?task_id=%d" % task.id
        if status is not None and status.result is not None:
            ready = {"status": "ready", "task": task.id, "result": status.result}
            return json_response(200, ready, (b"Content-Location", link), task=task.id)
        body = b'{"status":"received","task":%d,"result":null}' % task.id
        return Response(202, body, headers=((b"Location", link), self._status.again), task=task.id)

    @app.route("/", methods=["GET", "HEAD"])  # type: ignore[type-var]
    async def show(self, request: HandledRequest) -> Response:
        """Show how a task stands, once it is finished if the client waits for that; or the page for people."""
        if (described := description_for(request.head)) is not None:
            return described
        if b"task_id" not in request.head.query and prefers_html(request.head):
            return self._form_page(request.head)
        task_id = task_id_in(request.head.query)
        status = await self._status.find(request.user, task_id)
        wait = _preferred_wait(request)
        if wait and status is not None and not status.finished:
            status = await self._wait_until_finished(request, task_id, wait)
        return _with_wait(self._status.respond(status), wait)

    @app.route("/", methods=["DELETE"])  # type: ignore[type-var]
    async def erase(self, request: HandledRequest) -> Response:
        """Cancel a task, and erase its photo, name and result."""
        found = await self._eraser.erase(request.user, task_id_in(request.head.query))
        return Response(204) if found else NOT_FOUND

    @app.route("/", methods=["OPTIONS"])  # type: ignore[type-var]
    def options(self, request: HandledRequest) -> Response:
        """List the methods (RFC 9110, section 9.3.7)."""
        return _OPTIONS

    async def _wait_until_finished(self, request: HandledRequest, task_id: int, seconds: int) -> Status | None:
        """Return a task's status when it is finished or erased, when client or merlind goes, or after ``seconds``.

        Raises ClientOverLimit.
        """
        waiter = self._results.wait(task_id, request.client)
        request.when_gone(waiter.cancel)
        await waiter.addTimeout(seconds, self._reactor, onTimeoutCancel=_stop_waiting).addErrback(_stop_waiting)
        return await self._status.find(request.user, task_id)


def _stop_waiting(failure: Any, timeout: float = 0) -> None:
    """Go on: the time is up, or the client has gone."""


def _refuse(failure: Failure) -> Any:
    """Return the response to a request that a handler refused, or that the disk made fail; or any other failure."""
    match failure.value:
        case HTTPError() as error:
            return error.response
        case ClientOverLimit() as error:
            return over_limit(error)
        case _:
            return no_storage(failure)


def _preferred_wait(request: HandledRequest) -> int | None:
    """Return how long the client wants to wait, in seconds, at most MAX_WAIT (RFC 7240, section 4.3); or None."""
    for preference in request.head.tokens(b"prefer"):
        if found := _WAIT.fullmatch(preference):
            return min(int(found[1]), MAX_WAIT)
    return None


def _with_wait(response: Response, wait: int | None) -> Response:
    """Add the header that says which wait was applied (RFC 7240, section 3)."""
    return response if wait is None else response.with_header(b"Preference-Applied", b"wait=%d" % wait)

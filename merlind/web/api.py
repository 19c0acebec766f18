"""The routes of the one entry point, ``/``, as docs/contract.md, "Public side", has them."""

import re
from importlib.resources import files
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from klein import Klein
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from werkzeug.exceptions import MethodNotAllowed, NotFound
from werkzeug.http import parse_accept_header

from merlind.core.interfaces import StoreBroken, StoreUnavailable, Submission
from merlind.core.task import Task
from merlind.daemon.metrics import Metrics
from merlind.tasks.eraser import Eraser
from merlind.tasks.intake import Intake
from merlind.tasks.results import Results, Status
from merlind.web.entry import no_storage
from merlind.web.response import ALLOW, NOT_ALLOWED, HTTPError, Response, json_response, problem
from merlind.web.server.request import EdgeRequest
from merlind.web.status import ANONYMOUS, NOT_FOUND, StatusResponses
from merlind.web.upload import PhotoForm

T = TypeVar("T")

MAX_WAIT = 60
"""The longest long poll, in seconds."""

PAGE = Response(
    200,
    files("merlind.web").joinpath("page/index.html").read_bytes(),
    b"text/html; charset=utf-8",
    (
        (b"Content-Security-Policy", b"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
         b"connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"),
        (b"Referrer-Policy", b"no-referrer"),
        (b"Vary", b"Accept"),
    ),
)  # fmt: skip
"""The page for people."""

_OPTIONS = Response(204, headers=((b"Allow", ALLOW),))
_TASK_ID = re.compile(r"[0-9]{1,16}", re.ASCII)
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
    ) -> None:
        self._reactor = reactor
        self._intake = intake
        self._results = results
        self._eraser = eraser
        self._metrics = metrics
        self._status = status

    @app.route("/", methods=["POST"])
    async def submit(self, request: EdgeRequest) -> None:
        """Accept a name and a photo: respond when the task is durable, or finished if the client waits for that."""
        form = request.receiver
        if not isinstance(form, PhotoForm):
            # Klein takes other spellings, such as //, for / too; the entry point opened no form for them.
            raise NotFound
        name, photo, media_type = form.finish()
        request.receiver = None
        began = self._reactor.seconds()
        # Klein cancels this coroutine when the client goes away, but the commit must not be cancelled.
        task = await _shielded(ensureDeferred(self._intake.submit(Submission(ANONYMOUS, name, photo, media_type))))
        self._metrics.accept_seconds.observe(self._reactor.seconds() - began)
        status: Status | None = Status(task.user, task.result, task.error)
        wait = _preferred_wait(request)
        if wait is not None and not task.finished:
            status = await self._wait_until_finished(task.id, wait)
        request.send(_with_wait(self._received(task, status), wait))

    def _received(self, task: Task, status: Status | None) -> Response:
        link = b"/?task_id=%d" % task.id
        if status is not None and status.result is not None:
            body = {"status": "ready", "task": task.id, "result": status.result}
            return json_response(200, body, (b"Content-Location", link))
        body = {"status": "received", "task": task.id, "result": None}
        return json_response(202, body, (b"Location", link), self._status.again)

    @app.route("/", methods=["GET", "HEAD"])
    async def show(self, request: EdgeRequest) -> None:
        """Show how a task stands, once it is finished if the client waits for that; or the page for people."""
        if _wants_page(request):
            request.send(PAGE)
            return
        task_id = _task_id(request.query)
        status = await _shielded(self._status.find(ANONYMOUS, task_id))
        wait = _preferred_wait(request)
        if wait is not None and status is not None and not status.finished:
            status = await self._wait_until_finished(task_id, wait)
        request.send(_with_wait(self._status.respond(status), wait))

    @app.route("/", methods=["DELETE"])
    async def erase(self, request: EdgeRequest) -> None:
        """Cancel a task, and erase its photo, name and result."""
        found = await _shielded(ensureDeferred(self._eraser.erase(ANONYMOUS, _task_id(request.query))))
        request.send(Response(204) if found else NOT_FOUND)

    @app.route("/", methods=["OPTIONS"])
    def options(self, request: EdgeRequest) -> None:
        """List the methods (RFC 9110, section 9.3.7)."""
        request.send(_OPTIONS)

    async def _wait_until_finished(self, task_id: int, seconds: int) -> Status | None:
        """Return a task's status when it is finished or erased, when merlind stops, or after ``seconds``."""
        waiter = self._results.wait(task_id)
        await waiter.addTimeout(seconds, self._reactor, onTimeoutCancel=lambda result, timeout: None)
        return await _shielded(self._status.find(ANONYMOUS, task_id))

    @app.handle_errors(HTTPError)
    def refuse(self, request: Any, failure: Failure) -> None:
        """Respond to a request that a handler refused."""
        assert isinstance(failure.value, HTTPError), "Klein calls this for no other type"
        request.send(failure.value.response)

    @app.handle_errors(StoreUnavailable, StoreBroken, OSError)
    def no_storage(self, request: Any, failure: Failure) -> None:
        """Respond 503: the disk failed."""
        request.send(no_storage(failure))

    @app.handle_errors(NotFound)
    def no_such_path(self, request: Any, failure: Failure) -> None:
        """Respond 404: there is one entry point only."""
        request.send(problem(404, "not_found", "there is nothing here"))

    @app.handle_errors(MethodNotAllowed)
    def no_such_method(self, request: Any, failure: Failure) -> None:
        """Respond 405."""
        request.send(NOT_ALLOWED)


def _shielded(d: "Deferred[T]") -> "Deferred[T]":
    """Return a Deferred that fires as ``d`` does, and whose cancellation doesn't cancel ``d``."""
    shield: Deferred[T] = Deferred()

    def pass_on(result: "T | Failure") -> None:
        if not shield.called:
            shield.callback(result)

    d.addBoth(pass_on)
    return shield


def _task_id(query: bytes) -> int:
    """Return the task id in a query. Raises HTTPError, 400, unless there is exactly one, of 1 to 16 digits."""
    try:
        pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=32)
    except ValueError:
        pairs = []
    values = [value for name, value in pairs if name == "task_id"]
    if len(values) != 1 or not _TASK_ID.fullmatch(values[0]):
        raise HTTPError(problem(400, "bad_task_id", "ask with one task_id, a number of up to 16 digits"))
    return int(values[0])


def _preferred_wait(request: EdgeRequest) -> int | None:
    """Return how long the client wants to wait, in seconds, at most MAX_WAIT (RFC 7240, section 4.3); or None."""
    for line in request.requestHeaders.getRawHeaders(b"Prefer", []):
        for preference in line.split(b","):
            if found := _WAIT.fullmatch(preference):
                return min(int(found[1]), MAX_WAIT)
    return None


def _with_wait(response: Response, wait: int | None) -> Response:
    """Add the header that says which wait was applied (RFC 7240, section 3)."""
    return response if wait is None else response.with_header(b"Preference-Applied", b"wait=%d" % wait)


def _wants_page(request: EdgeRequest) -> bool:
    """Whether to send the page: the client asks for no task, and prefers text/html to JSON or likes both the same."""
    if b"task_id" in request.query:
        return False
    accept = parse_accept_header((request.getHeader(b"Accept") or b"").decode("latin-1"))
    # Wildcards don't count: curl sends */*. Highest quality comes first, and should win.
    quality = {media_type.partition(";")[0].lower(): q for media_type, q in reversed(accept)}
    html = quality.get("text/html", 0)
    return html > 0 and html >= quality.get("application/json", 0)

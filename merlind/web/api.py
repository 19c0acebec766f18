"""The router's side of the one entry point: what each request asks of the gateway, and how its answer reads.

(The wire contract.)
"""

import re
from importlib.resources import files
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from klein import Klein
from multipart import parse_options_header  # type: ignore[import-untyped]
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from werkzeug.exceptions import MethodNotAllowed, NotFound

from merlind.core.interfaces import StoreBroken, StoreUnavailable, Submission
from merlind.core.task import MAX_TASK_ID, Task
from merlind.daemon.metrics import Metrics
from merlind.tasks.gateway import ANONYMOUS, Gateway, Status
from merlind.web.response import ALLOW, NOT_ALLOWED, HTTPError, Response, json_response, problem
from merlind.web.server.site import EdgeRequest
from merlind.web.status import NOT_FOUND, StatusResponses
from merlind.web.upload import PhotoForm

T = TypeVar("T")

MAX_WAIT = 60
"""The longest that a client can have its answer held, in seconds."""

_OPTIONS = Response(204, headers=((b"Allow", ALLOW),))
_TASK_ID = re.compile(r"[0-9]{1,16}", re.ASCII)
_WAIT = re.compile(rb'\s*wait\s*=\s*"?([0-9]{1,9})"?\s*(?:;.*)?', re.IGNORECASE)
_QUALITY = re.compile(r"[01](?:\.[0-9]{0,3})?", re.ASCII)
_PAGE = files("merlind.web").joinpath("page/index.html").read_bytes()


class Routes:
    """The resource at ``/``, for what the entry point has not answered before."""

    app = Klein()

    def __init__(self, reactor: IReactorTime, gateway: Gateway, metrics: Metrics, status: StatusResponses) -> None:
        self._reactor = reactor
        self._gateway = gateway
        self._metrics = metrics
        self._status = status

    # The requests.

    @app.route("/", methods=["POST"])
    async def submit(self, request: EdgeRequest) -> None:
        """Take a photo and a name."""
        form = request.receiver
        if not isinstance(form, PhotoForm):
            # The router takes other spellings, such as //, for the entry point too; no form was opened for them.
            raise NotFound
        name, staged, media_type = form.finish()
        request.receiver = None
        began = self._reactor.seconds()
        # Shielded: Klein cancels us when the client goes away, and what is being committed must not be.
        task = await _shielded(self._gateway.submit(Submission(ANONYMOUS, name, staged, media_type)))
        self._metrics.accept_seconds.observe(self._reactor.seconds() - began)
        wait = _preferred_wait(request)
        status: Status | None = Status(task.user, task.result, task.error)
        if wait is not None and not task.finished:
            status = await self._hold(task.user, task.id, wait)
        request.send(_applied(self._received(task, status), wait))

    def _received(self, task: Task, status: Status | None) -> Response:
        link = b"/?task_id=%d" % task.id
        if status is not None and status.result is not None:
            body = {"status": "ready", "task": task.id, "result": status.result}
            return json_response(200, body, (b"Content-Location", link))
        body = {"status": "received", "task": task.id, "result": None}
        return json_response(202, body, (b"Location", link), self._status.again)

    @app.route("/", methods=["GET", "HEAD"])
    async def tell(self, request: EdgeRequest) -> None:
        """Tell how a task stands; or show the page for people."""
        if _wants_page(request):
            request.send(PAGE)
            return
        task_id = _task_id(request.query)
        wait = _preferred_wait(request)
        status = await _shielded(self._status.find(ANONYMOUS, task_id))
        if wait is not None and status is not None and not status.finished:
            status = await self._hold(ANONYMOUS, task_id, wait)
        request.send(_applied(self._status.answer(status), wait))

    @app.route("/", methods=["DELETE"])
    async def erase(self, request: EdgeRequest) -> None:
        """Cancel a task and erase all that is known of it."""
        found = await _shielded(self._gateway.erase(ANONYMOUS, _task_id(request.query)))
        request.send(Response(204) if found else NOT_FOUND)

    @app.route("/", methods=["OPTIONS"])
    def options(self, request: EdgeRequest) -> None:
        """Tell what may be asked (RFC 9110, 9.3.7)."""
        request.send(_OPTIONS)

    # Held answers.

    async def _hold(self, user: str, task_id: int, seconds: int) -> Status | None:
        """Wait until a task is over, but no longer than asked."""
        over: Deferred[None] = Deferred()

        def wake() -> None:
            if not over.called:
                over.callback(None)

        self._gateway.watch(task_id, wake)
        if self._gateway.draining:
            wake()  # those who waited have been let go already
        timer = self._reactor.callLater(seconds, wake)
        try:
            await over
        finally:
            self._gateway.unwatch(task_id, wake)
            if timer.active():
                timer.cancel()
        return await _shielded(self._status.find(user, task_id))

    # What goes wrong.

    @app.handle_errors(HTTPError)
    def refused(self, request: Any, failure: Failure) -> None:
        """What the request's own part found wrong with it."""
        assert isinstance(failure.value, HTTPError), "the handler's own type"
        request.send(failure.value.answer)

    @app.handle_errors(StoreUnavailable, StoreBroken, OSError)
    def no_storage(self, request: Any, failure: Failure) -> None:
        """The disk doesn't let us."""
        request.send(self._status.no_storage(failure))

    @app.handle_errors(NotFound)
    def no_such_path(self, request: Any, failure: Failure) -> None:
        """There is one entry point."""
        request.send(problem(404, "not_found", "there is nothing here"))

    @app.handle_errors(MethodNotAllowed)
    def no_such_method(self, request: Any, failure: Failure) -> None:
        """RFC 9110, 15.5.6: with what is allowed."""
        request.send(NOT_ALLOWED)


PAGE = Response(
    200,
    _PAGE,
    b"text/html; charset=utf-8",
    (
        (b"Content-Security-Policy", b"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
         b"connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"),
        (b"Referrer-Policy", b"no-referrer"),
        (b"Vary", b"Accept"),
    ),
)  # fmt: skip
"""The page for people."""


def _shielded(d: "Deferred[T]") -> "Deferred[T]":
    """A Deferred that fires as ``d`` does, and whose cancelling leaves ``d`` alone."""
    shield: Deferred[T] = Deferred()

    def pass_on(result: "T | Failure") -> None:
        if not shield.called:
            shield.callback(result)

    d.addBoth(pass_on)
    return shield


def _task_id(query: bytes) -> int:
    """The task number that a query asks for. Raises Refusal: 400 unless there is just one, of 1 to 16 digits."""
    try:
        pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=32)
    except ValueError:
        pairs = []
    values = [value for name, value in pairs if name == "task_id"]
    if len(values) != 1 or not _TASK_ID.fullmatch(values[0]):
        raise HTTPError(problem(400, "bad_task_id", "ask with one task_id, a number of up to 16 digits"))
    return min(int(values[0]), MAX_TASK_ID + 1)


def _preferred_wait(request: EdgeRequest) -> int | None:
    """How long the client prefers to wait, in seconds, as far as it may (RFC 7240, 4.3)."""
    for line in request.requestHeaders.getRawHeaders(b"Prefer", []):
        for preference in line.split(b","):
            if found := _WAIT.fullmatch(preference):
                return min(int(found[1]), MAX_WAIT)
    return None


def _applied(answer: Response, wait: int | None) -> Response:
    return answer if wait is None else answer.with_header(b"Preference-Applied", b"wait=%d" % wait)


def _wants_page(request: EdgeRequest) -> bool:
    """Whether a browser came to look: it asks for no task, and likes text/html no less than JSON."""
    if b"task_id" in request.query:
        return False
    liked = {"text/html": 0.0, "application/json": 0.0}
    for part in (request.getHeader(b"Accept") or b"").decode("latin-1").split(","):
        media_type, options = parse_options_header(part)
        if media_type in liked:
            quality = options.get("q", "1")
            liked[media_type] = float(quality) if _QUALITY.fullmatch(quality) else 0.0
    return liked["text/html"] > 0 and liked["text/html"] >= liked["application/json"]

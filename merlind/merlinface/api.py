"""The stand-in's HTTP side: one path, ``/api/``, that takes uploads and polls (docs/contract.md, "Upstream side").

A photo is hashed as it comes in and never kept.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from random import Random
from typing import cast
from uuid import UUID, uuid4

from klein import Klein
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime, ITCPTransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from twisted.web.server import Request, Site
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from merlind.merlinface.faults import Fault, draw_fault
from merlind.merlinface.form import MAX_PHOTO, FormError, PollForm, StandInForm
from merlind.merlinface.jobs import JobDone, Jobs
from merlind.merlinface.score import DISCLAIMER, score_of_digest

PATH = b"/api/"
"""The only path there is."""

MAX_DISCARDED = 4 * MAX_PHOTO
"""The longest body that is read, in bytes. What is too large is read and dropped, so that the client gets to see the
error; past this length the connection is reset."""

_log = Logger()


@dataclass(frozen=True, slots=True)
class StandInSettings:
    """How the stand-in behaves.

    A job is finished ``delay`` seconds after its upload, and not before ``waits`` responses said ``wait``, the upload's
    included. The share ``fault_rate`` of the requests (0 to 1) fails: see faults.py.
    """

    delay: float = 3.0
    waits: int = 1
    fault_rate: float = 0.0


def make_site(
    clock: IReactorTime, settings: StandInSettings, random: Random | None = None, new_id: Callable[[], UUID] = uuid4
) -> Site:
    """Build the stand-in, ready to listen: ``random`` draws the faults, ``new_id`` makes retry_ids."""
    jobs = Jobs(clock, settings.delay, settings.waits, new_id)
    stand_in = StandIn(jobs, settings.fault_rate, random or Random())
    return StandInSite(
        stand_in.app.resource(), requestFactory=StandInRequest, parsePOSTFormSubmission=False, reactor=clock
    )


class StandInSite(Site):
    """A site that says what it is when it starts, and logs no requests."""

    noisy = False

    def startFactory(self) -> None:
        _log.warn("this is not merlinface, but a {disclaimer}", disclaimer=DISCLAIMER)

    def stopFactory(self) -> None:
        """Do nothing: there is no log file to close."""


class StandInRequest(Request):
    """A request whose body goes into a form as it comes in; every response to it says that it is a stand-in's."""

    defaultContentType = b"application/json"

    def gotLength(self, length: int | None) -> None:
        # Twisted wants a file for the body, though nothing is written to it.
        self.content = BytesIO()
        self.form = StandInForm(self.requestHeaders.getRawHeaders(b"Content-Type", [b""])[-1])
        self._left = MAX_DISCARDED
        if length is not None and length > MAX_DISCARDED:
            self.abort()

    def handleContentChunk(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            self.abort()
        else:
            self.form.write(data)

    def abort(self) -> None:
        """Reset the connection: nothing more is sent or read."""
        cast(ITCPTransport, self.transport).abortConnection()

    def getRequestHostname(self) -> bytes:
        # Klein raises on a Host that is no host name. The stand-in takes any.
        return b"merlinface"

    def render(self, resrc: object) -> None:
        # Klein ignores doubled slashes, and responds to undecodable bytes in plain text. Make both an unknown path.
        if self.path != PATH:
            self.postpath = [b""]
        self.setHeader(b"Server", b"merlinface-stand-in")
        self.setHeader(b"X-Merlinface", DISCLAIMER.encode("ascii"))
        super().render(resrc)

    def processingFailed(self, reason: Failure) -> Failure:
        _log.failure("unexpected error in a request", failure=reason)
        self.setResponseCode(500)
        self.write(_error_body("internal error"))
        self.finish()
        return reason


class StandIn:
    """The resource ``/api/``; its requests are StandInRequests."""

    app = Klein()

    def __init__(self, jobs: Jobs, fault_rate: float, random: Random) -> None:
        self._jobs = jobs
        self._fault_rate = fault_rate
        self._random = random

    @app.route(PATH.decode("ascii"), methods=["POST"])
    def api(self, request: StandInRequest) -> bytes | Deferred[bytes]:
        """Respond to an upload or a poll, or let it fail."""
        match draw_fault(self._random, self._fault_rate):
            case None:
                return self._respond(request)
            case Fault.RESET:
                request.abort()
                return _never()
            case Fault.CUT_SHORT:
                body = self._respond(request)
                request.setHeader(b"Content-Length", b"%d" % len(body))
                request.write(body[: len(body) // 2])
                request.loseConnection()
                return _never()
            case Fault.BUSY_FOR:
                request.setHeader(b"Retry-After", b"%d" % self._random.randint(1, 3))
        request.setResponseCode(503)
        return _error_body("busy")

    @app.handle_errors(HTTPException)
    def unrouted(self, request: IRequest, failure: Failure) -> bytes:
        """Refuse anything but a POST to ``/api/``."""
        if failure.check(MethodNotAllowed):
            request.setHeader(b"Allow", b"POST")
            return _refuse(request, 405, "POST only")
        return _refuse(request, 404, "nothing here")

    def _respond(self, request: StandInRequest) -> bytes:
        """Set the status of the proper response, and return its body."""
        try:
            form = request.form.finish()
        except FormError as error:
            return _refuse(request, error.status, error.reason)
        if isinstance(form, PollForm):
            job = self._jobs.poll(form.retry_id)
        else:
            job = self._jobs.start(score_of_digest(form.name, form.photo_sha256))
        if job is None:
            return _refuse(request, 404, "unknown retry_id")
        if isinstance(job, JobDone):
            return _body({"status": "success", "result": job.score, "errors": []})
        request.setResponseCode(202)
        return _body({"status": "wait", "result": None, "retry_id": job.retry_id, "errors": []})


def _refuse(request: IRequest, status: int, reason: str) -> bytes:
    _log.info("rejected with {code}: {reason}", code=status, reason=reason)
    request.setResponseCode(status)
    return _error_body(reason)


def _error_body(reason: str) -> bytes:
    return _body({"status": "error", "result": None, "errors": [reason]})


def _body(fields: dict[str, object]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode("ascii")


def _never() -> Deferred[bytes]:
    """Return what Klein awaits until the connection is lost, and cancels then."""
    return Deferred()

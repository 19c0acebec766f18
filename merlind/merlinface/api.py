"""The HTTP side of the API: one path, ``/api/``, that takes uploads and polls (docs/contract.md, "Upstream side").

An upload is answered with its score if that is there within HOLD_SECONDS, otherwise with a ``retry_id`` to poll. That
slows a client which sends so many uploads at once, and no more, down to the scorer's speed, without refusing any.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from random import Random
from typing import Any, NoReturn, cast
from uuid import UUID, uuid4

from klein import Klein
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime, ITCPTransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import INonQueuedRequestFactory, IRequest
from twisted.web.server import Request, Site
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from zope.interface import directlyProvides

from merlind.merlinface.faults import Fault, draw_fault
from merlind.merlinface.form import MAX_PHOTO, ApiForm, FormError, PollForm
from merlind.merlinface.jobs import Jobs, JobWaiting
from merlind.merlinface.photo_memory import PhotoMemory
from merlind.merlinface.scoring import Refusal, Score, Scorer, Trouble, Verdict
from merlind.merlinface.stand_in import StandInScorer

PATH = b"/api/"
"""The only path there is."""

MAX_DISCARDED = 4 * MAX_PHOTO
"""The longest body that is read, in bytes. What is too large is read and dropped, so that the client gets to see the
error; past this length the connection is reset."""

HOLD_SECONDS = 5.0
"""How long an upload waits for its score before it is answered with ``wait``: well below merlind's time-out of 30 s."""

RETRY_AFTER = 2
"""Seconds that a client is asked to stay away when there is no score now: merlind's interval between polls."""

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


AT_ONCE = StandInSettings(delay=0.0, waits=0)
"""No delay, and no faults: for a scorer that takes its time itself."""


def make_site(
    clock: IReactorTime,
    settings: StandInSettings,
    random: Random | None = None,
    new_id: Callable[[], UUID] = uuid4,
    scorer: Scorer | None = None,
) -> Site:
    """Build the API in front of a scorer, by default the stand-in; ready to listen, the scorer being started apart.

    ``random`` draws the faults, ``new_id`` makes retry_ids.
    """
    scorer = scorer or StandInScorer()
    jobs: Jobs[Verdict] = Jobs(clock, settings.delay, settings.waits, new_id)
    memory = None if scorer.max_photo_memory is None else PhotoMemory(scorer.max_photo_memory)
    api = Api(clock, scorer, jobs, settings.fault_rate, random or Random())
    make_request = partial(ApiRequest, memory=memory, scorer=scorer)
    directlyProvides(make_request, INonQueuedRequestFactory)
    site = ApiSite(api.app.resource(), requestFactory=make_request, parsePOSTFormSubmission=False, reactor=clock)
    site.about = scorer.about
    return site


class ApiSite(Site):
    """A site that says what it is when it starts, and logs no requests."""

    noisy = False
    about = ""

    def startFactory(self) -> None:
        _log.warn("this is not merlinface, but a {about}", about=self.about)

    def stopFactory(self) -> None:
        """Do nothing: there is no log file to close."""


class ApiRequest(Request):
    """A request whose body goes into a form as it comes in; every response to it says what the scores are worth."""

    defaultContentType = b"application/json"

    def __init__(self, *args: Any, memory: PhotoMemory | None, scorer: Scorer, **more: Any) -> None:
        super().__init__(*args, **more)
        self._memory = memory
        self._scorer = scorer
        self.form = ApiForm(b"")

    def gotLength(self, length: int | None) -> None:
        # Twisted wants a file for the body, though nothing is written to it.
        self.content = BytesIO()
        self.form = ApiForm(self.requestHeaders.getRawHeaders(b"Content-Type", [b""])[-1], self._memory)
        self._left = MAX_DISCARDED
        if length is not None and length > MAX_DISCARDED:
            self.abort()

    def handleContentChunk(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            self.abort()
        else:
            self.form.write(data)

    def connectionLost(self, reason: Failure) -> None:
        self.form.release()
        super().connectionLost(reason)

    def abort(self) -> None:
        """Reset the connection: nothing more is sent or read."""
        self.form.release()
        cast(ITCPTransport, self.transport).abortConnection()

    def getRequestHostname(self) -> bytes:
        # Klein raises on a Host that is no host name. This API takes any.
        return b"merlinface"

    def render(self, resrc: object) -> None:
        # Klein ignores doubled slashes, and responds to undecodable bytes in plain text. Make both an unknown path.
        if self.path != PATH:
            self.postpath = [b""]
        self.setHeader(b"Server", b"merlinface-" + self._scorer.name.encode("ascii"))
        self.setHeader(b"X-Merlinface", self._scorer.about.encode("ascii"))
        super().render(resrc)
        self.form.release()

    def processingFailed(self, reason: Failure) -> Failure:
        _log.failure("unexpected error in a request", failure=reason)
        self.setResponseCode(500)
        self.write(_error_body("internal error"))
        self.finish()
        return reason


class Api:
    """The resource ``/api/``; its requests are ApiRequests."""

    app = Klein()

    def __init__(
        self, clock: IReactorTime, scorer: Scorer, jobs: Jobs[Verdict], fault_rate: float, random: Random
    ) -> None:
        self._clock = clock
        self._scorer = scorer
        self._jobs = jobs
        self._fault_rate = fault_rate
        self._random = random

    @app.route(PATH.decode("ascii"), methods=["POST"])
    async def api(self, request: ApiRequest) -> bytes:
        """Respond to an upload or a poll, or let it fail."""
        match draw_fault(self._random, self._fault_rate):
            case None:
                return await self._respond(request)
            case Fault.RESET:
                request.abort()
                await _never()
            case Fault.CUT_SHORT:
                body = await self._respond(request)
                request.setHeader(b"Content-Length", b"%d" % len(body))
                request.write(body[: len(body) // 2])
                request.loseConnection()
                await _never()
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

    async def _respond(self, request: ApiRequest) -> bytes:
        """Set the status of the proper response, and return its body."""
        try:
            form = request.form.finish()
        except FormError as error:
            return _refuse(request, error.status, error.reason)
        if isinstance(form, PollForm):
            job = self._jobs.poll(form.retry_id)
        else:
            scoring = self._scorer.score(form)
            verdict = await _within(scoring, HOLD_SECONDS, self._clock)
            job = self._jobs.start(scoring if verdict is None else succeed(verdict))
        if job is None:
            return _refuse(request, 404, "unknown retry_id")
        if isinstance(job, JobWaiting):
            request.setResponseCode(202)
            return _body({"status": "wait", "result": None, "retry_id": job.retry_id, "errors": []})
        if isinstance(job.result, Trouble) and isinstance(form, PollForm):
            self._jobs.forget(form.retry_id)  # so that the client sends the photo again
        return _tell(request, job.result)


def _tell(request: IRequest, verdict: Verdict) -> bytes:
    match verdict:
        case Refusal(reason):
            return _refuse(request, 422, reason)
        case Trouble(reason):
            return _refuse(request, 503, reason)
        case Score(value, known_name):
            known = {} if known_name is None else {"known_name": known_name}
            return _body({"status": "success", "result": value, "errors": [], **known})


def _within(scoring: Deferred[Verdict], seconds: float, clock: IReactorTime) -> Deferred[Verdict | None]:
    """Return what fires with the verdict, or with None after ``seconds``; cancelling it leaves ``scoring`` alone."""
    found: Deferred[Verdict | None] = Deferred()

    def tell(verdict: Verdict) -> Verdict:
        if not found.called:
            found.callback(verdict)
        return verdict

    scoring.addCallback(tell)
    return found.addTimeout(seconds, clock, onTimeoutCancel=_not_yet)


def _not_yet(result: object, timeout: float) -> None:
    """There is no verdict yet."""


def _refuse(request: IRequest, status: int, reason: str) -> bytes:
    _log.info("rejected with {code}: {reason}", code=status, reason=reason)
    request.setResponseCode(status)
    if status == 503:
        request.setHeader(b"Retry-After", b"%d" % RETRY_AFTER)
    return _error_body(reason)


def _error_body(reason: str) -> bytes:
    return _body({"status": "error", "result": None, "errors": [reason]})


def _body(fields: dict[str, object]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode("ascii")


async def _never() -> NoReturn:
    """Wait until the connection is lost: Klein cancels the request then."""
    await Deferred()
    raise AssertionError("nothing fires it")

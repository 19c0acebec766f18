"""The HTTP side of a stand-in for merlinface: its API as it was seen live (shapes and codes from the brief).

Its scores mean nothing. A photo is read as it comes and never kept; a job lives in memory only, and not for ever.
"""

import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from io import BytesIO
from random import Random
from typing import cast
from uuid import UUID, uuid4

from klein import Klein
from multipart import (  # type: ignore[import-untyped]
    MultipartError,
    MultipartSegment,
    PushMultipartParser,
    parse_options_header,
)
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime, ITCPTransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from twisted.web.server import Request, Site
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from merlind.merlinface.score import normal_name, score_of_digest

PATH = b"/api/"
"""The one path that there is."""

DISCLAIMER = "stand-in; the score means nothing"
"""What every answer says in the header ``X-Merlinface``."""

MAX_PHOTO = 20 * 2**20
"""The largest photo, in bytes."""

MAX_NAME = 200
"""The longest name, in characters, composed and trimmed."""

MAX_FIELD = 4096
"""The longest plain field, in bytes: room for any name of MAX_NAME characters, and some white space."""

MAX_DISCARDED = 4 * MAX_PHOTO
"""The longest body that is listened to, in bytes. What is too large is thrown away as it comes, so that the client gets
to read its refusal, but past this the connection is cut."""

MAX_JOBS = 200_000
"""The most jobs that are remembered: past it the oldest is forgotten."""

_log = Logger()


@dataclass(frozen=True, slots=True)
class StandInSettings:
    """How the stand-in behaves.

    A job is finished ``delay`` seconds after its upload, and not before ``waits`` answers, the upload's included, were
    ``wait``. The share ``trouble`` of the requests (0 to 1) gets no proper answer.
    """

    delay: float = 3.0
    waits: int = 1
    trouble: float = 0.0


def make_site(
    clock: IReactorTime, settings: StandInSettings, random: Random | None = None, new_id: Callable[[], UUID] = uuid4
) -> Site:
    """The stand-in, ready to listen: ``random`` picks who gets trouble, ``new_id`` makes a ``retry_id``."""
    face = MerlinFace(Jobs(clock, settings, new_id), settings.trouble, random or Random())
    return StandInSite(face.app.resource(), requestFactory=FormRequest, parsePOSTFormSubmission=False, reactor=clock)


class FormError(Exception):
    """The request won't do: the HTTP status, and why, in words that quote nothing of it."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


@dataclass(frozen=True, slots=True)
class UploadForm:
    """A form that brings a name, and a photo of which the SHA-256 digest is left."""

    name: str
    photo_sha256: bytes


@dataclass(frozen=True, slots=True)
class PollForm:
    """A form that asks what became of an upload."""

    retry_id: str


@dataclass(frozen=True, slots=True)
class JobDone:
    """The job is done."""

    score: float


@dataclass(frozen=True, slots=True)
class JobWaiting:
    """The job isn't done: ask again with ``retry_id``."""

    retry_id: str


@dataclass(slots=True)
class _Job:
    score: float
    ready_at: float
    waits_left: int


class Jobs:
    """What was uploaded and had to wait, by retry_id; knows no HTTP."""

    def __init__(
        self, clock: IReactorTime, settings: StandInSettings, new_id: Callable[[], UUID], most: int = MAX_JOBS
    ) -> None:
        self._clock = clock
        self._settings = settings
        self._new_id = new_id
        self._most = most
        self._jobs: OrderedDict[str, _Job] = OrderedDict()

    def start(self, score: float) -> JobDone | JobWaiting:
        """Take a new job, of which the outcome will be ``score``."""
        job = _Job(score, self._clock.seconds() + self._settings.delay, self._settings.waits)
        retry_id = str(self._new_id())
        answer = self._answer(retry_id, job)
        if isinstance(answer, JobWaiting):
            if len(self._jobs) >= self._most:
                self._jobs.popitem(last=False)
            self._jobs[retry_id] = job
        return answer

    def ask(self, retry_id: str) -> JobDone | JobWaiting | None:
        """What became of a job; None if there is none. A finished one stays, in case its answer gets lost."""
        job = self._jobs.get(retry_id)
        return None if job is None else self._answer(retry_id, job)

    def _answer(self, retry_id: str, job: _Job) -> JobDone | JobWaiting:
        if job.waits_left <= 0 and self._clock.seconds() >= job.ready_at:
            return JobDone(job.score)
        job.waits_left -= 1
        return JobWaiting(retry_id)


class Fault(Enum):
    """What an upstream in a bad way does to a request."""

    BUSY = "503"
    BUSY_FOR = "503 with Retry-After"
    RESET = "connection reset before the answer"
    CUT_SHORT = "connection lost within the answer"


def draw_fault(random: Random, rate: float) -> Fault | None:
    """The trouble that the next request gets, one of all kinds alike, if it is in the share ``rate`` that does."""
    return random.choice(list(Fault)) if rate and random.random() < rate else None


class Form:
    """A multipart form, read as it comes: its plain fields are kept, its photo only passes through SHA-256.

    The first fault is remembered, and the rest of the form ignored.
    """

    def __init__(self, content_type: bytes) -> None:
        self._fields: dict[str, bytearray] = {}
        self._photo = hashlib.sha256()
        self._photo_size = 0
        self._field: bytearray | None = None
        self._held = b""
        self._tail = b""
        self._refusal: FormError | None = None
        kind, parameters = parse_options_header(content_type.decode("latin-1"))
        boundary = parameters.get("boundary", "").encode("latin-1")
        self._closing = b"--" + boundary + b"--"
        if kind != "multipart/form-data":
            self._refusal = FormError(415, "not multipart/form-data")
            return
        try:
            self._parser = PushMultipartParser(boundary, max_segment_count=2, max_header_size=4096, strict=True)
        except MultipartError as error:
            self._refusal = _malformed(error)

    def feed(self, data: bytes) -> None:
        """Take the next piece of the body."""
        if self._refusal is not None:
            return
        # A strict parser takes the line break after the end for garbage if it comes in a piece of its own (multipart
        # 2.0.1), so the last line break is held back until it proves to be none.
        data = self._held + data
        end = len(data) - (2 if data.endswith(b"\r\n") else data.endswith(b"\r"))
        self._held = data[end:]
        data = data[:end]
        # To parse nothing would mean that the form is over.
        if not data:
            return
        self._tail = (self._tail + data[-len(self._closing) :])[-len(self._closing) :]
        try:
            for event in self._parser.parse(data):
                if isinstance(event, MultipartSegment):
                    self._begin(event)
                elif event is not None:
                    self._take(event)
        except MultipartError as error:
            self._refusal = _malformed(error)
        except FormError as refusal:
            self._refusal = refusal

    def finish(self) -> UploadForm | PollForm:
        """What the form asks for, at its end. Raises Refusal."""
        if self._refusal is not None:
            raise self._refusal
        try:
            self._parser.close()
        except MultipartError as error:
            raise _malformed(error) from None
        # The parser doesn't look at what follows the end within one piece.
        if self._tail != self._closing:
            raise FormError(400, "malformed form: data after its end")
        if "retry_id" in self._fields:
            if len(self._fields) > 1:
                raise FormError(400, "retry_id comes alone")
            return PollForm(self._text("retry_id"))
        for name in ("name", "photo"):
            if name not in self._fields:
                raise FormError(400, f"{name} is missing")
        if not self._photo_size:
            raise FormError(400, "photo is empty")
        return UploadForm(self._text("name", MAX_NAME), self._photo.digest())

    def _begin(self, segment: MultipartSegment) -> None:
        name = segment.name
        if name not in ("name", "photo", "retry_id"):
            raise FormError(400, "unknown field")
        if name in self._fields:
            raise FormError(400, f"{name} comes twice")
        self._fields[name] = bytearray()
        if name != "photo":
            if segment.filename is not None:
                raise FormError(400, f"{name} is a plain field, without a filename")
            self._field = self._fields[name]
            return
        if not segment.filename:
            raise FormError(400, "photo has no filename")
        media_type, _, subtype = (segment.content_type or "").partition("/")
        if media_type != "image" or not subtype:
            raise FormError(400, "photo is no image")
        self._field = None

    def _take(self, data: bytes) -> None:
        if self._field is None:
            self._photo.update(data)
            self._photo_size += len(data)
            if self._photo_size > MAX_PHOTO:
                raise FormError(400, "photo is larger than 20 MiB")
            return
        self._field += data
        if len(self._field) > MAX_FIELD:
            raise FormError(400, "a plain field is too long")

    def _text(self, name: str, longest: int = MAX_FIELD) -> str:
        try:
            text = self._fields[name].decode("utf-8")
        except UnicodeDecodeError:
            raise FormError(400, f"{name} is not UTF-8") from None
        if name == "name":
            text = normal_name(text)
        if not text:
            raise FormError(400, f"{name} is empty")
        if len(text) > longest:
            raise FormError(400, f"{name} is longer than {longest} characters")
        return text


def _malformed(error: MultipartError) -> FormError:
    # The parser's messages are fixed sentences: they quote nothing of the form.
    return FormError(400, f"malformed form: {error.args[0]}")


class FormRequest(Request):
    """A request whose body goes into a Form as it comes; every answer to it says that it comes from a stand-in."""

    defaultContentType = b"application/json"

    def gotLength(self, length: int | None) -> None:
        # Twisted wants a file for the body; none gets there.
        self.content = BytesIO()
        self.form = Form(self.requestHeaders.getRawHeaders(b"Content-Type", [b""])[-1])
        self._left = MAX_DISCARDED
        if length is not None and length > MAX_DISCARDED:
            self.abort()

    def handleContentChunk(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            self.abort()
        else:
            self.form.feed(data)

    def abort(self) -> None:
        """Reset the connection; nothing more is sent or read."""
        cast(ITCPTransport, self.transport).abortConnection()

    def getRequestHostname(self) -> bytes:
        # Klein raises at a Host that is no host name; the stand-in answers to any.
        return b"merlinface"

    def render(self, resrc: object) -> None:
        # Klein overlooks odd slashes, and answers odd bytes in plain text: here both make an unknown path.
        if self.path != PATH:
            self.postpath = [b""]
        self.setHeader(b"Server", b"merlinface-stand-in")
        self.setHeader(b"X-Merlinface", DISCLAIMER.encode("ascii"))
        super().render(resrc)

    def processingFailed(self, reason: Failure) -> Failure:
        _log.failure("a request failed", failure=reason)
        self.setResponseCode(500)
        self.write(_error("internal error"))
        self.finish()
        return reason


class MerlinFace:
    """The stand-in's one resource, ``/api/``, to be served with FormRequest."""

    app = Klein()

    def __init__(self, jobs: Jobs, trouble: float, random: Random) -> None:
        self._jobs = jobs
        self._trouble = trouble
        self._random = random

    @app.route(PATH.decode("ascii"), methods=["POST"])
    def api(self, request: FormRequest) -> bytes | Deferred[bytes]:
        """Take an upload or a poll, unless trouble comes first."""
        trouble = draw_fault(self._random, self._trouble)
        if trouble is None:
            return self._answer(request)
        if trouble is Fault.RESET:
            request.abort()
            return _never()
        if trouble is Fault.CUT_SHORT:
            body = self._answer(request)
            request.setHeader(b"Content-Length", b"%d" % len(body))
            request.write(body[: len(body) // 2])
            request.loseConnection()
            return _never()
        request.setResponseCode(503)
        if trouble is Fault.BUSY_FOR:
            request.setHeader(b"Retry-After", b"%d" % self._random.randint(1, 3))
        return _error("busy")

    @app.handle_errors(HTTPException)
    def unrouted(self, request: IRequest, failure: Failure) -> bytes:
        """Refuse what isn't a POST to ``/api/``."""
        if failure.check(MethodNotAllowed):
            request.setHeader(b"Allow", b"POST")
            return _refused(request, FormError(405, "POST only"))
        return _refused(request, FormError(404, "nothing here"))

    def _answer(self, request: FormRequest) -> bytes:
        try:
            asked = request.form.finish()
            if isinstance(asked, PollForm):
                answer = self._jobs.ask(asked.retry_id)
            else:
                answer = self._jobs.start(score_of_digest(asked.name, asked.photo_sha256))
            if answer is None:
                raise FormError(404, "unknown retry_id")
        except FormError as refusal:
            return _refused(request, refusal)
        if isinstance(answer, JobDone):
            return _body({"status": "success", "result": answer.score, "errors": []})
        request.setResponseCode(202)
        return _body({"status": "wait", "result": None, "retry_id": answer.retry_id, "errors": []})


def _refused(request: IRequest, refusal: FormError) -> bytes:
    _log.info("refused with {code}: {reason}", code=refusal.code, reason=refusal.reason)
    request.setResponseCode(refusal.code)
    return _error(refusal.reason)


def _error(reason: str) -> bytes:
    return _body({"status": "error", "result": None, "errors": [reason]})


def _body(answer: dict[str, object]) -> bytes:
    return json.dumps(answer, separators=(",", ":")).encode("ascii")


def _never() -> Deferred[bytes]:
    """What Klein awaits until the connection is lost, and then cancels."""
    return Deferred()


class StandInSite(Site):
    """A site that says what it is when it starts, and keeps no access log."""

    def startFactory(self) -> None:
        # Not the inherited one, which logs each request, and ticks each second for the dates of that log.
        _log.warn("this is not merlinface, but a {disclaimer}", disclaimer=DISCLAIMER)

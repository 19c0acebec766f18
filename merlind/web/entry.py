"""The entry point, as far as it needs no router: what takes a request's body, and the short way to a task's status.

Nine of ten requests ask for a task's status and nothing else, and Klein takes longer for one than all the rest of
merlind does. The short way gives the same response, byte for byte, and leaves to the router whatever isn't plain.
"""

import re

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import IResource

from merlind.core.interfaces import StoreBroken, StoreUnavailable
from merlind.tasks.intake import Intake, OverCapacity
from merlind.web.response import NO_STORAGE, NOT_ALLOWED, HTTPError, Response, problem, unavailable
from merlind.web.server.interfaces import BodyReceiver, ParsedRequest
from merlind.web.status import ANONYMOUS, StatusResponses
from merlind.web.upload import FORM_OVERHEAD, PhotoForm, boundary_of

MAX_IGNORED_BODY = 65536
"""The longest body to read and ignore where none is expected, in bytes."""

_PLAIN_QUERY = re.compile(rb"task_id=([0-9]{1,16})")

_log = Logger()


class EntryPoint:
    """What the server asks about each request. ``resource`` is the router, for the requests that this leaves."""

    def __init__(self, intake: Intake, status: StatusResponses, max_photo_bytes: int, resource: IResource) -> None:
        self._intake = intake
        self._status = status
        self._max_photo_bytes = max_photo_bytes
        self.resource = resource

    def open_body(self, request: ParsedRequest, length: int | None) -> BodyReceiver | None:
        """Choose what takes the body: a form for a POST, nothing else. Raises HTTPError to refuse the request.

        ``length`` is the body's size in bytes, or None if it comes in chunks.
        """
        if request.method == b"POST" and request.path == b"/":
            return self._open_form(request, length)
        return None if length == 0 else IgnoredBody(length)

    def _open_form(self, request: ParsedRequest, length: int | None) -> PhotoForm:
        boundary = boundary_of(request.getHeader(b"Content-Type"))
        most = self._max_photo_bytes + FORM_OVERHEAD
        if length is not None and length > most:
            raise HTTPError(problem(413, "too_large", f"a photo may have {self._max_photo_bytes} bytes at most"))
        if length == 0 and not request.requestHeaders.hasHeader(b"Content-Length"):
            raise HTTPError(problem(411, "length_required", "send a Content-Length, or the body in chunks"))
        try:
            reservation = self._intake.reserve(most if length is None else length)
        except OverCapacity as error:
            raise HTTPError(unavailable("full", str(error))) from error
        return PhotoForm(boundary, reservation, self._max_photo_bytes)

    def before_routing(self, request: ParsedRequest) -> "Response | Deferred[Response] | None":
        """Return the response to a plain status request, or to a method that the router would misread, or None."""
        if request.method != request.method.upper():
            return NOT_ALLOWED  # RFC 9110, section 9.1: methods are case-sensitive, but to Klein they aren't
        if request.method != b"GET" or request.path != b"/" or request.requestHeaders.hasHeader(b"Prefer"):
            return None
        plain = _PLAIN_QUERY.fullmatch(request.query)
        if plain is None:
            return None
        task_id = int(plain[1])
        known = self._status.peek(task_id)
        if known is not None:
            return known
        return self._status.find(ANONYMOUS, task_id).addCallbacks(self._status.respond, no_storage)


class IgnoredBody:
    """Reads and drops a body that nobody needs. ``length`` is its announced size in bytes, or None.

    Making it and ``write`` raise HTTPError if the body is too long.
    """

    def __init__(self, length: int | None) -> None:
        self._check(length or 0)
        self._received = 0

    def write(self, data: bytes) -> None:
        """Drop the next bytes."""
        self._received += len(data)
        self._check(self._received)

    def _check(self, size: int) -> None:
        if size > MAX_IGNORED_BODY:
            raise HTTPError(problem(413, "too_large", "this request takes no body"))

    def discard(self) -> None:
        """Do nothing: nothing is kept."""


def no_storage(failure: Failure) -> Response:
    """Log that the disk failed, and return the response that says so. Raises any other failure again."""
    failure.trap(StoreUnavailable, StoreBroken, OSError)
    _log.error("can't store or look up: {why}", why=failure.getErrorMessage())
    return NO_STORAGE

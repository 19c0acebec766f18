"""The entry point, as far as it needs no router: what takes a request's body, and the fast path to a task's status.

Nine of ten requests ask for a task's status and nothing else, and Klein takes longer for one than all the rest of
merlind does. The fast path gives the same response, byte for byte, and leaves to the router whatever isn't plain.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from merlind.core.interfaces import StoreBroken, StoreUnavailable
from merlind.core.users import ANONYMOUS
from merlind.tasks.intake import Intake
from merlind.tasks.refusals import ClientOverLimit, OverCapacity
from merlind.web.auth.sign_in import SignIn, Verdict
from merlind.web.erase_form import EraseForm, is_erase_form
from merlind.web.ignored_body import TAKES_NO_BODY, IgnoredBody
from merlind.web.mistakes import METHOD_NOT_ALLOWED, NO_SUCH_PATH
from merlind.web.refusals import over_limit
from merlind.web.response import METHODS, NO_STORAGE, HTTPError, Response, problem, unavailable
from merlind.web.server.head import Head
from merlind.web.server.interfaces import BodyReceiver, HandledRequest
from merlind.web.status import StatusResponses
from merlind.web.upload import FORM_OVERHEAD, PhotoForm, boundary_of

_NOT_PLAIN = (b"prefer", b"authorization", b"cookie", b"origin")
_PLAIN_QUERY = re.compile(rb"task_id=([0-9]{1,16})")

_log = Logger()

Route = Callable[[HandledRequest], "Response | Deferred[Response]"]
"""A router: finds the response to a request."""

Check = Callable[[Head, str], None]
"""Looks at a request's head and at who asks, before the body is read. Raises HTTPError to refuse the request."""

Adapter = Callable[[Head, Response], Response]
"""Returns a response as the client of a request gets it."""


class EntryPoint:
    """What the server asks about each request.

    What isn't a plain status request goes through the ``checks``, then to ``route``; each response to it, a refusal
    too, goes through the ``adapters``.
    Without ``sign_in``, everybody is the one anonymous user.
    """

    def __init__(
        self,
        intake: Intake,
        status: StatusResponses,
        max_photo_bytes: int,
        route: Route,
        adapters: Sequence[Adapter] = (),
        checks: Sequence[Check] = (),
        sign_in: SignIn | None = None,
    ) -> None:
        self._intake = intake
        self._status = status
        self._max_photo_bytes = max_photo_bytes
        self._route = route
        self._adapters = adapters
        self._checks = checks
        self._sign_in = sign_in

    def respond_at_once(self, head: Head) -> Response | None:
        """Return the response to a plain status request if memory has it, or None."""
        if self._sign_in is not None:
            return None  # nobody has signed in yet
        task_id = _plain_task_id(head)
        return None if task_id is None else self._status.peek(task_id)

    def identify(self, head: Head, client: str, by_unix_socket: bool) -> "Verdict | Deferred[Verdict]":
        """Return who asks, or the response that refuses the request, or what fires with either."""
        return ANONYMOUS if self._sign_in is None else self._sign_in.identify(head, client, by_unix_socket)

    def open_body(self, head: Head, client: str) -> BodyReceiver | None:
        """Choose what takes the body: a form for a POST, nothing else. Raises HTTPError to refuse the request."""
        for check in self._checks:
            check(head, client)
        if head.method == b"POST" and head.path == b"/":
            return EraseForm(head.length) if is_erase_form(head) else self._open_form(head, client)
        return None if head.length == 0 else IgnoredBody(head.length, _refusal_of_body(head))

    def _open_form(self, head: Head, client: str) -> PhotoForm:
        boundary = boundary_of(head.get(b"content-type"))
        most = self._max_photo_bytes + FORM_OVERHEAD
        length = head.length
        if length is not None and length > most:
            raise HTTPError(problem(413, "too_large", f"a photo may have {self._max_photo_bytes} bytes at most"))
        if length == 0 and head.get(b"content-length") is None:
            raise HTTPError(problem(411, "length_required", "send a Content-Length, or the body in chunks"))
        try:
            reservation = self._intake.reserve(most if length is None else length, client)
        except OverCapacity as error:
            raise HTTPError(unavailable("full", str(error))) from error
        except ClientOverLimit as error:
            raise HTTPError(over_limit(error)) from error
        return PhotoForm(boundary, reservation, self._max_photo_bytes)

    def respond(self, request: HandledRequest) -> "Response | Deferred[Response]":
        """Look a plain status request up, and leave all others to the router."""
        task_id = _plain_task_id(request.head)
        if task_id is None:
            return self._route(request)
        return self._status.find(request.user, task_id).addCallbacks(self._status.respond, no_storage)

    def adapt(self, head: Head, response: Response) -> Response:
        """Return the response as each adapter leaves it."""
        for adapter in self._adapters:
            response = adapter(head, response)
        return response


def _refusal_of_body(head: Head) -> Response:
    """Choose what to say of a large body where none is expected: that it is, or what is wrong besides."""
    if head.path != b"/":
        return NO_SUCH_PATH
    return TAKES_NO_BODY if head.method in METHODS else METHOD_NOT_ALLOWED


def _plain_task_id(head: Head) -> int | None:
    """Return the task id of a plain status request: nothing in it asks for more than JSON, now, for anybody."""
    if head.method != b"GET" or head.path != b"/":
        return None
    plain = _PLAIN_QUERY.fullmatch(head.query)
    if plain is None or any(head.get(name) is not None for name in _NOT_PLAIN):
        return None
    accept = (head.get(b"accept") or b"").lower()
    return None if b"html" in accept or b"openapi" in accept else int(plain[1])


def no_storage(failure: Failure) -> Any:
    """Log that the disk failed, and return the response that says so; or return any other failure as it is."""
    if not failure.check(StoreUnavailable, StoreBroken, OSError):
        return failure  # to raise it again would keep this frame, and all that it refers to, until a collection
    _log.error("can't store or look up: {why}", why=failure.getErrorMessage())
    return NO_STORAGE

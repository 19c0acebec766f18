"""How a task stands, and the short ways to tell it: nine of ten requests ask for nothing else.

Parsing such a request takes longer than all the rest of it, and so does the router. The short ways answer byte for
byte what the long one does; what they aren't sure of they leave to it.
"""

import re

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from merlind.core.interfaces import StoreBroken, StoreUnavailable
from merlind.tasks.gateway import ANONYMOUS, Gateway, Status
from merlind.web.response import NO_STORAGE, Response, json_response, retry_after
from merlind.web.server.site import EdgeRequest

NOT_FOUND = json_response(404, {"status": "not_found", "result": None})

_PLAIN_QUERY = re.compile(rb"task_id=([0-9]{1,16})")

# Only what can't be read in two ways: one Host, and no other header that changes how a request is taken or answered.
_HEADER = rb"(?!(?:host|connection|content-length|transfer-encoding|prefer):)[a-z0-9-]{1,64}:[ -~]*+\r\n"
_HARMLESS = rb"(?:%s|connection: keep-alive\r\n)*+" % _HEADER
_PLAIN_REQUEST = re.compile(
    rb"GET /\?task_id=([0-9]{1,16}) HTTP/1\.1\r\n(?i:%(more)bhost: [a-z0-9.-]*(?::[0-9]{0,5})?\r\n%(more)b)\r\n"
    % {b"more": _HARMLESS}
)


class StatusResponses:
    """Tells how tasks stand."""

    _log = Logger()

    def __init__(self, gateway: Gateway, poll_interval: float) -> None:
        self._gateway = gateway
        self.again = retry_after(poll_interval)
        """The header that says when to ask again."""
        self._waiting = json_response(202, {"status": "wait", "result": None}, self.again)

    def answer(self, status: Status | None) -> Response:
        """How a GET reads."""
        if status is None:
            return NOT_FOUND
        if status.result is not None:
            return json_response(200, {"status": "ready", "result": status.result})
        if status.error is not None:
            error = {"code": status.error.code, "detail": status.error.detail, "source": "upstream"}
            return json_response(200, {"status": "failed", "result": None, "error": error})
        return self._waiting

    def find(self, user: str, task_id: int) -> "Deferred[Status | None]":
        """How a user's task stands; None if there is none. Fails with StoreUnavailable or StoreBroken."""

        def owned(status: Status | None) -> Status | None:
            return status if status is not None and status.user == user else None

        return self._gateway.find(task_id).addCallback(owned)

    def at_once(self, request: bytes) -> Response | None:
        """The answer to the bytes of one whole and plain status request, if memory has it."""
        found = _PLAIN_REQUEST.fullmatch(request)
        return None if found is None else self._peek(int(found[1]))

    def before_routing(self, request: EdgeRequest) -> "Response | Deferred[Response] | None":
        """The answer to a plain status request; None if it isn't one."""
        if request.method != b"GET" or request.path != b"/" or request.requestHeaders.hasHeader(b"Prefer"):
            return None
        found = _PLAIN_QUERY.fullmatch(request.query)
        if found is None:
            return None
        task_id = int(found[1])
        return self._peek(task_id) or self.find(ANONYMOUS, task_id).addCallbacks(self.answer, self.no_storage)

    def _peek(self, task_id: int) -> Response | None:
        status = self._gateway.peek(task_id)
        return None if status is None or status.user != ANONYMOUS else self.answer(status)

    def no_storage(self, failure: Failure) -> Response:
        """The disk doesn't let us look."""
        failure.trap(StoreUnavailable, StoreBroken, OSError)
        self._log.error("not done: {why}", why=failure.getErrorMessage())
        return NO_STORAGE

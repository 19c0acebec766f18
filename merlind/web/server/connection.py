"""One client's connection: reads requests one at a time, and bounds how long and how much each part of that may take.

The limits and what happens past them are in docs/contract.md, "Connection behaviour".
"""

from typing import Any

from twisted.internet.interfaces import IDelayedCall, IHalfCloseableProtocol, IPullProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from merlind.tasks.refusals import ClientOverLimit
from merlind.web.refusals import over_limit
from merlind.web.response import HTTPError, Response, problem, unavailable
from merlind.web.server.admission import Admitted
from merlind.web.server.deadline import Deadline
from merlind.web.server.head import Head
from merlind.web.server.interfaces import ConnectionOwner
from merlind.web.server.linger import LINGER_BYTES, linger
from merlind.web.server.parser import BLOCK, RequestParser
from merlind.web.server.phase import (
    BODY_GRACE,
    DEADLINES,
    HEADER_TIMEOUT,
    LINGER_TIMEOUT,
    RECEIVING,
    TRANSITIONS,
    Phase,
)
from merlind.web.server.request import Request

SMALL_READ = 8192
"""Bytes to read from the socket at once: so much may be held of what is behind a request."""

LARGE_READ = 256 * 1024
"""Bytes to read from the socket at once while so much of a body is still to come."""

MAX_AHEAD = 8192
"""Bytes to read of what is behind the request that is being handled, at most one read more."""

TURN = 4 * BLOCK
"""Bytes of a body in chunks, or pieces of 1/64 of that, to parse before other connections get their turn."""


@implementer(IHalfCloseableProtocol, IPullProducer)
class Connection(Protocol):
    """The protocol of one connection."""

    transport: Any
    persistent = True
    """Whether the connection stays open after the response."""
    _phase = Phase.IDLE
    _request: Request | None = None
    _seen = False
    _ahead = b""
    _parsing = False
    _reading_paused = False
    _input_ended = False
    _next_turn: IDelayedCall | None = None
    _began = 0.0
    _drained = 0

    def __init__(self, site: ConnectionOwner, admitted: Admitted, by_unix_socket: bool) -> None:
        self.site = site
        self._by_unix_socket = by_unix_socket
        self._admitted = admitted
        self._parser = RequestParser()
        self._deadline = Deadline(site.reactor, self._deadline_passed)

    # Its life.

    def connectionMade(self) -> None:
        self._deadline.set(HEADER_TIMEOUT)
        self._set_read_size()
        self.site.opened(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._enter(Phase.CLOSED)
        self._deadline.end()
        if self._next_turn is not None:
            self._next_turn.cancel()
            self._next_turn = None
        self._ahead = b""
        request, self._request = self._request, None
        if request is not None:
            request.end()
        self._admitted.leave()
        self.site.closed(self)
        self.transport = None

    def readConnectionLost(self) -> None:
        """Respond to what the client has asked for, then close: it has closed its direction."""
        self._input_ended = True
        if self._phase in (Phase.SIGNING_IN, Phase.HANDLING):
            self._deadline.set(LINGER_TIMEOUT)
        elif self._phase is Phase.LINGERING or (self._phase in RECEIVING and not self._ahead and not self._parsing):
            self._close()

    def writeConnectionLost(self) -> None:
        """Do nothing: ``linger`` closed our direction."""

    def close_if_idle(self) -> None:
        """Close the connection now, or with the response if a request is on it."""
        if self._phase is Phase.IDLE:
            self._close()
        elif self._phase is not Phase.HEAD:  # at the head's end, the site is asked whether it is draining
            self.persistent = False

    def _enter(self, phase: Phase) -> None:
        assert phase in TRANSITIONS[self._phase], (self._phase, phase)
        self._phase = phase
        self._deadline.set(DEADLINES[phase])

    def _close(self) -> None:
        self._enter(Phase.CLOSING)
        self._ahead = b""
        self.transport.loseConnection()

    def _deadline_passed(self) -> None:
        match self._phase:
            case Phase.HEAD:
                self.refuse(problem(408, "too_slow", "the headers came in too slowly"))
            case Phase.SIGNING_IN:
                self.refuse(unavailable("sign_in", "it took too long to find out who asks"))
            case Phase.BODY:
                self._check_rate()
            case Phase.IDLE:
                self._close()
            case _:
                self.transport.abortConnection()

    def _check_rate(self) -> None:
        took = self.site.reactor.seconds() - self._began
        allowed = min(BODY_GRACE + self._parser.payload / self.site.limits.min_rate, self.site.limits.upload_timeout)
        if took < allowed:
            self._deadline.set(allowed - took)
        else:
            self.refuse(problem(408, "too_slow", "the body came in too slowly"))

    # Reading: in order, and not beyond the request that is being handled.

    def dataReceived(self, data: bytes) -> None:
        if self._phase is Phase.LINGERING:
            self._drained += len(data)
            if self._drained > LINGER_BYTES:
                self.transport.abortConnection()
            return
        self._ahead = self._ahead + data if self._ahead else data
        if self._next_turn is None:
            self._parse()

    def _parse(self) -> None:
        """Parse what has come in: at most to the end of one request, and at most one turn of it."""
        data, place, cost = self._ahead, 0, 0
        self._parsing = True
        while place < len(data) and self._phase in RECEIVING and cost < TURN:
            start = place
            try:
                place = self._parser.feed(data, place)
            except HTTPError as error:
                self._body_came()  # it was before the error
                self.refuse(error.response)
                break
            if self._phase is not Phase.BODY:
                self._head_came()
            else:
                self._body_came()
                if self._parser.head is not None and self._parser.head.length is None:
                    cost += max(place - start, TURN // 64)
        self._parsing = False
        if self._phase in (Phase.LINGERING, Phase.CLOSING, Phase.CLOSED):
            self._ahead = b""
            return
        self._ahead = data[place:]
        self._set_read_size()
        waits_for_turn = bool(self._ahead) and self._phase in RECEIVING
        if waits_for_turn:
            self._next_turn = self.site.reactor.callLater(0, self._take_turn)
        elif self._input_ended and self._phase in RECEIVING:
            self._close()
            return
        self._pause_reading(waits_for_turn or len(self._ahead) > MAX_AHEAD)

    def _take_turn(self) -> None:
        self._next_turn = None
        self._parse()

    def _set_read_size(self) -> None:
        """Read a large body in large pieces, and little of what is behind a request."""
        if hasattr(self.transport, "bufferSize"):  # not with TLS
            left = self._parser.left if self._phase is Phase.BODY else 0
            self.transport.bufferSize = min(LARGE_READ, max(SMALL_READ, left))

    def _pause_reading(self, pause: bool) -> None:
        if pause is not self._reading_paused:
            self._reading_paused = pause
            if pause:
                self.transport.pauseProducing()
            else:
                self.transport.resumeProducing()

    def _head_came(self) -> None:
        parser = self._parser
        if parser.head is None:
            if self._phase is Phase.IDLE and parser.started:
                self._enter(Phase.HEAD)
            return
        head = parser.head
        self.persistent = head.persistent and not self.site.draining
        if not self._seen:
            self._seen = True
            try:
                self._admitted.look_again(getattr(self.transport.getPeer(), "host", None), head)
            except ClientOverLimit as error:
                self.refuse(over_limit(error))
                return
        if parser.complete and (response := self.site.entry.respond_at_once(head)) is not None:
            self._send(response)
            return
        self._began = self.site.reactor.seconds()
        request = self._request = Request(head, self._admitted.client_of(head), self.site.entry, self._respond)
        if not request.identify(self._by_unix_socket, self._identified):
            self._enter_waiting(Phase.SIGNING_IN)

    def _identified(self, refusal: Response | None) -> None:
        """Go on with a request, now that it is known who asks, or that it is refused."""
        if refusal is None:
            self._open_body()
        elif self._parser.complete:
            self._respond(refusal)
        else:
            self.refuse(refusal)
        if self._phase is Phase.BODY and not self._parsing:
            self._began = self.site.reactor.seconds()  # a body's time begins now
            self._parse()

    def _open_body(self) -> None:
        request, parser = self._request, self._parser
        assert request is not None and parser.head is not None, "its head is in"
        try:
            request.open_body()
        except HTTPError as error:
            self.refuse(error.response)
            return
        if parser.complete:
            self._handle(request)
        else:
            self._await_body(parser.head)

    def _await_body(self, head: Head) -> None:
        self._enter(Phase.BODY)
        if head.version == b"HTTP/1.1" and b"100-continue" in head.tokens(b"expect"):
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _body_came(self) -> None:
        data = self._parser.take_body()
        request = self._request
        if request is None or self._phase is not Phase.BODY:
            return
        if data:
            try:
                request.write_body(data)
            except HTTPError as error:
                self.refuse(error.response)
                return
        if self._parser.complete:
            self._handle(request)

    def _handle(self, request: Request) -> None:
        self._enter_waiting(Phase.HANDLING)
        request.handle()

    def _enter_waiting(self, phase: Phase) -> None:
        self._enter(phase)
        if self._input_ended:
            self._deadline.set(LINGER_TIMEOUT)

    # Responding.

    def _respond(self, response: Response) -> None:
        """Send the response that a request has found."""
        assert self._request is not None, "a request responds before it ends"
        response = self.site.entry.adapt(self._request.head, response)
        self._request = None
        self._send(response, self.site.reactor.seconds() - self._began)

    def _send(self, response: Response, seconds: float = 0.0) -> None:
        """Write a response. The next request's turn comes when the kernel has taken it."""
        method = self._parser.method
        self.site.on_response(method, response, seconds)
        self.transport.write(response.to_bytes(method == b"HEAD", not self.persistent))
        if not self.persistent:
            self._close()
            return
        self._enter(Phase.HANDLING)
        self.transport.registerProducer(self, False)  # this calls resumeProducing, which has nothing to do yet
        self._enter(Phase.SENDING)

    def resumeProducing(self) -> None:
        """Go on to the next request: all of the response has been handed to the kernel."""
        if self._phase is not Phase.SENDING:
            return
        self.transport.unregisterProducer()
        self._parser.reset()
        if not self.persistent:  # a stop began meanwhile
            self._close()
            return
        self._enter(Phase.IDLE)
        if self._ahead or self._input_ended or self._reading_paused:
            self._parse()

    def stopProducing(self) -> None:
        """Do nothing: the connection is lost, and connectionLost is called as well."""

    def refuse(self, response: Response) -> None:
        """Respond now, ignore the rest of the request, and close once the client has had time to read the response."""
        if self._phase not in RECEIVING and self._phase not in (Phase.SIGNING_IN, Phase.HANDLING):
            return
        if self._parser.head is not None:
            response = self.site.entry.adapt(self._parser.head, response)
        self._enter(Phase.LINGERING)
        self._ahead = b""
        request, self._request = self._request, None
        if request is not None:
            request.end()
        method = self._parser.method
        self.site.on_response(method, response, 0.0)
        self.transport.write(response.to_bytes(head=method == b"HEAD", close=True))
        self._pause_reading(False)
        linger(self.transport)

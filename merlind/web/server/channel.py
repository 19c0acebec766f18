"""The HTTP/1.1 connection, stricter than Twisted's: deadlines, limits, and an answer to everything that got understood.

What Twisted's HTTPChannel leaves open is mended here, each with the section that asks for it. Knows no routes.
"""

import re
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IAddress, IDelayedCall, IHalfCloseableProtocol, ITransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from zope.interface import implementer

from merlind.web.response import HTTPError, Response, problem, unavailable

if TYPE_CHECKING:
    from merlind.web.server.site import EdgeSite

IDLE_TIMEOUT = 60.0
"""Seconds that a connection may be kept without a request on it."""

HEADER_TIMEOUT = 20.0
"""Seconds from a request's first byte to the end of its headers."""

BODY_GRACE = 20.0
"""Seconds that a body may take besides those that its size takes at the minimum rate."""

LINGER_TIMEOUT = 5.0
"""Seconds that a refused client may go on sending, so that it reads the answer and not a reset."""

LINGER_BYTES = 64 * 1024 * 1024
"""How much of it is read before it is cut off after all, in bytes."""

MAX_HEADER = 16384
"""The most bytes of a request line and its headers together."""

LONG_READ = 4096
"""From which size on what was read is split into headers and body at once, in bytes."""

LARGE_BODY = 64 * 1024
"""From which size on a body is large, in bytes."""

LARGE_READ = 256 * 1024
"""How much is read from the socket at a time while a large body comes in, in bytes."""

# RFC 9110, 7.2, and RFC 3986, 3.2.2, as far as clients use it: a name or an address, and a port.
_HOST = re.compile(rb"(?:[A-Za-z0-9._~%!$&'()*+,;=-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
_ABSOLUTE = re.compile(rb"\Ahttps?://[^/?#]*", re.IGNORECASE)


@implementer(IHalfCloseableProtocol)
class EdgeChannel(HTTPChannel):
    """One client's connection."""

    site: "EdgeSite"
    transport: Any
    totalHeadersSize = MAX_HEADER
    MAX_LENGTH = MAX_HEADER
    maxHeaders = MAX_HEADER  # their size is what is limited
    _peer: IAddress | None = None
    _host: IAddress | None = None
    _refused = False
    _drained = 0
    _timer: IDelayedCall | None = None
    _timer_at = 0.0
    _deadline: float | None = None
    _body_began = 0.0
    _body_received = 0
    _read_size = 0
    _phase = "idle"
    _input_ended = False

    # The deadline: one timer a connection, set anew only when it goes off too early.

    def _set_deadline(self, seconds: float | None) -> None:
        if seconds is None:
            self._deadline = None
            return
        self._deadline = self.site.reactor.seconds() + seconds
        if self._timer is None or self._deadline < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._start_timer(seconds)

    def _start_timer(self, seconds: float) -> None:
        self._timer_at = self.site.reactor.seconds() + seconds
        self._timer = self.site.reactor.callLater(seconds, self._timer_fired)

    def _timer_fired(self) -> None:
        self._timer = None
        if self._deadline is None:
            return
        left = self._deadline - self.site.reactor.seconds()
        if left > 0:
            self._start_timer(left)
        else:
            self._deadline_passed()

    def _deadline_passed(self) -> None:
        if self._phase == "body":
            allowed = BODY_GRACE + self._body_received / self.site.min_rate
            left = self._body_began + allowed - self.site.reactor.seconds()
            if left > 0:
                self._set_deadline(left)
            else:
                self.refuse(problem(408, "too_slow", "the body came in too slowly"))
        elif self._phase == "headers":
            self.refuse(problem(408, "too_slow", "the headers came in too slowly"))
        elif self._phase == "idle":
            self._phase = "closing"
            self._set_deadline(LINGER_TIMEOUT)
            self.loseConnection()
        else:
            self.transport.abortConnection()

    # Twisted asks the socket for both ends' addresses with each request; they don't change, and nobody looks at them.

    def getPeer(self) -> IAddress:
        if self._peer is None:
            self._peer = super().getPeer()
        return self._peer

    def getHost(self) -> IAddress:
        if self._host is None:
            self._host = super().getHost()
        return self._host

    # The connection's life.

    def connectionMade(self) -> None:
        super().connectionMade()
        self._set_deadline(HEADER_TIMEOUT)
        self.site.opened(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.site.closed(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._deadline = None
        super().connectionLost(reason)

    def readConnectionLost(self) -> None:
        """The client closed its direction: what it has asked for is answered, and then the connection is closed.

        One that has gone away altogether looks the same, so this isn't waited for long.
        """
        self._input_ended = True
        if self._phase == "handling":
            self._set_deadline(LINGER_TIMEOUT)
        else:
            self.loseConnection()

    def writeConnectionLost(self) -> None:
        """Our direction is closed, as ``linger`` wanted it."""

    def dataReceived(self, data: bytes) -> None:
        if self._refused:
            self._drained += len(data)
            if self._drained > LINGER_BYTES:
                self.transport.abortConnection()
            return
        if self._phase == "idle":
            if not (self._buffer or self._busyReceiving) and self._answered_at_once(data):
                return
            self._phase = "headers"
            self._set_deadline(HEADER_TIMEOUT)
        if self.line_mode and len(data) > LONG_READ and (end := data.find(b"\r\n\r\n", 0, MAX_HEADER)) >= 0:
            # Lines are split off what was read in a time that grows with its square: the body comes apart from them.
            super().dataReceived(data[: end + 4])
            data = data[end + 4 :]
        if data and not self._refused:
            super().dataReceived(data)
        if self._input_ended and not self._busyReceiving:
            self.readConnectionLost()  # it was pipelined

    def _answered_at_once(self, data: bytes) -> bool:
        """Response what needs no parsing: a plain request that came in one piece on a connection without another."""
        answer = None if self.site.draining else self.site.entry.at_once(data)
        if answer is None:
            return False
        self._set_deadline(IDLE_TIMEOUT)
        self.transport.write(answer.to_bytes())
        self.site.answered(b"GET", answer.code)
        return True

    def close_if_idle(self) -> None:
        """Close it unless a request is on it; then it closes with its answer."""
        if self._phase == "idle":
            self._phase = "closing"
            self._set_deadline(LINGER_TIMEOUT)
            self.loseConnection()
        elif self._phase != "headers":  # where checkPersistence is still to come
            self.persistent = 0

    # The request line and the headers.

    def _reading_headers(self) -> bool:
        # Twisted keeps the parsed request line here from its arrival to the end of the request.
        return "_command" in self.__dict__

    def lineLengthExceeded(self, line: bytes) -> None:
        self._refuse_size()

    def _refuse_size(self) -> None:
        if self._reading_headers():
            self.refuse(problem(431, "headers_too_large", "the headers are too large"))
        else:
            self.refuse(problem(414, "uri_too_long", "the request line is too long"))

    def lineReceived(self, line: bytes) -> None:
        if self._phase == "idle":  # it came in one piece with the request before it
            self._phase = "headers"
            self._set_deadline(HEADER_TIMEOUT)
        if self._receivedHeaderSize + len(line) > self.totalHeadersSize:
            self._refuse_size()
        elif self._reading_headers() and line[:1] in (b" ", b"\t"):
            # RFC 9112, 5.2: a server may refuse line folding, and should.
            self._respondToBadRequestAndDisconnect()
        else:
            super().lineReceived(line)

    def _maybeChooseTransferDecoder(self, header: bytes, data: bytes) -> bool:
        if header == b"Content-Length" and data.isdigit():
            data = data.lstrip(b"0") or b"0"
            if len(data) > 15:
                # int() refuses thousands of digits; RFC 9110, 8.6: anticipate large numbers.
                self.refuse(problem(413, "too_large", "the body is too large"))
                return False
        return bool(super()._maybeChooseTransferDecoder(header, data))

    def allHeadersReceived(self) -> None:
        request = self.requests[-1]
        self.persistent = self.checkPersistence(request, self._version)
        try:
            self._check_headers(request)
            target = _ABSOLUTE.sub(b"", self._path, count=1)
            if target != self._path:
                # RFC 9112, 3.2.2: a server must accept the absolute form.
                self._path = target if target.startswith(b"/") else b"/" + target
            request.begin(self._command, self._path, self._version, self.length)
        except HTTPError as refusal:
            self.refuse(refusal.answer)
            return
        if self.length == 0:
            return
        self._phase = "body"
        self._body_began = self.site.reactor.seconds()
        self._body_received = 0
        self._set_deadline(BODY_GRACE)
        if (self.length is None or self.length > LARGE_BODY) and hasattr(self.transport, "bufferSize"):
            self._read_size, self.transport.bufferSize = self.transport.bufferSize, LARGE_READ
        expect = request.requestHeaders.getRawHeaders(b"Expect")
        if expect and expect[0].lower() == b"100-continue" and self._version == b"HTTP/1.1":
            self._send100Continue()

    def _check_headers(self, request: Any) -> None:
        hosts = request.requestHeaders.getRawHeaders(b"Host", [])
        # RFC 9112, 3.2: exactly one Host in HTTP/1.1, and a valid one.
        if len(hosts) > 1 or (not hosts and self._version == b"HTTP/1.1"):
            raise HTTPError(problem(400, "bad_host", "a request has exactly one Host"))
        if hosts and not _HOST.fullmatch(hosts[0]):
            raise HTTPError(problem(400, "bad_host", "the Host is malformed"))
        # RFC 9112, 6.1: Transfer-Encoding from an HTTP/1.0 client is faulty framing.
        if self._version != b"HTTP/1.1" and request.requestHeaders.hasHeader(b"Transfer-Encoding"):
            raise HTTPError(problem(400, "bad_framing", "HTTP/1.0 has no Transfer-Encoding"))

    def checkPersistence(self, request: Any, version: bytes) -> bool:
        if self.site.draining or version != b"HTTP/1.1":
            return False
        # RFC 9110, 7.6.1: a list, which may take several lines; Twisted reads the first, cut at its spaces.
        lines = request.requestHeaders.getRawHeaders(b"Connection", [])
        return all(token.strip().lower() != b"close" for line in lines for token in line.split(b","))

    # The body, and what comes after it.

    def rawDataReceived(self, data: bytes) -> None:
        self._body_received += len(data)
        super().rawDataReceived(data)

    def allContentReceived(self) -> None:
        if self._refused:
            return
        self._phase = "handling"
        self._set_deadline(None)
        if self._read_size:
            # Lines are split off what was read in a time that grows with its square.
            self.transport.bufferSize, self._read_size = self._read_size, 0
        super().allContentReceived()

    def requestDone(self, request: Any) -> None:
        self._phase = "idle"
        self._set_deadline(IDLE_TIMEOUT)
        super().requestDone(request)
        if self._input_ended and not self._busyReceiving:
            self.readConnectionLost()

    # Refusing.

    def _respondToBadRequestAndDisconnect(self) -> None:
        self.refuse(problem(400, "bad_request", "the request is malformed"))

    def refuse(self, answer: Response) -> None:
        """Response at once, read no more of the request, and close when the client has had time to read the answer."""
        if self._refused:
            return
        self._refused = True
        self.clearLineBuffer()
        for request in self.requests:
            request.abandon()
        command = self._command_or_none()
        self.site.answered(command, answer.code)
        self.transport.write(answer.to_bytes(head=command == b"HEAD", close=True))
        self._phase = "lingering"
        self._set_deadline(LINGER_TIMEOUT)
        linger(self.transport, self._networkProducer)

    def _command_or_none(self) -> bytes:
        return bytes(self.__dict__.get("_command", b"-"))


def linger(transport: Any, producer: Any = None) -> None:
    """Close our direction alone, and go on reading: a client that still sends gets to read the answer.

    RFC 9112, 9.6. Where a transport can't close one direction, it is closed whole.
    """
    if producer is not None:
        producer.unregisterProducer()
        producer.resumeProducing()
    if hasattr(transport, "loseWriteConnection"):
        transport.loseWriteConnection()
    else:
        transport.loseConnection()


class TurnedAway(Protocol):
    """A connection past the cap: 503 at once, and closed."""

    transport: ITransport | None

    def __init__(self, site: "EdgeSite") -> None:
        self._site = site
        self._timer: IDelayedCall | None = None

    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.write(unavailable("too_many_connections", "there are too many connections").to_bytes(close=True))
        self._site.answered(b"-", 503)
        self._timer = self._site.reactor.callLater(1.0, transport.abortConnection)
        linger(transport)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._site.turned_away -= 1
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

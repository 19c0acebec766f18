"""One client's connection: HTTP/1.1, stricter than Twisted's HTTPChannel, with deadlines and limits.

The limits and what happens past them are in docs/contract.md, "Connection behaviour". A rule of HTTP's own is named
where it is enforced.
"""

import re
from enum import Enum
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IHalfCloseableProtocol
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from zope.interface import implementer

from merlind.web.response import HTTPError, Response, problem
from merlind.web.server.interfaces import ConnectionOwner

IDLE_TIMEOUT = 60.0
"""Seconds that a connection may stay open without a request."""

HEADER_TIMEOUT = 20.0
"""Seconds from a request's first byte to the end of its headers."""

BODY_GRACE = 20.0
"""Seconds that a body may take in addition to those that its size takes at the minimum rate."""

LINGER_TIMEOUT = 5.0
"""Seconds that a refused client may go on sending, so that it reads the response and not a reset."""

LINGER_BYTES = 64 * 1024 * 1024
"""Bytes that a refused client may go on sending."""

MAX_HEADER = 16384
"""The largest request line and headers together, in bytes, line ends not counted."""

LONG_READ = 4096
"""Bytes read at once beyond which headers and body are split before they are parsed."""

LARGE_BODY = 64 * 1024
"""Bytes beyond which a body counts as large."""

LARGE_READ = 256 * 1024
"""Bytes to read from the socket at once while a large body comes in."""

# RFC 9110, section 7.2, and RFC 3986, section 3.2.2: a name or an address, and a port.
_HOST = re.compile(rb"(?:[A-Za-z0-9._~%!$&'()*+,;=-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
_ABSOLUTE = re.compile(rb"\Ahttps?://[^/?#]*", re.IGNORECASE)


class Phase(Enum):
    """What a connection does just now."""

    IDLE = "waiting for a request"
    HEADERS = "receiving a request line or headers"
    BODY = "receiving a body"
    HANDLING = "waiting for the response"
    LINGERING = "refused; reading on until the client has seen the response"
    CLOSING = "closed by us; the client has not closed yet"


@implementer(IHalfCloseableProtocol)
class EdgeChannel(HTTPChannel):
    """The protocol of one connection. It knows no routes: its requests ask the site's entry point."""

    site: ConnectionOwner
    transport: Any
    totalHeadersSize = MAX_HEADER
    MAX_LENGTH = MAX_HEADER
    maxHeaders = MAX_HEADER  # the size is limited, and so the number is
    _refused = False
    _drained = 0
    _timer: IDelayedCall | None = None
    _timer_at = 0.0
    _deadline: float | None = None
    _body_began = 0.0
    _body_received = 0
    _read_size = 0
    _phase = Phase.IDLE
    _input_ended = False

    # The deadline. A connection has one timer; if it fires before the deadline, it is set again for the rest.

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
        if self._phase is Phase.BODY:
            allowed = BODY_GRACE + self._body_received / self.site.min_rate
            left = self._body_began + allowed - self.site.reactor.seconds()
            if left > 0:
                self._set_deadline(left)
            else:
                self.refuse(problem(408, "too_slow", "the body came in too slowly"))
        elif self._phase is Phase.HEADERS:
            self.refuse(problem(408, "too_slow", "the headers came in too slowly"))
        elif self._phase is Phase.IDLE:
            self._phase = Phase.CLOSING
            self._set_deadline(LINGER_TIMEOUT)
            self.loseConnection()
        else:
            self.transport.abortConnection()

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
        """Respond to what the client has asked for, then close: it has closed its direction.

        A client that has gone away looks the same, so don't wait long.
        """
        self._input_ended = True
        if self._phase is Phase.HANDLING:
            self._set_deadline(LINGER_TIMEOUT)
        else:
            self.loseConnection()

    def writeConnectionLost(self) -> None:
        """Do nothing: ``linger`` closed our direction."""

    def dataReceived(self, data: bytes) -> None:
        if self._refused:
            self._drained += len(data)
            if self._drained > LINGER_BYTES:
                self.transport.abortConnection()
            return
        if self._phase is Phase.IDLE:
            self._phase = Phase.HEADERS
            self._set_deadline(HEADER_TIMEOUT)
        if self.line_mode and len(data) > LONG_READ and (end := data.find(b"\r\n\r\n", 0, MAX_HEADER)) >= 0:
            # Twisted splits lines off in time quadratic in what was read, so parse the headers without the body.
            super().dataReceived(data[: end + 4])
            data = data[end + 4 :]
        if data and not self._refused:
            super().dataReceived(data)
        if self._input_ended and not self._busyReceiving:
            self.readConnectionLost()  # it came while pipelined requests were waiting

    def close_if_idle(self) -> None:
        """Close the connection now, or with the response if a request is on it."""
        if self._phase is Phase.IDLE:
            self._phase = Phase.CLOSING
            self._set_deadline(LINGER_TIMEOUT)
            self.loseConnection()
        elif self._phase is not Phase.HEADERS:  # checkPersistence comes after the headers
            self.persistent = 0

    # The request line and the headers.

    def _reading_headers(self) -> bool:
        # Twisted keeps the parsed request line in _command until the request ends.
        return "_command" in self.__dict__

    def lineLengthExceeded(self, line: bytes) -> None:
        self._refuse_size()

    def _refuse_size(self) -> None:
        if self._reading_headers():
            self.refuse(problem(431, "headers_too_large", "the headers are too large"))
        else:
            self.refuse(problem(414, "uri_too_long", "the request line is too long"))

    def lineReceived(self, line: bytes) -> None:
        if self._phase is Phase.IDLE:  # it was read together with the request before it
            self._phase = Phase.HEADERS
            self._set_deadline(HEADER_TIMEOUT)
        if self._receivedHeaderSize + len(line) > self.totalHeadersSize:
            self._refuse_size()
        elif self._reading_headers() and line[:1] in (b" ", b"\t"):
            # RFC 9112, section 5.2: line folding is obsolete, and a server may refuse it.
            self._respondToBadRequestAndDisconnect()
        else:
            super().lineReceived(line)

    def _maybeChooseTransferDecoder(self, header: bytes, data: bytes) -> bool:
        if header == b"Content-Length" and data.isdigit():
            data = data.lstrip(b"0") or b"0"
            if len(data) > 15:
                # RFC 9110, section 8.6: anticipate large numbers. int() fails on thousands of digits.
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
                # RFC 9112, section 3.2.2: a server must accept the absolute form.
                self._path = target if target.startswith(b"/") else b"/" + target
            request.begin(self._command, self._path, self._version, self.length)
        except HTTPError as error:
            self.refuse(error.response)
            return
        if self.length == 0:
            return
        self._phase = Phase.BODY
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
        # RFC 9112, section 3.2: exactly one Host in HTTP/1.1, and a valid one.
        if len(hosts) > 1 or (not hosts and self._version == b"HTTP/1.1"):
            raise HTTPError(problem(400, "bad_host", "a request has exactly one Host"))
        if hosts and not _HOST.fullmatch(hosts[0]):
            raise HTTPError(problem(400, "bad_host", "the Host is malformed"))
        # RFC 9112, section 6.1: a server must treat Transfer-Encoding in HTTP/1.0 as faulty framing.
        if self._version != b"HTTP/1.1" and request.requestHeaders.hasHeader(b"Transfer-Encoding"):
            raise HTTPError(problem(400, "bad_framing", "HTTP/1.0 has no Transfer-Encoding"))

    def checkPersistence(self, request: Any, version: bytes) -> bool:
        if self.site.draining or version != b"HTTP/1.1":
            return False
        # RFC 9110, section 7.6.1: a list, in one or more lines. Twisted looks at the first line only.
        lines = request.requestHeaders.getRawHeaders(b"Connection", [])
        return all(token.strip().lower() != b"close" for line in lines for token in line.split(b","))

    # The body and the end of the request.

    def rawDataReceived(self, data: bytes) -> None:
        self._body_received += len(data)
        super().rawDataReceived(data)

    def allContentReceived(self) -> None:
        if self._refused:
            return
        self._phase = Phase.HANDLING
        self._set_deadline(None)
        if self._read_size:
            # Large reads are for bodies: Twisted splits lines off in time quadratic in what was read.
            self.transport.bufferSize, self._read_size = self._read_size, 0
        super().allContentReceived()

    def requestDone(self, request: Any) -> None:
        self._phase = Phase.IDLE
        self._set_deadline(IDLE_TIMEOUT)
        super().requestDone(request)
        if self._input_ended and not self._busyReceiving:
            self.readConnectionLost()

    # Refusing.

    def _respondToBadRequestAndDisconnect(self) -> None:
        self.refuse(problem(400, "bad_request", "the request is malformed"))

    def refuse(self, response: Response) -> None:
        """Respond now, ignore the rest of the request, and close once the client has had time to read the response."""
        if self._refused:
            return
        self._refused = True
        self.clearLineBuffer()
        for request in self.requests:
            request.abandon()
        command = self._command_or_none()
        self.site.responded(command, response.code)
        self.transport.write(response.to_bytes(head=command == b"HEAD", close=True))
        self._phase = Phase.LINGERING
        self._set_deadline(LINGER_TIMEOUT)
        linger(self.transport, self._networkProducer)

    def _command_or_none(self) -> bytes:
        return bytes(self.__dict__.get("_command", b"-"))


def linger(transport: Any, producer: Any = None) -> None:
    """Close our direction only and go on reading, so that a client that still sends can read the response.

    RFC 9112, section 9.6. A transport that can't close one direction, such as TLS, is closed whole.
    """
    if producer is not None:
        producer.unregisterProducer()
        producer.resumeProducing()
    if hasattr(transport, "loseWriteConnection"):
        transport.loseWriteConnection()
    else:
        transport.loseConnection()

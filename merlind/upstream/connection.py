"""One connection to the upstream: a state machine that carries one request at a time."""

import fcntl
import sys
import termios
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IPushProducer, ISystemHandle
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.policies import ProtocolWrapper
from twisted.python.failure import Failure
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

from merlind.core.outcome import Fault
from merlind.upstream.errors import OutcomeUnknown
from merlind.upstream.response_parser import BadResponse, ResponseParser, UpstreamResponse
from merlind.upstream.tls import describe


class ConnectionState(Enum):
    """What a connection is doing."""

    IDLE = "open, without a request"
    SENDING = "a part of the request is still in this process; the response may come already"
    RECEIVING = "the whole request has gone out; the response has not come yet"
    CLOSING = "aborted; the transport has not reported the end yet"
    CLOSED = "gone"


_IDLE, _SENDING, _RECEIVING, _CLOSING, _CLOSED = ConnectionState

TRANSITIONS = {
    _IDLE: {_SENDING, _CLOSING, _CLOSED},
    _SENDING: {_RECEIVING, _CLOSING, _CLOSED},
    _RECEIVING: {_IDLE, _CLOSING, _CLOSED},
    _CLOSING: {_CLOSED},
    _CLOSED: set(),
}
"""The states that may follow each state."""


@dataclass(slots=True)
class _Request:
    """The request that a connection carries: who waits for its response, its body, and the parser of the response."""

    response: "Deferred[UpstreamResponse]"
    body: "_BodySender | None"
    parser: ResponseParser


class Connection(Protocol):
    """An HTTP/1.1 client's connection. It always closes by abort.

    With TLS, ``loseConnection`` would wait for the peer's closure alert, for ever if none comes; and when we close,
    nothing of value is left to send. ``closed`` fires when the connection is gone; ``idle_since`` belongs to the pool.
    """

    transport: Any

    def __init__(self) -> None:
        self.state = ConnectionState.IDLE
        self.closed: Deferred[None] = Deferred()
        self.idle_since = 0.0
        self._request: _Request | None = None

    def _enter(self, state: ConnectionState) -> None:
        assert state in TRANSITIONS[self.state], f"{self.state} to {state}"
        self.state = state

    def connectionMade(self) -> None:
        # Else a small request may wait for the acknowledgement of the one before (Nagle's algorithm).
        if hasattr(self.transport, "setTcpNoDelay"):
            self.transport.setTcpNoDelay(True)

    def send(self, head: Sequence[bytes], body: IBodyProducer | None = None) -> "Deferred[UpstreamResponse]":
        """Send a request: ``head``, which may contain all of it, and then what ``body`` produces.

        Fails with OutcomeUnknown, BadResponse, or as the body does. Cancelling it aborts the connection.
        """
        self._enter(_SENDING)
        sender = None if body is None else _BodySender(body, self.transport, self._all_sent, self._fail)
        response: Deferred[UpstreamResponse] = Deferred(self._cancel)
        self._request = _Request(response, sender, ResponseParser())
        self.transport.writeSequence(head)
        if sender is None:
            self._enter(_RECEIVING)
        else:
            sender.start()
        return response

    def _all_sent(self) -> None:
        self._enter(_RECEIVING)

    def dataReceived(self, data: bytes) -> None:
        if self._request is None:
            # Nobody asked for this, and it must not become the response to the next request.
            self._close()
            return
        try:
            response = self._request.parser.feed(data)
        except BadResponse as error:
            self._fail(Failure(error))
        else:
            if response is not None:
                self._succeed(response)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._enter(_CLOSED)
        if self._request is not None:
            try:
                # An error of the connection leaves a response incomplete that only its end delimits, and so does TLS
                # without a closure alert, which comes as ConnectionLost (RFC 9112, sections 8 and 9.8).
                if reason.check(ConnectionDone) is None:
                    raise BadResponse("connection lost")
                response = self._request.parser.end()
            except BadResponse:
                self._fail(Failure(_outcome_unknown(reason.value)))
            else:
                self._succeed(response)
        self.closed.callback(None)

    def _succeed(self, response: UpstreamResponse) -> None:
        request = self._end_request()
        assert request is not None, "the parser belongs to a request"
        if self._reusable(request, response):
            self._enter(_IDLE)
        else:
            self._close()
        request.response.callback(response)

    def _reusable(self, request: _Request, response: UpstreamResponse) -> bool:
        """Whether the next request may use this connection.

        Never while a part of the request is still on its way: a server that responds early may read no further. That
        all of it has arrived doesn't mean that it was read: a server that refuses a photo may not have done so, and
        after an upload only a success counts.
        """
        if self.state is not _RECEIVING or not response.keep_alive:
            return False
        return request.body is None or (200 <= response.status < 300 and not _unacknowledged(self.transport))

    def _fail(self, failure: Failure) -> None:
        request = self._end_request()
        self._close()
        if request is not None:
            request.response.errback(failure)

    def _end_request(self) -> _Request | None:
        request, self._request = self._request, None
        if request is not None and request.body is not None:
            request.body.stopProducing()
        return request

    def _close(self) -> None:
        if self.state not in (_CLOSING, _CLOSED):
            self._enter(_CLOSING)
            self.transport.abortConnection()

    def abort(self) -> None:
        """Close the connection now; a request that it carries fails with OutcomeUnknown."""
        self._fail(Failure(OutcomeUnknown()))

    def _cancel(self, _: object) -> None:
        self._end_request()
        self._close()


def _outcome_unknown(error: BaseException | None) -> OutcomeUnknown:
    """Return what to report of a connection that ended by ``error`` during a request."""
    words = describe(error)
    # A server that wants a certificate of ours may say so as late as this (RFC 8446, section 4.4.2.4).
    if words is not None and "alert" in words:
        return OutcomeUnknown(f"TLS trouble: {words}", Fault.MISCONFIGURED)
    return OutcomeUnknown()


def _unacknowledged(transport: Any) -> int:
    """Return how many sent bytes the peer's system has not acknowledged, or 0 where our system can't tell.

    With its response, at the latest, a server acknowledges all that it has read (tcp(7), SIOCOUTQ).
    """
    while isinstance(transport, ProtocolWrapper):
        transport = transport.transport  # TLS wraps the transport that has the socket
    if not ISystemHandle.providedBy(transport):
        return 0
    connection: Any = transport.getHandle()
    try:
        count: bytes = fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4))
    except OSError:
        return 0
    return int.from_bytes(count, sys.byteorder)


@implementer(IPushProducer)
class _BodySender:
    """Sends a request's body as fast as the transport takes it.

    Calls ``sent`` when all of it has left the transport's buffer, as far as can be told: a transport asks its producer
    to pause when it holds more than 64 KiB, and to resume when it holds nothing. Calls ``failed`` if the body fails.
    """

    def __init__(
        self, body: IBodyProducer, transport: Any, sent: Callable[[], None], failed: Callable[[Failure], None]
    ) -> None:
        self._body: IBodyProducer | None = body
        self._transport = transport
        self._sent = sent
        self._failed = failed
        self._registered = False
        self._paused = False

    def start(self) -> None:
        body = self._body
        assert body is not None, "started once"
        self._registered = True
        self._transport.registerProducer(self, True)
        body.startProducing(self._transport).addCallbacks(self._produced, self._not_produced)

    def _produced(self, _: object) -> None:
        self._body = None
        if not self._paused:
            self._finish()

    def _not_produced(self, failure: Failure) -> None:
        self._body = None
        self._failed(failure)

    def _finish(self) -> None:
        self._unregister()
        self._sent()

    def _unregister(self) -> None:
        if self._registered:
            self._registered = False
            self._transport.unregisterProducer()

    def pauseProducing(self) -> None:
        self._paused = True
        if self._body is not None:
            self._body.pauseProducing()

    def resumeProducing(self) -> None:
        self._paused = False
        if self._body is not None:
            self._body.resumeProducing()
        elif self._registered:
            self._finish()

    def stopProducing(self) -> None:
        """Stop for good: the transport calls it when the connection is lost, the connection when a request ends."""
        self._unregister()
        body, self._body = self._body, None
        if body is not None:
            body.stopProducing()

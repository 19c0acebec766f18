"""The HTTP/1.1 agent for one server: keeps idle connections, and bounds every response.

It stands in place of Twisted's Agent for two reasons. Polls are most of the requests, and this one sends a poll for a
third of the CPU time. And no response can grow: head and body are read whole, up to MAX_RESPONSE bytes. It keeps no
cookies, follows no redirects, and sends no request twice.
"""

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.interfaces import IDelayedCall, IProtocol, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from merlind.upstream.connection import Connection, ConnectionState
from merlind.upstream.errors import NoConnection
from merlind.upstream.response_parser import UpstreamResponse
from merlind.upstream.tls import TlsEndpoint

IDLE_TIMEOUT = 15.0
"""Seconds after which an idle connection is closed: sooner than servers do, so that no request meets a closing one."""

_PORTS = {"http": 80, "https": 443}
_OURS = frozenset({b"accept-encoding", b"connection", b"content-length", b"host", b"transfer-encoding"})
"""The header fields that the agent sets by itself, whatever it is given."""


@implementer(IAgent)
class KeepAliveAgent:
    """Sends requests to ``url``, and to nothing else.

    ``send`` takes a prepared request. ``request`` makes it an agent that treq can use.
    """

    def __init__(self, reactor: Any, url: str) -> None:
        self._reactor: IReactorTime = reactor
        self._endpoint = _endpoint_for(reactor, url)
        self._factory = Factory.forProtocol(Connection)
        self._factory.noisy = False
        self._open: set[Connection] = set()
        self._idle: list[Connection] = []
        self._reaper: IDelayedCall | None = None
        parts = urlsplit(url)
        self.url = url
        self.target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self.host = parts.netloc.rpartition("@")[2]

    def send(self, head: Sequence[bytes], body: IBodyProducer | None = None) -> "Deferred[UpstreamResponse]":
        """Send a request: ``head``, which may contain all of it, and then what ``body`` produces.

        Fires with the complete response. Fails with NoConnection, OutcomeUnknown, BadResponse, or as the body does.
        Cancelling it closes the connection.
        """
        while self._idle:
            connection = self._idle.pop()
            if connection.state is ConnectionState.IDLE:
                return self._send(connection, head, body)
        connecting: Deferred[Any] = self._endpoint.connect(self._factory)
        connecting.addCallbacks(self._connected, _not_connected)
        return connecting.addCallback(self._send, head, body)

    def request(
        self, method: bytes, uri: bytes, headers: Headers | None = None, bodyProducer: IBodyProducer | None = None
    ) -> "Deferred[IResponse]":
        """Send a request with a body of known length to our URL: ``uri`` is ignored. Fires and fails as ``send`` does.

        The response is a CompleteResponse.
        """
        if bodyProducer is None or bodyProducer.length == UNKNOWN_LENGTH:
            raise ValueError("a body of known length is needed")
        lines = [
            b"%s %s HTTP/1.1" % (method, self.target.encode("ascii")),
            b"Host: " + self.host.encode("ascii"),
            b"Accept-Encoding: identity",
            b"Content-Length: %d" % bodyProducer.length,
        ]
        for name, values in (headers or Headers()).getAllRawHeaders():
            if name.lower() not in _OURS:
                lines += [name + b": " + value for value in values]
        response: Deferred[Any] = self.send((b"\r\n".join(lines) + b"\r\n\r\n",), bodyProducer)
        return response.addCallback(CompleteResponse)

    def _connected(self, connection: Connection) -> Connection:
        self._open.add(connection)
        connection.closed.addBoth(lambda _: self._open.discard(connection))
        return connection

    def _send(
        self, connection: Connection, head: Sequence[bytes], body: IBodyProducer | None
    ) -> "Deferred[UpstreamResponse]":
        return connection.send(head, body).addCallback(self._responded, connection)

    def _responded(self, response: UpstreamResponse, connection: Connection) -> UpstreamResponse:
        if connection.state is ConnectionState.IDLE:
            connection.idle_since = self._reactor.seconds()
            self._idle.append(connection)
            if self._reaper is None:
                self._reaper = self._reactor.callLater(IDLE_TIMEOUT, self._reap)
        return response

    def _reap(self) -> None:
        """Close the connections that have been idle for too long: they stand first."""
        self._reaper = None
        now = self._reactor.seconds()
        while self._idle and self._idle[0].idle_since + IDLE_TIMEOUT <= now:
            self._idle.pop(0).abort()
        if self._idle:
            self._reaper = self._reactor.callLater(self._idle[0].idle_since + IDLE_TIMEOUT - now, self._reap)

    def close(self) -> "Deferred[Any]":
        """Close all connections; fires when they are closed. Requests in flight fail with OutcomeUnknown."""
        if self._reaper is not None:
            self._reaper.cancel()
            self._reaper = None
        self._idle.clear()
        connections = list(self._open)
        for connection in connections:
            connection.abort()
        # A caller who doesn't want to wait any longer cancels it, and with it all of these.
        return DeferredList([connection.closed for connection in connections], consumeErrors=True)


def _endpoint_for(reactor: Any, url: str) -> IStreamClientEndpoint:
    parts = urlsplit(url)
    host = parts.hostname or ""
    endpoint: IStreamClientEndpoint = HostnameEndpoint(reactor, host, parts.port or _PORTS[parts.scheme])
    return TlsEndpoint(reactor, host, endpoint) if parts.scheme == "https" else endpoint


def _not_connected(failure: Failure) -> Failure:
    # Endpoints have an error of their own for it, which Deferred.addTimeout doesn't know.
    if failure.check(CancelledError, ConnectingCancelledError):
        return Failure(CancelledError())
    if failure.check(NoConnection):
        return failure
    return Failure(NoConnection(type(failure.value).__name__))


@implementer(IResponse)
class CompleteResponse:
    """An UpstreamResponse as treq wants it. It shows no header: nothing that treq could decode, keep or follow."""

    version = (b"HTTP", 1, 1)
    phrase = b""
    request = None
    previousResponse = None

    def __init__(self, response: UpstreamResponse) -> None:
        self.response = response
        self.code = response.status
        self.length = len(response.body)
        self.headers = Headers()

    def deliverBody(self, protocol: IProtocol) -> None:
        protocol.dataReceived(self.response.body)
        protocol.connectionLost(Failure(ResponseDone()))

    def setPreviousResponse(self, response: IResponse) -> None:
        """There is none: no redirect is followed."""

"""The HTTP/1.1 agent that the upstream's client uses: keeps connections, and bounds every answer before it is believed.

One small agent in place of Twisted's, for two reasons. A poll is most of what merlind sends, and costs a third of what
it does through the general one. And nothing of an answer is unbounded here: it is read whole, headers and body, up to
MAX_ANSWER bytes; no encoding is undone, no cookie kept, no redirect followed, no request sent twice.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.iweb import IBodyProducer

from merlind.upstream.response_parser import BadResponse, ResponseParser, UpstreamResponse

IDLE_TIMEOUT = 15.0
"""Seconds after which an idle connection is closed: before a server does, so that no request meets its end."""


class OutcomeUnknown(Exception):
    """The connection ended under a request: whether the upstream took it, only the upstream knows."""


class KeepAliveAgent:
    """Exchanges with the server of one URL."""

    def __init__(self, reactor: Any, url: str) -> None:
        self._reactor: IReactorTime = reactor
        self._url = url
        self._factory = Factory.forProtocol(_Connection)
        self._factory.noisy = False
        self._idle: list[_Connection] = []
        self._reaper: IDelayedCall | None = None
        parts = urlsplit(url)
        self.target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self.host = parts.netloc.rpartition("@")[2]

    @cached_property
    def _endpoint(self) -> IStreamClientEndpoint:
        return _endpoint_for(self._reactor, self._url)

    def load(self) -> None:
        """Get ready to connect now, and not with the first exchange."""
        self._endpoint  # noqa: B018

    def exchange(self, request: Sequence[bytes], body: IBodyProducer | None = None) -> "Deferred[UpstreamResponse]":
        """Send a request, all that there is of it in memory and then what ``body`` produces, and read its answer whole.

        Fails with OutcomeUnknown, BadAnswer, or what kept the connection from being made. Cancelling it closes the
        connection.
        """
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return self._send(connection, request, body)
        connecting: Deferred[Any] = self._endpoint.connect(self._factory)
        return connecting.addCallback(self._send, request, body)

    def _send(
        self, connection: "_Connection", request: Sequence[bytes], body: IBodyProducer | None
    ) -> "Deferred[UpstreamResponse]":
        return connection.send(request, body).addCallback(self._answered, connection)

    def _answered(self, answer: UpstreamResponse, connection: "_Connection") -> UpstreamResponse:
        if connection.usable:
            connection.idle_since = self._reactor.seconds()
            self._idle.append(connection)
            if self._reaper is None:
                self._reaper = self._reactor.callLater(IDLE_TIMEOUT, self._reap)
        return answer

    def _reap(self) -> None:
        """Close what was idle for too long; the longest idle stand first."""
        self._reaper = None
        now = self._reactor.seconds()
        while self._idle and self._idle[0].idle_since + IDLE_TIMEOUT <= now:
            self._idle.pop(0).close()
        if self._idle:
            self._reaper = self._reactor.callLater(self._idle[0].idle_since + IDLE_TIMEOUT - now, self._reap)

    def close(self) -> "Deferred[Any]":
        """Close the idle connections; fires when they are."""
        if self._reaper is not None:
            self._reaper.cancel()
            self._reaper = None
        idle, self._idle = self._idle, []
        return DeferredList([connection.close() for connection in idle])


class _Connection(Protocol):
    """One connection, for one exchange at a time."""

    transport: Any
    idle_since = 0.0
    _parser: ResponseParser | None = None
    _done: "Deferred[UpstreamResponse] | None" = None
    _body: IBodyProducer | None = None
    _sending: "Deferred[None] | None" = None
    _closed: "Deferred[None] | None" = None

    def connectionMade(self) -> None:
        self.usable = True
        if hasattr(self.transport, "setTcpNoDelay"):
            self.transport.setTcpNoDelay(True)

    def send(self, request: Sequence[bytes], body: IBodyProducer | None) -> "Deferred[UpstreamResponse]":
        """Send a request; fires with its answer."""
        self._parser = ResponseParser()
        done = self._done = Deferred(lambda _: self._abort())
        self.transport.writeSequence(request)
        if body is not None:
            self._body = body
            self.transport.registerProducer(body, True)
            self._sending = body.startProducing(self.transport)
            self._sending.addCallbacks(self._sent, self._not_sent)
        return done

    def _sent(self, _: None) -> None:
        self._body = None
        if self.transport is not None:
            self.transport.unregisterProducer()

    def _not_sent(self, failure: Failure) -> None:
        self._end(failure)

    def dataReceived(self, data: bytes) -> None:
        if self._parser is None:
            self._abort()  # nobody asked
            return
        try:
            answer = self._parser.feed(data)
        except BadResponse as error:
            self._end(Failure(error))
        else:
            if answer is not None:
                self._end(answer)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.usable = False
        if self._parser is not None:
            try:
                self._end(self._parser.end())
            except BadResponse:
                self._end(Failure(OutcomeUnknown()))
        if self._closed is not None:
            self._closed.callback(None)

    def _end(self, result: "UpstreamResponse | Failure") -> None:
        """The exchange is over, well or not."""
        done, self._done, self._parser = self._done, None, None
        if isinstance(result, Failure) or self._body is not None:
            self._abort()
        elif not result.keep_alive:
            self.usable = False
            self.transport.loseConnection()
        if done is not None and not done.called:
            done.callback(result)

    def _abort(self) -> None:
        self.usable = False
        self._parser = None
        if self._body is not None:
            body, self._body = self._body, None
            self.transport.unregisterProducer()
            body.stopProducing()
        self.transport.abortConnection()

    def close(self) -> "Deferred[None]":
        """Close it; fires when it is."""
        if not self.usable:
            return succeed(None)
        self.usable = False
        self._closed = Deferred()
        self.transport.loseConnection()
        return self._closed


_PORTS = {"http": 80, "https": 443}


def _endpoint_for(reactor: Any, url: str) -> IStreamClientEndpoint:
    # Imported with the first exchange, see listen.py.
    from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
    from twisted.internet.ssl import optionsForClientTLS

    parts = urlsplit(url)
    host = parts.hostname or ""
    endpoint: IStreamClientEndpoint = HostnameEndpoint(reactor, host, parts.port or _PORTS[parts.scheme])
    return wrapClientTLS(optionsForClientTLS(host), endpoint) if parts.scheme == "https" else endpoint

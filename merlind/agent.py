"""The HTTP agent that the upstream's client uses: keeps connections, and believes no answer's size or encoding."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.ssl import optionsForClientTLS
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.web.client import URI, Agent, HTTPConnectionPool
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IAgentEndpointFactory, IBodyProducer, IResponse
from zope.interface import implementer

MAX_RECEIVED = 256 * 1024
"""The most bytes that are read after the last byte sent: headers and body of one answer."""


def make_pool(reactor: Any, connections: int) -> HTTPConnectionPool:
    """A pool that keeps up to ``connections`` idle connections, and never sends a request again by itself."""
    pool = HTTPConnectionPool(reactor, persistent=True)
    pool.maxPersistentPerHost = connections
    pool.retryAutomatically = False
    return pool


@implementer(IAgent)
class PlainAgent:
    """Asks for no content encoding, and takes an encoded answer as the bytes it is; keeps no cookies.

    treq's client decompresses whatever says that it is compressed: 306 KB became 300 MB. It sits above this agent and
    never gets to know.
    """

    def __init__(self, reactor: Any, pool: HTTPConnectionPool) -> None:
        self._agent = Agent.usingEndpointFactory(reactor, _Endpoints(reactor), pool)

    def request(
        self, method: bytes, uri: bytes, headers: Headers | None = None, bodyProducer: IBodyProducer | None = None
    ) -> "Deferred[IResponse]":
        headers = Headers() if headers is None else headers.copy()
        headers.removeHeader("Accept-Encoding")
        d: Deferred[IResponse] = self._agent.request(method, uri, headers, bodyProducer)
        return d.addCallback(_plain)


def _plain(response: IResponse) -> IResponse:
    response.headers.removeHeader("Content-Encoding")
    response.headers.removeHeader("Set-Cookie")
    return response


@implementer(IAgentEndpointFactory)
class _Endpoints:
    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        host = uri.host.decode("ascii").strip("[]")
        endpoint: IStreamClientEndpoint = HostnameEndpoint(self._reactor, host, uri.port)
        if uri.scheme == b"https":
            endpoint = wrapClientTLS(optionsForClientTLS(host), endpoint)
        return _BoundedEndpoint(endpoint)


@implementer(IStreamClientEndpoint)
class _BoundedEndpoint:
    """An endpoint whose connections are cut when they receive more than MAX_RECEIVED at a stretch."""

    def __init__(self, endpoint: IStreamClientEndpoint) -> None:
        self._endpoint = endpoint

    def connect(self, factory: IProtocolFactory) -> "Deferred[IProtocol]":
        d: Deferred[Any] = self._endpoint.connect(_BoundedFactory(factory))
        return d.addCallback(lambda wrapper: wrapper.wrappedProtocol)


class _BoundedProtocol(ProtocolWrapper):
    received = 0

    def write(self, data: bytes) -> None:
        self.received = 0
        super().write(data)

    def writeSequence(self, data: Any) -> None:
        self.received = 0
        super().writeSequence(data)

    def dataReceived(self, data: bytes) -> None:
        self.received += len(data)
        if self.received > MAX_RECEIVED:
            self.abortConnection()
        else:
            super().dataReceived(data)


class _BoundedFactory(WrappingFactory):
    protocol = _BoundedProtocol

    def doStart(self) -> None:
        """No log line for each connection."""

    def doStop(self) -> None:
        """None for its end either."""

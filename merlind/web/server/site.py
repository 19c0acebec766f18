"""The public HTTP server: accepts connections up to a limit, and counts and logs each response."""

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime, ITransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.server import Site

from merlind.daemon.metrics import Metrics
from merlind.settings import MAX_REFUSED_CONNECTIONS
from merlind.web.response import unavailable
from merlind.web.server.channel import EdgeChannel, linger
from merlind.web.server.interfaces import Entry
from merlind.web.server.request import EdgeRequest

REFUSED_TIMEOUT = 1.0
"""Seconds that a connection past the limit may stay open, to read its response."""


class EdgeSite(Site):
    """The factory of the public listener's connections.

    ``entry`` says what requests are for. ``max_connections`` may be open at once; ``min_rate`` is the slowest that a
    body may come in, in bytes a second.
    """

    noisy = False
    protocol: Any = EdgeChannel
    _logger = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        entry: Entry,
        metrics: Metrics,
        max_connections: int,
        min_rate: int,
    ) -> None:
        super().__init__(
            entry.resource, requestFactory=EdgeRequest, timeout=None, reactor=reactor, parsePOSTFormSubmission=False
        )
        self.entry = entry
        self.min_rate = min_rate
        self.draining = False
        self.refused_connections = 0
        """How many connections past the limit are open, to be told so."""
        self._metrics = metrics
        self._max_connections = max_connections
        self._open: set[EdgeChannel] = set()
        self._drained: Deferred[None] | None = None

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._open)

    def buildProtocol(self, addr: IAddress | None) -> Any:
        if len(self._open) < self._max_connections:
            return super().buildProtocol(addr)
        if self.refused_connections < min(MAX_REFUSED_CONNECTIONS, self._max_connections):
            self.refused_connections += 1
            return RefusedConnection(self)
        return None

    def opened(self, connection: EdgeChannel) -> None:
        """Count a new connection."""
        self._open.add(connection)

    def closed(self, connection: EdgeChannel) -> None:
        """Forget a connection."""
        self._open.discard(connection)
        if self._drained is not None and not self._open and not self._drained.called:
            self._drained.callback(None)

    def drain(self) -> "Deferred[None]":
        """Close idle connections now, and the others with their response. Fires when no connection is open."""
        self.draining = True
        self._drained = Deferred()
        for connection in list(self._open):
            connection.close_if_idle()
        return self._drained if self._open else succeed(None)

    def log(self, request: Any) -> None:
        self.responded(request.method, request.code, self.reactor.seconds() - request.began)

    def responded(self, method: bytes, code: int, seconds: float = 0.0) -> None:
        """Count and log a response that took ``seconds``. The log has no address, no query and no name in it."""
        self._metrics.request(method, code)
        self._logger.info("{method} {code} {ms} ms", method=method.decode("ascii"), code=code, ms=int(seconds * 1000))

    def startFactory(self) -> None:
        """Open no log file: Twisted's access log would have addresses and queries in it."""

    def stopFactory(self) -> None:
        """Do nothing: there is no log file to close."""


class RefusedConnection(Protocol):
    """A connection past the limit: it gets a 503 without being asked for anything, and is closed."""

    transport: ITransport | None

    def __init__(self, site: EdgeSite) -> None:
        self._site = site
        self._timer: IDelayedCall | None = None

    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.write(unavailable("too_many_connections", "there are too many connections").to_bytes(close=True))
        self._site.responded(b"-", 503)
        self._timer = self._site.reactor.callLater(REFUSED_TIMEOUT, transport.abortConnection)
        linger(transport)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._site.refused_connections -= 1
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

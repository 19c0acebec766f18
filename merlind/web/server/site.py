"""The public HTTP server: accepts connections up to a limit, and counts and logs each response."""

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from merlind.daemon.metrics import Metrics
from merlind.settings import MAX_REFUSED_CONNECTIONS
from merlind.web.response import METHODS, unavailable
from merlind.web.server.connection import Connection
from merlind.web.server.head import Head
from merlind.web.server.interfaces import Entry
from merlind.web.server.refused import Refusals

_NAMES = {method: method.decode("ascii") for method in METHODS}
"""The methods by which responses are counted and logged; all others are one: a client could make up endless ones."""


class EdgeSite(Factory):
    """The factory of a listener's connections.

    ``entry`` says what requests are for. ``max_connections`` may be open at once; ``min_rate`` is the slowest that a
    body may come in, in bytes a second, and ``upload_timeout`` the longest that it may take, in seconds.
    """

    noisy = False
    _logger = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        entry: Entry,
        metrics: Metrics,
        max_connections: int,
        min_rate: int,
        upload_timeout: float,
    ) -> None:
        self.reactor = reactor
        self.entry = entry
        self.min_rate = min_rate
        self.upload_timeout = upload_timeout
        self.draining = False
        self.refusals = Refusals(reactor, min(MAX_REFUSED_CONNECTIONS, max_connections))
        self._metrics = metrics
        self._max_connections = max_connections
        self._open: set[Connection] = set()
        self._drained: Deferred[None] | None = None

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._open)

    def buildProtocol(self, addr: IAddress | None) -> Any:
        if len(self._open) < self._max_connections:
            return Connection(self)
        refused = self.refusals.refuse(unavailable("too_many_connections", "there are too many connections"))
        if refused is not None:
            self.responded(b"-", 503)
        return refused

    def client_of(self, peer: IAddress, head: Head) -> str:
        """Return who sent a request, for the limits by client."""
        return str(getattr(peer, "host", ""))

    def opened(self, connection: Connection) -> None:
        """Count a new connection."""
        self._open.add(connection)

    def closed(self, connection: Connection) -> None:
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

    def responded(self, method: bytes, code: int, seconds: float = 0.0) -> None:
        """Count and log a response that took ``seconds``. The log has no address, no query and no name in it."""
        name = _NAMES.get(method, "other")
        self._metrics.request(name, code)
        self._logger.info("{method} {code} {ms} ms", method=name, code=code, ms=int(seconds * 1000))

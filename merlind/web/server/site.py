"""The HTTP server of a listener: accepts connections up to its limits."""

from collections.abc import Callable
from typing import Any

from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IProtocolNegotiationFactory, IReactorTime
from twisted.internet.protocol import Factory
from zope.interface import implementer

from merlind.web.refusals import over_limit
from merlind.web.response import Response, unavailable
from merlind.web.server.admission import Admission
from merlind.web.server.connection import Connection
from merlind.web.server.interfaces import ConnectionLimits, Entry
from merlind.web.server.refused import Refusals, RefusedConnection

_FULL = unavailable("too_many_connections", "there are too many connections")


@implementer(IProtocolNegotiationFactory)
class EdgeSite(Factory):
    """The factory of a listener's connections. ``entry`` says what requests are for.

    ``on_response`` is told of each response, and ``on_refused(limit, by)`` of each connection past a limit.
    """

    noisy = False

    def __init__(
        self,
        reactor: IReactorTime,
        entry: Entry,
        limits: ConnectionLimits,
        admission: Admission,
        on_response: Callable[[bytes, Response, float], None],
        on_refused: Callable[[str, str], None],
    ) -> None:
        self.reactor = reactor
        self.entry = entry
        self.limits = limits
        self.on_response = on_response
        self.draining = False
        self.refusals = Refusals(reactor, min(limits.refused, limits.connections))
        self._admission = admission
        self._on_refused = on_refused
        self._open: set[Connection] = set()
        self._drained: Deferred[None] | None = None

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._open)

    def acceptableProtocols(self) -> list[bytes]:
        """Return what TLS may offer (RFC 7301): without it, clients that ask for HTTP by name get no connection."""
        return [b"http/1.1"]

    def buildProtocol(self, addr: IAddress | None) -> Any:
        peer: str | None = getattr(addr, "host", None)
        if len(self._open) >= self.limits.connections:
            return self._refuse(_FULL, "server")
        if (error := self._admission.full(peer)) is not None:
            return self._refuse(over_limit(error), error.by)
        return Connection(self, self._admission.admit(peer), isinstance(addr, UNIXAddress))

    def _refuse(self, response: Response, by: str) -> RefusedConnection | None:
        self._on_refused("connections", by)
        refused = self.refusals.refuse(response)
        if refused is not None:
            self.on_response(b"-", response, 0.0)
        return refused

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

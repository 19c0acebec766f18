"""A connection past a limit, which is told so and closed."""

from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from merlind.web.response import Response
from merlind.web.server.linger import linger

REFUSED_TIMEOUT = 1.0
"""Seconds that a connection past a limit may stay open, to read its response."""


class Refusals:
    """The connections past a limit that are open, ``most`` at a time."""

    def __init__(self, reactor: IReactorTime, most: int) -> None:
        self.reactor = reactor
        self.most = most
        self.open = 0
        """How many there are."""

    def refuse(self, response: Response) -> "RefusedConnection | None":
        """Return a protocol that sends a response and closes; None, which closes at once, if there are too many."""
        if self.open >= self.most:
            return None
        self.open += 1
        return RefusedConnection(self, response)


class RefusedConnection(Protocol):
    """The protocol of a connection past a limit: it gets a response without being asked for anything."""

    transport: Any

    def __init__(self, refusals: Refusals, response: Response) -> None:
        self._refusals = refusals
        self._response = response
        self._timer: IDelayedCall | None = None

    def connectionMade(self) -> None:
        self.transport.write(self._response.to_bytes(close=True))
        self._timer = self._refusals.reactor.callLater(REFUSED_TIMEOUT, self.transport.abortConnection)
        linger(self.transport)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._refusals.open -= 1
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self.transport = self._timer = None

"""Listening where the description of an endpoint says.

Plain TCP, which is what most ask for, does without Twisted's endpoints: importing them takes a fiftieth of a start.
"""

import re
from typing import Any

from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.python.failure import Failure

BACKLOG = 1024
"""How many connections may queue to be taken, unless an endpoint says otherwise: Twisted's 50 are too few for a burst,
and who finds the queue full tries again after a second."""

_PLAIN = re.compile(r"tcp:(?:port=)?([0-9]{1,5})(?::interface=([0-9.]*))?", re.ASCII)


def check(description: str) -> None:
    """See whether a description is one of an endpoint. Raises whatever the endpoint's own parser does."""
    if not _PLAIN.fullmatch(description):
        from twisted.internet import reactor
        from twisted.internet.endpoints import serverFromString

        serverFromString(reactor, description)


def listen(reactor: Any, description: str, factory: IProtocolFactory) -> IListeningPort:
    """Take the port that an endpoint describes. Raises CannotListenError, or whatever the endpoint fails with."""
    plain = _PLAIN.fullmatch(description)
    if plain is not None:
        port: IListeningPort = reactor.listenTCP(int(plain[1]), factory, backlog=BACKLOG, interface=plain[2] or "")
        return port
    from twisted.internet.endpoints import serverFromString

    queued = description.startswith(("tcp", "ssl")) and "backlog=" not in description
    endpoint = serverFromString(reactor, f"{description}:backlog={BACKLOG}" if queued else description)
    taken: list[IListeningPort | Failure] = []
    endpoint.listen(factory).addBoth(taken.append)
    # TCP, UNIX, TLS and systemd endpoints all listen at once, or fail at once.
    if isinstance(taken[0], Failure):
        taken[0].raiseException()
    return taken[0]

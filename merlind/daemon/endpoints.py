"""Server endpoints: where to listen, as Twisted describes it, such as ``tcp:8000:interface=127.0.0.1``."""

from typing import Any

from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.python.failure import Failure

BACKLOG = 1024
"""How many connections may wait to be accepted, unless a description says otherwise.

Twisted's 50 are too few for a burst: a client that finds the queue full tries again only after a second.
"""


def with_backlog(description: str) -> str:
    """Add BACKLOG to the description of a TCP or TLS endpoint that has no backlog."""
    if not description.startswith(("tcp", "ssl")) or "backlog=" in description:
        return description
    return f"{description}:backlog={BACKLOG}"


def listen(reactor: Any, description: str, factory: IProtocolFactory) -> IListeningPort:
    """Listen where a description says. Raises SystemExit, with one line that says why, if that can't be done."""
    results: list[IListeningPort | Failure] = []
    try:
        serverFromString(reactor, with_backlog(description)).listen(factory).addBoth(results.append)
        # TCP, TLS, UNIX and systemd endpoints listen, or fail, before listen returns.
        port = results[0]
        if isinstance(port, Failure):
            port.raiseException()
    except Exception as error:
        # An endpoint may raise anything.
        why = error.socketError if isinstance(error, CannotListenError) else error
        raise SystemExit(f"merlind: cannot listen on {description}: {why}") from None
    return port

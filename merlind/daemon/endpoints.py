"""Server endpoints: where to listen, as Twisted describes it, such as ``tcp:8000:interface=127.0.0.1``.

``haproxy:tcp:8000`` reads the PROXY protocol, versions 1 and 2: then a connection's peer is the proxy's client, as
soon as its header is read, which is before anything else arrives. Until then, and if it names nobody, it is the proxy.
"""

from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IListeningPort, IProtocolFactory, IProtocolNegotiationFactory
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

BACKLOG = 1024
"""How many connections may wait to be accepted, unless a description says otherwise.

Twisted's 50 are too few for a burst: a client that finds the queue full tries again only after a second.
"""


def with_backlog(description: str) -> str:
    """Add BACKLOG to the description of a TCP or TLS endpoint that has no backlog, behind ``haproxy:`` too."""
    if not description.removeprefix("haproxy:").startswith(("tcp", "ssl")) or "backlog=" in description:
        return description
    return f"{description}:backlog={BACKLOG}"


def where(description: str, host: IAddress) -> str:
    """Return where clients find a listening port, as a URL if it has one. ``host`` is the port's own address."""
    if not isinstance(host, (IPv4Address, IPv6Address)):
        return description
    scheme = "https" if description.removeprefix("haproxy:").startswith("ssl") else "http"
    if host.host in ("", "0.0.0.0", "::"):
        return f"{scheme}://localhost:{host.port}/ (on all addresses)"
    name = f"[{host.host}]" if isinstance(host, IPv6Address) else host.host
    return f"{scheme}://{name}:{host.port}/"


class _Closes(Protocol):
    """Closes its connection at once."""

    transport: Any

    def connectionMade(self) -> None:
        self.transport.abortConnection()


@implementer(IProtocolNegotiationFactory)
class _NeverNone(Factory):
    """A factory that closes the connections that ``factory`` wants none of, for which it makes no protocol.

    TLS and the PROXY protocol wrap the factory, and Twisted's wrappers fail without a protocol to wrap.
    """

    noisy = False

    def __init__(self, factory: IProtocolFactory) -> None:
        self._factory: Any = factory

    def logPrefix(self) -> str:
        return type(self._factory).__name__

    def doStart(self) -> None:
        self._factory.doStart()

    def doStop(self) -> None:
        self._factory.doStop()

    def acceptableProtocols(self) -> list[bytes]:
        negotiates = IProtocolNegotiationFactory(self._factory, None)
        return [] if negotiates is None else list(negotiates.acceptableProtocols())

    def buildProtocol(self, addr: IAddress | None) -> Any:
        return self._factory.buildProtocol(addr) or _Closes()


def listen(reactor: Any, description: str, factory: IProtocolFactory) -> IListeningPort:
    """Listen where a description says. Raises SystemExit, with one line that says why, if that can't be done."""
    results: list[IListeningPort | Failure] = []
    if not description.startswith(("tcp", "unix", "systemd")):
        factory = _NeverNone(factory)
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

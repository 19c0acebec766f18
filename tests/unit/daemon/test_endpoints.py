"""Listening on Twisted's endpoints: with a longer queue, and with one clear line where it can't be done."""

from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactor, StringTransport
from twisted.trial.unittest import SynchronousTestCase

from merlind.daemon.endpoints import BACKLOG, listen, where, with_backlog
from tests.unit.support import raising


class BacklogTests(SynchronousTestCase):
    """How many connections may wait to be accepted."""

    def test_added(self) -> None:
        """TCP and TLS get a longer queue than Twisted's."""
        for description in ("tcp:8000", "tcp:port=8000", "tcp6:1", "tcp:1:interface=\\:\\:1", "ssl:443:privateKey=a",
                            "haproxy:tcp:8000", "haproxy:ssl:443:privateKey=a"):  # fmt: skip
            self.assertEqual(with_backlog(description), f"{description}:backlog={BACKLOG}")

    def test_left_alone(self) -> None:
        """A backlog that the operator chose stays, and other endpoints get none."""
        for description in ("tcp:1:backlog=7", "ssl:443:backlog=7:privateKey=a", "unix:/sock", "systemd:domain=INET",
                            "haproxy:tcp:1:backlog=7", "haproxy:unix:/sock"):  # fmt: skip
            self.assertEqual(with_backlog(description), description)


class WhereTests(SynchronousTestCase):
    """Where clients find a port."""

    def test_where(self) -> None:
        """A port is a URL that can be clicked, whatever endpoint it comes from; a socket in a file is its endpoint."""
        for description, host, expected in (
            ("tcp:8000", IPv4Address("TCP", "0.0.0.0", 8000), "http://localhost:8000/ (on all addresses)"),
            ("tcp6:8000", IPv6Address("TCP", "::", 8000), "http://localhost:8000/ (on all addresses)"),
            ("tcp:0:interface=127.0.0.1", IPv4Address("TCP", "127.0.0.1", 7), "http://127.0.0.1:7/"),
            ("tcp:7:interface=\\:\\:1", IPv6Address("TCP", "::1", 7), "http://[::1]:7/"),
            ("ssl:443:privateKey=a", IPv4Address("TCP", "192.0.2.1", 443), "https://192.0.2.1:443/"),
            ("haproxy:ssl:443:privateKey=a", IPv4Address("TCP", "192.0.2.1", 443), "https://192.0.2.1:443/"),
            ("systemd:domain=INET:name=a", IPv4Address("TCP", "192.0.2.1", 80), "http://192.0.2.1:80/"),
            ("unix:/run/merlind", UNIXAddress(b"/run/merlind"), "unix:/run/merlind"),
        ):
            self.assertEqual(where(description, host), expected)


class ListenTests(SynchronousTestCase):
    """Listening."""

    def setUp(self) -> None:
        self.reactor = MemoryReactor()
        self.factory = Factory()

    def test_tcp(self) -> None:
        """The port, the interface and the backlog are those of the description."""
        for description, expected in (
            ("tcp:8000", (8000, BACKLOG, "")),
            ("tcp:port=8000", (8000, BACKLOG, "")),
            ("tcp:0:interface=127.0.0.1", (0, BACKLOG, "127.0.0.1")),
            ("tcp:port=1:interface=0.0.0.0", (1, BACKLOG, "0.0.0.0")),
            ("tcp:1:interface=", (1, BACKLOG, "")),
            ("tcp:interface=127.0.0.1:port=1", (1, BACKLOG, "127.0.0.1")),
            ("tcp:1:interface=\\:\\:1", (1, BACKLOG, "::1")),
            ("tcp6:1", (1, BACKLOG, "::")),
            ("tcp:1:backlog=7", (1, 7, "")),
        ):
            port = listen(self.reactor, description, self.factory)
            number, factory, backlog, interface = self.reactor.tcpServers[-1]
            self.assertEqual((number, backlog, interface), expected, description)
            self.assertIs(factory, self.factory)
            self.assertEqual(type(port.getHost()) is IPv4Address, ":" not in interface)

    def test_unix(self) -> None:
        """Other endpoints work too."""
        listen(self.reactor, "unix:/sock", self.factory)
        self.assertEqual(self.reactor.unixServers[-1][0], "/sock")

    def test_haproxy(self) -> None:
        """Behind ``haproxy:`` the port, the interface and the backlog are those of what follows; it may be quoted."""
        for description, expected in (
            ("haproxy:tcp:8000", (8000, BACKLOG, "")),
            ("haproxy:tcp:port=8000:interface=127.0.0.1", (8000, BACKLOG, "127.0.0.1")),
            ("haproxy:tcp:1:backlog=7:interface=\\:\\:1", (1, 7, "::1")),
        ):
            listen(self.reactor, description, self.factory)
            number, _, backlog, interface = self.reactor.tcpServers[-1]
            self.assertEqual((number, backlog, interface), expected, description)

    def test_refused_connections_behind_wrappers(self) -> None:
        """A connection that the factory makes no protocol for is closed, also where Twisted wraps the factory."""
        for protocol, closed in ((None, True), (Protocol(), False)):
            self.patch(self.factory, "buildProtocol", lambda addr, protocol=protocol: protocol)
            listen(self.reactor, "haproxy:tcp:1", self.factory)
            transport = StringTransport()
            wrapper: Any = self.reactor.tcpServers[-1][1].buildProtocol(transport.getPeer())
            wrapper.makeConnection(transport)
            self.assertEqual(transport.disconnected, closed)

    def refusal(self, description: str) -> Any:
        """What the start ends with."""
        return self.assertRaises(SystemExit, listen, self.reactor, description, self.factory).code

    def test_port_in_use(self) -> None:
        """One line says which endpoint, and what the system says."""
        self.patch(self.reactor, "listenTCP", raising(CannotListenError("", 1, OSError(98, "Address already in use"))))
        for description in ("tcp:1", "tcp:1:backlog=7"):
            self.assertEqual(
                self.refusal(description), f"merlind: cannot listen on {description}: [Errno 98] Address already in use"
            )

    def test_other_reasons(self) -> None:
        """Whatever an endpoint raises becomes such a line, and so does a description of none."""
        self.patch(self.reactor, "listenTCP", raising(PermissionError(13, "Permission denied")))
        self.assertEqual(self.refusal("tcp:1"), "merlind: cannot listen on tcp:1: [Errno 13] Permission denied")
        self.assertTrue(self.refusal("nowhere:1").startswith("merlind: cannot listen on nowhere:1: Unknown endpoint"))

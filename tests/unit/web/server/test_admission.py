"""The limit on one client's connections, and who a client is behind a proxy."""

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

from merlind.web.server.refused import RefusedConnection
from tests.unit.web.support import Client, EdgeCase, WireTransport, form, get, post

PROXY = "127.0.0.1"
"""A proxy's address that is trusted."""


class ProxiedTransport(WireTransport):
    """A connection through the PROXY protocol: the client's address is known when its first byte comes."""

    proxied = True


def through_proxy(client: str) -> WireTransport:
    transport = ProxiedTransport()
    transport.peerAddr = IPv4Address("TCP", client, 5)
    return transport


class ConnectionLimitTests(EdgeCase):
    """Two connections a client."""

    max_connections_per_client = 2

    def assert_refused(self, client: Client) -> None:
        self.assert_problem(client.reply(), 429, "too_many_connections")
        self.assertTrue(client.lingers)

    def test_one_client(self) -> None:
        """Past its limit a client gets 429, and others are served; a connection that is lost makes room."""
        silent = [self.connect(), self.connect()]
        refused = self.connect()
        self.assert_refused(refused)
        self.assertEqual(refused.reply().get("Retry-After"), "5")
        self.assertEqual(self.connect(peer="192.0.2.2").send(get(5)).reply().code, 404)
        silent[0].leave()
        self.assertEqual(self.connect().send(get(5)).reply().code, 404)
        self.assertIn('merlind_refused_total{by="client",limit="connections"} 1.0', self.metrics.exposition().decode())

    def test_networks(self) -> None:
        """In IPv6, a /64 is one client."""
        for host in ("2001:db8::1", "2001:db8::2"):
            self.hold(IPv6Address("TCP", host, 1))
        refused = self.site.buildProtocol(IPv6Address("TCP", "2001:db8::3", 1))
        self.assertIsInstance(refused, RefusedConnection)
        self.site.refusals.open -= 1
        self.hold(IPv6Address("TCP", "2001:db8:0:1::3", 1))

    def hold(self, address: IPv6Address | UNIXAddress) -> None:
        transport = WireTransport()
        transport.reactor = self.reactor
        protocol = self.site.buildProtocol(address)
        self.assertNotIsInstance(protocol, RefusedConnection)
        self.addCleanup(protocol.connectionLost)
        protocol.makeConnection(transport)

    def test_proxy_that_tells(self) -> None:
        """The connections of a proxy that tells whose they are count for nobody: its clients share them."""
        for _ in range(5):
            client = self.connect(peer=PROXY).send(get(5, X_Forwarded_For="198.51.100.7"))
            self.assertEqual(client.reply().code, 404)

    def test_proxy_that_tells_nothing(self) -> None:
        """A proxy that tells nothing is one client, and the response says so; it is known with the first request."""
        for _ in range(2):
            self.assertEqual(self.connect(peer=PROXY).send(get(5)).reply().code, 404)
        client = self.connect(peer=PROXY)
        self.assertTrue(client.silent)
        self.assert_refused(client.send(get(5)))
        self.assertIn("X-Forwarded-For", client.reply().json["detail"])

    def test_proxy_protocol(self) -> None:
        """An address from the PROXY protocol is the client's."""
        for _ in range(2):
            client = self.connect(through_proxy("198.51.100.7"), peer=PROXY).send(get(5))
            self.assertEqual(client.reply().code, 404)
        client = self.connect(through_proxy("198.51.100.7"), peer=PROXY).send(get(5))
        self.assert_refused(client)
        client = self.connect(through_proxy("198.51.100.8"), peer=PROXY).send(get(5))
        self.assertEqual(client.reply().code, 404)

    def test_strangers_headers(self) -> None:
        """Who isn't a trusted proxy is who it is, whatever it says."""
        for number in range(2):
            self.connect().send(get(5, X_Forwarded_For=f"198.51.100.{number}"))
        self.assert_refused(self.connect())


class RequestTests(EdgeCase):
    """The client of a request."""

    max_pending_per_client = 1

    def test_by_header(self) -> None:
        """On a proxy's one connection each request has the client that its header tells."""
        client = self.connect(peer=PROXY)
        for number in (1, 2):
            client.send(post(form(f"Name {number}"), X_Forwarded_For=f"198.51.100.{number}"))
        client.send(post(form("Name 3"), X_Forwarded_For="198.51.100.2"))
        self.assertEqual([reply.code for reply in client.replies()], [202, 202, 429])

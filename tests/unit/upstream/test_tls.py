"""TLS to the upstream, in memory: a connection closes whatever the peer says or doesn't say."""

from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from twisted.internet import reactor as real_reactor
from twisted.internet import ssl
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.test.iosim import FakeTransport, IOPump
from twisted.trial.unittest import TestCase

from merlind.upstream import agent as agent_module
from merlind.upstream.agent import IDLE_TIMEOUT, KeepAliveAgent
from merlind.upstream.connection import OutcomeUnknown
from merlind.upstream.response_parser import UpstreamResponse
from tests.unit.support import Reactor
from tests.unit.upstream.wire import CLOSING, HEAD, RESPONSE

HOST = "upstream.example"
UNDELIMITED = b"HTTP/1.1 200 OK\r\n\r\nok"


def self_signed() -> tuple[ssl.KeyPair, ssl.Certificate]:
    """Make a key, and a certificate for HOST that stays valid."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, HOST)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2120, 1, 1, tzinfo=UTC))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return ssl.KeyPair.load(private, 1), ssl.Certificate.loadPEM(certificate.public_bytes(pem))


class Server(Protocol):
    """The upstream's side of one connection."""

    def connectionMade(self) -> None:
        self.received = b""

    def dataReceived(self, data: bytes) -> None:
        self.received += data


class TlsTests(TestCase):
    """An agent that speaks TLS with a real peer, over pipes in memory.

    The case isn't synchronous because Twisted's TLS gathers small writes until the global reactor's next turn.
    """

    def setUp(self) -> None:
        key, certificate = self_signed()
        self.server_options = ssl.CertificateOptions(key.original, certificate.original)

        def trusting(host: str) -> Any:
            return ssl.optionsForClientTLS(host, trustRoot=certificate)

        self.patch(agent_module, "optionsForClientTLS", trusting)
        self.reactor = Reactor()
        self.agent = KeepAliveAgent(self.reactor, f"https://{HOST}/")

    async def send(self) -> "Deferred[UpstreamResponse]":
        """Begin a request, over a new connection, that arrives at the server."""
        response = self.agent.send((HEAD, b"body"))
        client_factory: Any = self.reactor.tcpClients[-1][2]
        server_factory: Any = TLSMemoryBIOFactory(self.server_options, False, Factory.forProtocol(Server))
        self.client = client_factory.buildProtocol(None)
        server_tls = server_factory.buildProtocol(None)
        self.client_side, self.server_side = FakeTransport(self.client, False), FakeTransport(server_tls, True)
        self.client.makeConnection(self.client_side)
        server_tls.makeConnection(self.server_side)
        self.server = server_tls.wrappedProtocol
        self.pump = IOPump(self.client, server_tls, self.client_side, self.server_side, False)
        await self.turn()
        self.assertEqual(self.server.received, HEAD + b"body")
        return response

    async def turn(self) -> None:
        """Let both sides say to each other what they have to say."""
        for _ in range(5):
            self.pump.flush()
            await deferLater(real_reactor, 0)
        self.pump.flush()

    async def request(self, response: bytes) -> None:
        """Send one request, and let the server respond: the last that is ever heard from it."""
        d = await self.send()
        self.server.transport.write(response)
        await deferLater(real_reactor, 0)
        self.pump.pump()
        self.assertEqual(self.successResultOf(d).body, b"ok")

    async def test_idle(self) -> None:
        """An idle connection is closed in time, though the peer says no goodbye."""
        await self.request(RESPONSE)
        self.assertFalse(self.client_side.disconnecting)
        self.reactor.run_for(IDLE_TIMEOUT)
        self.assertTrue(self.client_side.disconnecting)

    async def test_last_response(self) -> None:
        """So is one after its last response."""
        await self.request(CLOSING)
        self.assertTrue(self.client_side.disconnecting)

    async def test_shutdown(self) -> None:
        """So are all at the end."""
        await self.request(RESPONSE)
        closed = self.agent.close()
        self.assertTrue(self.client_side.disconnecting)
        self.client.connectionLost(Failure(ConnectionDone()))
        self.successResultOf(closed)

    async def test_goodbye_ends_a_response(self) -> None:
        """A response without a length ends with the peer's closure alert."""
        d = await self.send()
        self.server.transport.write(UNDELIMITED)
        self.server.transport.loseConnection()
        await self.turn()
        self.assertEqual(self.successResultOf(d).body, b"ok")

    async def test_truncated(self) -> None:
        """Without that alert somebody may have cut it short: it isn't complete (RFC 9112, section 9.8)."""
        d = await self.send()
        self.server.transport.write(UNDELIMITED)
        await self.turn()
        self.client.connectionLost(Failure(ConnectionDone()))
        self.failureResultOf(d, OutcomeUnknown)

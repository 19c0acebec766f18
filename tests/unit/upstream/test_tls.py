"""TLS to the upstream, in memory: what a handshake verifies, why it fails, and how a connection ends."""

from typing import Any

from OpenSSL import SSL
from twisted.internet import ssl
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.test.iosim import FakeTransport, IOPump
from twisted.trial.unittest import SynchronousTestCase

from merlind.core.outcome import Fault
from merlind.upstream import tls as tls_module
from merlind.upstream.agent import IDLE_TIMEOUT, KeepAliveAgent
from merlind.upstream.errors import NoConnection, OutcomeUnknown
from merlind.upstream.response_parser import UpstreamResponse
from merlind.upstream.tls import describe, describe_code
from tests.certificates import Identity, make_identity
from tests.unit.support import Reactor
from tests.unit.upstream.wire import CLOSING, HEAD, RESPONSE

HOST = "api.upstream.example"
AUTHORITY = make_identity("authority.example")
OLD_AUTHORITY = make_identity("old.example", days=(-20, -10))
GOOD = make_identity(HOST, issuer=AUTHORITY)
UNDELIMITED = b"HTTP/1.1 200 OK\r\n\r\nok"


class Server(Protocol):
    """The upstream's side of one connection."""

    received = b""

    def dataReceived(self, data: bytes) -> None:
        self.received += data


class TlsCase(SynchronousTestCase):
    """An agent that speaks TLS with a real peer, over pipes in memory. It trusts both authorities."""

    def setUp(self) -> None:
        authorities = [ssl.Certificate.loadPEM(a.certificate_pem) for a in (AUTHORITY, OLD_AUTHORITY)]
        trusted = ssl.trustRootFromCertificates(authorities)

        def trusting(host: str) -> Any:
            return ssl.optionsForClientTLS(host, trustRoot=trusted)

        self.patch(tls_module, "optionsForClientTLS", trusting)
        self.reactor = Reactor()

    def begin(self, identity: Identity = GOOD, host: str = HOST, **options: Any) -> "Deferred[UpstreamResponse]":
        """Send a request over a new connection to a server with this identity; nothing has been exchanged yet."""
        key = ssl.KeyPair.load(identity.key_pem, 1).original
        certificate = ssl.Certificate.loadPEM(identity.certificate_pem).original
        server_options = ssl.CertificateOptions(key, certificate, **options)
        factory = TLSMemoryBIOFactory(server_options, False, Factory.forProtocol(Server), self.reactor)
        server_tls = factory.buildProtocol(None)
        return self.begin_with(server_tls, host)

    def begin_with(self, server: Any, host: str = HOST) -> "Deferred[UpstreamResponse]":
        self.agent = KeepAliveAgent(self.reactor, f"https://{host}/")
        response = self.agent.send((HEAD, b"body"))
        client_factory: Any = self.reactor.tcpClients[-1][2]
        self.client = client_factory.buildProtocol(None)
        self.client_side, self.server_side = FakeTransport(self.client, False), FakeTransport(server, True)
        self.client.makeConnection(self.client_side)
        server.makeConnection(self.server_side)
        self.server = getattr(server, "wrappedProtocol", server)
        self.pump = IOPump(self.client, server, self.client_side, self.server_side, False)
        return response

    def turn(self) -> None:
        """Let both sides say to each other what they have to say."""
        for _ in range(5):
            self.pump.flush()
            self.reactor.settle()
        self.pump.flush()


class HandshakeTests(TlsCase):
    """What comes before the request."""

    def assert_refused(self, d: "Deferred[UpstreamResponse]", words: str) -> None:
        """Assert that no connection is made for this reason, that it is our fault, and that nothing was sent."""
        self.turn()
        error = self.failureResultOf(d, NoConnection).value
        self.assertEqual((str(error), error.fault), (f"TLS trouble: {words}", Fault.MISCONFIGURED))
        self.assertEqual(self.server.received, b"")
        self.assertTrue(self.client_side.disconnected or self.client_side.disconnecting)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_verified(self) -> None:
        """The request goes out once the certificate and its name are verified: a host's, a wildcard's, an address's."""
        for identity, host in (
            (GOOD, HOST),
            (make_identity("other.example", HOST, issuer=AUTHORITY), HOST),
            (make_identity("*.upstream.example", issuer=AUTHORITY), HOST),
            (make_identity("127.0.0.1", issuer=AUTHORITY), "127.0.0.1"),
            (make_identity("::1", issuer=AUTHORITY), "[::1]"),
        ):
            d = self.begin(identity, host)
            self.turn()
            self.assertEqual(self.server.received, HEAD + b"body")
            self.server.transport.write(RESPONSE)
            self.turn()
            self.assertEqual(self.successResultOf(d).body, b"ok")

    def test_bad_certificate(self) -> None:
        """What is wrong with a certificate is said in words (U18)."""
        stranger = make_identity("stranger.example")
        for identity, words in (
            (make_identity(HOST, days=(-20, -1), issuer=AUTHORITY), "the certificate has expired"),
            (make_identity(HOST, days=(1, 20), issuer=AUTHORITY), "the certificate is not valid yet"),
            (make_identity(HOST), "the certificate comes from an unknown issuer: it signed itself"),
            (make_identity(HOST, issuer=stranger), "the certificate comes from an unknown issuer"),
            (make_identity(HOST, issuer=OLD_AUTHORITY), "a certificate in its chain has expired"),
            (make_identity("other.example", issuer=AUTHORITY), f"the certificate is for another name than {HOST}"),
            (make_identity("127.0.0.1", issuer=AUTHORITY), f"the certificate is for another name than {HOST}"),
            (make_identity(issuer=AUTHORITY), "the certificate has no usable name"),
        ):
            self.assert_refused(self.begin(identity), words)

    def test_other_address(self) -> None:
        """An address in the URL has to be in the certificate too; that it names the host doesn't count."""
        words = "the certificate is for another name than 127.0.0.1"
        for names in ((HOST,), ("127.0.0.2",)):
            self.assert_refused(self.begin(make_identity(*names, issuer=AUTHORITY), "127.0.0.1"), words)

    def test_no_tls(self) -> None:
        """A server that speaks plain HTTP at that port, and one that refuses our version of TLS."""
        d = self.begin_with(Server())
        self.server.transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        self.turn()
        error = self.failureResultOf(d, NoConnection).value
        self.assertEqual((str(error), error.fault), ("TLS trouble: wrong version number", Fault.MISCONFIGURED))
        d = self.begin_with(Server())
        self.server.transport.write(b"\x15\x03\x01\x00\x02\x02\x46")
        self.turn()
        error = self.failureResultOf(d, NoConnection).value
        self.assertRegex(str(error), "^TLS trouble: .*alert protocol version$")

    def test_lost(self) -> None:
        """A connection that ends in the handshake took nothing of the request, and isn't our misconfiguration."""
        for error in (ConnectionDone(), ConnectionLost()):
            d = self.begin()
            self.client.connectionLost(Failure(error))
            lost = self.failureResultOf(d, NoConnection).value
            self.assertEqual((str(lost), lost.fault), ("lost in the TLS handshake", Fault.UNAVAILABLE))

    def test_cancelled(self) -> None:
        """Cancelling a request in the handshake closes the connection."""
        d = self.begin()
        d.cancel()
        self.failureResultOf(d, CancelledError)
        self.assertTrue(self.client_side.disconnecting)
        self.client.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_our_certificate_is_wanted(self) -> None:
        """A server that wants a certificate of ours says so when the request is on its way already."""
        authority = ssl.Certificate.loadPEM(AUTHORITY.certificate_pem)
        d = self.begin(trustRoot=ssl.trustRootFromCertificates([authority]))
        self.turn()
        error = self.failureResultOf(d, OutcomeUnknown).value
        self.assertRegex(str(error), "^TLS trouble: .*alert certificate required$")
        self.assertEqual(error.fault, Fault.MISCONFIGURED)


class WordsTests(SynchronousTestCase):
    """OpenSSL's errors in words."""

    def test_codes(self) -> None:
        """Codes that nobody meets daily are told by number."""
        self.assertEqual(describe_code(10), "has expired")
        self.assertEqual(describe_code(23), "was revoked")
        self.assertEqual(describe_code(99), "can't be verified (OpenSSL's error 99)")

    def test_errors(self) -> None:
        """The last error of OpenSSL's queue is named; errors of anything else are none of TLS."""
        for error, words in (
            (SSL.Error([("a", "", "first"), ("SSL routines", "", "wrong version number")]), "wrong version number"),
            (SSL.Error([]), "Error"),
            (SSL.Error(), "Error"),
            (SSL.SysCallError(-1, "Unexpected EOF"), "SysCallError"),
            (SSL.ZeroReturnError(), "ZeroReturnError"),
            (ConnectionLost(), None),
            (None, None),
        ):
            self.assertEqual(describe(error), words)


class ClosingTests(TlsCase):
    """A connection closes whatever the peer says or doesn't say."""

    def send(self) -> "Deferred[UpstreamResponse]":
        """Begin a request, over a new connection, that arrives at the server."""
        d = self.begin()
        self.turn()
        self.assertEqual(self.server.received, HEAD + b"body")
        return d

    def request(self, response: bytes) -> None:
        """Send one request, and let the server respond: the last that is ever heard from it."""
        d = self.send()
        self.server.transport.write(response)
        self.reactor.settle()
        self.pump.pump()
        self.assertEqual(self.successResultOf(d).body, b"ok")

    def test_idle(self) -> None:
        """An idle connection is closed in time, though the peer says no goodbye."""
        self.request(RESPONSE)
        self.assertFalse(self.client_side.disconnecting)
        self.reactor.run_for(IDLE_TIMEOUT)
        self.assertTrue(self.client_side.disconnecting)

    def test_last_response(self) -> None:
        """So is one after its last response."""
        self.request(CLOSING)
        self.assertTrue(self.client_side.disconnecting)

    def test_shutdown(self) -> None:
        """So are all at the end."""
        self.request(RESPONSE)
        closed = self.agent.close()
        self.assertTrue(self.client_side.disconnecting)
        self.client.connectionLost(Failure(ConnectionDone()))
        self.successResultOf(closed)

    def test_goodbye_ends_a_response(self) -> None:
        """A response without a length ends with the peer's closure alert."""
        d = self.send()
        self.server.transport.write(UNDELIMITED)
        self.server.transport.loseConnection()
        self.turn()
        self.assertEqual(self.successResultOf(d).body, b"ok")

    def test_truncated(self) -> None:
        """Without that alert somebody may have cut it short: it isn't complete (RFC 9112, section 9.8)."""
        d = self.send()
        self.server.transport.write(UNDELIMITED)
        self.turn()
        self.client.connectionLost(Failure(ConnectionDone()))
        error = self.failureResultOf(d, OutcomeUnknown).value
        self.assertEqual((str(error), error.fault), ("connection lost", Fault.UNAVAILABLE))

"""The agent: which connections are kept, when they are closed, what treq gets, and what of the URL goes where."""

from collections.abc import Sequence

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.internet.interfaces import IAddress, IHostResolution, IResolutionReceiver
from twisted.internet.testing import SynchronousResolver
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import readBody
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IAgent, IResponse
from zope.interface.verify import verifyObject

from merlind.upstream.agent import IDLE_TIMEOUT, CompleteResponse, KeepAliveAgent
from merlind.upstream.errors import NoConnection, OutcomeUnknown
from merlind.upstream.response_parser import MAX_RESPONSE, UpstreamResponse
from tests.unit.support import Reactor, Wire
from tests.unit.upstream.wire import CLOSING, HEAD, RESPONSE, AgentCase, Body


class Resolver(SynchronousResolver):
    """A resolver that records what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[IAddress]] | None = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        self.asked.append((hostName, portNumber))
        return super().resolveHostName(resolutionReceiver, hostName, portNumber, addressTypes or (), transportSemantics)


class ConnectingTests(AgentCase):
    """Making a connection."""

    def test_no_connection(self) -> None:
        """The failure names what prevented the connection."""
        d = self.send()
        self.wire.refuse(ConnectionRefusedError("to h"))
        self.reactor.run_for(1)  # HostnameEndpoint looks for further addresses before it gives up
        failure = self.failureResultOf(d, NoConnection)
        self.assertEqual(failure.getErrorMessage(), "ConnectionRefusedError")

    def test_cancelled(self) -> None:
        """Cancelling is reported as such, though endpoints have an error of their own for it."""
        d = self.send()
        d.cancel()
        self.failureResultOf(d, CancelledError)
        self.assertEqual(self.reactor.getDelayedCalls(), [])


class KeepAliveTests(AgentCase):
    """Connections that are kept for the next request."""

    def test_used_again(self) -> None:
        """An idle connection is used again; each response has the whole size limit to itself."""
        for _ in range(3):
            d = self.send()
            if not self.wire.transports:
                self.wire.connect()
            body = bytes(MAX_RESPONSE // 2)
            self.wire.receive(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            self.assertEqual(self.successResultOf(d).body, body)
        self.assertEqual(len(self.reactor.tcpClients), 1)
        self.assertEqual(self.wire.transport.value(), (HEAD + b"body") * 3)

    def test_as_many_as_needed(self) -> None:
        """A connection carries one request at a time: there are as many as requests in flight."""
        first, second = self.send(), None
        self.wire.connect()
        second = self.send()
        self.wire.connect()
        for number, d in enumerate((first, second)):
            self.wire.receive(RESPONSE, number)
            self.successResultOf(d)
        self.send()
        self.send()
        self.assertEqual(len(self.reactor.tcpClients), 2)
        self.assertEqual([t.value() for t in self.wire.transports], [(HEAD + b"body") * 2] * 2)

    def test_not_used_again(self) -> None:
        """A connection that the server wants closed is closed, and the next request has a new one."""
        self.request(CLOSING)
        self.assertTrue(self.wire.transport.disconnected)
        self.request()
        self.assertEqual(len(self.reactor.tcpClients), 2)

    def test_dead(self) -> None:
        """A connection that ended while idle isn't used; a request whose connection ends is not sent again."""
        self.request()
        self.wire.lose(ConnectionDone())
        self.request()
        self.assertEqual(len(self.reactor.tcpClients), 2)
        d = self.send()
        self.wire.lose(ConnectionDone())
        self.failureResultOf(d, OutcomeUnknown)
        self.assertEqual(len(self.reactor.tcpClients), 2)

    def test_unasked(self) -> None:
        """A server that speaks unasked is hung up on: its words must not become the response to the next request."""
        self.request()
        self.wire.receive(RESPONSE)
        self.assertTrue(self.wire.transport.disconnected)
        self.request()
        self.assertEqual(len(self.reactor.tcpClients), 2)

    def test_unasked_with_the_response(self) -> None:
        """So is one that adds to its response."""
        self.request(RESPONSE + RESPONSE)
        self.assertTrue(self.wire.closed)
        self.request()
        self.assertEqual(len(self.reactor.tcpClients), 2)

    def test_reaped(self) -> None:
        """A connection that is idle for too long is closed, each in its time; then no timer remains."""
        first, second = self.send(), None
        self.wire.connect()
        second = self.send()
        self.wire.connect()
        self.wire.receive(RESPONSE, 0)
        self.reactor.run_for(5)
        self.wire.receive(RESPONSE, 1)
        self.successResultOf(first)
        self.successResultOf(second)

        def closed() -> list[bool]:
            return [transport.disconnected for transport in self.wire.transports]

        self.reactor.run_for(IDLE_TIMEOUT - 5.1)
        self.assertEqual(closed(), [False, False])
        self.reactor.run_for(0.1)
        self.assertEqual(closed(), [True, False])
        self.reactor.run_for(4.9)
        self.assertEqual(closed(), [True, False])
        self.reactor.run_for(0.1)
        self.assertEqual(closed(), [True, True])
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.send()
        self.assertEqual(len(self.reactor.tcpClients), 3)

    def test_not_reaped_in_use(self) -> None:
        """A connection that is used again has its full time again."""
        self.request()
        self.reactor.run_for(IDLE_TIMEOUT - 1)
        self.request()
        self.reactor.run_for(IDLE_TIMEOUT - 1)
        self.assertFalse(self.wire.closed)
        self.send()
        self.reactor.run_for(IDLE_TIMEOUT)
        self.assertFalse(self.wire.closed)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_close(self) -> None:
        """All idle connections are closed; it fires when they are, and no timer remains."""
        self.request()
        d = self.agent.close()
        self.assertTrue(self.wire.transport.disconnected)
        self.assertNoResult(d)
        self.wire.lose(ConnectionDone())
        self.successResultOf(d)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_close_nothing(self) -> None:
        """Without an open connection there is nothing to wait for."""
        self.successResultOf(self.agent.close())
        self.request()
        self.wire.lose(ConnectionDone())
        self.successResultOf(self.agent.close())
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_close_everything(self) -> None:
        """Connections that carry a request are closed too, and so is waited for those that are closing already."""
        self.request(CLOSING)
        in_flight = self.send()
        self.wire.connect()
        d = self.agent.close()
        self.failureResultOf(in_flight, OutcomeUnknown)
        for number in range(2):
            self.assertTrue(self.wire.transports[number].disconnected)
            self.assertNoResult(d)
            self.wire.lose(ConnectionDone(), number)
        self.successResultOf(d)

    def test_close_cancelled(self) -> None:
        """Who closes the agent need not wait for a transport that never reports the end."""
        self.request()
        d = self.agent.close()
        d.cancel()
        self.successResultOf(d)
        self.assertEqual(self.flushLoggedErrors(), [])
        self.wire.lose(ConnectionDone())

    def test_nothing_grows(self) -> None:
        """The agent forgets connections that are gone."""
        for _ in range(3):
            self.request(CLOSING)
            self.wire.lose(ConnectionDone())
        self.assertEqual((self.agent._open, self.agent._idle), (set(), []))

    def test_quiet(self) -> None:
        """Connections leave no line in the log."""
        with capturedLogs() as logs:
            self.request(CLOSING)
            self.wire.lose(ConnectionDone())
        self.assertEqual(logs, [])


class TreqTests(AgentCase):
    """The agent as treq sees it."""

    def ask(self, headers: Headers | None = None) -> tuple[Body, "Deferred[IResponse]"]:
        body = Body()
        return body, self.agent.request(b"POST", b"http://elsewhere/", headers, body)

    def test_interface(self) -> None:
        """It is an agent, and its responses are responses."""
        self.assertTrue(verifyObject(IAgent, self.agent))
        body, d = self.ask()
        self.wire.connect()
        body.done.callback(None)
        self.wire.receive(RESPONSE)
        self.assertTrue(verifyObject(IResponse, self.successResultOf(d)))

    def test_request(self) -> None:
        """Host, target, framing and encoding are the agent's own; all other fields are as they were given."""
        headers = Headers(
            {"Accept-Encoding": ["gzip"], "Host": ["a"], "Content-Length": ["9"], "Connection": ["close"], "X-Y": ["z"]}
        )
        self.ask(headers)
        self.assertEqual(
            self.wire.connect().value(),
            b"POST /api/?x=y HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nAccept-Encoding: identity\r\nContent-Length: 4\r\n"
            b"X-Y: z\r\n\r\n",
        )
        self.assertTrue(headers.hasHeader("Accept-Encoding"))

    def test_no_headers(self) -> None:
        """There need be none."""
        self.ask()
        self.assertTrue(self.wire.connect().value().endswith(b"\r\nContent-Length: 4\r\n\r\n"))

    def test_length(self) -> None:
        """A body has a length that is known: none is sent in chunks."""
        body = Body()
        body.length = UNKNOWN_LENGTH  # type: ignore[assignment]
        for wrong in (None, body):
            with self.assertRaises(ValueError):
                self.agent.request(b"POST", b"http://elsewhere/", None, wrong)
        self.assertEqual(self.reactor.tcpClients, [])

    def test_response(self) -> None:
        """The response is complete, and shows treq no header: no encoding, no cookie, no location."""
        body, d = self.ask()
        self.wire.connect()
        body.done.callback(None)
        self.wire.receive(
            b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Encoding: br\r\nSet-Cookie: a=b\r\nRetry-After: 7\xff\r\n"
            b"Content-Length: 2\r\n\r\nok"
        )
        response = self.successResultOf(d)
        self.assertEqual((response.code, response.length), (302, 2))
        self.assertEqual(list(response.headers.getAllRawHeaders()), [])
        self.assertEqual(self.successResultOf(readBody(response)), b"ok")
        assert isinstance(response, CompleteResponse)
        self.assertEqual(response.response, UpstreamResponse(302, b"ok", "7\xff", True, "/"))


class UrlTests(SynchronousTestCase):
    """What of the URL goes where."""

    def test_parts(self) -> None:
        """Host, port and target are taken from the URL; IPv6 works, and no password is sent."""
        for url, place, host, target in (
            ("http://h.example", ("h.example", 80), "h.example", "/"),
            ("http://127.0.0.1:81/api/", ("127.0.0.1", 81), "127.0.0.1:81", "/api/"),
            ("http://h/a?b=c&d#e", ("h", 80), "h", "/a?b=c&d"),
            ("http://[::1]:12345/", ("::1", 12345), "[::1]:12345", "/"),
            ("http://a:b@h/", ("h", 80), "h", "/"),
            ("https://h/", ("h", 443), "h", "/"),
        ):
            reactor = Reactor()
            reactor.installNameResolver(resolver := Resolver())
            agent = KeepAliveAgent(reactor, url)
            self.assertEqual((agent.host, agent.target), (host, target))
            agent.send((HEAD,))
            self.assertEqual(resolver.asked, [place], url)
            self.assertEqual([client[1] for client in reactor.tcpClients], [place[1]])

    def test_tls(self) -> None:
        """An https URL is spoken TLS to, and the server is told the name of its host."""
        reactor = Reactor()
        KeepAliveAgent(reactor, "https://example.com/").send((HEAD, b"body"))
        sent = Wire(reactor).connect().value()
        self.assertEqual(sent[:2], b"\x16\x03")
        self.assertIn(b"example.com", sent)
        self.assertNotIn(b"POST", sent)

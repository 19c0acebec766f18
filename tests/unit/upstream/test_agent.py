"""The agent: what goes over the wire, which connections are kept, and when it hangs up."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost, ConnectionRefusedError
from twisted.internet.testing import SynchronousResolver
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

from merlind.upstream.agent import IDLE_TIMEOUT, KeepAliveAgent, OutcomeUnknown
from merlind.upstream.response_parser import MAX_RESPONSE, BadResponse, UpstreamResponse
from tests.unit.support import Reactor, Wire

HEAD = b"POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CLOSING = ANSWER.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n")


@implementer(IBodyProducer)
class Body:
    """A body that the test sends."""

    length = 4

    def __init__(self) -> None:
        self.stopped = False
        self.done: Deferred[None] = Deferred()

    def startProducing(self, consumer: Any) -> "Deferred[None]":
        self.consumer = consumer
        return self.done

    def pauseProducing(self) -> None:
        """Not used."""

    def resumeProducing(self) -> None:
        """Not used either."""

    def stopProducing(self) -> None:
        self.stopped = True


class Resolver(SynchronousResolver):
    """A resolver that remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []

    def resolveHostName(self, receiver: Any, name: str, portNumber: int = 0, *args: Any, **more: Any) -> Any:
        self.asked.append((name, portNumber))
        return super().resolveHostName(receiver, name, portNumber, *args, **more)


class AgentCase(SynchronousTestCase):
    """An agent, and the other end of its wire."""

    def setUp(self) -> None:
        self.reactor = Reactor()
        self.agent = KeepAliveAgent(self.reactor, "http://127.0.0.1:8080/api/?x=y")
        self.wire = Wire(self.reactor)

    def exchange(self, body: Body | None = None) -> "Deferred[UpstreamResponse]":
        return self.agent.exchange((HEAD, b"body") if body is None else (HEAD,), body)

    def exchanged(self, answer: bytes = ANSWER) -> None:
        """One exchange, over a new connection or a kept one."""
        before = len(self.reactor.tcpClients)
        d = self.exchange()
        if len(self.reactor.tcpClients) > before:
            self.wire.connect()
        self.wire.receive(answer)
        self.assertEqual(self.successResultOf(d).body, b"ok")


class ExchangeTests(AgentCase):
    """One exchange."""

    def test_sent_and_read(self) -> None:
        """What is given is what is sent, to host and port of the URL; the answer is read whole."""
        d = self.exchange()
        self.assertEqual([client[:2] for client in self.reactor.tcpClients], [("127.0.0.1", 8080)])
        self.assertEqual(self.wire.connect().value(), HEAD + b"body")
        for byte in ANSWER[:-1]:
            self.wire.receive(bytes([byte]))
        self.assertNoResult(d)
        self.wire.receive(ANSWER[-1:])
        self.assertEqual(self.successResultOf(d), UpstreamResponse(200, b"ok", None, True))

    def test_no_connection(self) -> None:
        """What kept the connection from being made is told."""
        d = self.exchange()
        self.wire.refuse(ConnectionRefusedError())
        self.reactor.run_for(1)  # HostnameEndpoint looks for further addresses before it gives up
        self.failureResultOf(d, ConnectionRefusedError)

    def test_lost(self) -> None:
        """The end of the connection under a request leaves the outcome unknown, cleanly or not."""
        for received in (b"", ANSWER[:10], ANSWER[:-1]):
            for error in (ConnectionDone(), ConnectionLost()):
                d = self.exchange()
                self.wire.connect()
                self.wire.receive(received)
                self.wire.lose(error)
                self.failureResultOf(d, OutcomeUnknown)

    def test_to_the_end(self) -> None:
        """Where the end of the connection is the answer's, it is."""
        d = self.exchange()
        self.wire.connect()
        self.wire.receive(b"HTTP/1.1 200 OK\r\n\r\nok")
        self.assertNoResult(d)
        self.wire.lose(ConnectionDone())
        self.assertEqual(self.successResultOf(d), UpstreamResponse(200, b"ok", None, False))

    def test_bad_answer(self) -> None:
        """A malformed answer, or one too large, is the end of the connection at once; what still comes is ignored."""
        for received in (b"SSH-2.0\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n" + bytes(MAX_RESPONSE)):
            d = self.exchange()
            self.wire.connect()
            self.wire.receive(received)
            self.assertTrue(self.wire.transport.disconnected)
            self.failureResultOf(d, BadResponse)
            self.wire.receive(b"more")
            self.wire.lose(ConnectionLost())

    def test_cancelled(self) -> None:
        """Whenever it is cancelled, the connection is closed, and what still comes is ignored."""
        d = self.exchange()
        d.cancel()
        self.failureResultOf(d)
        for received in (b"", ANSWER[:-1]):
            d = self.exchange()
            self.wire.connect()
            self.wire.receive(received)
            d.cancel()
            self.failureResultOf(d)
            self.assertTrue(self.wire.transport.disconnected)
            self.wire.receive(ANSWER[-1:])
            self.wire.lose(ConnectionLost())
        self.exchanged()
        d = self.exchange()
        d.cancel()
        self.failureResultOf(d)
        self.assertTrue(self.wire.transport.disconnected)

    def test_no_delay(self) -> None:
        """A request doesn't wait for another to fill a packet."""
        calls: list[bool] = []
        self.exchange()
        self.wire.connect(setTcpNoDelay=calls.append)
        self.assertEqual(calls, [True])


class BodyTests(AgentCase):
    """Bodies that are sent as fast as the connection takes them."""

    def start(self) -> tuple[Body, "Deferred[UpstreamResponse]"]:
        body = Body()
        d = self.exchange(body)
        self.assertEqual(self.wire.connect().value(), HEAD)
        self.assertIs(self.wire.transport.producer, body)
        self.assertTrue(self.wire.transport.streaming)
        return body, d

    def test_sent(self) -> None:
        """Once it is sent, the connection waits for the answer, and is kept."""
        body, d = self.start()
        body.consumer.write(b"body")
        body.done.callback(None)
        self.assertIsNone(self.wire.transport.producer)
        self.assertEqual(self.wire.transport.value(), HEAD + b"body")
        self.wire.receive(ANSWER)
        self.successResultOf(d)
        self.assertFalse(self.wire.closed)
        self.assertFalse(body.stopped)

    def test_early_answer(self) -> None:
        """An answer before the end of the body is taken; then the body and the connection are of no more use."""
        body, d = self.start()
        self.wire.receive(ANSWER)
        self.assertEqual(self.successResultOf(d).code, 200)
        self.assertTrue(body.stopped)
        self.assertTrue(self.wire.transport.disconnected)
        self.exchange()
        self.assertEqual(len(self.reactor.tcpClients), 2)

    def test_failed(self) -> None:
        """A body that fails is told, and closes the connection."""
        body, d = self.start()
        body.done.errback(ZeroDivisionError())
        self.failureResultOf(d, ZeroDivisionError)
        self.assertTrue(self.wire.transport.disconnected)
        self.assertIsNone(self.wire.transport.producer)

    def test_failed_at_once(self) -> None:
        """So is one that fails before the first byte."""
        body = Body()
        body.done.errback(ZeroDivisionError())
        d = self.exchange(body)
        self.wire.connect()
        self.failureResultOf(d, ZeroDivisionError)
        self.assertTrue(self.wire.transport.disconnected)

    def test_lost(self) -> None:
        """The end of the connection stops the body."""
        body, d = self.start()
        self.wire.lose(ConnectionLost())
        self.failureResultOf(d, OutcomeUnknown)
        self.assertTrue(body.stopped)
        self.assertIsNone(self.wire.transport.producer)

    def test_cancelled(self) -> None:
        """So does a cancelled exchange."""
        body, d = self.start()
        d.cancel()
        self.failureResultOf(d)
        self.assertTrue(body.stopped)
        self.assertTrue(self.wire.transport.disconnected)


class KeepAliveTests(AgentCase):
    """Connections that are used again."""

    def test_used_again(self) -> None:
        """An idle connection is used again, the last one first; each answer has the whole bound to itself."""
        for _ in range(3):
            d = self.exchange()
            if not self.wire.transports:
                self.wire.connect()
            body = bytes(MAX_RESPONSE // 2)
            self.wire.receive(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            self.assertEqual(self.successResultOf(d).body, body)
        self.assertEqual(len(self.reactor.tcpClients), 1)
        self.assertEqual(self.wire.transport.value(), (HEAD + b"body") * 3)

    def test_as_many_as_needed(self) -> None:
        """One exchange at a time is on a connection."""
        first, second = self.exchange(), None
        self.wire.connect()
        second = self.exchange()
        self.wire.connect()
        for number, d in enumerate((first, second)):
            self.wire.receive(ANSWER, number)
            self.successResultOf(d)
        self.exchange()
        self.exchange()
        self.assertEqual(len(self.reactor.tcpClients), 2)
        self.assertEqual([t.value() for t in self.wire.transports], [(HEAD + b"body") * 2] * 2)

    def test_not_used_again(self) -> None:
        """One that is to be closed is closed, and the next exchange has a new one."""
        self.exchanged(CLOSING)
        self.assertTrue(self.wire.transport.disconnecting)
        self.exchanged()
        self.assertEqual(len(self.reactor.tcpClients), 2)

    def test_dead(self) -> None:
        """One that ended while it was idle isn't used; one that ends under a request is not tried again by itself."""
        self.exchanged()
        self.wire.lose(ConnectionDone())
        self.exchanged()
        self.assertEqual(len(self.reactor.tcpClients), 2)
        d = self.exchange()
        self.wire.lose(ConnectionDone())
        self.failureResultOf(d, OutcomeUnknown)
        self.assertEqual(len(self.reactor.tcpClients), 2)

    def test_unasked(self) -> None:
        """A server that speaks unasked is hung up on: its words must not be the answer to the next request."""
        self.exchanged()
        self.wire.receive(ANSWER)
        self.assertTrue(self.wire.transport.disconnected)
        self.exchanged()
        self.assertEqual(len(self.reactor.tcpClients), 2)

    def test_unasked_with_the_answer(self) -> None:
        """So is one that adds to its answer."""
        self.exchanged(ANSWER + ANSWER)
        self.assertTrue(self.wire.closed)
        self.exchanged()
        self.assertEqual(len(self.reactor.tcpClients), 2)

    def test_reaped(self) -> None:
        """What is idle for too long is closed, each in its time; then no timer remains."""
        first, second = self.exchange(), None
        self.wire.connect()
        second = self.exchange()
        self.wire.connect()
        self.wire.receive(ANSWER, 0)
        self.reactor.run_for(5)
        self.wire.receive(ANSWER, 1)
        self.successResultOf(first)
        self.successResultOf(second)

        def closed() -> list[bool]:
            return [transport.disconnecting for transport in self.wire.transports]

        self.reactor.run_for(IDLE_TIMEOUT - 5.1)
        self.assertEqual(closed(), [False, False])
        self.reactor.run_for(0.1)
        self.assertEqual(closed(), [True, False])
        self.reactor.run_for(4.9)
        self.assertEqual(closed(), [True, False])
        self.reactor.run_for(0.1)
        self.assertEqual(closed(), [True, True])
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.exchange()
        self.assertEqual(len(self.reactor.tcpClients), 3)

    def test_not_reaped_in_use(self) -> None:
        """One that is used again has its time anew."""
        self.exchanged()
        self.reactor.run_for(IDLE_TIMEOUT - 1)
        self.exchanged()
        self.reactor.run_for(IDLE_TIMEOUT - 1)
        self.assertFalse(self.wire.closed)
        self.exchange()
        self.reactor.run_for(IDLE_TIMEOUT)
        self.assertFalse(self.wire.closed)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_close(self) -> None:
        """All idle ones are closed, and that is told when they are; no timer remains."""
        self.exchanged()
        d = self.agent.close()
        self.assertTrue(self.wire.transport.disconnecting)
        self.assertNoResult(d)
        self.wire.lose(ConnectionDone())
        self.successResultOf(d)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_close_nothing(self) -> None:
        """Where there is none, or none alive, there is nothing to wait for."""
        self.successResultOf(self.agent.close())
        self.exchanged()
        self.wire.lose(ConnectionDone())
        self.successResultOf(self.agent.close())
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_quiet(self) -> None:
        """Connections leave no line in the log."""
        with capturedLogs() as logs:
            self.exchanged(CLOSING)
            self.wire.lose(ConnectionDone())
        self.assertEqual(logs, [])


class UrlTests(SynchronousTestCase):
    """What of the URL goes where."""

    def test_parts(self) -> None:
        """Host, port and target; a number of the sixth version too, and nobody's password."""
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
            agent.exchange((HEAD,))
            self.assertEqual(resolver.asked, [place], url)
            self.assertEqual([client[1] for client in reactor.tcpClients], [place[1]])

    def test_tls(self) -> None:
        """An https URL is spoken TLS to, by the name of its host."""
        reactor = Reactor()
        KeepAliveAgent(reactor, "https://example.com/").exchange((HEAD, b"body"))
        sent = Wire(reactor).connect().value()
        self.assertEqual(sent[:2], b"\x16\x03")
        self.assertIn(b"example.com", sent)
        self.assertNotIn(b"POST", sent)

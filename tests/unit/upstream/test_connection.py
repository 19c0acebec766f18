"""One connection: what goes over the wire, how a request ends, and when the connection closes."""

import errno
import fcntl
import socket
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import ISystemHandle
from twisted.internet.testing import StringTransport
from twisted.protocols.policies import ProtocolWrapper
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from merlind.upstream import connection as connection_module
from merlind.upstream.connection import TRANSITIONS, Connection, ConnectionState
from merlind.upstream.errors import OutcomeUnknown
from merlind.upstream.response_parser import MAX_RESPONSE, BadResponse, UpstreamResponse
from tests.unit.support import failing
from tests.unit.upstream.wire import CLOSING, HEAD, RESPONSE, AgentCase, Body

REFUSAL = b"HTTP/1.1 413 No\r\nContent-Length: 2\r\n\r\nno"


class RequestTests(AgentCase):
    """One request."""

    def test_sent_and_received(self) -> None:
        """What is given is sent, to host and port of the URL, and the response is read whole."""
        d = self.send()
        self.assertEqual([client[:2] for client in self.reactor.tcpClients], [("127.0.0.1", 8080)])
        self.assertEqual(self.wire.connect().value(), HEAD + b"body")
        for byte in RESPONSE[:-1]:
            self.wire.receive(bytes([byte]))
        self.assertNoResult(d)
        self.wire.receive(RESPONSE[-1:])
        self.assertEqual(self.successResultOf(d), UpstreamResponse(200, b"ok", None, True))

    def test_lost(self) -> None:
        """The end of the connection during a request leaves the outcome unknown, cleanly or not."""
        for received in (b"", RESPONSE[:10], RESPONSE[:-1]):
            for error in (ConnectionDone(), ConnectionLost()):
                d = self.send()
                self.wire.connect()
                self.wire.receive(received)
                self.wire.lose(error)
                self.failureResultOf(d, OutcomeUnknown)

    def test_delimited_by_the_end(self) -> None:
        """A response without a length ends with the connection."""
        d = self.send()
        self.wire.connect()
        self.wire.receive(b"HTTP/1.1 200 OK\r\n\r\nok")
        self.assertNoResult(d)
        self.wire.lose(ConnectionDone())
        self.assertEqual(self.successResultOf(d), UpstreamResponse(200, b"ok", None, False))

    def test_delimited_by_an_error(self) -> None:
        """An error of the connection doesn't complete a response without a length (RFC 9112, section 8)."""
        d = self.send()
        self.wire.connect()
        self.wire.receive(b"HTTP/1.1 200 OK\r\n\r\nok")
        self.wire.lose(ConnectionLost())
        self.failureResultOf(d, OutcomeUnknown)

    def test_bad_response(self) -> None:
        """A malformed response, or one too large, aborts the connection at once; what still comes is ignored."""
        for received in (b"SSH-2.0\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n" + bytes(MAX_RESPONSE)):
            d = self.send()
            self.wire.connect()
            self.wire.receive(received)
            self.assertTrue(self.wire.transport.disconnected)
            self.failureResultOf(d, BadResponse)
            self.wire.receive(b"more")
            self.wire.lose(ConnectionLost())

    def test_cancelled(self) -> None:
        """A cancelled request aborts its connection at whatever stage; what still comes is ignored."""
        d = self.send()
        d.cancel()
        self.failureResultOf(d)
        for received in (b"", RESPONSE[:-1]):
            d = self.send()
            self.wire.connect()
            self.wire.receive(received)
            d.cancel()
            self.failureResultOf(d)
            self.assertTrue(self.wire.transport.disconnected)
            self.wire.receive(RESPONSE[-1:])
            self.wire.lose(ConnectionLost())
        self.request()
        d = self.send()
        d.cancel()
        self.failureResultOf(d)
        self.assertTrue(self.wire.transport.disconnected)

    def test_no_delay(self) -> None:
        """A request doesn't wait for another to fill a packet."""
        calls: list[bool] = []
        self.send()
        self.wire.connect(setTcpNoDelay=calls.append)
        self.assertEqual(calls, [True])


class BodyTests(AgentCase):
    """Bodies that are sent as fast as the connection takes them."""

    def assert_pooled(self, pooled: bool) -> None:
        """Whether the next request goes over the same connection, or that one is closed and there is a new one."""
        before = len(self.reactor.tcpClients)
        self.assertEqual(self.wire.transport.disconnected, not pooled)
        self.send()
        self.assertEqual(len(self.reactor.tcpClients), before + (not pooled))

    def finish(self, body: Body) -> None:
        """Produce the whole body."""
        body.consumer.write(b"body")
        body.done.callback(None)

    def test_sent(self) -> None:
        """Once the body is sent the connection waits for the response, and is kept."""
        body, d = self.start()
        self.assertTrue(self.wire.transport.streaming)
        self.finish(body)
        self.assertIsNone(self.producer)
        self.assertEqual(self.wire.transport.value(), HEAD + b"body")
        self.wire.receive(RESPONSE)
        self.successResultOf(d)
        self.assertFalse(body.stopped)
        self.assert_pooled(True)

    def test_flow(self) -> None:
        """The body pauses and resumes as the transport asks."""
        body, _ = self.start()
        self.producer.pauseProducing()
        self.producer.resumeProducing()
        self.assertEqual(body.calls, ["pause", "resume"])

    def test_early_response(self) -> None:
        """A response before the end of the body counts; it stops the body and aborts the connection."""
        for received in (RESPONSE, REFUSAL):
            body, d = self.start()
            self.wire.receive(received)
            self.successResultOf(d)
            self.assertTrue(body.stopped)
            self.assertIsNone(self.producer)
            self.assert_pooled(False)

    def test_response_before_the_buffer_is_empty(self) -> None:
        """A body that is still in the transport's buffer hasn't been read: the connection isn't kept."""
        body, d = self.start()
        self.producer.pauseProducing()
        self.finish(body)
        self.wire.receive(RESPONSE)
        self.successResultOf(d)
        self.assertEqual(body.calls, ["pause"])
        self.assertIsNone(self.producer)
        self.assert_pooled(False)

    def test_response_after_the_buffer_is_empty(self) -> None:
        """Once the transport has taken all of a large body, the connection is kept."""
        body, d = self.start()
        self.producer.pauseProducing()
        self.finish(body)
        self.producer.resumeProducing()
        self.assertIsNone(self.producer)
        self.wire.receive(RESPONSE)
        self.successResultOf(d)
        self.assert_pooled(True)

    def test_refused(self) -> None:
        """A server that refuses a body may not have read it, wherever it is by now: the connection isn't kept."""
        for status in (b"302", b"413", b"503"):
            body, d = self.start()
            self.finish(body)
            self.wire.receive(REFUSAL.replace(b"413", status))
            self.successResultOf(d)
            self.assert_pooled(False)

    def test_response_before_all_has_arrived(self) -> None:
        """A server that has read the whole body has acknowledged it: if a part isn't, the connection isn't kept."""
        for unacknowledged in (1, 0):
            self.patch(connection_module, "_unacknowledged", lambda transport, count=unacknowledged: count)
            body, d = self.start()
            self.finish(body)
            self.wire.receive(RESPONSE)
            self.successResultOf(d)
            self.assert_pooled(not unacknowledged)

    def test_poll_refused(self) -> None:
        """A request without such a body has gone out whole: the connection is kept after any status."""
        for status in (b"302", b"404", b"503"):
            d = self.send()
            if not self.wire.transports:
                self.wire.connect()
            self.wire.receive(REFUSAL.replace(b"413", status))
            self.successResultOf(d)
        self.assertEqual(len(self.reactor.tcpClients), 1)

    def test_failed(self) -> None:
        """The request fails as its body does, and the connection is aborted."""
        body, d = self.start()
        body.done.errback(ZeroDivisionError())
        self.failureResultOf(d, ZeroDivisionError)
        self.assertTrue(self.wire.transport.disconnected)
        self.assertIsNone(self.producer)
        self.assertEqual(body.calls, [])

    def test_failed_at_once(self) -> None:
        """So does one whose body fails before the first byte."""
        body = Body()
        body.done.errback(ZeroDivisionError())
        d = self.send(body)
        self.wire.connect()
        self.failureResultOf(d, ZeroDivisionError)
        self.assertTrue(self.wire.transport.disconnected)

    def test_lost(self) -> None:
        """The end of the connection stops the body."""
        body, d = self.start()
        self.wire.lose(ConnectionLost())
        self.failureResultOf(d, OutcomeUnknown)
        self.assertTrue(body.stopped)
        self.assertIsNone(self.producer)

    def test_stopped_by_the_transport(self) -> None:
        """A transport that is lost stops its producer first, and then reports the loss: the body is stopped once."""
        body, d = self.start()
        self.producer.stopProducing()
        self.wire.lose(ConnectionLost())
        self.failureResultOf(d, OutcomeUnknown)
        self.assertEqual(body.calls, ["stop"])

    def test_cancelled(self) -> None:
        """A cancelled request stops its body."""
        body, d = self.start()
        d.cancel()
        self.failureResultOf(d)
        self.assertTrue(body.stopped)
        self.assertTrue(self.wire.transport.disconnected)


class Transport(ProtocolWrapper):
    """A transport that wraps another, as TLS does."""

    def __init__(self, transport: Any) -> None:
        self.transport = transport


@implementer(ISystemHandle)
class SocketTransport:
    """A transport that has a socket, and nothing else."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection

    def getHandle(self) -> socket.socket:
        return self._socket


class AcknowledgedTests(SynchronousTestCase):
    """What the operating system knows of bytes that were sent."""

    def setUp(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self.ours = socket.create_connection(listening.getsockname())
            self.theirs, _ = listening.accept()
        self.addCleanup(self.ours.close)
        self.addCleanup(self.theirs.close)

    def test_unread(self) -> None:
        """Bytes that the peer's system can't take are told; once the peer has read all and responds, there are none."""
        transport = SocketTransport(self.ours)
        self.assertEqual(connection_module._unacknowledged(transport), 0)
        self.ours.setblocking(False)
        sent = 0
        while True:
            try:
                sent += self.ours.send(bytes(1_000_000))
            except BlockingIOError:
                break
        self.assertGreater(connection_module._unacknowledged(transport), 0)
        self.assertGreater(connection_module._unacknowledged(Transport(Transport(transport))), 0)
        while sent:
            sent -= len(self.theirs.recv(sent))
        self.theirs.send(b"x")
        self.ours.setblocking(True)
        self.assertEqual(self.ours.recv(1), b"x")
        self.assertEqual(connection_module._unacknowledged(transport), 0)

    def test_unknown(self) -> None:
        """Where there is no socket, or the system can't tell, none are unacknowledged."""
        self.assertEqual(connection_module._unacknowledged(StringTransport()), 0)
        transport = SocketTransport(self.ours)
        self.patch(fcntl, "ioctl", failing(errno.ENOTTY))
        self.assertEqual(connection_module._unacknowledged(transport), 0)


class StateTests(SynchronousTestCase):
    """The connection's states."""

    def connection(self) -> Connection:
        connection = Connection()
        connection.makeConnection(StringTransport())
        return connection

    def test_transitions(self) -> None:
        """Every change that the table has is possible, and no other."""
        for before in ConnectionState:
            for after in ConnectionState:
                connection = self.connection()
                connection.state = before
                if after in TRANSITIONS[before]:
                    connection._enter(after)
                    self.assertIs(connection.state, after)
                else:
                    with self.assertRaises(AssertionError):
                        connection._enter(after)

    def test_life(self) -> None:
        """A connection goes through all of its states."""
        connection = self.connection()
        states = [connection.state]
        body = Body()
        d: Deferred[UpstreamResponse] = connection.send((HEAD,), body)
        states.append(connection.state)
        body.done.callback(None)
        states.append(connection.state)
        connection.dataReceived(RESPONSE)
        states.append(connection.state)
        self.successResultOf(d)
        connection.abort()
        states.append(connection.state)
        self.assertNoResult(connection.closed)
        connection.connectionLost()
        states.append(connection.state)
        self.successResultOf(connection.closed)
        state = ConnectionState
        self.assertEqual(states, [state.IDLE, state.SENDING, state.RECEIVING, state.IDLE, state.CLOSING, state.CLOSED])

    def test_closing_response(self) -> None:
        """A response that says so is the connection's last."""
        connection = self.connection()
        connection.send((HEAD,))
        connection.dataReceived(CLOSING)
        self.assertIs(connection.state, ConnectionState.CLOSING)

    def test_one_request_at_a_time(self) -> None:
        """A second request on a busy connection is a bug, not a mixed-up response."""
        connection = self.connection()
        connection.send((HEAD,))
        with self.assertRaises(AssertionError):
            connection.send((HEAD,))

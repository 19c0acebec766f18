"""An agent and the other end of its wire: what the tests of agent and connection share."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

from merlind.upstream.agent import KeepAliveAgent
from merlind.upstream.response_parser import UpstreamResponse
from tests.unit.support import Reactor, Wire

HEAD = b"POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\n"
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CLOSING = RESPONSE.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n")


@implementer(IBodyProducer)
class Body:
    """A body that the test produces; ``calls`` lists what its consumer asked of it."""

    length = 4

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.done: Deferred[None] = Deferred()

    @property
    def stopped(self) -> bool:
        return "stop" in self.calls

    def startProducing(self, consumer: Any) -> "Deferred[None]":
        self.consumer = consumer
        return self.done

    def pauseProducing(self) -> None:
        self.calls.append("pause")

    def resumeProducing(self) -> None:
        self.calls.append("resume")

    def stopProducing(self) -> None:
        self.calls.append("stop")


class AgentCase(SynchronousTestCase):
    """An agent, and the other end of its wire."""

    def setUp(self) -> None:
        self.reactor = Reactor()
        self.agent = KeepAliveAgent(self.reactor, "http://127.0.0.1:8080/api/?x=y")
        self.wire = Wire(self.reactor)

    @property
    def producer(self) -> Any:
        """What is registered as the last transport's producer."""
        return self.wire.transport.producer

    def send(self, body: Body | None = None) -> "Deferred[UpstreamResponse]":
        return self.agent.send((HEAD, b"body") if body is None else (HEAD,), body)

    def request(self, response: bytes = RESPONSE) -> None:
        """Send one request, over a new connection or a kept one, and receive its response."""
        before = len(self.reactor.tcpClients)
        d = self.send()
        if len(self.reactor.tcpClients) > before:
            self.wire.connect()
        self.wire.receive(response)
        self.assertEqual(self.successResultOf(d).body, b"ok")

    def start(self) -> tuple[Body, "Deferred[UpstreamResponse]"]:
        """Begin a request whose body the test produces, over a new connection."""
        body = Body()
        d = self.send(body)
        self.assertEqual(self.wire.connect().value(), HEAD)
        return body, d

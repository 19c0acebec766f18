"""Forms over treq: what goes over the wire, and what treq's layers get to see."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent
from zope.interface.verify import verifyObject

from merlind.upstream.response_parser import UpstreamResponse
from merlind.upstream.sender import FormSender, TreqAgent
from tests.unit.upstream.test_agent import AgentCase, Body

ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nSet-Cookie: a=b\r\nRetry-After: 7\r\nContent-Length: 2\r\n\r\nok"
)


class FormSenderTests(AgentCase):
    """A form through all of treq."""

    def test_sent(self) -> None:
        """What is sent is the form with its headers; no cookie comes back, and nothing is decoded."""
        sender = FormSender(self.agent, "http://127.0.0.1:8080/api/?x=y", Headers({"X-Y": ["z"]}))
        for connect in (True, False):
            body = Body()
            d = sender.send(body)
            if connect:
                self.wire.connect()
            sent = self.wire.transport.value()
            self.assertEqual(
                sent, b"POST /api/?x=y HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nContent-Length: 4\r\nX-Y: z\r\n\r\n"
            )
            self.wire.transport.clear()
            body.done.callback(None)
            self.wire.receive(ANSWER)
            self.assertEqual(self.successResultOf(d), UpstreamResponse(200, b"ok", "7", keep_alive=True))


class TreqAgentTests(AgentCase):
    """The same for treq."""

    def request(self, headers: Headers | None = None) -> tuple[Body, "Deferred[Any]"]:
        body = Body()
        return body, TreqAgent(self.agent).request(b"POST", b"http://elsewhere/", headers, body)

    def test_interface(self) -> None:
        """It is an agent."""
        self.assertTrue(verifyObject(IAgent, TreqAgent(self.agent)))

    def test_request(self) -> None:
        """The agent's own host and target; what frames or encodes is its own business."""
        headers = Headers(
            {"Accept-Encoding": ["gzip"], "Host": ["a"], "Content-Length": ["9"], "Connection": ["close"], "X-Y": ["z"]}
        )
        self.request(headers)
        self.assertEqual(
            self.wire.connect().value(),
            b"POST /api/?x=y HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nContent-Length: 4\r\nX-Y: z\r\n\r\n",
        )
        self.assertTrue(headers.hasHeader("Accept-Encoding"))

    def test_no_headers(self) -> None:
        """There need be none."""
        self.request()
        self.assertTrue(self.wire.connect().value().endswith(b"\r\nContent-Length: 4\r\n\r\n"))

    def test_response(self) -> None:
        """The answer is handed on whole, and treq's layers find no header: no encoding, no cookies."""
        body, d = self.request()
        self.wire.connect()
        body.done.callback(None)
        self.wire.receive(ANSWER)
        response = self.successResultOf(d)
        self.assertEqual(response.answer, UpstreamResponse(200, b"ok", "7", keep_alive=True))
        self.assertEqual((response.code, response.length), (200, 2))
        self.assertEqual(list(response.headers.getAllRawHeaders()), [])

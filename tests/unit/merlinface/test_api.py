"""The stand-in's HTTP: the bytes it receives on a connection, and those it sends."""

from io import BytesIO
from random import Random
from typing import Any
from uuid import UUID

from treq.multipart import MultiPartProducer
from twisted.internet.error import ConnectionAborted
from twisted.internet.interfaces import IConsumer
from twisted.internet.task import Clock, Cooperator
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import FileBodyProducer
from twisted.web.server import Site
from zope.interface import implementer

from merlind.merlinface import api
from merlind.merlinface.api import StandInSettings, make_site
from merlind.merlinface.faults import Fault
from merlind.merlinface.form import MAX_PHOTO
from merlind.merlinface.score import DISCLAIMER, score
from tests.unit.merlinface.support import (
    MULTIPART,
    PHOTO,
    UPLOAD,
    Reply,
    form,
    name_part,
    numbered,
    numbered_ids,
    photo_part,
    poll_form,
    post,
    read_reply,
)

DEFAULTS = StandInSettings(delay=3, waits=1)


class Fixed(Random):
    """Draws and chooses the same each time."""

    def __init__(self, draw: float, choice: Fault) -> None:
        super().__init__(0)
        self._draw = draw
        self._choice = choice

    def random(self) -> float:
        return self._draw

    def choice(self, seq: Any) -> Any:
        assert self._choice in seq
        return self._choice

    def randint(self, a: int, b: int) -> int:
        return b


@implementer(IConsumer)
class Collector:
    """Collects what a body producer writes."""

    def __init__(self) -> None:
        self.body = b""

    def write(self, data: bytes) -> None:
        self.body += data

    def registerProducer(self, producer: object, streaming: bool) -> None:
        raise NotImplementedError

    def unregisterProducer(self) -> None:
        raise NotImplementedError


class WireTests(SynchronousTestCase):
    """Requests and responses on one connection."""

    def setUp(self) -> None:
        self.clock = Clock()

    def connect(self, settings: StandInSettings = DEFAULTS, **more: Any) -> None:
        """Open a connection to a new stand-in."""
        self.site: Site = make_site(self.clock, settings, **{"new_id": numbered_ids(), **more})
        self.transport = StringTransport()
        self.protocol: Any = self.site.buildProtocol(None)
        self.protocol.makeConnection(self.transport)

    def send(self, request: bytes) -> Reply:
        """Send a request on the open connection, and read the response."""
        self.transport.clear()
        self.protocol.dataReceived(request)
        reply = read_reply(self.transport.value())
        self.assertEqual(reply.headers["X-Merlinface"], "stand-in; the score means nothing")
        self.assertEqual(reply.headers["Server"], "merlinface-stand-in")
        self.assertEqual(reply.headers["Content-Type"], "application/json")
        return reply

    def lose(self) -> None:
        """End the connection that the stand-in closed; no timer is left."""
        self.protocol.connectionLost(Failure(ConnectionAborted()))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def assert_error(self, reply: Reply, code: int, reason: str) -> None:
        self.assertEqual(reply.code, code)
        self.assertEqual(reply.json, {"status": "error", "result": None, "errors": [reason]})

    def test_upload_and_poll(self) -> None:
        """An upload, and polls until the score: exact bodies, chunked, on one connection."""
        self.connect()
        wait = b'{"status":"wait","result":null,"retry_id":"00000000-0000-0000-0000-000000000001","errors":[]}'
        reply = self.send(post(UPLOAD))
        self.assertEqual((reply.code, reply.body), (202, wait))
        self.assertEqual(reply.headers["Transfer-Encoding"], "chunked")
        reply = self.send(post(poll_form(numbered(1))))
        self.assertEqual((reply.code, reply.body), (202, wait))
        self.clock.advance(3)
        reply = self.send(post(poll_form(numbered(1))))
        self.assertEqual(reply.code, 200)
        self.assertEqual(reply.body, b'{"status":"success","result":%r,"errors":[]}' % score("Anna", PHOTO))
        self.lose()

    def test_ids_are_uuids(self) -> None:
        """Without a ``new_id``, each retry_id is a different UUID."""
        self.site = make_site(self.clock, StandInSettings())
        self.transport = StringTransport()
        self.protocol = self.site.buildProtocol(None)
        self.protocol.makeConnection(self.transport)
        given = {self.send(post(UPLOAD)).json["retry_id"] for _ in range(3)}
        self.assertEqual(len({str(UUID(one)) for one in given}), 3)

    def test_at_once(self) -> None:
        """Without delay and waits, the response to the upload has the score."""
        self.connect(StandInSettings(0, 0))
        reply = self.send(post(UPLOAD))
        self.assertEqual((reply.code, reply.json["status"]), (200, "success"))

    def test_byte_by_byte(self) -> None:
        """It doesn't matter how a request is cut, on the socket or into chunks."""
        self.connect()
        for byte in post(UPLOAD)[:-1]:
            self.protocol.dataReceived(bytes([byte]))
        self.assertEqual(self.send(post(UPLOAD)[-1:]).code, 202)
        chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in UPLOAD) + b"0\r\n\r\n"
        head = b"POST /api/ HTTP/1.1\r\nHost: h\r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\n\r\n" % MULTIPART
        self.assertEqual(self.send(head + chunks).json["retry_id"], numbered(2))

    def test_treq(self) -> None:
        """The forms that treq makes are accepted."""
        self.connect()
        cooperator = Cooperator(scheduler=lambda call: self.clock.callLater(0, call))

        def sent(fields: dict[str, Any]) -> bytes:
            collector = Collector()
            done = MultiPartProducer(fields, boundary=b"B", cooperator=cooperator).startProducing(collector)
            self.clock.pump([0] * 20)
            self.successResultOf(done)
            return post(collector.body)

        photo = ("портрет.jpg", "image/jpeg", FileBodyProducer(BytesIO(PHOTO), cooperator))
        self.assertEqual(self.send(sent({"name": "Зоя", "photo": photo})).code, 202)
        self.clock.advance(3)
        reply = self.send(sent({"retry_id": numbered(1)}))
        self.assertEqual((reply.code, reply.json["result"]), (200, score("Зоя", PHOTO)))

    def test_http_1_0(self) -> None:
        """A client of HTTP/1.0 gets the same without chunks, and the connection is closed."""
        self.connect()
        reply = self.send(post(UPLOAD, version=b"1.0"))
        self.assertEqual((reply.code, reply.json["status"]), (202, "wait"))
        self.assertTrue(self.transport.disconnecting)

    def test_unknown_retry_id(self) -> None:
        """A retry_id that is unknown gets a 404."""
        self.connect()
        self.assert_error(self.send(post(poll_form("who?"))), 404, "unknown retry_id")

    def test_errors_are_logged_without_content(self) -> None:
        """An error has its status, leaves the connection usable, and is logged without the form's content."""
        self.connect()
        with capturedLogs() as logs:
            reply = self.send(post(form(name_part("Anna"))))
        self.assert_error(reply, 400, "photo is missing")
        self.assertEqual([(log["code"], log["reason"]) for log in logs], [(400, "photo is missing")])
        self.assertNotIn("Anna", repr(logs))
        self.assert_error(self.send(post(b"{}", b"application/json")), 415, "not multipart/form-data")
        self.assert_error(
            self.send(b"POST /api/ HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"),
            415,
            "not multipart/form-data",
        )
        self.assertEqual(self.send(post(UPLOAD)).code, 202)

    def test_other_method(self) -> None:
        """Any other method gets a 405."""
        self.connect()
        for method in (b"GET", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"BREW"):
            reply = self.send(method + b" /api/ HTTP/1.1\r\nHost: h\r\n\r\n")
            self.assert_error(reply, 405, "POST only")
            self.assertEqual(reply.headers["Allow"], "POST")
        self.transport.clear()
        self.protocol.dataReceived(b"HEAD /api/ HTTP/1.1\r\nHost: h\r\n\r\n")
        self.assertIn(b" 405 ", self.transport.value())
        self.assertTrue(self.transport.value().endswith(b"\r\n\r\n"))

    def test_other_path(self) -> None:
        """Any other path gets a 404, and no redirect."""
        self.connect()
        for path in (b"/", b"/api", b"/api/x", b"//api/", b"/api%2f", b"/API/", b"/%ff", b"/%00"):
            self.assert_error(self.send(post(UPLOAD, path=path)), 404, "nothing here")
        self.assertEqual(self.send(post(UPLOAD, path=b"/api/?x=%ff")).code, 202)

    def test_any_host(self) -> None:
        """Any Host is accepted, even a malformed one."""
        self.connect()
        for host in (b"a..b", b"\xff", b"x" * 100, b"", b"[::1]:80"):
            self.assertEqual(self.send(post(UPLOAD).replace(b"Host: h", b"Host: " + host)).code, 202)

    def test_too_large_photo(self) -> None:
        """A photo that is too large is read to its end and rejected; the connection stays usable."""
        self.connect()
        body = form(name_part("Anna"), photo_part(bytes(MAX_PHOTO + 2**20)))
        self.assert_error(self.send(post(body)), 400, "photo is larger than 20 MiB")
        self.assertEqual(self.send(post(UPLOAD)).code, 202)

    def test_huge_length(self) -> None:
        """A length past MAX_DISCARDED resets the connection before the body."""
        self.connect()
        self.protocol.dataReceived(post(b"").replace(b"Length: 0", b"Length: %d" % (api.MAX_DISCARDED + 1)))
        self.assertTrue(self.transport.disconnected)
        self.lose()

    def test_endless_body(self) -> None:
        """A body of unknown length resets the connection once it is past MAX_DISCARDED; what still comes is ignored."""
        self.patch(api, "MAX_DISCARDED", 1000)
        self.connect()
        head = post(b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
        self.protocol.dataReceived(head + b"3e8\r\n" + bytes(1000) + b"\r\n")
        self.assertFalse(self.transport.disconnected)
        self.protocol.dataReceived(b"1\r\n0\r\n" * 2)
        self.assertTrue(self.transport.disconnected)
        self.assertEqual(self.transport.value(), b"")
        self.lose()

    def test_bugs_show_no_traceback(self) -> None:
        """A bug is logged, and the response has no traceback."""

        def broken() -> UUID:
            raise ZeroDivisionError("a secret")

        self.connect(new_id=broken)
        self.assert_error(self.send(post(UPLOAD)), 500, "internal error")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_busy(self) -> None:
        """A fault: a 503."""
        self.connect(StandInSettings(fault_rate=0.5), random=Fixed(0.49, Fault.BUSY))
        reply = self.send(post(UPLOAD))
        self.assert_error(reply, 503, "busy")
        self.assertNotIn("Retry-After", reply.headers)

    def test_busy_for(self) -> None:
        """A fault: a 503 with Retry-After."""
        self.connect(StandInSettings(fault_rate=0.5), random=Fixed(0.49, Fault.BUSY_FOR))
        reply = self.send(post(UPLOAD))
        self.assert_error(reply, 503, "busy")
        self.assertEqual(reply.headers["Retry-After"], "3")

    def test_reset(self) -> None:
        """A fault: the connection is reset without a response."""
        self.connect(StandInSettings(fault_rate=0.5), random=Fixed(0.49, Fault.RESET))
        self.protocol.dataReceived(post(UPLOAD))
        self.assertTrue(self.transport.disconnected)
        self.assertEqual(self.transport.value(), b"")
        self.lose()

    def test_cut_short(self) -> None:
        """A fault: half a response. The job was started all the same."""
        self.connect(StandInSettings(0, 1, 0.5), random=Fixed(0.49, Fault.CUT_SHORT))
        self.protocol.dataReceived(post(UPLOAD))
        reply = read_reply(self.transport.value())
        self.assertEqual(reply.code, 202)
        self.assertTrue(reply.body.startswith(b'{"status":"wait"'))
        self.assertEqual(int(reply.headers["Content-Length"]) // 2, len(reply.body))
        self.assertTrue(self.transport.disconnecting)
        self.assertFalse(self.transport.disconnected)
        self.lose()

    def test_no_fault_outside_the_share(self) -> None:
        """Requests outside the share get their proper response."""
        self.connect(StandInSettings(fault_rate=0.5), random=Fixed(0.5, Fault.RESET))
        self.assertEqual(self.send(post(UPLOAD)).code, 202)

    def test_start_says_what_it_is(self) -> None:
        """It logs what it is, starts no timer, and logs no requests."""
        self.connect()
        with capturedLogs() as logs:
            self.site.doStart()
            self.send(post(UPLOAD))
        self.assertEqual([log["about"] for log in logs if "about" in log], [DISCLAIMER])
        self.assertNotIn("/api/", repr(logs))
        self.lose()
        self.site.doStop()

"""The stand-in for the upstream: its score, its jobs, its forms, its wire, and its command line."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesParser
from io import BytesIO
from itertools import count
from random import Random
from typing import Any
from uuid import UUID

from treq.multipart import MultiPartProducer
from twisted.application.service import IService
from twisted.internet.address import IPv4Address
from twisted.internet.error import CannotListenError, ConnectionAborted
from twisted.internet.interfaces import IConsumer
from twisted.internet.task import Clock, Cooperator
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.logger import capturedLogs
from twisted.plugin import IPlugin
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import FileBodyProducer
from twisted.web.server import Site
from zope.interface import implementer
from zope.interface.verify import verifyObject

from merlind.merlinface import api, tap
from merlind.merlinface.api import (
    Fault,
    Form,
    FormError,
    JobDone,
    Jobs,
    JobWaiting,
    PollForm,
    StandInSettings,
    UploadForm,
    draw_fault,
    make_site,
)
from merlind.merlinface.score import normal_name, score, score_of_digest
from twisted.plugins import merlinface_plugin

PHOTO = b"\xff\xd8\xff\xe0 not much of a photo \r\n--\r\n"
DEFAULTS = StandInSettings(delay=3, waits=1)
MULTIPART = b"multipart/form-data; boundary=B"


def part(name: str, value: bytes, extra: str = "", headers: str = "") -> bytes:
    """One part of a form: ``extra`` goes behind the name, ``headers`` are whole lines."""
    return f'--B\r\nContent-Disposition: form-data; name="{name}"{extra}\r\n{headers}\r\n'.encode() + value + b"\r\n"


def name_part(name: str | bytes) -> bytes:
    return part("name", name if isinstance(name, bytes) else name.encode("utf-8"))


def photo_part(photo: bytes = PHOTO, filename: str = '; filename="a.jpg"', media_type: str = "image/jpeg") -> bytes:
    return part("photo", photo, filename, f"Content-Type: {media_type}\r\n" if media_type else "")


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--B--\r\n"


def poll_form(retry_id: str) -> bytes:
    return form(part("retry_id", retry_id.encode("utf-8")))


UPLOAD = form(name_part("Anna"), photo_part())


def post(body: bytes, content_type: bytes = MULTIPART, path: bytes = b"/api/", version: bytes = b"1.1") -> bytes:
    return b"POST %s HTTP/%s\r\nHost: h\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s" % (
        path,
        version,
        content_type,
        len(body),
        body,
    )


def numbered_ids() -> Callable[[], UUID]:
    numbers = count(1)
    return lambda: UUID(int=next(numbers))


def numbered(number: int) -> str:
    return str(UUID(int=number))


class Fixed(Random):
    """Not random at all: the same draw and the same choice, over and over."""

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


@dataclass
class Answer:
    """An answer as it went over the wire, its body unchunked."""

    code: int
    headers: Message
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def read_answer(wire: bytes) -> Answer:
    """Parse one answer. Whatever follows it is an error."""
    head, _, rest = wire.partition(b"\r\n\r\n")
    line, _, fields = head.partition(b"\r\n")
    headers = BytesParser().parsebytes(fields + b"\r\n\r\n")
    if headers["Transfer-Encoding"] == "chunked":
        body = b""
        while True:
            length, _, rest = rest.partition(b"\r\n")
            chunk, rest = rest[: int(length, 16)], rest[int(length, 16) :]
            assert rest.startswith(b"\r\n"), rest
            rest = rest[2:]
            if not chunk:
                break
            body += chunk
        assert rest == b"", rest
    else:
        body = rest
    return Answer(int(line.split(b" ")[1]), headers, body)


class ScoreTests(SynchronousTestCase):
    """The score."""

    def test_stable(self) -> None:
        """It never changes: these numbers were computed once."""
        self.assertEqual(score("Anna", b"photo"), 0.6689)
        self.assertEqual(score("Anna", b"photo2"), 0.6448)
        self.assertEqual(score("Otto", b"photo"), 0.2162)

    def test_range(self) -> None:
        """It is a share, of four places."""
        for number in range(500):
            value = score(str(number), b"photo")
            self.assertTrue(0 <= value <= 1)
            self.assertEqual(value, round(value, 4))

    def test_equal_names(self) -> None:
        """Names that are equal by the contract have the same score."""
        self.assertEqual(normal_name(" \tZoe\u0308\n"), "Zo\u00eb")
        self.assertEqual(score(" Zoe\u0308 ", b"photo"), score("Zo\u00eb", b"photo"))

    def test_edges(self) -> None:
        """No bytes, and no name, are no special case."""
        self.assertIsInstance(score("", b""), float)
        self.assertEqual(score_of_digest("", bytes(32)), score_of_digest(" ", bytes(32)))


class JobsTests(SynchronousTestCase):
    """When a job is finished, and how long it is known."""

    def jobs(self, delay: float, waits: int, most: int = 10) -> tuple[Clock, Jobs]:
        clock = Clock()
        return clock, Jobs(clock, StandInSettings(delay, waits), numbered_ids(), most)

    def test_at_once(self) -> None:
        """With nothing to wait for, the upload is answered with the score, and not remembered."""
        _, jobs = self.jobs(0, 0)
        self.assertEqual(jobs.start(0.5), JobDone(0.5))
        self.assertIsNone(jobs.ask(numbered(1)))

    def test_waits(self) -> None:
        """The answer to the upload is the first wait."""
        _, jobs = self.jobs(0, 3)
        waiting = JobWaiting(numbered(1))
        self.assertEqual(
            [jobs.start(0.5), *(jobs.ask(numbered(1)) for _ in range(3))],
            [waiting, waiting, waiting, JobDone(0.5)],
        )

    def test_delay(self) -> None:
        """However often it is asked, it is not ready before the delay is over."""
        clock, jobs = self.jobs(3, 0)
        self.assertEqual(jobs.start(0.5), JobWaiting(numbered(1)))
        clock.advance(2.75)
        self.assertEqual(jobs.ask(numbered(1)), JobWaiting(numbered(1)))
        clock.advance(0.25)
        self.assertEqual(jobs.ask(numbered(1)), JobDone(0.5))

    def test_both(self) -> None:
        """The delay alone is not enough either."""
        clock, jobs = self.jobs(3, 2)
        jobs.start(0.5)
        clock.advance(60)
        self.assertEqual(jobs.ask(numbered(1)), JobWaiting(numbered(1)))
        self.assertEqual(jobs.ask(numbered(1)), JobDone(0.5))

    def test_asked_again(self) -> None:
        """A finished job stays."""
        clock, jobs = self.jobs(0, 1)
        jobs.start(0.5)
        for _ in range(3):
            self.assertEqual(jobs.ask(numbered(1)), JobDone(0.5))
            clock.advance(3600)

    def test_unknown(self) -> None:
        """What was never started is not known."""
        _, jobs = self.jobs(0, 1)
        self.assertIsNone(jobs.ask(numbered(1)))

    def test_forgets_the_oldest(self) -> None:
        """There is a most of jobs."""
        _, jobs = self.jobs(0, 1, most=2)
        for number in range(3):
            jobs.start(number / 10)
        self.assertEqual([jobs.ask(numbered(number)) for number in (1, 2, 3)], [None, JobDone(0.1), JobDone(0.2)])


class TroubleTests(SynchronousTestCase):
    """Who gets trouble."""

    def test_none(self) -> None:
        """Without a rate nobody does."""
        self.assertEqual({draw_fault(Random(1), 0) for _ in range(100)}, {None})

    def test_share(self) -> None:
        """The rate is the share that does, and each kind comes up."""
        random = Random(1)
        drawn = [draw_fault(random, 0.25) for _ in range(4000)]
        self.assertApproximates(sum(one is not None for one in drawn) / len(drawn), 0.25, 0.03)
        self.assertEqual(set(drawn), {None, *Fault})

    def test_all(self) -> None:
        """With a rate of 1 everybody does."""
        random = Random(1)
        self.assertNotIn(None, [draw_fault(random, 1) for _ in range(1000)])


def read_form(body: bytes, content_type: bytes = MULTIPART, step: int = 0) -> UploadForm | PollForm | tuple[int, str]:
    """What a form asks for, or its refusal; fed whole, or ``step`` bytes at a time."""
    read = Form(content_type)
    for start in range(0, len(body), step or len(body) or 1):
        read.feed(body[start : start + (step or len(body))])
    try:
        return read.finish()
    except FormError as refusal:
        return refusal.code, refusal.reason


def all_ways(body: bytes, content_type: bytes = MULTIPART) -> set[UploadForm | PollForm | tuple[int, str]]:
    """What the form is read as in pieces of different lengths: one thing, or it is a bug."""
    return {read_form(body, content_type, step) for step in (0, 1, 2, 3, 7, 64, len(body) - 1, len(body) - 2)}


class FormTests(SynchronousTestCase):
    """What a form is read as."""

    def test_upload(self) -> None:
        """A name and a photo, in either order, in pieces of any length."""
        for body in (UPLOAD, form(photo_part(), name_part(" Anna\t"))):
            (upload,) = all_ways(body)
            assert isinstance(upload, UploadForm)
            self.assertEqual(upload.name, "Anna")
            self.assertEqual(score_of_digest(upload.name, upload.photo_sha256), score("Anna", PHOTO))

    def test_poll(self) -> None:
        """One plain field, taken as it is; the last line break of the form may be missing."""
        self.assertEqual(all_ways(poll_form("some-id")), {PollForm("some-id")})
        self.assertEqual(all_ways(poll_form("some-id")[:-2]), {PollForm("some-id")})
        self.assertEqual(all_ways(poll_form(" e\u0301\r\n")), {PollForm(" e\u0301\r\n")})

    def test_boundary(self) -> None:
        """A boundary may be quoted, and of any bytes."""
        body = UPLOAD.replace(b"--B", b"--b \xe9;")
        self.assertIsInstance(read_form(body, b'Multipart/Form-Data; charset=x; BOUNDARY="b \xe9;"'), UploadForm)

    def test_longest_name(self) -> None:
        """Characters are counted, once composed and trimmed, and not bytes."""
        for name in ("x" * 200, "\U0001f600" * 200, " " + "e\u0301" * 200 + " "):
            self.assertIsInstance(read_form(form(name_part(name), photo_part())), UploadForm)

    def test_largest_photo(self) -> None:
        """20 MiB are taken, in pieces as they come off a socket, and one more byte isn't."""
        body = form(name_part("Anna"), photo_part(bytes(api.MAX_PHOTO)))
        self.assertIsInstance(read_form(body, step=2**16), UploadForm)
        body = form(photo_part(bytes(api.MAX_PHOTO + 1)), name_part("Anna"))
        self.assertEqual(read_form(body, step=2**16), (400, "photo is larger than 20 MiB"))

    def test_content_type(self) -> None:
        """Only multipart/form-data will do, and it needs a boundary."""
        for content_type in (
            b"",
            b"application/json",
            b"application/x-www-form-urlencoded",
            b"multipart/mixed; boundary=B",
        ):
            self.assertEqual(read_form(UPLOAD, content_type), (415, "not multipart/form-data"))
        for content_type in (
            b"multipart/form-data",
            b"multipart/form-data; boundary=",
            b"multipart/form-data; boundary=" + b"B" * 1025,
        ):
            refused = read_form(UPLOAD, content_type)
            assert isinstance(refused, tuple)
            self.assertEqual(refused[0], 400)
            self.assertIn("malformed form", refused[1])

    def test_malformed(self) -> None:
        """What a strict parser doesn't take is refused, in whatever pieces it comes."""
        for body in (
            b"",
            b"\r\n",
            b"garbage that is long enough",
            UPLOAD[:-6],
            UPLOAD[: len(UPLOAD) // 2],
            UPLOAD + b"more",
            UPLOAD[:-2] + b"more",
            UPLOAD + b"\r\n",
            UPLOAD.replace(b"\r\n", b"\n"),
            form(name_part("Anna"), photo_part(), part("name", b"Otto")),
            form(b'--B\r\nContent-Disposition: attachment; name="name"\r\n\r\nAnna\r\n', photo_part()),
            form(b"--B\r\nContent-Disposition: form-data\r\n\r\nAnna\r\n", photo_part()),
            form(b"--B\r\n\r\nAnna\r\n", photo_part()),
            form(part("name", b"Anna", headers="Content-Length: 5\r\n"), photo_part()),
            form(part("name", b"Anna", headers="X: " + "x" * 5000 + "\r\n"), photo_part()),
        ):
            for refused in all_ways(body):
                assert isinstance(refused, tuple), body
                self.assertEqual(refused[0], 400)
                self.assertIn("malformed form", refused[1])

    def test_refused(self) -> None:
        """Each rule for the fields has its refusal."""
        name, photo, retry_id = name_part("Anna"), photo_part(), part("retry_id", b"id")
        for body, reason in (
            (form(), "name is missing"),
            (form(name), "photo is missing"),
            (form(photo), "name is missing"),
            (form(name, name), "name comes twice"),
            (form(photo, photo), "photo comes twice"),
            (form(retry_id, retry_id), "retry_id comes twice"),
            (form(name, part("age", b"7")), "unknown field"),
            (form(part("", b"7"), name), "unknown field"),
            (form(part("Name", b"Anna"), photo), "unknown field"),
            (form(name_part(""), photo), "name is empty"),
            (form(name_part(" \u2003\r\n"), photo), "name is empty"),
            (form(name_part("x" * 201), photo), "name is longer than 200 characters"),
            (form(name_part(" " * 4097), photo), "a plain field is too long"),
            (form(name_part(b"Ren\xe9"), photo), "name is not UTF-8"),
            (form(part("name", b"Anna", '; filename="a"'), photo), "name is a plain field, without a filename"),
            (form(name, photo_part(filename="")), "photo has no filename"),
            (form(name, photo_part(filename='; filename=""')), "photo has no filename"),
            (form(name, photo_part(media_type="")), "photo is no image"),
            (form(name, photo_part(media_type="text/plain")), "photo is no image"),
            (form(name, photo_part(media_type="image/")), "photo is no image"),
            (form(name, photo_part(b"")), "photo is empty"),
            (form(retry_id, photo), "retry_id comes alone"),
            (form(name, retry_id), "retry_id comes alone"),
            (form(part("retry_id", b"id", '; filename=""')), "retry_id is a plain field, without a filename"),
            (form(part("retry_id", b"\xff")), "retry_id is not UTF-8"),
            (form(part("retry_id", b"")), "retry_id is empty"),
        ):
            self.assertEqual(all_ways(body), {(400, reason)})


@implementer(IConsumer)
class Collector:
    """What a body producer writes to."""

    def __init__(self) -> None:
        self.body = b""

    def write(self, data: bytes) -> None:
        self.body += data

    def registerProducer(self, producer: object, streaming: bool) -> None:
        raise NotImplementedError

    def unregisterProducer(self) -> None:
        raise NotImplementedError


class WireTests(SynchronousTestCase):
    """What goes over a connection."""

    def setUp(self) -> None:
        self.clock = Clock()

    def connect(self, settings: StandInSettings = DEFAULTS, **more: Any) -> None:
        """A new connection to a new stand-in."""
        self.site: Site = make_site(self.clock, settings, **{"new_id": numbered_ids(), **more})
        self.transport = StringTransport()
        self.protocol: Any = self.site.buildProtocol(None)
        self.protocol.makeConnection(self.transport)

    def exchange(self, request: bytes) -> Answer:
        """The answer to a request on the open connection."""
        self.transport.clear()
        self.protocol.dataReceived(request)
        answer = read_answer(self.transport.value())
        self.assertEqual(answer.headers["X-Merlinface"], "stand-in; the score means nothing")
        self.assertEqual(answer.headers["Server"], "merlinface-stand-in")
        self.assertEqual(answer.headers["Content-Type"], "application/json")
        return answer

    def lose(self) -> None:
        """The transport did as it was told; nothing is left behind."""
        self.protocol.connectionLost(Failure(ConnectionAborted()))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def assert_error(self, answer: Answer, code: int, reason: str) -> None:
        self.assertEqual(answer.code, code)
        self.assertEqual(answer.json, {"status": "error", "result": None, "errors": [reason]})

    def test_upload_and_poll(self) -> None:
        """The exact bodies, chunked, on one connection."""
        self.connect()
        wait = b'{"status":"wait","result":null,"retry_id":"00000000-0000-0000-0000-000000000001","errors":[]}'
        answer = self.exchange(post(UPLOAD))
        self.assertEqual((answer.code, answer.body), (202, wait))
        self.assertEqual(answer.headers["Transfer-Encoding"], "chunked")
        answer = self.exchange(post(poll_form(numbered(1))))
        self.assertEqual((answer.code, answer.body), (202, wait))
        self.clock.advance(3)
        answer = self.exchange(post(poll_form(numbered(1))))
        self.assertEqual(answer.code, 200)
        self.assertEqual(answer.body, b'{"status":"success","result":%r,"errors":[]}' % score("Anna", PHOTO))
        self.lose()

    def test_defaults(self) -> None:
        """Without more said, it picks numbers of its own: UUIDs, that differ."""
        self.site = make_site(self.clock, StandInSettings())
        self.transport = StringTransport()
        self.protocol = self.site.buildProtocol(None)
        self.protocol.makeConnection(self.transport)
        given = {self.exchange(post(UPLOAD)).json["retry_id"] for _ in range(3)}
        self.assertEqual(len({str(UUID(one)) for one in given}), 3)

    def test_at_once(self) -> None:
        """The upload itself can be answered with the score."""
        self.connect(StandInSettings(0, 0))
        answer = self.exchange(post(UPLOAD))
        self.assertEqual((answer.code, answer.json["status"]), (200, "success"))

    def test_byte_by_byte(self) -> None:
        """Pieces don't matter, neither on the socket nor as chunks."""
        self.connect()
        for byte in post(UPLOAD)[:-1]:
            self.protocol.dataReceived(bytes([byte]))
        self.assertEqual(self.exchange(post(UPLOAD)[-1:]).code, 202)
        chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in UPLOAD) + b"0\r\n\r\n"
        head = b"POST /api/ HTTP/1.1\r\nHost: h\r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\n\r\n" % MULTIPART
        self.assertEqual(self.exchange(head + chunks).json["retry_id"], numbered(2))

    def test_treq(self) -> None:
        """The forms that treq makes are taken."""
        self.connect()
        cooperator = Cooperator(scheduler=lambda call: self.clock.callLater(0, call))

        def sent(fields: dict[str, Any]) -> bytes:
            collector = Collector()
            done = MultiPartProducer(fields, boundary=b"B", cooperator=cooperator).startProducing(collector)
            self.clock.pump([0] * 20)
            self.successResultOf(done)
            return post(collector.body)

        photo = ("портрет.jpg", "image/jpeg", FileBodyProducer(BytesIO(PHOTO), cooperator))
        self.assertEqual(self.exchange(sent({"name": "Зоя", "photo": photo})).code, 202)
        self.clock.advance(3)
        answer = self.exchange(sent({"retry_id": numbered(1)}))
        self.assertEqual((answer.code, answer.json["result"]), (200, score("Зоя", PHOTO)))

    def test_http_1_0(self) -> None:
        """An old client gets the same without chunks, and the end of the connection."""
        self.connect()
        answer = self.exchange(post(UPLOAD, version=b"1.0"))
        self.assertEqual((answer.code, answer.json["status"]), (202, "wait"))
        self.assertTrue(self.transport.disconnecting)

    def test_unknown_retry_id(self) -> None:
        """Forgotten, or never known."""
        self.connect()
        self.assert_error(self.exchange(post(poll_form("who?"))), 404, "unknown retry_id")

    def test_refused(self) -> None:
        """A refusal has its status, leaves the connection usable, and is logged without what it was about."""
        self.connect()
        with capturedLogs() as logs:
            answer = self.exchange(post(form(name_part("Anna"))))
        self.assert_error(answer, 400, "photo is missing")
        self.assertEqual([(log["code"], log["reason"]) for log in logs], [(400, "photo is missing")])
        self.assertNotIn("Anna", repr(logs))
        self.assert_error(self.exchange(post(b"{}", b"application/json")), 415, "not multipart/form-data")
        self.assert_error(
            self.exchange(b"POST /api/ HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"),
            415,
            "not multipart/form-data",
        )
        self.assertEqual(self.exchange(post(UPLOAD)).code, 202)

    def test_other_method(self) -> None:
        """POST only."""
        self.connect()
        for method in (b"GET", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"BREW"):
            answer = self.exchange(method + b" /api/ HTTP/1.1\r\nHost: h\r\n\r\n")
            self.assert_error(answer, 405, "POST only")
            self.assertEqual(answer.headers["Allow"], "POST")
        self.transport.clear()
        self.protocol.dataReceived(b"HEAD /api/ HTTP/1.1\r\nHost: h\r\n\r\n")
        self.assertIn(b" 405 ", self.transport.value())
        self.assertTrue(self.transport.value().endswith(b"\r\n\r\n"))

    def test_other_path(self) -> None:
        """Nothing else is there; nothing is redirected."""
        self.connect()
        for path in (b"/", b"/api", b"/api/x", b"//api/", b"/api%2f", b"/API/", b"/%ff", b"/%00"):
            self.assert_error(self.exchange(post(UPLOAD, path=path)), 404, "nothing here")
        self.assertEqual(self.exchange(post(UPLOAD, path=b"/api/?x=%ff")).code, 202)

    def test_any_host(self) -> None:
        """The Host doesn't matter."""
        self.connect()
        for host in (b"a..b", b"\xff", b"x" * 100, b"", b"[::1]:80"):
            self.assertEqual(self.exchange(post(UPLOAD).replace(b"Host: h", b"Host: " + host)).code, 202)

    def test_large_photo(self) -> None:
        """It is refused once it was thrown away, and the connection goes on."""
        self.connect()
        body = form(name_part("Anna"), photo_part(bytes(api.MAX_PHOTO + 2**20)))
        self.assert_error(self.exchange(post(body)), 400, "photo is larger than 20 MiB")
        self.assertEqual(self.exchange(post(UPLOAD)).code, 202)

    def test_huge_length(self) -> None:
        """A length past all measure cuts the connection before the body."""
        self.connect()
        self.protocol.dataReceived(post(b"").replace(b"Length: 0", b"Length: %d" % (api.MAX_DISCARDED + 1)))
        self.assertTrue(self.transport.disconnected)
        self.lose()

    def test_endless_body(self) -> None:
        """So does a body of unknown length, once it is past it; what still comes is ignored."""
        self.patch(api, "MAX_DISCARDED", 1000)
        self.connect()
        head = post(b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
        self.protocol.dataReceived(head + b"3e8\r\n" + bytes(1000) + b"\r\n")
        self.assertFalse(self.transport.disconnected)
        self.protocol.dataReceived(b"1\r\n0\r\n" * 2)
        self.assertTrue(self.transport.disconnected)
        self.assertEqual(self.transport.value(), b"")
        self.lose()

    def test_bug(self) -> None:
        """An error of our own is logged, and told without a traceback."""

        def broken() -> UUID:
            raise ZeroDivisionError("a secret")

        self.connect(new_id=broken)
        self.assert_error(self.exchange(post(UPLOAD)), 500, "internal error")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_busy(self) -> None:
        """Trouble: a 503."""
        self.connect(StandInSettings(trouble=0.5), random=Fixed(0.49, Fault.BUSY))
        answer = self.exchange(post(UPLOAD))
        self.assert_error(answer, 503, "busy")
        self.assertNotIn("Retry-After", answer.headers)

    def test_busy_for(self) -> None:
        """Trouble: a 503 that says for how long."""
        self.connect(StandInSettings(trouble=0.5), random=Fixed(0.49, Fault.BUSY_FOR))
        answer = self.exchange(post(UPLOAD))
        self.assert_error(answer, 503, "busy")
        self.assertEqual(answer.headers["Retry-After"], "3")

    def test_reset(self) -> None:
        """Trouble: no answer."""
        self.connect(StandInSettings(trouble=0.5), random=Fixed(0.49, Fault.RESET))
        self.protocol.dataReceived(post(UPLOAD))
        self.assertTrue(self.transport.disconnected)
        self.assertEqual(self.transport.value(), b"")
        self.lose()

    def test_cut_short(self) -> None:
        """Trouble: half an answer. The job is there all the same."""
        self.connect(StandInSettings(0, 1, 0.5), random=Fixed(0.49, Fault.CUT_SHORT))
        self.protocol.dataReceived(post(UPLOAD))
        answer = read_answer(self.transport.value())
        self.assertEqual(answer.code, 202)
        self.assertTrue(answer.body.startswith(b'{"status":"wait"'))
        self.assertEqual(int(answer.headers["Content-Length"]) // 2, len(answer.body))
        self.assertTrue(self.transport.disconnecting)
        self.assertFalse(self.transport.disconnected)
        self.lose()

    def test_no_trouble(self) -> None:
        """The others go on as ever."""
        self.connect(StandInSettings(trouble=0.5), random=Fixed(0.5, Fault.RESET))
        self.assertEqual(self.exchange(post(UPLOAD)).code, 202)

    def test_start(self) -> None:
        """It says what it is, starts no timer, and logs no requests."""
        self.connect()
        with capturedLogs() as logs:
            self.site.doStart()
            self.exchange(post(UPLOAD))
        self.assertEqual([log["disclaimer"] for log in logs if "disclaimer" in log], [api.DISCLAIMER])
        self.assertNotIn("/api/", repr(logs))
        self.lose()
        self.site.doStop()


class OptionsTests(SynchronousTestCase):
    """The command line."""

    def parse(self, *arguments: str, **environment: str) -> dict[str, object]:
        options = tap.Options(environment)
        options.parseOptions(list(arguments))
        return {name: options[name] for name in ("listen", "delay", "waits", "trouble")}

    def test_defaults(self) -> None:
        """The brief's port, and the settings' own defaults."""
        settings = StandInSettings()
        self.assertEqual(
            self.parse(),
            {"listen": "tcp:12345", "delay": settings.delay, "waits": settings.waits, "trouble": settings.trouble},
        )

    def test_given(self) -> None:
        """The flag wins over the variable."""
        self.assertEqual(
            self.parse(
                "--listen", "tcp:1", "--delay", "0.5", "--waits=0", MERLINFACE_TROUBLE="0.1", MERLINFACE_WAITS="9"
            ),
            {"listen": "tcp:1", "delay": 0.5, "waits": 0, "trouble": 0.1},
        )

    def test_wrong(self) -> None:
        """Each is checked, wherever it comes from."""
        for argument, reason in (
            ("--listen=nowhere", "--listen: 'nowhere' is not an endpoint"),
            ("--delay=-1", "--delay: '-1' is not a number of seconds"),
            ("--delay=nan", "--delay: 'nan' is not a number of seconds"),
            ("--waits=1.5", "--waits: '1.5' is not a whole number"),
            ("--trouble=2", "--trouble: '2' is not a share"),
        ):
            self.assertIn(reason, str(self.assertRaises(SystemExit, self.parse, argument)))
        error = self.assertRaises(SystemExit, self.parse, MERLINFACE_WAITS="x")
        self.assertIn("MERLINFACE_WAITS: 'x' is not a whole number", str(error))

    def test_help(self) -> None:
        """It says that the score means nothing, and how to set things."""
        text = str(tap.Options({}))
        self.assertIn("score means nothing", " ".join(text.split()))
        self.assertIn("MERLINFACE_TROUBLE", text)


class Taken(MemoryReactorClock):
    """A reactor of which every port is in use."""

    def listenTCP(self, port: int, factory: object, backlog: int = 50, interface: str = "") -> Any:
        raise CannotListenError(interface, port, OSError(98, "Address already in use"))


class ServiceTests(SynchronousTestCase):
    """What the plugin makes."""

    def options(self, *arguments: str) -> tap.Options:
        options = tap.Options({})
        options.parseOptions(list(arguments))
        return options

    def test_plugin(self) -> None:
        """twistd can find it."""
        self.assertTrue(verifyObject(IPlugin, merlinface_plugin.merlinface))
        self.assertEqual(merlinface_plugin.merlinface.tapname, "merlinface")
        self.assertIs(merlinface_plugin.merlinface.options, tap.Options)
        self.assertIs(merlinface_plugin.merlinface.makeService, tap.makeService)

    def test_listens(self) -> None:
        """The service listens where it was told to, with the settings that it was given."""
        reactor = MemoryReactorClock()
        service = tap.makeService(
            self.options("--listen=tcp:4711:interface=127.0.0.1", "--delay=0", "--waits=0"), reactor
        )
        self.assertTrue(verifyObject(IService, service))
        service.privilegedStartService()
        service.startService()
        ((port, site, _, interface),) = reactor.tcpServers
        self.assertEqual((port, interface), (4711, "127.0.0.1"))
        transport = StringTransport()
        protocol: Any = site.buildProtocol(IPv4Address("TCP", "127.0.0.1", 4712))
        protocol.makeConnection(transport)
        protocol.dataReceived(post(UPLOAD))
        self.assertEqual(read_answer(transport.value()).json["status"], "success")
        service.stopService()

    def test_port_in_use(self) -> None:
        """One line, and a status that isn't zero."""
        service = tap.makeService(self.options("--listen=tcp:4711"), Taken())
        error = self.assertRaises(SystemExit, service.privilegedStartService)
        self.assertEqual(error.code, "merlinface: cannot listen on tcp:4711: [Errno 98] Address already in use")

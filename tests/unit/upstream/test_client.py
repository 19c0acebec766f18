"""The client of merlinface, over a wire: what it sends byte for byte, and how each exchange ends."""

import builtins
import errno
import gzip
import json
import os
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost, ConnectionRefusedError, DNSLookupError
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.iweb import IBodyProducer
from zope.interface.verify import verifyObject

from merlind.core import images as content
from merlind.core.interfaces import PhotoMissing
from merlind.core.outcome import HandleExpired, Outcome, Pending, Rejected, Scored, TaskError, TransientError
from merlind.core.task import State, Task
from merlind.daemon.metrics import Metrics
from merlind.upstream import client as upstream
from merlind.upstream.agent import KeepAliveAgent
from merlind.upstream.client import _EXTENSIONS, FormBody, MerlinfaceClient
from tests.unit.support import JPEG, PHOTO, Core, Wire, failing, make_task, open_files

TIMEOUT = 30.0
READY = b'{"status":"ready","result":0.83}'
LARGE = bytes(range(256)) * 4096
"""A photo of a megabyte: more than one piece."""


SAMPLES = (
    b"\xff\xd8\xff\xe0" + bytes(20),
    b"\x89PNG\r\n\x1a\n" + bytes(20),
    b"RIFF\0\0\0\0WEBP" + bytes(20),
    b"GIF89a" + bytes(20),
    b"\0\0\0\x18ftypheic" + bytes(20),
    b"\0\0\0\x18ftypavif" + bytes(20),
    b"BM" + bytes(40),
    b"II*\0" + bytes(20),
)
"""The first bytes of each kind of image that is taken in."""


def answer(body: bytes = READY, status: bytes = b"200 OK", headers: bytes = b"") -> bytes:
    return b"HTTP/1.1 %s\r\n%sContent-Length: %d\r\n\r\n%s" % (status, headers, len(body), body)


class Failing:
    """A file of which the disk can't read all."""

    def __init__(self, file: Any, good: int) -> None:
        self._file = file
        self._good = good

    def read(self, size: int) -> bytes:
        if self._good == 0:
            raise OSError(errno.EIO, "Input/output error")
        self._good -= 1
        piece: bytes = self._file.read(size)
        return piece

    def close(self) -> None:
        self._file.close()


class Reading:
    """A file that is read by a function."""

    def __init__(self, file: Any, read: Any) -> None:
        self._file = file
        self.fileno = file.fileno
        self.read = read

    def __enter__(self) -> "Reading":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


class ClientCase(SynchronousTestCase):
    """A client, and the other end of its wire."""

    def setUp(self) -> None:
        self.core = Core(self)
        self.reactor = self.core.reactor
        self.metrics = Metrics()
        self.wire = Wire(self.reactor)
        self.bodies: list[FormBody] = []
        self.patch(upstream, "FormBody", self.remember)
        self.client = self.make_client("http://h.example:12345/api/")

    def remember(self, *arguments: Any) -> FormBody:
        """Make a body, and keep it: garbage collection would close its file."""
        self.bodies.append(FormBody(*arguments))
        return self.bodies[-1]

    def make_client(self, url: str) -> MerlinfaceClient:
        return MerlinfaceClient(
            self.reactor,
            self.core.clock,
            KeepAliveAgent(self.reactor, url),
            url,
            self.core.spool,
            self.metrics,
            TIMEOUT,
        )

    def tearDown(self) -> None:
        """No exchange leaves a timer but the one of idle connections, nor a file open."""
        self.assertTrue(len(self.reactor.getDelayedCalls()) <= 1, self.reactor.getDelayedCalls())
        self.assertEqual([path for path in open_files() if path.startswith(str(self.core.path / "spool"))], [])

    def task(self, photo: bytes = JPEG, **changes: Any) -> Task:
        """A task whose photo lies in the spool."""
        staged = self.core.stage(photo)
        task = make_task(7, photo=type(PHOTO)(staged.sha256(), staged.size, "image/jpeg"), **changes)
        self.core.spool.commit([(staged, 7)])
        return task

    def poll(self, retry_id: str = "a-b") -> "Deferred[Outcome]":
        return self.client.poll(make_task(7, state=State.POLL, retry_id=retry_id))

    def outcome(self, received: bytes, upload: bool = False) -> Outcome:
        """What an exchange that is answered with ``received`` ends with."""
        d = self.client.upload(self.task()) if upload else self.poll()
        self.wire.connect()
        self.wire.receive(received)
        outcome: Outcome = self.successResultOf(d)
        self.wire.lose(ConnectionDone())
        return outcome

    def take_slowly(self) -> None:
        """Let connections take one piece of a body, and no more."""
        real = StringTransport.write

        def write(transport: StringTransport, data: bytes) -> None:
            real(transport, data)
            if transport.producer is not None:
                transport.producer.pauseProducing()

        self.patch(StringTransport, "write", write)

    def exposed(self, sample: str) -> bool:
        """Whether the metrics have this line."""
        return f"{sample}\n" in self.metrics.exposition().decode()


class RequestTests(ClientCase):
    """What goes over the wire."""

    def boundary(self, sent: bytes) -> bytes:
        (line,) = [line for line in sent.split(b"\r\n") if line.startswith(b"Content-Type: multipart")]
        self.assertRegex(line, rb"^Content-Type: multipart/form-data; boundary=[0-9a-f]{32}$")
        return line.partition(b"=")[2]

    def test_upload(self) -> None:
        """The plain field ``name`` and the file ``photo``, byte for byte what came in."""
        d = self.client.upload(self.task(name="Зоя 😀"))
        sent = self.wire.connect().value()
        boundary = self.boundary(sent)
        body = (
            b"--%(b)s\r\n"
            b'Content-Disposition: form-data; name="name"\r\n'
            b"\r\n"
            b"%(name)s\r\n"
            b"--%(b)s\r\n"
            b'Content-Disposition: form-data; name="photo"; filename="photo.jpg"\r\n'
            b"Content-Type: image/jpeg\r\n"
            b"\r\n"
            b"%(photo)s\r\n"
            b"--%(b)s--\r\n"
        ) % {b"b": boundary, b"name": "Зоя 😀".encode(), b"photo": JPEG}
        head, _, rest = sent.partition(b"\r\n\r\n")
        self.assertEqual(rest, body)
        lines = head.split(b"\r\n")
        self.assertEqual(lines[0], b"POST /api/ HTTP/1.1")
        self.assertEqual(
            sorted(lines[1:]),
            sorted(
                [
                    b"Host: h.example:12345",
                    b"Content-Length: %d" % len(body),
                    b"Content-Type: multipart/form-data; boundary=" + boundary,
                    b"Accept: application/json",
                    b"User-Agent: merlind",
                ]
            ),
        )
        self.assertNoResult(d)
        self.wire.receive(answer())
        self.assertEqual(self.successResultOf(d), Scored(0.83))

    def test_poll(self) -> None:
        """The one plain field ``retry_id``: no filename, no photo, no name."""
        d = self.poll("3f8c-?&=")
        sent = self.wire.connect().value()
        boundary = self.boundary(sent)
        body = b'--%(b)s\r\nContent-Disposition: form-data; name="retry_id"\r\n\r\n3f8c-?&=\r\n--%(b)s--\r\n' % {
            b"b": boundary
        }
        head, _, rest = sent.partition(b"\r\n\r\n")
        self.assertEqual(rest, body)
        lines = head.split(b"\r\n")
        self.assertEqual(lines[0], b"POST /api/ HTTP/1.1")
        self.assertEqual(
            sorted(lines[1:]),
            sorted(
                [
                    b"Host: h.example:12345",
                    b"Content-Length: %d" % len(body),
                    b"Content-Type: multipart/form-data; boundary=" + boundary,
                    b"Accept: application/json",
                    b"User-Agent: merlind",
                ]
            ),
        )
        self.wire.receive(answer())
        self.assertEqual(self.successResultOf(d), Scored(0.83))

    def test_boundary(self) -> None:
        """No two clients have the same, so nobody can make a photo that ends its part."""
        self.poll()
        first = self.boundary(self.wire.connect().value())
        self.wire.lose(ConnectionDone())
        self.client = self.make_client("http://h.example:12345/api/")
        self.poll()
        self.assertNotEqual(self.boundary(self.wire.connect().value()), first)
        self.wire.lose(ConnectionDone())

    def test_media_types(self) -> None:
        """The photo has its image type, and a filename to go with it; there is one for each that is taken in."""
        media_types = {content.image_type(sample) for sample in SAMPLES}
        self.assertEqual(media_types, set(_EXTENSIONS))
        for media_type, extension in _EXTENSIONS.items():
            task = self.task()
            photo = type(PHOTO)(task.photo.sha256, task.photo.size, media_type)
            self.client.upload(make_task(7, photo=photo))
            sent = self.wire.connect().value()
            wanted = f'filename="photo.{extension}"\r\nContent-Type: {media_type}\r\n\r\n'
            self.assertIn(wanted.encode(), sent)
            self.wire.lose(ConnectionDone())

    def test_same_connection(self) -> None:
        """Polls and uploads share kept connections."""
        for number in range(3):
            d = self.client.upload(self.task()) if number else self.poll()
            if not number:
                self.wire.connect()
            self.wire.receive(answer())
            self.successResultOf(d)
        self.assertEqual(len(self.reactor.tcpClients), 1)

    def test_large(self) -> None:
        """A photo of many pieces arrives as it is."""
        d = self.client.upload(self.task(LARGE))
        sent = self.wire.connect().value()
        body = sent.partition(b"\r\n\r\n")[2]
        self.assertIn(b"Content-Length: %d\r\n" % len(body), sent)
        self.assertIn(b"image/jpeg\r\n\r\n" + LARGE + b"\r\n--", body)
        self.wire.receive(answer())
        self.successResultOf(d)

    def test_in_one_piece(self) -> None:
        """What fits into one piece is sent past treq, and looks like what treq sends."""
        photo = LARGE[: upstream.PIECE]
        sent = []
        for piece in (len(photo), len(photo) - 1):
            self.patch(upstream, "PIECE", piece)
            d = self.client.upload(self.task(photo, name="Зоя"))
            sent.append(self.wire.connect().value())
            self.wire.lose(ConnectionDone())
            self.successResultOf(d)
        self.assertEqual(len(self.bodies), 1)
        self.assertEqual(sent[0], sent[1])

    def test_encoded_url(self) -> None:
        """The URL is sent as it was given."""
        for photo in (None, JPEG, LARGE):
            self.client = self.make_client("http://h.example/a%20b/%d?c=%s%")
            d = self.poll() if photo is None else self.client.upload(self.task(photo))
            self.assertTrue(
                self.wire.connect().value().startswith(b"POST /a%20b/%d?c=%s% HTTP/1.1\r\nHost: h.example\r\n")
            )
            self.wire.lose(ConnectionDone())
            self.successResultOf(d)


class OutcomeTests(ClientCase):
    """How exchanges end."""

    def test_answers(self) -> None:
        """Answers mean what reply.py says, and it is told whether it was a poll."""
        wait = b'{"status":"wait","result":null,"retry_id":"x"}'
        for upload in (False, True):
            for received, outcome in (
                (answer(), Scored(0.83)),
                (answer(wait, b"202 Accepted", b"Retry-After: 9\r\n"), Pending("x", 9.0)),
                (answer(b"", b"503 Busy", b"Retry-After: 9\r\n"), TransientError("http 503", 9.0)),
                (answer(b"", b"422 No"), Rejected(TaskError("upstream_422", "the upstream answered 422"))),
                (answer(b"", b"404 No"), TransientError("http 404", misconfigured=True) if upload else HandleExpired()),
                (answer(b"<html>"), TransientError("not json")),
            ):
                self.assertEqual(self.outcome(received, upload), outcome)

    def test_retry_after_date(self) -> None:
        """A date is read by the wall clock."""
        self.core.epoch = 1_800_000_000.0
        date = b"Retry-After: Fri, 15 Jan 2027 08:00:30 GMT\r\n"
        self.assertEqual(self.outcome(answer(b"", b"503 Busy", date)), TransientError("http 503", 30.0))

    def test_redirect(self) -> None:
        """It is not followed."""
        for upload in (False, True):
            moved = answer(b"", b"302 Found", b"Location: http://elsewhere/\r\n")
            before = len(self.reactor.tcpClients)
            self.assertEqual(self.outcome(moved, upload), TransientError("http 302"))
            self.assertEqual(len(self.reactor.tcpClients), before + 1)

    def test_compressed(self) -> None:
        """Nothing is decompressed."""
        for upload in (False, True):
            received = answer(gzip.compress(READY), headers=b"Content-Encoding: gzip\r\n")
            self.assertEqual(self.outcome(received, upload), TransientError("not json"))

    def test_cookies(self) -> None:
        """None are kept."""
        for upload in (False, True):
            self.outcome(answer(headers=b"Set-Cookie: a=b\r\n"), upload)
        for upload in (False, True):
            d = self.client.upload(self.task()) if upload else self.poll()
            self.assertNotIn(b"cookie", self.wire.connect().value().lower())
            d.cancel()
            self.failureResultOf(d)

    def test_too_large(self) -> None:
        """A body past the bound, told beforehand or not, ends the exchange."""
        for upload in (False, True):
            for received in (
                b"HTTP/1.1 200 OK\r\nContent-Length: 300000000\r\n\r\n",
                b"HTTP/1.1 200 OK\r\n\r\n" + b" " * 66000,
                b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200_000,
            ):
                self.assertEqual(self.outcome(received, upload), TransientError("answer too large, outcome unknown"))
                self.assertTrue(self.wire.closed)

    def test_malformed(self) -> None:
        """What isn't HTTP is trouble."""
        self.assertEqual(self.outcome(b"SSH-2.0\r\n\r\n"), TransientError("malformed status line, outcome unknown"))

    def test_cut_short(self) -> None:
        """An answer cut short, or none, is trouble, even if what came looks whole."""
        for upload in (False, True):
            for received in (b"", answer()[:-1], b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n" + READY):
                d = self.client.upload(self.task()) if upload else self.poll()
                self.wire.connect()
                self.wire.receive(received)
                self.wire.lose(ConnectionLost())
                self.assertEqual(self.successResultOf(d), TransientError("connection lost, outcome unknown"))

    def test_without_length(self) -> None:
        """Where the answer has no length, strict JSON shows whether it is whole."""
        for body, outcome in ((READY, Scored(0.83)), (READY[:-1], TransientError("not json"))):
            d = self.poll()
            self.wire.connect()
            self.wire.receive(b"HTTP/1.1 200 OK\r\n\r\n" + body)
            self.wire.lose(ConnectionDone())
            self.assertEqual(self.successResultOf(d), outcome)

    def test_no_connection(self) -> None:
        """What kept the connection from being made is told in words that are the same each time."""
        for error in (ConnectionRefusedError("to h"), DNSLookupError("h")):
            for upload in (False, True):
                d = self.client.upload(self.task()) if upload else self.poll()
                self.wire.refuse(error)
                self.reactor.run_for(1)
                self.assertEqual(self.successResultOf(d), TransientError(f"no connection: {type(error).__name__}"))

    def test_refused_while_sending(self) -> None:
        """An answer that comes before the photo is through counts."""
        d = self.client.upload(self.task(LARGE))
        self.take_slowly()
        self.wire.connect()
        self.assertTrue(len(self.wire.transport.value()) < len(LARGE))
        self.wire.receive(answer(b"", b"413 Too large"))
        self.assertEqual(self.successResultOf(d), Rejected(TaskError("upstream_413", "the upstream answered 413")))
        self.assertTrue(self.wire.closed)


class DeadlineTests(ClientCase):
    """One deadline for all of it."""

    def assert_times_out(self, d: "Deferred[Outcome]", left: float = TIMEOUT) -> None:
        self.reactor.run_for(left - 0.25)
        self.assertNoResult(d)
        self.reactor.run_for(0.25)
        self.assertEqual(self.successResultOf(d), TransientError("timed out"))

    def test_silent(self) -> None:
        """An upstream that takes everything and says nothing."""
        for upload in (False, True):
            d = self.client.upload(self.task()) if upload else self.poll()
            self.wire.connect()
            self.assert_times_out(d)
            self.assertTrue(self.wire.closed)
            self.wire.receive(answer())
            self.wire.lose(ConnectionLost())

    def test_unreachable(self) -> None:
        """One that can't be reached, nor refuses; when it comes at last, nobody waits."""
        for upload in (False, True):
            d = self.client.upload(self.task()) if upload else self.poll()
            self.assert_times_out(d)
            self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_drip(self) -> None:
        """One that sends a byte a second gets no more time for that."""
        d = self.poll()
        self.wire.connect()
        for n in range(29):
            self.reactor.run_for(1)
            self.wire.receive(answer()[n : n + 1])
        self.assert_times_out(d, 1.0)
        self.assertTrue(self.wire.closed)

    def test_slow_to_take(self) -> None:
        """One that doesn't take the photo."""
        d = self.client.upload(self.task(LARGE))
        self.take_slowly()
        self.wire.connect()
        self.assert_times_out(d)
        self.assertTrue(self.wire.closed)

    def test_in_time(self) -> None:
        """An answer at the last moment counts, and its deadline is gone."""
        d = self.poll()
        self.wire.connect()
        self.reactor.run_for(TIMEOUT - 0.25)
        self.wire.receive(answer())
        self.assertEqual(self.successResultOf(d), Scored(0.83))
        self.reactor.run_for(TIMEOUT)
        self.assertEqual(self.reactor.getDelayedCalls(), [])


class CancelTests(ClientCase):
    """Exchanges that the scheduler ends."""

    def test_cancelled(self) -> None:
        """Connection and file are closed, at whatever stage; nothing is logged as an error."""
        for upload in (False, True):
            for stage in range(3):
                d = self.client.upload(self.task()) if upload else self.poll()
                if stage:
                    self.wire.connect()
                    self.wire.receive(answer()[:-1] if stage == 2 else b"")
                d.cancel()
                self.failureResultOf(d, CancelledError)
                if stage:
                    self.assertTrue(self.wire.closed)
                    self.wire.lose(ConnectionLost())
        self.assertTrue(self.exposed('merlind_upstream_requests_total{kind="poll",outcome="cancelled"} 3.0'))
        self.assertEqual(self.reactor.getDelayedCalls(), [])


class PhotoTests(ClientCase):
    """Photos that aren't there."""

    def test_missing(self) -> None:
        """A photo that is gone is told, and nothing is sent."""
        failure = self.failureResultOf(self.client.upload(make_task(7)), PhotoMissing)
        self.assertEqual(failure.getErrorMessage(), "No such file or directory")
        self.assertEqual(self.reactor.tcpClients, [])

    def test_other_size(self) -> None:
        """So is one that is shorter or longer than it was."""
        for size in (0, len(JPEG) - 1, len(JPEG) + 1):
            task = self.task()
            with open(self.core.spool.path(7), "r+b") as file:
                file.truncate(size)
            failure = self.failureResultOf(self.client.upload(task), PhotoMissing)
            self.assertEqual(failure.getErrorMessage(), f"{size} bytes of {len(JPEG)}")
            self.assertEqual(self.reactor.tcpClients, [])

    def test_no_file_to_open_it_with(self) -> None:
        """A shortage of open files is no loss: it is trouble, and passes."""

        def refuse(*args: object, **kwargs: object) -> None:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

        task = self.task()
        self.patch(builtins, "open", refuse)
        self.assertEqual(self.successResultOf(self.client.upload(task)), TransientError("too few open files"))
        self.assertEqual(self.reactor.tcpClients, [])

    def test_lost_under_way(self) -> None:
        """One that becomes shorter, or can't be read, while it is sent ends the exchange."""
        for shorten in (True, False):
            task = self.task(LARGE)
            d = self.client.upload(task)
            real = StringTransport.write
            writes = []

            def write(transport: StringTransport, data: bytes, shorten: bool = shorten, writes: Any = writes) -> None:
                real(transport, data)  # noqa: B023
                writes.append(data)
                if shorten and len(writes) == 4:
                    with open(self.core.spool.path(7), "r+b") as file:
                        file.truncate(100_000)

            self.patch(StringTransport, "write", write)
            if not shorten:
                self.patch(FormBody, "startProducing", failing_after_one(FormBody.startProducing))
            self.wire.connect()
            failure = self.failureResultOf(d, PhotoMissing)
            self.assertEqual(failure.getErrorMessage(), "it became shorter" if shorten else "Input/output error")
            self.assertTrue(self.wire.closed)
            self.patch(StringTransport, "write", real)
        self.assertTrue(self.exposed('merlind_upstream_requests_total{kind="upload",outcome="photo_missing"} 2.0'))

    def test_lost_in_one_piece(self) -> None:
        """So does one that is read at once; nothing is sent."""
        real = builtins.open
        for read, why in ((failing(errno.EIO), "Input/output error"), (lambda size: b"", "it became shorter")):
            task = self.task()
            opened = []

            def reading(path: Any, *args: Any, read: Any = read, opened: Any = opened, **more: Any) -> Any:
                opened.append(real(path, *args, **more))
                return Reading(opened[0], read)

            self.patch(builtins, "open", reading)
            failure = self.failureResultOf(self.client.upload(task), PhotoMissing)
            self.patch(builtins, "open", real)
            self.assertEqual(failure.getErrorMessage(), why)
            self.assertTrue(opened[0].closed)
        self.assertEqual(self.reactor.tcpClients, [])
        self.assertTrue(self.exposed('merlind_upstream_requests_total{kind="upload",outcome="photo_missing"} 2.0'))


def failing_after_one(real: Any) -> Any:
    """A body's start whose file can't be read after the first piece."""

    def start(body: Any, consumer: Any) -> Any:
        body._file = Failing(body._file, 1)
        return real(body, consumer)

    return start


class FormBodyTests(SynchronousTestCase):
    """A body in pieces."""

    def setUp(self) -> None:
        self.path = self.mktemp()
        with open(self.path, "wb") as file:
            file.write(LARGE)
        self.file = open(self.path, "rb", buffering=0)  # noqa: SIM115
        self.addCleanup(self.file.close)
        self.body = FormBody(b"head", self.file, len(LARGE), b"tail")
        self.sent: list[bytes] = []

    def write(self, data: bytes) -> None:
        """The consumer's side: it takes one piece at a time."""
        self.sent.append(data)
        self.body.pauseProducing()

    def test_interface(self) -> None:
        """It is a body producer, and knows its length."""
        self.assertTrue(verifyObject(IBodyProducer, self.body))
        self.assertEqual(self.body.length, len(LARGE) + 8)

    def test_in_pieces(self) -> None:
        """It pauses when told to, goes on when told to, and closes the file at its end."""
        done = self.body.startProducing(self)
        self.assertEqual(self.sent[0], b"head")
        for _ in range(1000):
            if done.called:
                break
            before = len(self.sent)
            self.body.resumeProducing()
            self.assertTrue(len(self.sent) <= before + 2)
        self.successResultOf(done)
        self.assertEqual(b"".join(self.sent), b"head" + LARGE + b"tail")
        self.assertTrue(max(map(len, self.sent)) <= 262144)
        self.assertTrue(self.file.closed)
        self.body.resumeProducing()
        self.body.stopProducing()
        self.assertEqual(b"".join(self.sent), b"head" + LARGE + b"tail")

    def test_stopped(self) -> None:
        """When stopped it writes no more, and closes the file."""
        done = self.body.startProducing(self)
        self.body.stopProducing()
        self.assertTrue(self.file.closed)
        before = len(self.sent)
        self.body.resumeProducing()
        self.assertEqual(len(self.sent), before)
        self.assertNoResult(done)

    def test_cancelled(self) -> None:
        """To cancel it is to stop it."""
        done = self.body.startProducing(self)
        done.cancel()
        self.failureResultOf(done, CancelledError)
        self.assertTrue(self.file.closed)

    def test_grown(self) -> None:
        """Of a file that has grown no more is sent than was announced."""
        self.body = FormBody(b"head", self.file, 70_000, b"tail")
        done = self.body.startProducing(self)
        while not done.called:
            self.body.resumeProducing()
        self.assertEqual(b"".join(self.sent), b"head" + LARGE[:70_000] + b"tail")


class TellingTests(ClientCase):
    """What is counted and logged."""

    def test_metrics(self) -> None:
        """Each exchange is counted once, by kind and outcome, with the time that it took."""
        d = self.poll()
        self.wire.connect()
        self.reactor.run_for(2)
        self.wire.receive(answer())
        self.successResultOf(d)
        self.outcome_on_kept(answer(b"", b"503 X"))
        for sample in (
            'merlind_upstream_requests_total{kind="poll",outcome="scored"} 1.0',
            'merlind_upstream_requests_total{kind="poll",outcome="transient_error"} 1.0',
            'merlind_upstream_request_seconds_count{kind="poll"} 2.0',
            'merlind_upstream_request_seconds_sum{kind="poll"} 2.0',
        ):
            self.assertTrue(self.exposed(sample), sample)

    def outcome_on_kept(self, received: bytes) -> None:
        d = self.poll()
        self.wire.receive(received)
        self.successResultOf(d)

    def test_log(self) -> None:
        """Neither name nor retry_id nor photo gets into the log; what was cancelled doesn't either."""
        with capturedLogs() as logs:
            d = self.client.upload(self.task(name="Secretname"))
            self.wire.connect()
            self.wire.lose(ConnectionLost())
            self.successResultOf(d)
            d = self.poll("secretid")
            self.wire.connect()
            d.cancel()
            self.failureResultOf(d)
        self.assertEqual(
            len([event for event in logs if event["log_namespace"] == "merlind.upstream.client.MerlinfaceClient"]), 1
        )
        self.assertNotIn("ecret", json.dumps([str(event) for event in logs]))

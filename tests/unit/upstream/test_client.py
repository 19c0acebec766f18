"""The client of merlinface, over a wire: what it sends byte for byte, and how each request ends."""

import builtins
import errno
import gzip
import json
import zlib
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost, ConnectionRefusedError, DNSLookupError
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from merlind.core.interfaces import PhotoMissing
from merlind.core.outcome import Fault, HandleExpired, Outcome, Pending, Rejected, Scored, TaskError, TransientError
from merlind.core.task import State, Task
from merlind.daemon.metrics import Metrics
from merlind.upstream.agent import KeepAliveAgent
from merlind.upstream.client import MerlinfaceClient
from merlind.upstream.form import PIECE
from tests.unit.support import JPEG, PHOTO, Core, Wire, failing, make_task, open_files

TIMEOUT = 30.0
READY = b'{"status":"ready","result":0.83}'
LOST = TransientError("connection lost, outcome unknown", fault=Fault.UNAVAILABLE)
LARGE = bytes(range(256)) * 4096
"""A photo of a megabyte: more than one piece."""


def response(body: bytes = READY, status: bytes = b"200 OK", headers: bytes = b"") -> bytes:
    return b"HTTP/1.1 %s\r\n%sContent-Length: %d\r\n\r\n%s" % (status, headers, len(body), body)


class Reading:
    """A photo's file that may be read by another function."""

    def __init__(self, file: Any, read: Any = None) -> None:
        self.file = file
        self.read = read or file.read
        self.close = file.close

    def __enter__(self) -> "Reading":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class ClientCase(SynchronousTestCase):
    """A client, and the other end of its wire."""

    def setUp(self) -> None:
        self.core = Core(self)
        self.reactor = self.core.reactor
        self.metrics = Metrics()
        self.wire = Wire(self.reactor)
        self.client = self.make_client("http://h.example:12345/api/")

    def make_client(self, url: str) -> MerlinfaceClient:
        return MerlinfaceClient(
            self.reactor,
            self.core.clock,
            KeepAliveAgent(self.reactor, url),
            self.core.spool,
            self.metrics.upstream_request,
            TIMEOUT,
        )

    def tearDown(self) -> None:
        """No request leaves a timer but the one of idle connections, nor a file open."""
        self.assertTrue(len(self.reactor.getDelayedCalls()) <= 1, self.reactor.getDelayedCalls())
        self.assertEqual([path for path in open_files() if path.startswith(str(self.core.path / "spool"))], [])

    def task(self, photo: bytes = JPEG, **changes: Any) -> Task:
        """A task whose photo lies in the spool."""
        staged = self.core.stage(photo)
        task = make_task(7, photo=type(PHOTO)(staged.sha256(), staged.size, "image/jpeg"), **changes)
        self.core.spool.commit([(staged, 7)])
        return task

    def upload(self, task: Task) -> "Deferred[Outcome]":
        return Deferred.fromCoroutine(self.client.send(task))

    def poll(self, retry_id: str = "a-b") -> "Deferred[Outcome]":
        return Deferred.fromCoroutine(self.client.send(make_task(7, state=State.POLL, retry_id=retry_id)))

    def outcome(self, received: bytes, upload: bool = False) -> Outcome:
        """What a request comes to whose response is ``received``."""
        d = self.upload(self.task()) if upload else self.poll()
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
        d = self.upload(self.task(name="Зоя 😀"))
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
                    b"Accept-Encoding: identity",
                    b"User-Agent: merlind",
                ]
            ),
        )
        self.assertNoResult(d)
        self.wire.receive(response())
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
                    b"Accept-Encoding: identity",
                    b"User-Agent: merlind",
                ]
            ),
        )
        self.wire.receive(response())
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

    def test_same_connection(self) -> None:
        """Polls and uploads share the kept connections."""
        for number in range(3):
            d = self.upload(self.task()) if number else self.poll()
            if not number:
                self.wire.connect()
            self.wire.receive(response())
            self.successResultOf(d)
        self.assertEqual(len(self.reactor.tcpClients), 1)

    def test_large(self) -> None:
        """A photo of many pieces arrives as it is."""
        d = self.upload(self.task(LARGE))
        sent = self.wire.connect().value()
        body = sent.partition(b"\r\n\r\n")[2]
        self.assertIn(b"Content-Length: %d\r\n" % len(body), sent)
        self.assertIn(b"image/jpeg\r\n\r\n" + LARGE + b"\r\n--", body)
        self.wire.receive(response())
        self.successResultOf(d)

    def test_few_writes(self) -> None:
        """A photo of up to 256 KiB goes out with its whole form in one write."""
        writes: list[bytes] = []
        real = StringTransport.write

        def write(transport: StringTransport, data: bytes) -> None:
            writes.append(data)
            real(transport, data)

        self.patch(StringTransport, "write", write)
        d = self.upload(self.task(LARGE[:PIECE]))
        self.wire.connect()
        self.assertEqual(len(writes), 1)
        d.cancel()
        self.failureResultOf(d)

    def test_encoded_url(self) -> None:
        """The URL is sent as it was given."""
        for photo in (None, JPEG, LARGE):
            self.client = self.make_client("http://h.example/a%20b/%d?c=%s%")
            d = self.poll() if photo is None else self.upload(self.task(photo))
            self.assertTrue(
                self.wire.connect().value().startswith(b"POST /a%20b/%d?c=%s% HTTP/1.1\r\nHost: h.example\r\n")
            )
            self.wire.lose(ConnectionDone())
            self.successResultOf(d)


class OutcomeTests(ClientCase):
    """What requests come to."""

    def test_responses(self) -> None:
        """Responses mean what reply.py says, which is told whether they are to a poll."""
        wait = b'{"status":"wait","result":null,"retry_id":"x"}'
        error = b'{"status":"error","result":null,"errors":["unknown"]}'
        for upload in (False, True):
            for received, outcome in (
                (response(), Scored(0.83)),
                (response(wait, b"202 Accepted", b"Retry-After: 9\r\n"), Pending("x", 9.0)),
                (response(b"", b"503 Busy", b"Retry-After: 9\r\n"), TransientError("http 503", 9.0, Fault.UNAVAILABLE)),
                (response(error, b"422 No"), Rejected(TaskError("upstream_422", "unknown"))),
                (
                    response(b"<title>Nope</title>", b"422 No"),
                    TransientError("http 422, not in the API's form: Nope", fault=Fault.MISCONFIGURED),
                ),
                (
                    response(error, b"404 No"),
                    TransientError("http 404: unknown", fault=Fault.MISCONFIGURED) if upload else HandleExpired(),
                ),
                (response(b"<html>"), TransientError("not json")),
            ):
                self.assertEqual(self.outcome(received, upload), outcome)

    def test_retry_after_date(self) -> None:
        """A date is read by the wall clock."""
        self.core.epoch = 1_800_000_000.0
        date = b"Retry-After: Fri, 15 Jan 2027 08:00:30 GMT\r\n"
        outcome = TransientError("http 503", 30.0, Fault.UNAVAILABLE)
        self.assertEqual(self.outcome(response(b"", b"503 Busy", date)), outcome)

    def test_redirect(self) -> None:
        """It is not followed, and says where to."""
        outcome = TransientError("http 302, a redirect to http://elsewhere/", fault=Fault.MISCONFIGURED)
        for upload in (False, True):
            moved = response(b"", b"302 Found", b"Location: http://elsewhere/\r\n")
            before = len(self.reactor.tcpClients)
            self.assertEqual(self.outcome(moved, upload), outcome)
            self.assertEqual(len(self.reactor.tcpClients), before + 1)

    def test_compressed(self) -> None:
        """We ask for no encoding; gzip and deflate are decoded all the same, no other encoding is (U16)."""
        for upload in (False, True):
            for coding, body, outcome in (
                (b"gzip", gzip.compress(READY), Scored(0.83)),
                (b"deflate", zlib.compress(READY), Scored(0.83)),
                (b"br", b"\x0b\x02\x80{}\x03", TransientError("not json")),
            ):
                received = response(body, headers=b"Content-Encoding: %s\r\n" % coding)
                self.assertEqual(self.outcome(received, upload), outcome)

    def test_compressed_too_large(self) -> None:
        """What gzip makes of a response is limited like the response itself."""
        bomb = response(gzip.compress(READY + b" " * 66000), headers=b"Content-Encoding: gzip\r\n")
        for upload in (False, True):
            self.assertEqual(self.outcome(bomb, upload), TransientError("not json"))

    def test_cookies(self) -> None:
        """None are kept."""
        for upload in (False, True):
            self.outcome(response(headers=b"Set-Cookie: a=b\r\n"), upload)
        for upload in (False, True):
            d = self.upload(self.task()) if upload else self.poll()
            self.assertNotIn(b"cookie", self.wire.connect().value().lower())
            d.cancel()
            self.failureResultOf(d)

    def test_too_large(self) -> None:
        """A body beyond the limit, announced or not, ends the request."""
        for upload in (False, True):
            for received in (
                b"HTTP/1.1 200 OK\r\nContent-Length: 300000000\r\n\r\n",
                b"HTTP/1.1 200 OK\r\n\r\n" + b" " * 66000,
                b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200_000,
            ):
                self.assertEqual(self.outcome(received, upload), TransientError("response too large, outcome unknown"))
                self.assertTrue(self.wire.closed)

    def test_malformed(self) -> None:
        """What isn't HTTP is a transient error."""
        self.assertEqual(self.outcome(b"SSH-2.0\r\n\r\n"), TransientError("malformed status line, outcome unknown"))

    def test_cut_short(self) -> None:
        """A response cut short, or none, is a transient error, even if what came looks whole."""
        for upload in (False, True):
            for received in (b"", response()[:-1], b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n" + READY):
                d = self.upload(self.task()) if upload else self.poll()
                self.wire.connect()
                self.wire.receive(received)
                self.wire.lose(ConnectionLost())
                self.assertEqual(self.successResultOf(d), LOST)

    def test_without_length(self) -> None:
        """Where the response has no length, strict JSON shows whether it is whole."""
        for body, outcome in ((READY, Scored(0.83)), (READY[:-1], TransientError("not json"))):
            d = self.poll()
            self.wire.connect()
            self.wire.receive(b"HTTP/1.1 200 OK\r\n\r\n" + body)
            self.wire.lose(ConnectionDone())
            self.assertEqual(self.successResultOf(d), outcome)

    def test_no_connection(self) -> None:
        """The error that prevented a connection is named in words that are the same each time."""
        for error in (ConnectionRefusedError("to h"), DNSLookupError("h")):
            for upload in (False, True):
                d = self.upload(self.task()) if upload else self.poll()
                self.wire.refuse(error)
                self.reactor.run_for(1)
                reason = f"no connection: {type(error).__name__}"
                self.assertEqual(self.successResultOf(d), TransientError(reason, fault=Fault.UNAVAILABLE, sent=False))

    def test_refused_while_sending(self) -> None:
        """A response that comes before the whole photo has gone out counts."""
        d = self.upload(self.task(LARGE))
        self.take_slowly()
        self.wire.connect()
        self.assertTrue(len(self.wire.transport.value()) < len(LARGE))
        self.wire.receive(response(b'{"errors":["too large"]}', b"413 Too large"))
        self.assertEqual(self.successResultOf(d), Rejected(TaskError("upstream_413", "too large")))
        self.assertTrue(self.wire.closed)


class DeadlineTests(ClientCase):
    """One deadline for all of it."""

    def assert_times_out(self, d: "Deferred[Outcome]", left: float = TIMEOUT) -> None:
        self.reactor.run_for(left - 0.25)
        self.assertNoResult(d)
        self.reactor.run_for(0.25)
        self.assertEqual(self.successResultOf(d), TransientError("timed out", fault=Fault.UNAVAILABLE))

    def test_silent(self) -> None:
        """An upstream that takes everything and says nothing."""
        for upload in (False, True):
            d = self.upload(self.task()) if upload else self.poll()
            self.wire.connect()
            self.assert_times_out(d)
            self.assertTrue(self.wire.closed)
            self.wire.receive(response())
            self.wire.lose(ConnectionLost())

    def test_unreachable(self) -> None:
        """One that can't be reached, and doesn't refuse."""
        for upload in (False, True):
            d = self.upload(self.task()) if upload else self.poll()
            self.assert_times_out(d)
            self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_drip(self) -> None:
        """One that sends a byte a second gets no more time for that."""
        d = self.poll()
        self.wire.connect()
        for n in range(29):
            self.reactor.run_for(1)
            self.wire.receive(response()[n : n + 1])
        self.assert_times_out(d, 1.0)
        self.assertTrue(self.wire.closed)

    def test_slow_to_take(self) -> None:
        """One that doesn't take the photo."""
        d = self.upload(self.task(LARGE))
        self.take_slowly()
        self.wire.connect()
        self.assert_times_out(d)
        self.assertTrue(self.wire.closed)

    def test_in_time(self) -> None:
        """A response at the last moment counts, and its deadline is gone."""
        d = self.poll()
        self.wire.connect()
        self.reactor.run_for(TIMEOUT - 0.25)
        self.wire.receive(response())
        self.assertEqual(self.successResultOf(d), Scored(0.83))
        self.reactor.run_for(TIMEOUT)
        self.assertEqual(self.reactor.getDelayedCalls(), [])


class CancelTests(ClientCase):
    """Requests that the scheduler cancels."""

    def test_cancelled(self) -> None:
        """Connection and file are closed, at whatever stage; nothing is logged as an error."""
        for upload in (False, True):
            for stage in range(3):
                d = self.upload(self.task()) if upload else self.poll()
                if stage:
                    self.wire.connect()
                    self.wire.receive(response()[:-1] if stage == 2 else b"")
                d.cancel()
                self.failureResultOf(d, CancelledError)
                if stage:
                    self.assertTrue(self.wire.closed)
                    self.wire.lose(ConnectionLost())
        self.assertTrue(self.exposed('merlind_upstream_requests_total{kind="poll",outcome="cancelled"} 3.0'))
        self.assertEqual(self.reactor.getDelayedCalls(), [])


class PhotoTests(ClientCase):
    """Photos that can't be sent."""

    def test_missing(self) -> None:
        """A photo that is gone is reported, and nothing is sent."""
        failure = self.failureResultOf(self.upload(make_task(7)), PhotoMissing)
        self.assertEqual(failure.getErrorMessage(), "No such file or directory")
        self.assertEqual(self.reactor.tcpClients, [])

    def test_other_size(self) -> None:
        """So is one that is shorter or longer than it was."""
        for size in (0, len(JPEG) - 1, len(JPEG) + 1):
            task = self.task()
            with open(self.core.spool.path(7), "r+b") as file:
                file.truncate(size)
            failure = self.failureResultOf(self.upload(task), PhotoMissing)
            self.assertEqual(failure.getErrorMessage(), f"{size} bytes of {len(JPEG)}")
            self.assertEqual(self.reactor.tcpClients, [])

    def test_not_opened(self) -> None:
        """A photo isn't lost because we lack open files: that is a transient error. A disk that fails has lost it."""
        task = self.task()
        for number in (errno.EMFILE, errno.ENFILE):
            self.patch(builtins, "open", failing(number))
            outcome = TransientError("too few open files", fault=Fault.UNAVAILABLE, sent=False)
            self.assertEqual(self.successResultOf(self.upload(task)), outcome)
        self.patch(builtins, "open", failing(errno.EIO))
        self.failureResultOf(self.upload(task), PhotoMissing)
        self.assertEqual(self.reactor.tcpClients, [])
        self.assertTrue(self.exposed('merlind_upstream_requests_total{kind="upload",outcome="transient_error"} 2.0'))

    def test_lost_while_sending(self) -> None:
        """One that becomes shorter, or can't be read any more, while it is sent ends the request."""
        for shorten, why in ((True, "it became shorter"), (False, "Input/output error")):
            task = self.task(LARGE)
            photo = Reading(self.core.spool.open(task))
            self.patch(self.core.spool, "open", lambda task, photo=photo: photo)
            d = self.upload(task)
            self.take_slowly()
            self.wire.connect()
            if shorten:
                with open(self.core.spool.path(7), "r+b") as file:
                    file.truncate(100_000)
            else:
                photo.read = failing(errno.EIO)
            producer: Any = self.wire.transport.producer
            producer.resumeProducing()
            failure = self.failureResultOf(d, PhotoMissing)
            self.assertEqual(failure.getErrorMessage(), why)
            self.assertTrue(photo.file.closed)
            self.assertTrue(self.wire.closed)
            del self.core.spool.open
        self.assertTrue(self.exposed('merlind_upstream_requests_total{kind="upload",outcome="photo_missing"} 2.0'))

    def test_lost_at_once(self) -> None:
        """So does one of a single piece; nothing of the form is sent, and the file is closed."""
        for read, why in ((failing(errno.EIO), "Input/output error"), (lambda size: b"", "it became shorter")):
            task = self.task()
            photo = Reading(self.core.spool.open(task), read)
            self.patch(self.core.spool, "open", lambda task, photo=photo: photo)
            d = self.upload(task)
            sent = self.wire.connect().value()
            failure = self.failureResultOf(d, PhotoMissing)
            del self.core.spool.open
            self.assertEqual(failure.getErrorMessage(), why)
            self.assertTrue(photo.file.closed)
            self.assertTrue(sent.endswith(b"\r\n\r\n"))
            self.assertTrue(self.wire.closed)
        self.assertTrue(self.exposed('merlind_upstream_requests_total{kind="upload",outcome="photo_missing"} 2.0'))


class TellingTests(ClientCase):
    """What is counted and logged."""

    def test_metrics(self) -> None:
        """Each request is counted once, by kind and outcome, with its duration."""
        d = self.poll()
        self.wire.connect()
        self.reactor.run_for(2)
        self.wire.receive(response())
        self.successResultOf(d)
        self.outcome_on_kept(response(b"", b"503 X"))
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
        """Neither name nor retry_id nor photo gets into the log, nor does a cancelled request."""
        with capturedLogs() as logs:
            d = self.upload(self.task(name="Secretname"))
            self.wire.connect()
            self.wire.lose(ConnectionLost())
            self.successResultOf(d)
            d = self.poll("secretid")
            self.wire.connect()
            d.cancel()
            self.failureResultOf(d)
            for upload in (True, False):
                d = self.upload(self.task(name="Secretname")) if upload else self.poll("secretid")
                self.wire.connect()
                self.wire.receive(response(b"<p>Secretname, secretid?</p>", b"400 No"))
                self.assertNotIn("ecret", str(self.successResultOf(d)))
        self.assertEqual(
            len([event for event in logs if event["log_namespace"] == "merlind.upstream.client.MerlinfaceClient"]), 1
        )
        self.assertNotIn("ecret", json.dumps([str(event) for event in logs]))

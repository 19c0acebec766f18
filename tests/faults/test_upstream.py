"""An upstream that misbehaves in every way, over raw sockets.

Codes such as U1 are rows of docs/battery.md. Row U12 is tested on a fake clock: tests/unit/tasks/test_scheduler.py.
"""

import contextlib
import gzip
import socket
import time
import zlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial

from merlind.core.task import HANDLE_ATTEMPTS
from tests.client import png, post
from tests.processes import HOST, Merlind, ProcessCase, free_port, until
from tests.upstream import Upstream, UpstreamRequest, reset

Way = Callable[[UpstreamRequest], object]

READY = b'{"status":"ready","result":0.5}'
GOOD = 0.25
"""The score that the upstream gives once it behaves."""


def raw(data: bytes) -> Way:
    """Send bytes as they are, and close."""
    return lambda request: request.send(data)


def body(content: bytes, code: int = 200, *headers: str) -> Way:
    """Send a whole response."""
    return lambda request: request.respond(code, content, *headers)


def cut_short(request: UpstreamRequest) -> None:
    request.send(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + READY)


def endless_body(request: UpstreamRequest) -> None:
    request.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(4096):
        request.send(b"10000\r\n" + bytes(65536) + b"\r\n")


def endless_headers(request: UpstreamRequest) -> None:
    request.send(b"HTTP/1.1 200 OK\r\n")
    for number in range(200_000):
        request.send(b"X-Header-%d: %d\r\n" % (number, number))


def slow_headers(request: UpstreamRequest) -> None:
    request.drip(b"HTTP/1.1 200 OK\r\nContent-Length: 31\r\n\r\n" + READY, 0.5)


def slow_body(request: UpstreamRequest) -> None:
    request.send(b"HTTP/1.1 200 OK\r\nContent-Length: 31\r\n\r\n")
    request.drip(READY, 0.5)


def hang_up(request: UpstreamRequest) -> None:
    """Close the connection without a response."""


TRANSIENT_ERRORS: dict[str, Way] = {
    "U1 reset": UpstreamRequest.reset,
    "U1 silent": UpstreamRequest.keep_silent,
    "U2 headers drip": slow_headers,
    "U2 body drips": slow_body,
    "U3 500": body(b"oops", 500),
    "U3 502 as HTML": body(b"<html>bad gateway</html>", 502),
    "U3 503, negative": body(b"{}", 503, "Retry-After: -5"),
    "U3 503, junk": body(b"{}", 503, "Retry-After: soon, \xe9"),
    "U3 429, a past date": body(b"{}", 429, "Retry-After: Wed, 21 Oct 2015 07:28:00 GMT"),
    "U3 408": body(b"", 408),
    "U4 401": body(b"{}", 401),
    "U4 403": body(b"{}", 403),
    "U4 405": body(b"{}", 405),
    "U13 400 as HTML": body(b"<html><title>400 Bad Request</title>", 400),
    "U13 413 without a word": body(b"", 413),
    "U13 415 as JSON of no API": body(b'{"type":"about:blank"}', 415),
    "U13 422 as text": body(b"no", 422),
    "U5 HTML": body(b"<html>hello</html>"),
    "U5 nothing": body(b""),
    "U5 half": cut_short,
    "U5 half JSON": body(READY[:15]),
    "U5 BOM": body(b"\xef\xbb\xbf" + READY),
    "U5 bad UTF-8": body(b'{"status":"ready\xff","result":0.5}'),
    "U5 deep": body(b"[" * 60_000),
    "U5 deeper": body(b"[" * 100_000),
    "U5 digits": body(b'{"status":"ready","result":%s}' % (b"9" * 5000)),
    "U5 no HTTP": raw(b"220 mail.example ESMTP\r\n\r\n"),
    "U5 two lengths": raw(b"HTTP/1.1 200 OK\r\nContent-Length: 31\r\nContent-Length: 3\r\n\r\n" + READY),
    "U5 long length": raw(b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n" + READY),
    "U5 bad chunk": raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n" + READY),
    "U6 NaN": body(b'{"status":"ready","result":NaN}'),
    "U6 Infinity": body(b'{"status":"ready","result":-Infinity}'),
    "U6 1e999": body(b'{"status":"ready","result":1e999}'),
    "U6 inf in a string": body(b'{"status":"ready","result":"inf"}'),
    "U6 true": body(b'{"status":"ready","result":true}'),
    "U6 null": body(b'{"status":"ready","result":null}'),
    "U6 nothing": body(b'{"status":"ready"}'),
    "U7 duplicate keys": body(b'{"status":"wait","status":"ready","result":0.5}'),
    "U7 unknown status": body(b'{"status":"thinking","result":0.5}'),
    "U7 a list for an id": body(b'{"status":"wait","retry_id":[1]}'),
    "U7 an empty id": body(b'{"status":"wait","retry_id":""}'),
    "U7 a huge id": body(b'{"status":"wait","retry_id":"%s"}' % (b"x" * 1_000_000)),
    "U7 a large id": body(b'{"status":"wait","retry_id":"%s"}' % (b"x" * 513)),
    "U7 a path for an id": body(b'{"status":"wait","retry_id":"../../etc/passwd"}'),
    "U7 a header in an id": body(b'{"status":"wait","retry_id":"a\\r\\nX: y"}'),
    "U9 gzip bomb": body(gzip.compress(bytes(100_000_000)), 200, "Content-Encoding: gzip"),
    "U9 endless body": endless_body,
    "U9 endless headers": endless_headers,
    "U11 hang up": hang_up,
    "U11 two responses": raw(b"HTTP/1.1 500 So\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n" + READY),
}  # fmt: skip
"""Misbehaviour that is a transient error: merlind repeats the upload or the poll."""

REJECTIONS = {
    "U4 400": (body(b'{"status":"error","errors":["no face"]}', 400), "upstream_400", "no face"),
    "U4 413": (body(b'{"error":null}', 413), "upstream_413", "answered 413"),
    "U4 415": (body(b'{"detail":"not an image"}', 415), "upstream_415", "not an image"),
    "U4 422": (body(b'{"errors":"blurred"}', 422), "upstream_422", "blurred"),
    "U17 a field": (body(b'{"errors":{"photo":["no face"]}}', 422), "upstream_422", "photo: no face"),
    "U17 an object": (body(b'{"status":"error","error":{"code":7,"message":"no face"}}'), "upstream_error", "no face"),
    "an error": (body(b'{"status":"error","result":null,"errors":["two faces"]}'), "upstream_error", "two faces"),
    "a long error": (body(b'{"status":"error","errors":["%s"]}' % (b"x" * 5000)), "upstream_error", "xxx"),
}
"""Responses that fail the task: the response, the task's ``error.code``, and a part of its ``error.detail``."""

RESULTS = {
    "U6 a number in a string": (body(b'{"status":"ready","result":"0.5"}'), 0.5),
    "U6 an integer": (body(b'{"status":"success","result":1}'), 1.0),
    "U6 negative": (body(b'{"status":"ready","result":-2.5e-3}'), -0.0025),
    "U16 deflate": (body(zlib.compress(READY), 200, "Content-Encoding: deflate"), 0.5),
    "U9 small gzip": (body(gzip.compress(READY), 200, "Content-Encoding: gzip"), 0.5),
    "ends with the connection": (raw(b"HTTP/1.0 200 OK\r\n\r\n" + READY), 0.5),
    "in chunks": (raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1f\r\n" + READY + b"\r\n0\r\n\r\n"), 0.5),
}
"""Unusual responses that are valid, and their scores."""


class MisbehaviourTest(ProcessCase):
    """One merlind, and an upstream that misbehaves once for each task, in the way that the task's name says."""

    def script(self, request: UpstreamRequest) -> object:
        """Misbehave as the name says at the task's first upload or its first poll; score it from then on."""
        kind, _, way = (request.key.replace("_", " ")).partition(": ")
        if request.kind == "upload" and kind == "poll":
            return request.wait(request.name.replace(" ", "_"))
        if request.nth == 1:
            return self.ways[way](request)
        return request.respond_json(status="ready", result=GOOD)

    def start_with(self, ways: dict[str, Way]) -> tuple[Upstream, Merlind]:
        """Start an upstream that can misbehave in these ways, and a merlind."""
        self.ways = ways
        upstream = Upstream(self.addCleanup, self.script)
        return upstream, self.merlind("--upstream-timeout=1", upstream=upstream.url).start()

    def test_transient_errors_are_repeated(self) -> None:
        """After each the request is repeated once and the task is ready; no unexpected error, no growth of memory."""
        upstream, merlind = self.start_with(TRANSIENT_ERRORS)
        before = merlind.memory()
        largest = 0
        for way in TRANSIENT_ERRORS:
            for kind in ("upload", "poll"):
                name = f"{kind}: {way}"
                task = post(merlind.port, name, png()).json()["task"]
                status = merlind.get(task, wait=60).json()
                self.assertEqual(status, {"status": "ready", "result": GOOD}, name)
                count = len(upstream.seen(kind, name if kind == "upload" else name.replace(" ", "_")))
                self.assertEqual(count, 2, name)
                largest = max(largest, merlind.memory())
        self.assertLess(largest - before, 60 << 20)
        self.assert_no_traceback(merlind)
        self.assertEqual(merlind.spooled(), [])
        self.figures(
            ways=len(TRANSIENT_ERRORS),
            tasks_ready=2 * len(TRANSIENT_ERRORS),
            upstream_requests=len(upstream.requests),
            memory_grew_by=f"{(largest - before) >> 20} MB",
            losses=0,
        )

    def test_rejections_fail_the_task(self) -> None:
        """A rejection fails the task at once, with its code and detail; repeating the POST tries the task again."""
        upstream, merlind = self.start_with({way: respond for way, (respond, _, _) in REJECTIONS.items()})
        for way, (_, code, detail) in REJECTIONS.items():
            for kind in ("upload", "poll"):
                name, photo = f"{kind}: {way}", png()
                task = post(merlind.port, name, photo).json()["task"]
                status = merlind.get(task, wait=60).json()
                self.assertEqual((status["status"], status["result"]), ("failed", None), name)
                self.assertEqual(status["error"]["code"], code)
                self.assertIn(detail, status["error"]["detail"])
                self.assertLessEqual(len(status["error"]["detail"]), 400)
                again = post(merlind.port, name, photo, {"Prefer": "wait=60"})
                self.assertEqual((again.json()["task"], again.json()["result"]), (task, GOOD))
        self.assert_no_traceback(merlind)
        self.figures(rejections=2 * len(REJECTIONS), upstream_requests=len(upstream.requests))

    def test_unusual_results_are_accepted(self) -> None:
        """A valid result is taken from an upload and from a poll, however unusual the response is."""
        _, merlind = self.start_with({way: respond for way, (respond, _) in RESULTS.items()})
        for way, (_, result) in RESULTS.items():
            for kind in ("upload", "poll"):
                task = post(merlind.port, f"{kind}: {way}", png()).json()["task"]
                self.assertEqual(merlind.get(task, wait=60).json(), {"status": "ready", "result": result}, way)
        self.figures(responses=2 * len(RESULTS))

    def test_expired_retry_id_uploads_again(self) -> None:
        """After 404s or 410s to a poll the photo is uploaded again, and the task becomes ready (U4, U14)."""
        for code in (404, 410):
            upstream = Upstream(self.addCleanup, partial(self.expire, code=code))
            merlind = Merlind(self.addCleanup, self.folder / str(code), upstream=upstream.url).start()
            task = post(merlind.port, "Ada", png()).json()["task"]
            self.assertEqual(merlind.get(task, wait=60).json(), {"status": "ready", "result": GOOD})
            kinds = [request.kind for request in upstream.requests]
            self.assertEqual(kinds, ["upload", *["poll"] * (1 + HANDLE_ATTEMPTS), "upload"])
            self.assertEqual(merlind.metric('merlind_upstream_repeated_uploads_total{reason="handle_expired"}'), 1)

    def expire(self, request: UpstreamRequest, code: int) -> object:
        """Respond to polls with ``code``, to the first upload with a retry_id and to the second with a score."""
        if request.kind == "poll":
            return request.respond(code, b'{"status":"error","errors":["no such job"]}')
        return request.wait("id") if request.nth == 1 else request.respond_json(status="ready", result=GOOD)


class DelayTest(ProcessCase):
    """Waits that the upstream asks for, redirects, and an upstream that can't be reached."""

    def test_retry_after_is_honoured(self) -> None:
        """merlind waits as Retry-After says, in seconds or as a date; 10**9 seconds make it wait too (U3)."""

        def script(request: UpstreamRequest) -> object:
            if request.nth > 1:
                return request.respond_json(status="ready", result=GOOD)
            in_three_seconds = format_datetime(datetime.now(UTC) + timedelta(seconds=3), usegmt=True)
            after = {"seconds": "2", "date": in_three_seconds, "endless": "1000000000"}[request.name]
            return request.respond(503, b"{}", f"Retry-After: {after}")

        upstream = Upstream(self.addCleanup, script)
        merlind = self.merlind(upstream=upstream.url).start()
        tasks = {name: post(merlind.port, name, png()).json()["task"] for name in ("seconds", "date", "endless")}
        waited = {}
        for name in ("seconds", "date"):
            self.assertEqual(merlind.get(tasks[name], wait=60).code, 200)
            first, second = upstream.seen("upload", name)
            waited[name] = second.at - first.at
            # A date has whole seconds, so its wait may be up to a second shorter.
            self.assertGreater(waited[name], 1.9)
        self.assertEqual(merlind.get(tasks["endless"]).code, 202)
        self.assertEqual(len(upstream.seen("upload", "endless")), 1)
        self.figures(**{f"waited_for_{name}": f"{seconds:.1f} s" for name, seconds in waited.items()})

    def test_endless_waiting_fails_at_the_deadline(self) -> None:
        """A task that only gets ``wait`` fails at ``--give-up-after``, with the reason; its photo goes later (U8)."""
        upstream = Upstream(self.addCleanup, lambda request: request.wait("id"))
        merlind = self.merlind("--give-up-after=2", "--keep-failed=2", upstream=upstream.url).start()
        task = post(merlind.port, "Ada", png()).json()["task"]
        status = merlind.get(task, wait=60).json()
        self.assertEqual((status["status"], status["error"]["code"]), ("failed", "gave_up"))
        self.assertIn("still waiting", status["error"]["detail"])
        until(lambda: merlind.spooled() == [], "the photo to be deleted")
        # Ten polls a second for two seconds: no storm towards the deadline.
        self.assertLess(len(upstream.requests), 40)
        self.figures(upstream_requests=len(upstream.requests), error_code="gave_up")

    def test_redirects_are_not_followed(self) -> None:
        """A redirect is a transient error: the log says where to, and merlind tries the same address again (U10)."""
        elsewhere = Upstream(self.addCleanup, lambda request: request.respond_json(status="ready", result=0.9))

        def script(request: UpstreamRequest) -> object:
            if request.nth <= len(codes):
                return request.respond(codes[request.nth - 1], b"", f"Location: {elsewhere.url}")
            return request.respond_json(status="ready", result=GOOD)

        codes = (301, 302, 303, 307, 308)
        upstream = Upstream(self.addCleanup, script)
        merlind = self.merlind(upstream=upstream.url).start()
        task = post(merlind.port, "Ada", png()).json()["task"]
        self.assertEqual(merlind.get(task, wait=60).json(), {"status": "ready", "result": GOOD})
        self.assertEqual(elsewhere.requests, [])
        for code in codes:
            self.assertIn(f"http {code}, a redirect to {elsewhere.url}", merlind.log())
        self.figures(redirects=len(codes), followed=0)

    def test_unreachable_upstream_loses_nothing(self) -> None:
        """While connections are refused or dropped, photos are kept and attempts are few; then all are ready (U1)."""
        port = free_port()
        merlind = self.merlind("--upstream-timeout=1", upstream=f"http://{HOST}:{port}/api/").start()
        ledger = self.ledger()
        for number in range(20):
            ledger.post(merlind.port, str(number), png())
        errors = 'merlind_upstream_requests_total{kind="upload",outcome="transient_error"}'
        time.sleep(2)
        refused = merlind.metric(errors)
        self.assertEqual(len(merlind.spooled()), 20)
        with contextlib.ExitStack() as stack:
            # Its backlog is full and nobody accepts: the kernel drops further connections.
            deaf = stack.enter_context(socket.create_server((HOST, port), backlog=0))
            for _ in range(3):
                filler = stack.enter_context(socket.socket())
                filler.setblocking(False)
                filler.connect_ex((HOST, port))
            time.sleep(3)
            dropped = merlind.metric(errors) - refused
            self.assertEqual(len(merlind.spooled()), 20)
            deaf.close()
        self.assertGreater(refused, 4)
        self.assertLess(refused, 60)
        self.assertGreater(dropped, 0)
        self.assertLess(dropped, 60)
        Upstream(self.addCleanup, UpstreamRequest.score, port)
        self.drain(merlind, ledger)
        self.assert_no_traceback(merlind)
        self.figures(tasks=20, attempts_refused=int(refused), attempts_dropped=int(dropped), losses=0)

    def test_resets_during_uploads_lose_nothing(self) -> None:
        """Eight connections are reset while a photo is being sent, and still all tasks become ready (U1)."""
        resets = 0

        def reset_some(connection: socket.socket) -> None:
            nonlocal resets
            if resets < 8:
                resets += 1
                reset(connection)

        upstream = Upstream(self.addCleanup, UpstreamRequest.score)
        upstream.on_headers = reset_some
        merlind = self.merlind(upstream=upstream.url).start()
        ledger = self.ledger()
        for number in range(4):
            ledger.post(merlind.port, str(number), png(1500))
        self.drain(merlind, ledger)
        self.assertEqual(resets, 8)
        self.assert_no_traceback(merlind)
        self.figures(tasks=4, resets=resets, losses=0)

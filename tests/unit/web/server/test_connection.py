"""The connection at wire level: bad HTTP, slow clients, sizes, limits and the stop.

Codes such as (H1) are rows of docs/battery.md.
"""

import errno
import os

from twisted.internet.defer import fail
from twisted.internet.interfaces import ITransport
from zope.interface.verify import verifyObject

from merlind.core.outcome import Scored
from merlind.tasks import intake
from merlind.web.ignored_body import MAX_IGNORED_BODY
from merlind.web.server import connection
from merlind.web.server.connection import SMALL_READ
from merlind.web.server.parser import MAX_HEAD
from merlind.web.server.phase import (
    BODY_GRACE,
    DEADLINES,
    HEADER_TIMEOUT,
    IDLE_TIMEOUT,
    LINGER_TIMEOUT,
    TRANSITIONS,
    Phase,
)
from merlind.web.server.refused import RefusedConnection
from merlind.web.upload import FORM_OVERHEAD
from tests.unit.support import failing
from tests.unit.web.support import (
    LIMIT,
    Client,
    EdgeCase,
    LogLines,
    WholeTransport,
    chunked,
    fired,
    form,
    get,
    message,
    photo_of,
    post,
)

SECOND = message("DELETE", "/?task_id=1")
"""A request that must not be run."""


class RefusedTests(EdgeCase):
    """What is refused before a handler sees it."""

    def assert_refused(self, data: bytes, status: int = 400, code: str = "bad_request") -> Client:
        """It gets one response, our direction is closed, and what follows it is not run; also byte by byte."""
        self.accepted()
        for size in (len(data) + len(SECOND), 1):
            client = self.connect().drip(data + SECOND, size)
            reply = client.reply()
            self.assert_problem(reply, status, code)
            self.assertTrue(client.lingers, data)
        self.assertEqual(len(self.stored()), 1)
        return client

    def test_framing(self) -> None:
        """A body's length that can be read in two ways is refused (H1)."""
        body = chunked(form())
        for fields in (
            "Content-Length: 3\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nContent-Length: 3",
            "Content-Length: 3\r\nContent-Length: 3",
            "Content-Length: 3\r\nContent-Length: 4",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Content-Length: +4",
            "Content-Length: -1",
            "Content-Length: 4,4",
            "Content-Length: 0x4",
            "Content-Length: 4 4",
            "Content-Length: ",
            "Content-Length: ４",
            "Content-Length : 4",
        ):
            head = f"POST / HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=b\r\n{fields}\r\n\r\n"
            self.assert_refused(head.encode("utf-8") + body)

    def test_header_characters(self) -> None:
        """Bare CR, LF and NUL in a header, and malformed names, are refused (H1)."""
        for line in (b"X: a\rb", b"X: a\nb", b"X: a\0b", b"no colon", b": empty", b"a b: c", b"\x01: x", b"X\xff: x"):
            self.assert_refused(b"GET / HTTP/1.1\r\nHost: a\r\n" + line + b"\r\n\r\n")

    def test_request_lines(self) -> None:
        """A malformed request line is refused."""
        for line in (
            b"GET /",
            b"GET / HTTP/0.9",
            b"GET / HTTP/2.0",
            b"GET / HTTP/1.1 ",
            b"GET  / HTTP/1.1",
            b"GET / RTSP/1.0",
            b"SOURCE / ICE/1.0",
            b"\x80GET / HTTP/1.1",
            b"GET /\x7f\x01 HTTP/1.1",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"PRI * HTTP/2.0",
        ):
            self.assert_refused(line + b"\r\nHost: a\r\n\r\n")

    def test_unknown_methods(self) -> None:
        """A method that nobody knows is told so (H13); methods are case-sensitive (RFC 9110, section 9.1)."""
        for method in (b"BREW", b"get", b"Get", b"get-out", b"GETT", b"A" * 15_000):
            self.assert_refused(method + b" / HTTP/1.1\r\nHost: a\r\n\r\n", 501, "unknown_method")

    def test_chunks(self) -> None:
        """Malformed chunks are refused (H1)."""
        opening = post(b"", Transfer_Encoding="chunked")
        for body in (
            b"0x4\r\nabcd\r\n",
            b"-4\r\nabcd\r\n",
            b"zz\r\n",
            b"4\r\nabcde\r\n",
            b"4;\0\r\nabcd\r\n",
            b"1" * 2000,
        ):
            self.assert_refused(opening + body)
        self.assertEqual(len(self.core.files()), 1)

    def test_trailers(self) -> None:
        """Trailers are as strict as headers, and end."""
        opening = message("POST", "/else", Transfer_Encoding="chunked") + b"0\r\n"
        for line in (b"garbage", b"a: b\0", b"a: b\rc", b"a: b\nc", b" folded", b"a : b", b": b", b"a: \x01"):
            self.assert_refused(opening + line + b"\r\n\r\n")
        for lines in (b"X: y\r\n" * 12000, b"X: " + b"y" * 20_000, b"X: y\r\n" * 101 + b"\r\n"):
            self.assert_refused(opening + lines, 431, "headers_too_large")

    def test_transfer_encodings(self) -> None:
        """Unknown transfer encodings are refused (H2)."""
        for encoding in ("gzip, chunked", ",chunked", "identity, chunked"):
            self.assert_refused(post(b"", Transfer_Encoding=encoding) + chunked(form()), 400, "bad_framing")
        for encoding in ("xchunked", "gzip", "chunked;q=1", "", "identity", "chunked, identity", "chunked, chunked"):
            self.assert_refused(post(b"", Transfer_Encoding=encoding) + chunked(form()))

    def test_hosts(self) -> None:
        """A missing, a second and a malformed Host are refused (H3)."""
        for fields in ("", "Host: a\r\nHost: a\r\n", "Host: a\r\nHost: b\r\n"):
            self.assert_refused(f"GET / HTTP/1.1\r\n{fields}\r\n".encode(), 400, "bad_host")
        for host in ("a b", "a/b", "user@a", "a:b", "a:123456", "[::1", "::1", "a\\b", "é", "a\tb", "http://a"):
            self.assert_refused(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode(), 400, "bad_host")

    def test_folding(self) -> None:
        """Folded header lines are refused (H4)."""
        for fold in (b" folded", b"\tfolded", b" "):
            self.assert_refused(b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n" + fold + b"\r\n\r\n")
            self.assert_refused(b"GET / HTTP/1.1\r\n" + fold + b"\r\nHost: a\r\n\r\n")

    def test_chunks_in_http_1_0(self) -> None:
        """Transfer-Encoding in HTTP/1.0 is refused (H5)."""
        for fields in (b"", b"Host: a\r\n", b"Connection: keep-alive\r\n"):
            head = b"POST / HTTP/1.0\r\n" + fields + b"Transfer-Encoding: chunked\r\n\r\n"
            self.assert_refused(head + chunked(form()), 400, "bad_framing")

    def test_long_lengths(self) -> None:
        """A length of thousands of digits is too large, and causes no traceback (H7)."""
        for digits in ("9" * 16, "0" * 100 + "1" * 16):
            self.assert_refused(post(b"", Content_Length=digits), 413, "too_large")
        self.assert_refused(post(b"", Content_Length="9" * 5000))

    def test_too_large(self) -> None:
        """An announced length that is too large is refused at once, before any 100 Continue (H8)."""
        most = LIMIT + FORM_OVERHEAD
        for length in (most + 1, 99999999999):
            self.assert_refused(post(b"", Content_Length=str(length), Expect="100-continue"), 413, "too_large")

    def test_no_length(self) -> None:
        """A POST with neither a length nor chunks is refused."""
        self.assert_refused(post(b""), 411, "length_required")

    def test_no_form(self) -> None:
        """A body that is no form is refused with the headers (C1)."""
        for content_type, status, code in (
            (None, 415, "not_a_form"),
            ("application/json", 415, "not_a_form"),
            ("multipart/form-data", 400, "bad_boundary"),
        ):
            data = post(b"x" * 100, Content_Type=content_type, Expect="100-continue")
            self.assert_refused(data, status, code)

    def test_unwanted_bodies(self) -> None:
        """Where no body is expected, a short one is ignored and a long one is refused, with what else is wrong."""
        most = MAX_IGNORED_BODY
        for method, target, status, too_long in (
            ("GET", "/?task_id=5", 404, (413, "too_large")),
            ("DELETE", "/?task_id=5", 404, (413, "too_large")),
            ("PUT", "/", 405, (405, "method_not_allowed")),
            ("POST", "/face/", 404, (404, "not_found")),
        ):
            client = self.connect().send(message(method, target, b"x" * most))
            self.assertEqual(client.reply().code, status)
            self.assertFalse(client.closed or client.lingers)
            client = self.connect().send(message(method, target, Content_Length=str(most + 1)))
            self.assert_problem(client.reply(), *too_long)
            client = self.connect().send(message(method, target, Transfer_Encoding="chunked"))
            client.send(b"%x\r\n%s\r\n" % (most, b"x" * most))
            self.assertTrue(client.silent)
            client.send(b"1\r\nx\r\n")
            self.assert_problem(client.reply(), *too_long)

    def test_long_request_line(self) -> None:
        """A target that is too long is refused, whether its line ends or not (H10)."""
        for target in ("/" + "a" * MAX_HEAD, "/" + "a" * 20_000, "/?task_id=" + "1" * 1_000_000):
            data = f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
            client = self.connect().send(data)
            self.assert_problem(client.reply(), 414, "uri_too_long")
            self.assertTrue(client.lingers)
            client = self.connect().drip(data, 1000)
            self.assert_problem(client.reply(), 414, "uri_too_long")

    def test_long_headers(self) -> None:
        """Headers that are too long, one or all together, are refused, whether they end or not (H10)."""
        opening = b"GET /?task_id=5 HTTP/1.1\r\nHost: a\r\n"
        for fields in (
            b"X: " + b"y" * 1_000_000 + b"\r\n\r\n",
            b"X: " + b"y" * 1_000_000,
            b"X: y\r\n" * 20_000,
        ):
            for size in (2_000_000, 10_000):
                client = self.connect().drip(opening + fields, size)
                self.assert_problem(client.reply(), 431, "headers_too_large")
                self.assertTrue(client.lingers)

    def test_headers_at_their_limit(self) -> None:
        """The request line and the headers may have 16 KiB together, in 100 headers with names of 256 bytes."""
        opening = b"GET /?task_id=5 HTTP/1.1\r\nHost: a\r\n"
        room = MAX_HEAD - len(opening) - len(b"X:\r\n\r\n")
        for lines, code in (
            (b"X:" + b"y" * room, 404),
            (b"X:" + b"y" * (room + 1), 431),
            (b"\r\n".join([b"X:"] * 99), 404),
            (b"\r\n".join([b"X:"] * 100), 431),
            (b"x" * 256 + b":", 404),
            (b"x" * 257 + b":", 431),
        ):
            data = opening + lines + b"\r\n\r\n"
            for size in (len(data), 1000, 1):
                self.assertEqual(self.connect().drip(data, size).reply().code, code, len(lines))

    def test_bare_line_feeds(self) -> None:
        """A request with bare line feeds is refused (H6)."""
        self.assert_refused(b"GET / HTTP/1.1\nHost: a\n\n")

    def test_head(self) -> None:
        """The response to a refused HEAD has no body."""
        for data, code in (
            (b"HEAD / HTTP/1.1\r\n\r\n", 400),
            (b"HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n", 413),
            (b"HEAD / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 20000, 431),
        ):
            reply = self.connect().send(data).reply("HEAD")
            self.assertEqual((reply.code, reply.body), (code, b""))
            self.assertGreater(int(reply.get("Content-Length") or 0), 0)

    def test_counted(self) -> None:
        """A refusal is counted and logged, without anything that the client sent."""
        lines = LogLines.of(self).lines
        self.connect().send(message("POST", "/?secret=1", Content_Type="text/secret", Content_Length="3"))
        self.connect().send(b"secret\r\n\r\n")
        self.assertEqual(lines, ["POST 415 0 ms, not_a_form", "other 501 0 ms, unknown_method"])
        self.connect().send(b"A" * 15_000 + b" / HTTP/1.1\r\n")
        self.assertEqual(lines.pop(), "other 501 0 ms, unknown_method")
        exposition = self.metrics.exposition()
        self.assertIn(b'merlind_http_requests_total{code="415",method="POST"} 1.0', exposition)
        self.assertIn(b'merlind_http_requests_total{code="501",method="other"} 2.0', exposition)


class AcceptedTests(EdgeCase):
    """What is unusual, and accepted."""

    def test_hosts(self) -> None:
        """A Host may be a name or an address, with a port or without, or empty."""
        for host in (
            "a",
            "localhost:8000",
            "xn--e1afmkfd.example",
            "127.0.0.1:1",
            "[::1]:8000",
            "a_b.c",
            "",
            "a:",
            ":1",
        ):
            self.assertEqual(self.ask(get(5, Host=host)).code, 404, host)

    def test_http_1_0(self) -> None:
        """HTTP/1.0 needs no Host, and its connection closes with the response."""
        for data in (
            b"GET /?task_id=5 HTTP/1.0\r\n\r\n",
            b"GET /?task_id=5 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        ):
            client = self.connect().send(data)
            self.assertEqual((client.reply().code, client.reply().get("Connection")), (404, "close"))
            self.assertTrue(client.closed)

    def test_absolute_form(self) -> None:
        """A target in absolute form is accepted (H12)."""
        task = self.accepted()
        for target in (
            f"http://localhost:8000/?task_id={task}",
            f"HTTPS://elsewhere/?task_id={task}",
            f"http://a?task_id={task}",
        ):
            reply = self.ask(message("GET", target))
            self.assertEqual((reply.code, reply.json), (202, {"status": "wait", "result": None}), target)
        self.assertEqual(self.ask(message("GET", "http://a/else")).code, 404)
        for target in ("http://user:password@a/", "*", "/a#b"):
            self.assert_problem(self.ask(message("GET", target)), 400, "bad_target")
        for target in ("ftp://a/", "http:/", "http://", "http:///", "a:80", "x", "?task_id=5", "/\x7f", "/\xb0"):
            self.assertEqual(self.ask(message("GET", target)).code, 400, target)
        for url in (b"http://localhost:8000/", b"http://a", b"http://a?b=c"):
            reply = self.ask(post().replace(b"POST / ", b"POST " + url + b" "))
            self.assertEqual(reply.json["task"], task)

    def test_length_with_zeros(self) -> None:
        """Leading zeros don't make a length too long."""
        body = form()
        self.assertEqual(self.ask(post(body, Content_Length="0" * 100 + str(len(body)))).code, 202)
        self.assertEqual(self.ask(get(5, Content_Length="0" * 5000)).code, 404)

    def test_chunked(self) -> None:
        """A body in chunks, with extensions and trailers, is accepted in any pieces (C2)."""
        data = post(b"", Transfer_Encoding="Chunked") + chunked(form(), 37).replace(b"\r\n", b';a="b"\r\n', 1)
        data = data.removesuffix(b"\r\n") + b"Trailer: x\r\n\r\n"
        tasks = {self.connect().drip(data, size).reply().json["task"] for size in (1, 3, 100, len(data))}
        self.assertEqual(len(tasks), 1)

    def test_at_the_limit(self) -> None:
        """The largest photo is accepted, with a length and in chunks; one byte more is refused (C2)."""
        for size, code in ((LIMIT, 202), (LIMIT + 1, 413)):
            body = form(photo=photo_of(size))
            self.assertEqual(self.ask(post(body)).code, code)
            self.assertEqual(self.ask(post(b"", Transfer_Encoding="chunked") + chunked(body)).code, code)

    def test_form_at_the_limit(self) -> None:
        """The largest form is accepted; one byte more is refused (C2)."""
        body = form(photo=photo_of(LIMIT))
        body += b"x" * (LIMIT + FORM_OVERHEAD - len(body))
        self.assertEqual(self.ask(post(body)).code, 202)
        self.assert_problem(self.ask(post(body + b"x")), 413, "too_large")
        opening = post(b"", Transfer_Encoding="chunked")
        self.assertEqual(self.ask(opening + chunked(body)).code, 202)
        self.assert_problem(self.ask(opening + chunked(body + b"x")), 413, "too_large")

    def test_continue(self) -> None:
        """100 Continue is sent if the body is wanted and the client waits for it, and only then (H8)."""
        body = form()
        client = self.connect().send(post(b"", Content_Length=str(len(body)), Expect="100-Continue"))
        self.assertEqual(client.transport.value(), b"HTTP/1.1 100 Continue\r\n\r\n")
        client.transport.clear()
        self.assertEqual(client.send(body).reply().code, 202)
        for expect in (None, "something else"):
            client = self.connect().send(post(b"", Content_Length=str(len(body)), Expect=expect))
            self.assertTrue(client.silent)
        old = post(b"", Content_Length=str(len(body)), Expect="100-continue").replace(b"HTTP/1.1", b"HTTP/1.0")
        self.assertTrue(self.connect().send(old).silent)
        self.assertEqual(self.ask(get(5, Expect="100-continue")).code, 404)

    def test_reads_large_bodies_fast(self) -> None:
        """A large body is read in large pieces, and little of what is behind it or behind anything else."""
        self.patch(connection, "LARGE_READ", 50_000)
        client = self.connect()
        sizes = [client.transport.bufferSize]
        for data in (
            post(b"", Content_Length="60000").replace(b"POST / ", b"PUT / "),
            b"x" * 59_000,
            b"x" * 1_000,
            post(b"", Transfer_Encoding="chunked"),
        ):
            client.send(data)
            sizes.append(client.transport.bufferSize)
        self.assertEqual(sizes, [SMALL_READ, 50_000, SMALL_READ, SMALL_READ, SMALL_READ])


class ConnectionTests(EdgeCase):
    """A connection's life."""

    def test_kept_alive(self) -> None:
        """A connection serves requests one after the other."""
        client = self.connect()
        for number in range(1, 4):
            client.send(get(5))
            self.assertEqual(len(client.replies()), number)
        self.assertFalse(client.closed or client.lingers)
        self.assertEqual([reply.get("Connection") for reply in client.replies()], [None] * 3)

    def test_closed_on_request(self) -> None:
        """Connection: close is obeyed."""
        client = self.connect().send(get(5, Connection="close") + SECOND)
        self.assertEqual((client.reply().code, client.reply().get("Connection")), (404, "close"))
        self.assertTrue(client.closed)

    def test_pipelined(self) -> None:
        """Pipelined requests get their responses in order."""
        data = post() + get(5) + b"\r\n" + get(5, "HEAD") + message("OPTIONS", "/") + post(form("Bo"))
        for size in (1, 10, len(data)):
            replies = self.connect().drip(data, size).replies("POST", "GET", "HEAD", "OPTIONS", "POST")
            self.assertEqual([reply.code for reply in replies], [202, 404, 404, 204, 202])
        self.assertEqual([task.name for task in self.stored()], ["Anna", "Bo"])

    def test_flood_of_pipelined_requests(self) -> None:
        """While a request waits for its response, little of the following ones is read."""
        task = self.accepted()
        client = self.connect().send(get(task, Prefer="wait=5"))
        client.send(get(5) * 100)
        self.assertTrue(client.reads)
        client.send(get(5) * 400)
        self.assertFalse(client.reads)
        self.reactor.run_for(5)
        self.assertTrue(client.reads)
        self.assertEqual(len(client.replies()), 501)

    def test_idle(self) -> None:
        """An idle connection is closed without a response; a client that doesn't close it too is cut off."""
        client = self.connect().send(get(5))
        client.transport.clear()
        self.reactor.run_for(IDLE_TIMEOUT - 1)
        client.send(get(5))
        client.transport.clear()
        self.reactor.run_for(IDLE_TIMEOUT - 1)
        self.assertFalse(client.closed)
        self.reactor.run_for(1)
        self.assertEqual((client.closed, client.aborted, client.silent), (True, False, True))
        self.reactor.run_for(LINGER_TIMEOUT)
        self.assertTrue(client.aborted)

    def test_silent_from_the_start(self) -> None:
        """A new connection without a byte is closed sooner."""
        client = self.connect()
        self.reactor.run_for(HEADER_TIMEOUT - 0.1)
        self.assertFalse(client.closed)
        self.reactor.run_for(0.1)
        self.assertEqual((client.closed, client.silent), (True, True))

    def test_slow_headers(self) -> None:
        """There is one deadline for all of the headers, whatever comes in meanwhile (H15)."""
        client = self.connect()
        self.reactor.run_for(10)
        for byte in b"GET / HTT":
            client.send(bytes([byte]))
            self.reactor.run_for(HEADER_TIMEOUT / 10)
        self.assertTrue(client.silent)
        client.send(b"P")
        self.reactor.run_for(HEADER_TIMEOUT / 10)
        self.assert_problem(client.reply(), 408, "too_slow")
        self.assertTrue(client.lingers)

    def test_slow_body(self) -> None:
        """A body has a grace period, and must then keep the minimum rate (H15)."""
        body = b"x" * LIMIT * 10
        client = self.connect().send(post(b"", Content_Length=str(len(body))).replace(b"POST / ", b"POST /else "))
        began = self.reactor.seconds()
        for _ in range(5):  # twice as fast as it must be
            client.send(body[: self.min_rate * 2])
            self.reactor.run_for(1)
        while client.silent:  # much slower
            client.send(body[:8])
            self.reactor.run_for(1)
        self.assert_problem(client.reply(), 408, "too_slow")
        self.assertIn(self.reactor.seconds() - began, (BODY_GRACE + 10, BODY_GRACE + 11))

    def test_slow_after_a_fast_one(self) -> None:
        """A fast body doesn't make up for a slow one after it."""
        client = self.connect().send(message("PUT", "/", b"x" * 60_000) + post()[:-10])
        client.transport.clear()
        self.reactor.run_for(BODY_GRACE + 1)
        self.assert_problem(client.reply(), 408, "too_slow")

    def test_fast_enough_body(self) -> None:
        """A body that keeps the rate may take long."""
        body = form(photo=photo_of(LIMIT)) + b"x" * 60_000
        client = self.connect().send(post(b"", Content_Length=str(len(body))))
        for start in range(0, len(body), self.min_rate):
            self.assertTrue(client.silent)
            client.send(body[start : start + self.min_rate])
            self.reactor.run_for(1)
        self.assertEqual(client.reply().code, 202)

    def test_very_many_in_one_piece(self) -> None:
        """As many requests as fit into one read all get their responses."""
        one = message("OPTIONS", "/")
        count = 65536 // len(one)
        replies = self.connect().send(one * count).replies()
        self.assertEqual([reply.code for reply in replies], [204] * count)

    def test_slow_upload(self) -> None:
        """An upload that stops leaves nothing, staged in memory or in a file (H15, H16)."""
        for most, files in ((intake.SMALL_UPLOAD, 0), (0, 1)):
            self.patch(intake, "SMALL_UPLOAD", most)
            client = self.connect().send(post()[:-20])
            self.assertEqual((len(self.core.files()), self.core.intake.active_uploads), (files, 1))
            self.reactor.run_for(BODY_GRACE + 1)
            self.assert_problem(client.reply(), 408, "too_slow")
            self.assertEqual(self.core.intake.active_uploads, 0)
            self.assert_nothing_kept()

    def test_no_deadline_for_us(self) -> None:
        """There is no deadline while the client waits for us."""
        task = self.accepted()
        client = self.connect().send(get(task, Prefer="wait=60"))
        self.reactor.run_for(59)
        self.assertTrue(client.silent)
        self.reactor.run_for(1)
        self.assertEqual(client.reply().code, 202)

    def test_late_timer(self) -> None:
        """A deadline that moved after its timer was set is kept all the same."""
        client = self.connect()
        self.reactor.run_for(HEADER_TIMEOUT - 1)
        client.send(get(5))
        client.transport.clear()
        self.reactor.run_for(IDLE_TIMEOUT - 0.1)
        self.assertFalse(client.closed)
        self.reactor.run_for(0.2)
        self.assertTrue(client.closed)

    def test_one_timer(self) -> None:
        """A connection has one timer, however many requests it serves."""
        client = self.connect()
        for _ in range(10):
            client.send(get(5))
        self.assertEqual(len(self.reactor.getDelayedCalls()), 1)
        client.leave()
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_gone_in_mid_upload(self) -> None:
        """A client that leaves anywhere in its request leaves no row, no file and no active upload (H16)."""
        data = post(form(photo=photo_of(300)))
        for length in [*range(0, len(data), 7), len(data) - 1]:
            client = self.connect().send(data[:length])
            client.leave()
            self.assertTrue(client.silent)
            self.assertEqual((self.core.intake.active_uploads, self.core.intake.active_bytes), (0, 0))
        self.assert_nothing_kept()

    def test_lingers(self) -> None:
        """A refused client may go on sending for a while, so that it reads the response and not a reset."""
        client = self.connect().send(post(b"", Content_Length="99999999999"))
        self.assertTrue(client.lingers)
        client.send(b"x" * 1000, SECOND)
        self.assertEqual(client.reply().code, 413)
        self.assertTrue(client.reads)
        self.reactor.run_for(LINGER_TIMEOUT - 0.1)
        self.assertFalse(client.closed)
        self.reactor.run_for(0.1)
        self.assertTrue(client.aborted)

    def test_lingers_up_to_a_size(self) -> None:
        """A refused client that sends too much is cut off."""
        self.patch(connection, "LINGER_BYTES", 10_000)
        client = self.connect().send(post(b"", Content_Length="99999999999"))
        client.send(b"x" * 10_000)
        self.assertFalse(client.closed)
        client.send(b"x")
        self.assertTrue(client.aborted)

    def test_refused_while_paused(self) -> None:
        """A paused client is read again when it is refused, so that its end is seen."""
        task = self.accepted()
        client = self.connect().send(get(task, Prefer="wait=5"), b"GET /junk\r\n\r\n" + b"x" * 20_000)
        self.assertFalse(client.reads)
        self.reactor.run_for(5)
        self.assertTrue(client.lingers and client.reads)

    def test_half_closed(self) -> None:
        """A client that closes its direction gets its responses, and then the connection is closed."""
        task = self.accepted()
        for data in (get(5), get(5) + get(6, "HEAD"), get(5) + get(6) * 30):
            client = self.connect().send(data)
            client.protocol.writeConnectionLost()
            self.assertFalse(client.closed)
            self.assertTrue(client.end_input().closed)
        client = self.connect()
        client.protocol.dataReceived(post(form("Bo")) + get(task) + get(6))
        client.protocol.readConnectionLost()
        self.assertTrue(client.silent)
        self.settle()
        self.assertEqual([reply.code for reply in client.replies()], [202, 202, 404])
        self.assertTrue(client.closed)

    def test_half_closed_in_mid_request(self) -> None:
        """A client that closes its direction in the middle of a request has gone (H16)."""
        data = post()
        for length in (0, 5, 40, len(data) - 100, len(data) - 1):
            client = self.connect().send(data[:length]).end_input()
            self.assertTrue(client.closed and client.silent, length)
            client.leave()
        client = self.connect().send(get(5) + data[:-1]).end_input()
        self.assertTrue(client.closed)
        self.assertEqual(client.reply().code, 404)
        client.leave()
        self.assert_nothing_kept()

    def test_half_closed_while_waiting(self) -> None:
        """A long poll of a client that closed its direction soon ends: it may have gone."""
        task = self.accepted()
        for wait, aborted in ((LINGER_TIMEOUT - 1, False), (60, True)):
            client = self.connect().send(get(task, Prefer=f"wait={wait:.0f}")).end_input()
            self.assertFalse(client.closed)
            self.reactor.run_for(LINGER_TIMEOUT)
            self.assertEqual((client.closed, client.aborted, client.silent), (True, aborted, aborted))
            client.leave()

    def test_half_closed_when_refused(self) -> None:
        """A refused client that closes its direction has read the response, and is closed."""
        client = self.connect().send(b"GET /junk\r\n\r\n")
        self.assertTrue(client.end_input().closed)
        self.assertFalse(client.aborted)

    def test_whole_close(self) -> None:
        """A transport that can't close one direction is closed whole."""
        client = self.connect(WholeTransport()).send(b"GET /junk\r\n\r\n")
        self.assert_problem(client.reply(), 400, "bad_request")
        self.assertTrue(client.closed)


class LimitTests(EdgeCase):
    """The limit on connections."""

    max_connections = 3

    def test_refused(self) -> None:
        """A connection past the limit gets 503 and is closed; the others aren't affected."""
        clients = [self.connect() for _ in range(3)]
        self.assertEqual(self.site.connections, 3)
        refused = self.connect()
        self.assert_problem(refused.reply(), 503, "too_many_connections")
        self.assertEqual(refused.reply().get("Retry-After"), "5")
        self.assertTrue(refused.lingers)
        refused.send(get(5))
        self.assertEqual((len(refused.replies()), self.site.connections), (1, 3))
        self.assertEqual(clients[0].send(get(5)).reply().code, 404)
        clients[1].leave()
        self.assertEqual(self.connect().send(get(5)).reply().code, 404)
        self.assertIn(b'merlind_http_requests_total{code="503",method="other"} 1.0', self.metrics.exposition())

    def test_cut_off(self) -> None:
        """A refused connection that stays is cut off."""
        for _ in range(3):
            self.connect()
        refused = self.connect()
        self.assertTrue(verifyObject(ITransport, refused.transport))
        self.assertFalse(refused.closed)
        self.reactor.run_for(1)
        self.assertTrue(refused.aborted)
        refused.leave()
        self.assertEqual(self.site.refusals.open, 0)

    def test_closed_without_a_response(self) -> None:
        """Past a number of refused connections, further ones are closed without a response."""
        self.site.refusals.most = 2
        clients = [self.connect() for _ in range(5)]
        self.assertIsNone(self.site.buildProtocol(None))
        clients[4].leave()
        self.assertIsInstance(self.site.buildProtocol(None), RefusedConnection)
        self.site.refusals.open -= 1


class DrainTests(EdgeCase):
    """The stop."""

    def test_nothing_open(self) -> None:
        """Without connections it is done at once."""
        self.assertEqual(fired(self.site.drain()), [None])

    def test_idle(self) -> None:
        """Idle connections are closed."""
        clients = [self.connect(), self.connect().send(get(5))]
        drained = fired(self.site.drain())
        self.assertEqual(([client.closed for client in clients], drained), ([True, True], []))
        clients[0].leave(clean=True)
        self.assertEqual(drained, [])
        clients[1].leave(clean=True)
        self.assertEqual(drained, [None])

    def test_drain_cuts_off(self) -> None:
        """A client that doesn't close its side is cut off."""
        client = self.connect()
        self.site.drain()
        self.reactor.run_for(LINGER_TIMEOUT)
        self.assertTrue(client.aborted)

    def test_busy(self) -> None:
        """Requests that have begun get their responses, and the connections close with them."""
        data = post()
        upload = self.connect().send(data[:-30])
        headers = self.connect().send(get(5)[:-10])
        line = self.connect().send(get(5)[:5])
        task = self.accepted("Bo")
        self.clients[-1].leave()
        waiting = self.connect().send(get(task, Prefer="wait=10"))
        drained = fired(self.site.drain())
        self.assertEqual([client.closed for client in (upload, headers, line, waiting)], [False] * 4)
        upload.send(data[-30:] + get(5))
        headers.send(get(5)[-10:])
        line.send(get(5)[5:] + SECOND)
        self.reactor.run_for(10)
        for client, code in ((upload, 202), (headers, 404), (line, 404), (waiting, 202)):
            self.assertEqual((client.reply().code, client.reply().get("Connection")), (code, "close"))
            self.assertTrue(client.closed)
            client.leave(clean=True)
        self.assertEqual(drained, [None])

    def test_twice(self) -> None:
        """A second drain fires too."""
        client = self.connect()
        self.site.drain()
        drained = fired(self.site.drain())
        client.leave(clean=True)
        self.assertEqual(drained, [None])


class FaultTests(EdgeCase):
    """Faults of our own, with photos staged in files."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(intake, "SMALL_UPLOAD", 0)

    def test_unexpected_error(self) -> None:
        """An unexpected error is 500; the log alone has the traceback, and the connection stays open."""
        self.patch(self.core.results, "find", lambda task_id: fail(RuntimeError("a secret")))
        for question in (get(5), get(5, Prefer="wait=1")):
            client = self.connect().send(question + message("OPTIONS", "/"))
            reply, after = client.replies()
            self.assert_problem(reply, 500, "internal_error", closed=False)
            self.assertNotIn(b"secret", reply.body)
            self.assertEqual(after.code, 204)
            (failure,) = self.flushLoggedErrors(RuntimeError)
            self.assertEqual(failure.getErrorMessage(), "a secret")

    def test_a_posts_line(self) -> None:
        """A POST's line has its task's number, whether that is new, unfinished or finished; a GET's has none."""
        lines = LogLines.of(self).lines
        task = self.ask(post()).json["task"]
        self.ask(post())
        self.core.upstream.requests[-1].respond(Scored(0.5))
        self.core.settle()
        self.ask(post())
        self.ask(get(task))
        found = [line for line in lines if line.startswith(("POST", "GET"))]
        posts = [f"POST 202 0 ms, task {task}", f"POST 202 0 ms, task {task}", f"POST 200 0 ms, task {task}"]
        self.assertEqual(found, [*posts, "GET 200 0 ms"])

    def test_unwritable(self) -> None:
        """A photo that can't be written is refused, and the reason is logged."""
        lines = LogLines.of(self).lines
        self.patch(os, "open", failing(errno.ENOSPC))
        reply = self.ask(post())
        self.assert_problem(reply, 503, "storage")
        self.assertEqual(reply.get("Retry-After"), "5")
        self.assertIn("a photo could not be written: No space left on device", lines)

    def test_half_written(self) -> None:
        """Nothing stays of a photo that was written in part."""
        client = self.connect().send(post(form(photo=photo_of(1000)))[:-500])
        self.assertEqual(len(self.core.files()), 1)
        self.patch(os, "write", failing(errno.EIO))
        self.assert_problem(client.send(b"x" * 100).reply(), 503, "storage")
        self.assertEqual(self.core.files(), [])

    def test_not_removed(self) -> None:
        """If a photo can't even be removed, the client gets its response and the reservation is closed."""
        lines = LogLines.of(self).lines
        data = post(form(photo=photo_of(1000)))
        clients = [self.connect().send(data[:-500]) for _ in range(2)]
        unlink = os.unlink
        self.patch(os, "unlink", failing(errno.EROFS))
        clients[1].leave()
        self.reactor.run_for(BODY_GRACE + 2)
        self.assert_problem(clients[0].reply(), 408, "too_slow")
        self.assertEqual(self.core.intake.active_uploads, 0)
        self.assertEqual(lines.count("a photo could not be removed: Read-only file system"), 2)
        self.patch(os, "unlink", unlink)
        self.core.spool.prepare()


class PhaseTests(EdgeCase):
    """The phases of a connection."""

    def test_every_change(self) -> None:
        """Each phase is followed by those of the table only, with the deadline of the new one."""
        for before in Phase:
            for after in Phase:
                client = self.connect()
                client.protocol._phase = before
                if after in TRANSITIONS[before]:
                    client.protocol._enter(after)
                    self.assertEqual(self.left(client), DEADLINES[after], (before, after))
                else:
                    self.assertRaises(AssertionError, client.protocol._enter, after)
                client.protocol._phase = Phase.IDLE
                client.leave()

    def left(self, client: Client) -> float | None:
        at = client.protocol._deadline._at
        return None if at is None else float(at - self.reactor.seconds())

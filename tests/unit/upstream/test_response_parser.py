"""One HTTP/1.1 response, read strictly, in whatever pieces it comes."""

import gzip
import zlib

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from merlind.upstream.response_parser import MAX_RESPONSE, BadResponse, ResponseParser, UpstreamResponse

checked = settings(max_examples=150, deadline=None, derandomize=True, database=None)

OK = b"HTTP/1.1 200 OK\r\n"


def read(wire: bytes, step: int = 0, ends: bool = False) -> UpstreamResponse | str | None:
    """Feed ``wire`` whole, or ``step`` bytes at a time; return the response, what is bad about it, or None."""
    parser = ResponseParser()
    try:
        for start in range(0, len(wire), step or len(wire) or 1):
            response = parser.feed(wire[start : start + (step or len(wire))])
            if response is not None:
                return response
        return parser.end() if ends else None
    except BadResponse as error:
        return str(error)


def chunked(*chunks: bytes, trailers: bytes = b"", headers: bytes = b"") -> bytes:
    """Return a response in chunks."""
    body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return OK + headers + b"Transfer-Encoding: chunked\r\n\r\n" + body + b"0\r\n" + trailers + b"\r\n"


def sized(body: bytes, headers: bytes = b"", status: bytes = OK) -> bytes:
    """Return a response with a length."""
    return status + headers + b"Content-Length: %d\r\n\r\n" % len(body) + body


class ResponseTests(SynchronousTestCase):
    """Responses that are complete."""

    def assert_read(self, wire: bytes, response: UpstreamResponse, ends: bool = False) -> None:
        """Assert that ``wire`` is read as this, whole, byte by byte, and in two."""
        for step in (0, 1, 2, 3, len(wire) - 1):
            self.assertEqual(read(wire, step, ends), response, (wire, step))

    def test_length(self) -> None:
        """A length ends the body; it may be told more than once, in one field or in several (RFC 9112, section 6.3)."""
        self.assert_read(sized(b"body"), UpstreamResponse(200, b"body", None, True))
        self.assert_read(sized(b""), UpstreamResponse(200, b"", None, True))
        self.assert_read(sized(b"x", b"Content-Length: 1\r\n"), UpstreamResponse(200, b"x", None, True))
        for value in (b"2, 2", b"2,2 ,\t2", b"2\r\nContent-Length: 2, 2", b"2\r\n ", b"\r\n 2", b"0" * 100 + b"2"):
            wire = OK + b"Content-Length: %s\r\n\r\nab" % value
            self.assert_read(wire, UpstreamResponse(200, b"ab", None, True))

    def test_chunks(self) -> None:
        """The last chunk ends the body, with or without extensions and trailers."""
        self.assert_read(chunked(b"bo", b"dy\r\n0\r\n\r\n"), UpstreamResponse(200, b"body\r\n0\r\n\r\n", None, True))
        self.assert_read(chunked(), UpstreamResponse(200, b"", None, True))
        self.assert_read(chunked(b"a", trailers=b"X: y\r\nZ: 0\r\n"), UpstreamResponse(200, b"a", None, True))
        self.assert_read(chunked(b"a", trailers=b"X: y\r\n z\r\n"), UpstreamResponse(200, b"a", None, True))
        wire = OK + b"transfer-encoding:CHUNKED\r\n\r\n0001 ;x=y\r\na\r\n1;\r\nb\r\n000 \r\n\r\n"
        self.assert_read(wire, UpstreamResponse(200, b"ab", None, True))

    def test_long_chunk_sizes(self) -> None:
        """A chunk's size may have any number of zeros before it (RFC 9112, section 7.1)."""
        for zeros in (8, 16, 100, 5000):
            padding = b"0" * zeros
            wire = OK + b"Transfer-Encoding: chunked\r\n\r\n%s2\r\nab\r\n%s\r\n\r\n" % (padding, padding)
            self.assert_read(wire, UpstreamResponse(200, b"ab", None, True))

    def test_folded_headers(self) -> None:
        """A header may go on in the next line (RFC 9112, section 5.2), an interim response's too."""
        for folded in (b"X: a\r\n b\r\n", b"X: a\r\n\t\r\n  b\r\n", b"X:\r\n a\r\n", b"X: a\r\n b: c\r\n"):
            self.assert_read(sized(b"x", folded), UpstreamResponse(200, b"x", None, True))
            self.assert_read(
                b"HTTP/1.1 103 X\r\n%s\r\n" % folded + sized(b"x"), UpstreamResponse(200, b"x", None, True)
            )
        self.assert_read(sized(b"x", b"Retry-After:\r\n\t7\r\n \r\n"), UpstreamResponse(200, b"x", "7", True))
        date = b"Retry-After: Fri, 15 Jan 2027\r\n   08:00:30 GMT\r\n"
        self.assert_read(sized(b"x", date), UpstreamResponse(200, b"x", "Fri, 15 Jan 2027 08:00:30 GMT", True))
        self.assert_read(sized(b"x", b"Connection: a,\r\n close\r\n"), UpstreamResponse(200, b"x", None, False))

    def test_compressed(self) -> None:
        """We ask for no content coding, but gzip and deflate are decoded all the same, however the body is framed."""
        gzipped, deflated = gzip.compress(b"body"), zlib.compress(b"body")
        for coding, body in (
            (b"gzip", gzipped),
            (b"GZIP", gzipped),
            (b"x-gzip", gzipped),
            (b"identity, gzip", gzipped),
            (b"gzip,", gzipped),
            (b"deflate", deflated),
        ):
            headers = b"Content-Encoding: %s\r\n" % coding
            self.assert_read(sized(body, headers), UpstreamResponse(200, b"body", None, True))
            self.assert_read(chunked(body, headers=headers), UpstreamResponse(200, b"body", None, True))
            self.assert_read(OK + headers + b"\r\n" + body, UpstreamResponse(200, b"body", None, False), ends=True)
        for body in (b"", bytes(MAX_RESPONSE)):
            wire = sized(gzip.compress(body), b"Content-Encoding: gzip\r\n")
            self.assert_read(wire, UpstreamResponse(200, body, None, True))

    def test_not_decoded(self) -> None:
        """A body that can't be decoded within the limit, or is in another coding, stays as it is: its status counts."""
        whole = gzip.compress(b"body")
        for coding, body in (
            (b"gzip", b"body"),
            (b"gzip", b""),
            (b"gzip", whole[:-1]),
            (b"gzip", whole + b"x"),
            (b"gzip", whole[:-8] + bytes(8)),
            (b"gzip", gzip.compress(bytes(MAX_RESPONSE + 1))),
            (b"gzip", gzip.compress(bytes(20_000_000))),
            (b"gzip, gzip", gzip.compress(whole)),
            (b"deflate", zlib.compress(bytes(20_000_000))),
            (b"br", b"body"),
            (b"identity", b"body"),
        ):
            wire = sized(body, b"Content-Encoding: %s\r\n" % coding, b"HTTP/1.1 503 Busy\r\n")
            self.assertEqual(read(wire), UpstreamResponse(503, body, None, True))

    def test_end_of_connection(self) -> None:
        """Without a length or chunks, the end of the connection ends the body."""
        wire = b"HTTP/1.0 200\r\nX: y\r\n\r\nbody\r\n\r\n"
        self.assertIsNone(read(wire))
        self.assert_read(wire, UpstreamResponse(200, b"body\r\n\r\n", None, False), ends=True)
        self.assert_read(OK + b"\r\n", UpstreamResponse(200, b"", None, False), ends=True)

    def test_no_body(self) -> None:
        """204 and 304 have no body, whatever they say."""
        for code in (204, 304):
            for headers in (b"", b"Content-Length: 99999999\r\n", b"Transfer-Encoding: chunked\r\n"):
                self.assert_read(b"HTTP/1.1 %d X\r\n%s\r\n" % (code, headers), UpstreamResponse(code, b"", None, True))

    def test_interim(self) -> None:
        """Interim responses are skipped, however many, and their headers don't count."""
        wire = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nRetry-After: 9\r\nContent-Length: 7\r\n\r\n"
        self.assert_read(wire + sized(b"body"), UpstreamResponse(200, b"body", None, True))
        self.assertIsNone(read(wire))
        many = b"HTTP/1.1 100\r\n\r\n" * 3000
        self.assertEqual(read(many + sized(b"body")), UpstreamResponse(200, b"body", None, True))

    def test_status(self) -> None:
        """Any status code is read, with or without a reason phrase."""
        for line, code in (
            (b"HTTP/1.1 200", 200),
            (b"HTTP/1.1 503 ", 503),
            (b"HTTP/1.1 999 Not \xe9\t~", 999),
            (b"HTTP/1.1 404 Not Found", 404),
        ):
            self.assert_read(sized(b"x", status=line + b"\r\n"), UpstreamResponse(code, b"x", None, True))

    def test_retry_after(self) -> None:
        """The value of the first Retry-After, trimmed."""
        headers = b"X: y\r\nRETRY-AFTER: \t 7 \t\r\nRetry-After: 8\r\n"
        self.assert_read(sized(b"", headers), UpstreamResponse(200, b"", "7", True))
        self.assert_read(sized(b"", b"Retry-After:\xff\r\n"), UpstreamResponse(200, b"", "\xff", True))
        self.assert_read(chunked(headers=b"Retry-After:\r\n"), UpstreamResponse(200, b"", "", True))

    def test_location(self) -> None:
        """The value of the first Location, trimmed."""
        headers = b"LOCATION: \t /\xff \t\r\nLocation: /b\r\n"
        self.assert_read(sized(b"", headers), UpstreamResponse(200, b"", None, True, "/\xff"))

    def test_keep_alive(self) -> None:
        """The connection is kept unless the server says otherwise, is of HTTP/1.0, or sends more than its response."""
        for wire, kept in (
            (sized(b"x"), True),
            (sized(b"x", b"Connection: keep-alive\r\n"), True),
            (sized(b"x", b"Connection: Close\r\n"), False),
            (sized(b"x", b"Connection: foo\r\nConnection: bar, close\r\n"), False),
            (sized(b"x", b"Connection: closed-loop\r\n"), True),
            (sized(b"x", status=b"HTTP/1.0 200 OK\r\n"), False),
            (sized(b"x") + b"y", False),
            (chunked(b"x"), True),
            (chunked(b"x", headers=b"Connection: close\r\n"), False),
            (chunked(b"x") + b"y", False),
        ):
            self.assertEqual(read(wire), UpstreamResponse(200, b"x", None, kept), wire)

    @checked
    @given(st.lists(st.binary(min_size=1, max_size=50), max_size=5), st.integers(1, 60))
    def test_any_body(self, chunks: list[bytes], step: int) -> None:
        """A body may contain any bytes."""
        body = b"".join(chunks)
        for wire in (chunked(*chunks), sized(body)):
            self.assertEqual(read(wire, step), UpstreamResponse(200, body, None, True))


class BadResponseTests(SynchronousTestCase):
    """Bytes that are no response."""

    def assert_bad(self, wire: bytes, reason: str, ends: bool = False) -> None:
        for step in (0, 1, 7):
            self.assertEqual(read(wire, step, ends), reason, wire[:80])

    def test_status_line(self) -> None:
        """The first line is that of HTTP/1.0 or HTTP/1.1."""
        for line in (
            b"",
            b"HTTP/2 200 OK",
            b"HTTP/1.2 200 OK",
            b"http/1.1 200 OK",
            b"HTTP/1.1 20 OK",
            b"HTTP/1.1 2000 OK",
            b"HTTP/1.1 000 OK",
            b"HTTP/1.1  200 OK",
            b"HTTP/1.1 200\tOK",
            b"HTTP/1.1 200 O\0K",
            b"SSH-2.0-OpenSSH_9.2",
            b" HTTP/1.1 200 OK",
            b"HTTP/1.1 200 OK\nX: y",
        ):
            self.assert_bad(line + b"\r\nContent-Length: 0\r\n\r\n", "malformed status line")

    def test_headers(self) -> None:
        """No space before the colon, no line without one, no control characters; in trailers and interim ones, too."""
        for line in (
            b"X : y",
            b"X",
            b": y",
            b"X\0: y",
            b"X: \0",
            b"X: a\nY: b",
            b"X: a\rb",
            b"X: \x0b",
            b"X: a\r\n \0",
            b"\xe9: y",
        ):
            lines = b"A: b\r\n" + line + b"\r\nC: d\r\n"
            self.assert_bad(OK + lines + b"\r\n", "malformed header")
            self.assert_bad(b"HTTP/1.1 100 Continue\r\n" + lines + b"\r\n" + sized(b"x"), "malformed header")
            self.assert_bad(chunked(b"x", trailers=lines), "malformed header")
        self.assert_bad(OK + b" X: y\r\n\r\n", "malformed header")

    def test_switching_protocols(self) -> None:
        """A server may not change to another protocol unasked (RFC 9110, section 15.2.2)."""
        wire = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n" + sized(b"x")
        self.assert_bad(wire, "protocol switched unasked")

    def test_framing(self) -> None:
        """Where the body ends is told in one way, and plainly."""
        for headers in (
            b"Content-Length: 1\r\nContent-Length: 2\r\n",
            b"Content-Length: 1, 2\r\n",
            b"Content-Length: 1, \r\n",
            b"Content-Length: 1\r\nContent-Length: 1, 2\r\n",
            b"Content-Length: 1 1\r\n",
            b"Content-Length: +1\r\n",
            b"Content-Length: -1\r\n",
            b"Content-Length: 0x1\r\n",
            b"Content-Length:\r\n",
            b"Content-Length: \xb2\r\n",
            b"Content-Length: " + b"1" * 5000 + b"\r\n",
            b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
            b"Transfer-Encoding: gzip, chunked\r\n",
            b"Transfer-Encoding: xchunked\r\n",
            b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            b"Transfer-Encoding:\r\n",
        ):
            self.assert_bad(OK + headers + b"\r\n1\r\na\r\n0\r\n\r\n", "malformed framing")

    def test_chunks(self) -> None:
        """Chunks are as long as they say, in hexadecimal."""
        for body in (b"\r\n", b"x\r\n", b"0x1\r\na\r\n", b"-1\r\n", b"+1\r\na\r\n", b"1\r\nab\r\n", b"2\r\na\r\nb",
                     b" 1\r\na\r\n", b"1 x\r\na\r\n", b"1;\0\r\na\r\n", b";x\r\n"):  # fmt: skip
            self.assert_bad(OK + b"Transfer-Encoding: chunked\r\n\r\n" + body + b"zzzz", "malformed chunk")

    def test_too_large(self) -> None:
        """Head and body together have a limit, and a length beyond it needs no body."""
        head = len(sized(b"")) + 4  # five digits in place of one
        largest = bytes(MAX_RESPONSE - head)
        self.assertEqual(read(sized(largest)), UpstreamResponse(200, largest, None, True))
        self.assert_bad(sized(largest + b"x"), "response too large")
        self.assert_bad(OK + b"Content-Length: %d\r\n\r\n" % (MAX_RESPONSE + 1), "response too large")
        for size in (b"10001", b"111111111", b"f" * 1000):
            self.assert_bad(OK + b"Transfer-Encoding: chunked\r\n\r\n" + size + b"\r\n", "response too large")
        for wire in (
            OK + b"X: y\r\n" * 20_000,
            OK + b"X" * MAX_RESPONSE,
            OK + b"\r\n" + bytes(MAX_RESPONSE),
            OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 20_000,
            OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"0" * MAX_RESPONSE,
            OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: y\r\n" * 20_000,
            b"HTTP/1.1 100\r\n\r\n" * 5000,
        ):
            self.assertEqual(read(wire), "response too large", wire[:80])
            self.assertEqual(read(wire, 1000), "response too large", wire[:80])

    def test_cut_short(self) -> None:
        """The connection ended before the response was complete, wherever that is."""
        for wire in (sized(b"body"), chunked(b"bo", b"dy", trailers=b"X: y\r\n"), b"HTTP/1.1 100\r\n\r\n" + OK):
            for length in range(len(wire)):
                self.assertEqual(read(wire[:length], ends=True), "response cut short", wire[:length])

    @checked
    @given(st.binary(max_size=100), st.integers(0, 5), st.booleans(), st.sampled_from([b"", OK, OK + b"\r\n"]))
    def test_anything(self, junk: bytes, step: int, ends: bool, before: bytes) -> None:
        """Whatever comes, nothing but BadResponse is raised."""
        read(before + junk, step, ends)

    @checked
    @given(st.data())
    def test_damaged(self, data: st.DataObject) -> None:
        """The same holds for good responses with a few bytes changed; and the pieces don't change what is read."""
        wire = bytearray(data.draw(st.sampled_from([sized(b"body", b"Retry-After: 7\r\n"), chunked(b"bo", b"dy")])))
        for _ in range(data.draw(st.integers(1, 3))):
            wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.sampled_from(b"\r\n :;0159afAF\0\xff"))
        whole = read(bytes(wire), ends=True)
        if isinstance(whole, UpstreamResponse) and whole.keep_alive:
            self.assertEqual(read(bytes(wire), 1), whole)

"""One HTTP/1.1 answer, read strictly, in whatever pieces it comes."""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from merlind.upstream.response_parser import MAX_RESPONSE, BadResponse, ResponseParser, UpstreamResponse

checked = settings(max_examples=150, deadline=None, derandomize=True, database=None)

OK = b"HTTP/1.1 200 OK\r\n"


def read(wire: bytes, step: int = 0, ends: bool = False) -> UpstreamResponse | str | None:
    """What ``wire``, fed whole or ``step`` bytes at a time, is read as: an answer, what is bad about it, or nothing."""
    parser = ResponseParser()
    try:
        for start in range(0, len(wire), step or len(wire) or 1):
            answer = parser.feed(wire[start : start + (step or len(wire))])
            if answer is not None:
                return answer
        return parser.end() if ends else None
    except BadResponse as error:
        return str(error)


def chunked(*chunks: bytes, trailers: bytes = b"", headers: bytes = b"") -> bytes:
    """An answer of chunks."""
    body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return OK + headers + b"Transfer-Encoding: chunked\r\n\r\n" + body + b"0\r\n" + trailers + b"\r\n"


def sized(body: bytes, headers: bytes = b"", status: bytes = OK) -> bytes:
    """An answer of a length."""
    return status + headers + b"Content-Length: %d\r\n\r\n" % len(body) + body


class AnswerTests(SynchronousTestCase):
    """Answers that are whole."""

    def assert_read(self, wire: bytes, answer: UpstreamResponse, ends: bool = False) -> None:
        """It is read as this, whole, byte by byte, and in two."""
        for step in (0, 1, 2, 3, len(wire) - 1):
            self.assertEqual(read(wire, step, ends), answer, (wire, step))

    def test_length(self) -> None:
        """A length ends the body."""
        self.assert_read(sized(b"body"), UpstreamResponse(200, b"body", None, True))
        self.assert_read(sized(b""), UpstreamResponse(200, b"", None, True))
        self.assert_read(sized(b"x", b"Content-Length: 1\r\n"), UpstreamResponse(200, b"x", None, True))

    def test_chunks(self) -> None:
        """So does the last chunk, extensions and trailers or not."""
        self.assert_read(chunked(b"bo", b"dy\r\n0\r\n\r\n"), UpstreamResponse(200, b"body\r\n0\r\n\r\n", None, True))
        self.assert_read(chunked(), UpstreamResponse(200, b"", None, True))
        self.assert_read(chunked(b"a", trailers=b"X: y\r\nZ: 0\r\n"), UpstreamResponse(200, b"a", None, True))
        wire = OK + b"transfer-encoding:CHUNKED\r\n\r\n0001 ;x=y\r\na\r\n1;\r\nb\r\n000 \r\n\r\n"
        self.assert_read(wire, UpstreamResponse(200, b"ab", None, True))

    def test_end_of_connection(self) -> None:
        """Without either, the end of the connection does."""
        wire = b"HTTP/1.0 200\r\nX: y\r\n\r\nbody\r\n\r\n"
        self.assertIsNone(read(wire))
        self.assert_read(wire, UpstreamResponse(200, b"body\r\n\r\n", None, False), ends=True)
        self.assert_read(OK + b"\r\n", UpstreamResponse(200, b"", None, False), ends=True)

    def test_no_body(self) -> None:
        """204 and 304 have none, whatever they say."""
        for code in (204, 304):
            for headers in (b"", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"):
                self.assert_read(b"HTTP/1.1 %d X\r\n%s\r\n" % (code, headers), UpstreamResponse(code, b"", None, True))

    def test_interim(self) -> None:
        """Interim answers are skipped, however many, and their headers don't count."""
        wire = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nRetry-After: 9\r\nContent-Length: 7\r\n\r\n"
        self.assert_read(wire + sized(b"body"), UpstreamResponse(200, b"body", None, True))
        self.assertIsNone(read(wire))
        many = b"HTTP/1.1 100\r\n\r\n" * 3000
        self.assertEqual(read(many + sized(b"body")), UpstreamResponse(200, b"body", None, True))

    def test_status(self) -> None:
        """Any code, and any words for it or none."""
        for line, code in (
            (b"HTTP/1.1 200", 200),
            (b"HTTP/1.1 503 ", 503),
            (b"HTTP/1.1 999 Not \xe9\t~", 999),
            (b"HTTP/1.1 404 Not Found", 404),
        ):
            self.assert_read(sized(b"x", status=line + b"\r\n"), UpstreamResponse(code, b"x", None, True))

    def test_retry_after(self) -> None:
        """The first one, trimmed."""
        headers = b"X: y\r\nRETRY-AFTER: \t 7 \t\r\nRetry-After: 8\r\n"
        self.assert_read(sized(b"", headers), UpstreamResponse(200, b"", "7", True))
        self.assert_read(sized(b"", b"Retry-After:\xff\r\n"), UpstreamResponse(200, b"", "\xff", True))
        self.assert_read(chunked(headers=b"Retry-After:\r\n"), UpstreamResponse(200, b"", "", True))

    def test_keep_alive(self) -> None:
        """The connection may be used again unless it says otherwise, is old, or went on unasked."""
        for wire, kept in (
            (sized(b"x"), True),
            (sized(b"x", b"Connection: keep-alive\r\n"), True),
            (sized(b"x", b"Connection: Close\r\n"), False),
            (sized(b"x", b"Connection: foo\r\nConnection: bar, close\r\n"), False),
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
        """Bytes are bytes."""
        body = b"".join(chunks)
        for wire in (chunked(*chunks), sized(body)):
            self.assertEqual(read(wire, step), UpstreamResponse(200, body, None, True))


class BadAnswerTests(SynchronousTestCase):
    """Answers that aren't."""

    def assert_bad(self, wire: bytes, reason: str, ends: bool = False) -> None:
        for step in (0, 1, 7):
            self.assertEqual(read(wire, step, ends), reason, wire[:80])

    def test_status_line(self) -> None:
        """The first line is HTTP/1."""
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
        """No folding, no spaces before the colon, no line without one, no NUL."""
        for line in (
            b" folded",
            b"X : y",
            b"X",
            b": y",
            b"",
            b"X\0: y",
            b"X: \0",
            b"X: a\nY: b",
            b"X: a\rb",
            b"\xe9: y",
        ):
            wire = OK + b"A: b\r\n" + line + b"\r\nC: d\r\n\r\n"
            if line == b"":
                continue  # the end of the headers
            self.assert_bad(wire, "malformed header")

    def test_framing(self) -> None:
        """Where the body ends is told once, and plainly."""
        for headers in (
            b"Content-Length: 1\r\nContent-Length: 2\r\n",
            b"Content-Length: 1, 1\r\n",
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
                     b"111111111\r\n", b" 1\r\na\r\n", b"1 x\r\na\r\n", b"1;\0\r\na\r\n"):  # fmt: skip
            self.assert_bad(OK + b"Transfer-Encoding: chunked\r\n\r\n" + body + b"zzzz", "malformed chunk")

    def test_too_large(self) -> None:
        """Head and body together have a bound, and a length past it needs no body."""
        head = len(sized(b"")) + 4  # five digits in place of one
        largest = bytes(MAX_RESPONSE - head)
        self.assertEqual(read(sized(largest)), UpstreamResponse(200, largest, None, True))
        self.assert_bad(sized(largest + b"x"), "answer too large")
        self.assert_bad(OK + b"Content-Length: %d\r\n\r\n" % (MAX_RESPONSE + 1), "answer too large")
        for wire in (
            OK + b"X: y\r\n" * 20_000,
            OK + b"X" * MAX_RESPONSE,
            OK + b"\r\n" + bytes(MAX_RESPONSE),
            OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 20_000,
            OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"0" * MAX_RESPONSE,
            OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: y\r\n" * 20_000,
            b"HTTP/1.1 100\r\n\r\n" * 5000,
        ):
            self.assertEqual(read(wire), "answer too large", wire[:80])
            self.assertEqual(read(wire, 1000), "answer too large", wire[:80])

    def test_cut_short(self) -> None:
        """An end of the connection before the end of the answer, wherever it is."""
        for wire in (sized(b"body"), chunked(b"bo", b"dy", trailers=b"X: y\r\n"), b"HTTP/1.1 100\r\n\r\n" + OK):
            for length in range(len(wire)):
                self.assertEqual(read(wire[:length], ends=True), "answer cut short", wire[:length])

    @checked
    @given(st.binary(max_size=100), st.integers(0, 5), st.booleans(), st.sampled_from([b"", OK, OK + b"\r\n"]))
    def test_anything(self, junk: bytes, step: int, ends: bool, before: bytes) -> None:
        """Whatever comes, nothing but BadAnswer is raised."""
        read(before + junk, step, ends)

    @checked
    @given(st.data())
    def test_damaged(self, data: st.DataObject) -> None:
        """So with good answers in which a few bytes are others; and pieces don't change what is read."""
        wire = bytearray(data.draw(st.sampled_from([sized(b"body", b"Retry-After: 7\r\n"), chunked(b"bo", b"dy")])))
        for _ in range(data.draw(st.integers(1, 3))):
            wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.sampled_from(b"\r\n :;0159afAF\0\xff"))
        whole = read(bytes(wire), ends=True)
        if isinstance(whole, UpstreamResponse) and whole.keep_alive:
            self.assertEqual(read(bytes(wire), 1), whole)

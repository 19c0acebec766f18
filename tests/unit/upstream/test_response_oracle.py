"""Our parser of responses against h11's: what ours accepts, h11 accepts too, and both read the same.

Where they differ on purpose, ours is the stricter one. It refuses, and h11 accepts:

- a bare LF as the end of a line, which a recipient may accept but no server may send (RFC 9112, section 2.2);
- control characters, which field values, reason phrases and chunk extensions must not have (RFC 9110, section 5.5);
- other versions than 1.0 and 1.1, and status codes below 100;
- a length beside chunks: h11 ignores the length, the RFC advises to treat it as an error (RFC 9112, section 6.3);
- anything beyond MAX_RESPONSE.

In three things ours is the more generous one, because the RFC is:

- white space between a chunk's size and an extension (RFC 9112, section 7.1.1);
- a length or a chunk's size of more than 20 digits, as long as they are zeros;
- a nonsensical length or coding among the trailers: trailers are checked for their form, and ignored.
"""

import re
from itertools import pairwise

import h11
from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from merlind.upstream.response_parser import BadResponse, ResponseParser, UpstreamResponse

checked = settings(max_examples=200, deadline=None, derandomize=True, database=None)

Response = tuple[int, bytes, str | None]
"""What both parsers read: status, body, Retry-After."""

MORE_GENEROUS = re.compile(rb"[0-9A-Fa-f][ \t]+;|[0-9A-Fa-f]{21}")
"""What our parser accepts and h11 doesn't, for a reason given above."""


def ours(wire: bytes, cuts: list[int]) -> UpstreamResponse | None:
    """Read ``wire``, cut at these places and followed by the connection's end; None if it is refused."""
    parser = ResponseParser()
    places = [0, *sorted(cut % (len(wire) + 1) for cut in cuts), len(wire)]
    try:
        for start, end in pairwise(places):
            if (response := parser.feed(wire[start:end])) is not None:
                return response
        return parser.end()
    except BadResponse:
        return None


def theirs(wire: bytes) -> tuple[Response, bool] | None:
    """Read ``wire`` with h11; what it is, and whether the connection may be used again. None if it is refused."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    connection.send(h11.Request(method="POST", target="/", headers=[("Host", "h"), ("Content-Length", "0")]))
    connection.send(h11.EndOfMessage())
    status, body, retry_after = 0, b"", None
    connection.receive_data(wire)
    ended = False
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError:
            return None
        match event:
            case h11.NEED_DATA if not ended:
                ended = True
                connection.receive_data(b"")
            case h11.Response():
                status = event.status_code
                values = [value for name, value in event.headers if name == b"retry-after"]
                retry_after = values[0].decode("latin-1") if values else None
            case h11.Data():
                body += event.data
            case h11.EndOfMessage():
                kept = not ended and connection.their_state is h11.DONE and not connection.trailing_data[0]
                return (status, body, retry_after), kept
            case h11.InformationalResponse():
                continue
            case _:
                return None


bodies = st.binary(max_size=60)
text = st.text(alphabet='aZ09,;="\\ \t\xe9\xff', max_size=12).map(lambda value: value.encode("latin-1"))
names = st.sampled_from([b"X", b"Server", b"x!#$%&'*+.^_`|~-9", b"Retry-After", b"RETRY-AFTER"])
colons = st.sampled_from([b":", b": ", b":\t "])
folds = st.sampled_from([b"", b"", b"\r\n ", b"\r\n\t\r\n  "])
fields = st.builds(lambda *parts: b"".join(parts) + b"\r\n", names, colons, text, folds, text)
headers = st.lists(fields, max_size=3).map(b"".join)
connections = st.sampled_from([b"", b"", b"Connection: keep-alive\r\n", b"Connection: x, Close\r\n"])
interim = st.builds(
    lambda code, fields: b"HTTP/1.1 %d X\r\n%s\r\n" % (code, fields), st.sampled_from([100, 103]), headers
)
status_lines = st.builds(
    lambda version, code, reason: b"HTTP/1.%d %d%s\r\n" % (version, code, reason),
    st.sampled_from([1, 1, 1, 0]),
    st.sampled_from([200, 202, 204, 302, 304, 404, 429, 503, 999]),
    st.sampled_from([b" OK", b" ", b"", b" Not \xe9\t~"]),
)


@st.composite
def sized(draw: st.DrawFn) -> bytes:
    """The rest of a response with a length, told in one of the ways that are allowed."""
    body = draw(bodies)
    told = draw(st.sampled_from([b"%d", b"%d, %d", b"00%d", b" %d\r\nContent-Length: %d", b"\r\n %d"]))
    lengths = (len(body),) * told.count(b"%d")
    return b"Content-Length: " + told % lengths + b"\r\n\r\n" + body


@st.composite
def chunked(draw: st.DrawFn) -> bytes:
    """The rest of a response in chunks."""
    size = draw(st.sampled_from([b"%x", b"%X", b"0000%x", b"%016x"]))
    extension = draw(st.sampled_from([b"", b"", b";", b";a=b", b';a="b c";d', b"  "]))
    chunks = draw(st.lists(st.binary(min_size=1, max_size=20), max_size=4))
    body = b"".join(size % len(chunk) + extension + b"\r\n" + chunk + b"\r\n" for chunk in chunks)
    last = size % 0 + extension + b"\r\n" + draw(headers) + b"\r\n"
    return b"Transfer-Encoding: " + draw(st.sampled_from([b"chunked", b"CHUNKED \t"])) + b"\r\n\r\n" + body + last


undelimited = bodies.map(lambda body: b"\r\n" + body)
responses = st.builds(
    lambda *parts: b"".join(parts),
    st.lists(interim, max_size=2).map(b"".join),
    status_lines,
    headers,
    connections,
    sized() | chunked() | undelimited,
)
cuttings = st.lists(st.integers(0, 10_000), max_size=6)
PIECES = [
    b"\r",
    b"\n",
    b"\r\n",
    b"\r\n\r\n",
    b" ",
    b"\t",
    b":",
    b";",
    b",",
    b"0",
    b"1",
    b"f",
    b"g",
    b"\0",
    b"\x0b",
    b"\xff",
]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A response in which a few bytes were replaced, dropped or put in."""
    wire = draw(responses)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(wire)))
        wire = wire[:place] + draw(st.sampled_from([b"", *PIECES])) + wire[place + draw(st.integers(0, 2)) :]
    return wire


class OracleTests(SynchronousTestCase):
    """Both parsers on the same bytes."""

    @checked
    @given(responses, cuttings)
    def test_valid(self, wire: bytes, cuts: list[int]) -> None:
        """What a server may send is accepted by both, and read as the same."""
        expected = theirs(wire)
        self.assertIsNotNone(expected, wire)
        self.assert_agree(wire, cuts)

    @checked
    @given(damaged() | st.binary(max_size=80), cuttings)
    @example(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", [])
    @example(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nab", [])
    @example(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n", [])
    @example(b"HTTP/1.1 101 X\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", [])
    def test_damaged(self, wire: bytes, cuts: list[int]) -> None:
        """What h11 refuses is refused, and what is accepted is read as the same."""
        if MORE_GENEROUS.search(wire) is None:
            self.assert_agree(wire, cuts, accepted=False)

    def assert_agree(self, wire: bytes, cuts: list[int], accepted: bool = True) -> None:
        response, expected = ours(wire, []), theirs(wire)
        if response is None:
            self.assertFalse(accepted, wire)
            self.assertIsNone(ours(wire, cuts), wire)
            return
        read = (response.status, response.body, response.retry_after)
        self.assertEqual((read, response.keep_alive), expected, wire)
        # What is left to read after a response is seen only if it comes with it: keep_alive may depend on the cuts.
        in_pieces = ours(wire, cuts)
        assert in_pieces is not None, wire
        self.assertEqual((in_pieces.status, in_pieces.body, in_pieces.retry_after), read, wire)

    def test_more_generous(self) -> None:
        """The differences in which ours is the more generous one are real."""
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        for wire in (
            head + b"1 ;a=b\r\nx\r\n0\r\n\r\n",
            head + b"0" * 20 + b"1\r\nx\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: " + b"0" * 20 + b"1\r\n\r\nx",
        ):
            self.assertIsNone(theirs(wire))
            self.assertEqual(ours(wire, []), UpstreamResponse(200, b"x", None, True))
            self.assertIsNotNone(MORE_GENEROUS.search(wire))

    def test_stricter(self) -> None:
        """The differences in which ours is the stricter one are real."""
        for wire in (
            b"HTTP/1.1 200 OK\nContent-Length: 1\n\nx",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nX: \x01\r\n\r\nx",
            b"HTTP/1.2 200 OK\r\nContent-Length: 1\r\n\r\nx",
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
        ):
            self.assertEqual(theirs(wire), ((200, b"x", None), True))
            self.assertIsNone(ours(wire, []))

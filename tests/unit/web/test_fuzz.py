"""Bytes that are nearly HTTP: whatever comes in, no exception escapes, nothing is logged as an error, nothing stays."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from merlind.web.server.phase import HEADER_TIMEOUT
from tests.unit.support import JPEG
from tests.unit.web.support import BOUNDARY, EdgeCase, checked, chunked, form, get, message, photo_of, post

STATUSES = {100, 200, 202, 204, 400, 404, 405, 408, 411, 413, 414, 415, 422, 431, 501, 503}
"""The statuses that a client can cause; 500 is not among them."""

REQUESTS = [
    get(1),
    get(1, "HEAD"),
    get(7, Prefer="wait=1"),
    get(9, "DELETE"),
    get(5, Connection="close"),
    message("OPTIONS", "*"),
    message("GET", "/", Accept="text/html"),
    message("GET", "http://a/?task_id=1", Transfer_Encoding="identity"),
    message("PUT", "/x/%ff", b"ignored"),
    message("DELETE", "/?task_id=2", Transfer_Encoding="chunked") + chunked(b"ignored", 3),
    post(),
    post(form(photo=photo_of(300)), Expect="100-continue"),
    post(b"", Transfer_Encoding="chunked") + chunked(form()),
    post(form("x" * 300), Prefer="wait=1"),
    post().replace(b"HTTP/1.1", b"HTTP/1.0"),
]
"""Requests that are accepted, or refused for a reason."""

PIECES = [
    b"\r",
    b"\n",
    b"\r\n",
    b"\r\n\r\n",
    b" ",
    b"\t",
    b"\0",
    b":",
    b";",
    b"%",
    b'"',
    b"\xff",
    b"\xb0",
    b"/",
    b"//",
    b"http://",
    b"0\r\n\r\n",
    b"ffffffffffffffff\r\n",
    b"HTTP/1.0",
    b"Host: b\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: 99999999999999999999\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Expect: 100-continue\r\n",
    b"Prefer: wait=1\r\n",
    b"Content-Type: multipart/form-data\r\n",
    b"\r\n--" + BOUNDARY,
    b"--",
    b"HEAD ",
    b"post ",
    b"9" * 5000,
    b"y" * 17000,
    JPEG,
]
"""What is inserted in the wrong place."""


@st.composite
def streams(draw: st.DrawFn) -> list[bytes]:
    """Some requests, damaged or not, in pieces."""
    data = b"".join(draw(st.lists(st.sampled_from(REQUESTS), min_size=1, max_size=4)))
    for _ in range(draw(st.sampled_from((2, 1, 0, 3, 5)))):
        place, length = draw(st.integers(0, len(data))), draw(st.sampled_from([0, 1, 2, 8, 60, 600]))
        match draw(st.sampled_from(["insert", "replace", "repeat", "cut out", "cut off", "swap"])):
            case "insert":
                data = data[:place] + draw(st.sampled_from(PIECES)) + data[place:]
            case "replace":
                data = data[:place] + draw(st.binary(max_size=8)) + data[place + length :]
            case "repeat":
                data = data[: place + length] + data[place:]
            case "cut out":
                data = data[:place] + data[place + length :]
            case "cut off":
                data = data[:place]
            case "swap":
                data = data[place : place + length] + data[:place] + data[place + length :]
    marks = sorted({0, len(data), *draw(st.lists(st.integers(0, len(data)), max_size=6))})
    return [data[start:end] for start, end in itertools.pairwise(marks)]


class FuzzTests(EdgeCase):
    """The whole public listener."""

    @checked
    @given(streams(), st.sampled_from(["wait", "leave", "end", "drip"]))
    def test_any_stream(self, pieces: list[bytes], ending: str) -> None:
        """Every status is a known one, and the connection ends with no upload, no long poll and no timer left."""
        timers = len(self.reactor.getDelayedCalls())
        client = self.connect()
        if ending == "drip":
            client.drip(b"".join(pieces)[:2000])
        else:
            client.send(*pieces)
        if ending == "end":
            client.end_input()
        if ending != "leave":
            self.reactor.run_for(2 * HEADER_TIMEOUT + 2)
        client.leave()
        self.clients.remove(client)
        self.assertEqual(
            (self.core.intake.active_uploads, self.core.intake.active_bytes, self.core.results.waiting), (0, 0, 0)
        )
        self.assertEqual(self.site.connections, 0)
        self.assertLessEqual(len(self.reactor.getDelayedCalls()), timers + 1)  # the scheduler's own
        self.assertEqual(self.flushLoggedErrors(), [])
        for code in statuses(client.transport.value()):
            self.assertIn(code, STATUSES)


def statuses(data: bytes) -> list[int]:
    """The status of each response. A response without a body may belong to a HEAD."""
    codes = []
    while data:
        head, separator, data = data.partition(b"\r\n\r\n")
        assert separator and head.startswith(b"HTTP/1.1 "), head
        code = int(head[9:12])
        lengths = [line for line in head.split(b"\r\n") if line.startswith(b"Content-Length: ")]
        assert len(lengths) == (code not in (100, 204)), head
        if lengths and data and not data.startswith(b"HTTP/1.1 "):
            length = int(lengths[0].partition(b" ")[2])
            assert len(data) >= length, data
            data = data[length:]
        codes.append(code)
    return codes

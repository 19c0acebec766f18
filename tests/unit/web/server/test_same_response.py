"""What must make no difference to a response: how its request's bytes are cut, and which way the server takes.

Responses are compared byte for byte, but for their Date. Two readings of the same bytes are how requests get smuggled.
"""

import itertools
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from merlind.core.outcome import Rejected, Scored, TaskError
from tests.unit.support import JPEG
from tests.unit.web.support import (
    FORM_TYPE,
    Client,
    EdgeCase,
    LogLines,
    checked,
    chunked,
    form,
    get,
    message,
    post,
    without_date,
)

FIRST_TASK = 10**15
"""Tasks are numbered from here, so that no damage makes the number of a task out of another one."""

LONG = 100.0
"""Seconds after which every connection is closed, whatever came in: more than any deadline."""

GOOD_LINES = (
    b"GET /?task_id=5 HTTP/1.1", b"GET /?task_id=%d HTTP/1.1" % FIRST_TASK, b"HEAD /?task_id=%d HTTP/1.1" % FIRST_TASK,
    b"GET / HTTP/1.1", b"GET /?task_id=x HTTP/1.1", b"GET http://a/?task_id=5 HTTP/1.1", b"OPTIONS * HTTP/1.1",
    b"DELETE /?task_id=5 HTTP/1.1", b"PUT / HTTP/1.1", b"GET /else HTTP/1.1", b"GET /?task_id=5 HTTP/1.0",
)  # fmt: skip
BAD_LINES = (
    b"BREW / HTTP/1.1", b"get / HTTP/1.1", b"GETS / HTTP/1.1", b"G", b"GET", b"GET /", b"GET  / HTTP/1.1",
    b"GET / HTTP/2.0", b"GET / HTTP/0.9", b"GET x?task_id=5 HTTP/1.1", b"GET * HTTP/1.1", b"GET ?task_id=5 HTTP/1.1",
    b"GET /\x80 HTTP/1.1", b"GET /#f HTTP/1.1", b"GET http://u@a/ HTTP/1.1", b"CONNECT a:80 HTTP/1.1",
    b"PRI * HTTP/2.0", b"\x16\x03\x01", b"GET /" + b"a" * 17_000 + b" HTTP/1.1", b"M" * 15_000 + b" / HTTP/1.1",
    b"POST / RTSP/1.0", b"DESCRIBE / HTTP/1.1", b"", b"GET /?task_id=5 HTTP/1.1\n", b"GET /?task_id=5 HTTP/1.1\r",
    b" GET / HTTP/1.1",
)  # fmt: skip
GOOD_HEADERS = (
    b"X: y", b"X:", b"x: \t y \t", b"X: \xff", b"Accept: text/html", b"Accept: */*", b"Connection: keep-alive",
    b"Expect: 100-continue", b"Prefer: wait=1", b"prefer: foo", b"Cookie: a=b", b"Authorization: Basic YTpi",
    b"Upgrade: h2c", b"Connection: Upgrade\r\nUpgrade: h2c", b"X: " + b"y" * 5000, b"Content-Type: text/plain",
    b"Origin: http://b", b"Sec-Fetch-Site: cross-site",
)  # fmt: skip
BAD_HEADERS = (
    b"Connection: close", b"Host: b", b"X : y", b": y", b"no colon", b" folded", b"X: \0", b"X: a\nb", b"X: a\rb",
    b"X: \x01", b"X\x80: y", b"Transfer-Encoding: identity", b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: ,chunked", b"Content-Length: 5", b"Content-Length: +5", b"Content-Length: 99999999999",
    b"Content-Length: " + b"9" * 5000, b"Transfer-Encoding: chunked", b"X: " + b"y" * 17_000, b"X" * 300 + b": y",
    b"\r\n".join([b"a:"] * 120), b"Expect: tea",
)  # fmt: skip
GOOD_BODIES = (
    form("Bo"), form("Cy", JPEG * 9), b"a body", b"", b"GET /?task_id=5 HTTP/1.1\r\nHost: a\r\n\r\n", b"\r\n\r\n",
    b"x" * 5000,
)  # fmt: skip
BAD_CHUNKS = (
    b"0\r\nX: y\r\n\r\n", b"5;a=b\r\nhello\r\n0\r\n\r\n", b'5;a="b\r\nhello\r\n0\r\n\r\n', b"5\nhello\r\n0\r\n\r\n",
    b"-5\r\n", b"5\r\nhello0\r\n\r\n", b"0\r\nno colon\r\n\r\n", b"0\r\nX: a\nb\r\n\r\n", b"0\r\n folded\r\n\r\n",
    b"0\r\nContent-Length: 5\r\n\r\n", b"0\r\n" + b"X: y\r\n" * 2000, b"f" * 17 + b"\r\n",
    b"5;" + b"a" * 20_000 + b"\r\nhello\r\n0\r\n\r\n", b"1\r\nx\r\n" * 200 + b"0\r\n\r\n", b"10000\r\n", b"0\n\n",
    b"0\r\n\n",
)  # fmt: skip
BETWEEN = (b"\r\n", b"\r\n\r\n", b"\n", b"\0", b" ", b"0\r\n\r\n", b"junk")
TOKENS = (
    b"\r\n",
    b"\r",
    b"\n",
    b"\0",
    b" ",
    b":",
    b",",
    b"\xff",
    b"0\r\n\r\n",
    b"Host: b\r\n",
    b"Content-Length: 4\r\n",
    b"HTTP/1.0",
)
"""What is put in the wrong place."""

PLACES = st.floats(0, 1, exclude_max=True)


def mostly(good: tuple[bytes, ...], bad: tuple[bytes, ...]) -> st.SearchStrategy[bytes]:
    """A piece that is good in five cases of six: behind a bad one nothing is read."""
    return st.sampled_from(range(6)).flatmap(lambda one: st.sampled_from(good if one else bad))


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """A request, made of good and bad pieces."""
    lines = draw(st.lists(mostly(GOOD_HEADERS, BAD_HEADERS), max_size=3))
    body = b""
    match draw(st.sampled_from(("none", "none", "form", "form in chunks", "length", "chunks"))):
        case "none":
            line = draw(mostly(GOOD_LINES, BAD_LINES))
        case "form" | "length" as kind:
            line = b"POST / HTTP/1.1" if kind == "form" else draw(mostly(GOOD_LINES, BAD_LINES))
            body = draw(st.sampled_from(GOOD_BODIES[:2] if kind == "form" else GOOD_BODIES))
            lines += [b"Content-Type: " + FORM_TYPE.encode("ascii"), b"Content-Length: %d" % len(body)]
        case kind:
            line = b"POST / HTTP/1.1" if kind == "form in chunks" else draw(mostly(GOOD_LINES, BAD_LINES))
            lines += [b"Content-Type: " + FORM_TYPE.encode("ascii"), b"Transfer-Encoding: chunked"]
            good = st.builds(chunked, st.sampled_from(GOOD_BODIES), st.sampled_from((1, 7, 200)))
            body = draw(good if kind == "form in chunks" else good | st.sampled_from(BAD_CHUNKS))
    host = draw(st.sampled_from((b"Host: a",) * 9 + (b"Host: a b", b"X: no host")))
    return b"\r\n".join([line, *draw(st.permutations([host, *lines])), b"", body])


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Some requests one after the other, perhaps with something between them or in a wrong place, perhaps cut short."""
    data = b""
    for one in draw(st.lists(messages(), min_size=1, max_size=4)):
        data += draw(mostly((b"",), BETWEEN)) + one
    if draw(st.sampled_from((False, False, True))):
        place = int(draw(PLACES) * len(data))
        data = data[:place] + draw(st.sampled_from(TOKENS)) + data[place:]
    if draw(st.sampled_from((False, False, True))):
        data = data[: int(draw(PLACES) * len(data))]
    return data


def cut(data: bytes, places: list[float]) -> list[bytes]:
    """The stream in pieces; none is empty."""
    marks = sorted({0, len(data), *(int(place * len(data)) for place in places)})
    return [data[start:end] for start, end in itertools.pairwise(marks)]


@dataclass(frozen=True)
class Seen:
    """What a client sees of its connection."""

    responses: list[bytes]
    closed: bool
    half_closed: bool
    aborted: bool
    logged: list[str]


class SameResponseCase(EdgeCase):
    """A task that waits, one that is scored, one that failed, and one that doesn't exist."""

    def setUp(self) -> None:
        super().setUp()
        self.core.ids = itertools.count(FIRST_TASK).__next__
        self.tasks = [*(self.accepted(name) for name in ("Al", "Bo", "Cy")), 5]
        _, ready, failed = self.core.upstream.begun
        ready.respond(Scored(0.25))
        failed.respond(Rejected(TaskError("refused", "no face")))
        self.settle()
        self.lines = LogLines.of(self).lines

    def seen(self, *sent: list[bytes], seconds: float = LONG) -> Seen:
        """What comes back on a connection of its own, for pieces that are sent together, and some time later."""
        self.lines.clear()
        client = Client(self.site, self.settle)
        for pieces in sent:
            client.send(*pieces)
        self.reactor.run_for(seconds)
        transport = client.transport
        # What is logged of a new task is left out: the same request makes none the next time.
        logged = [line for line in self.lines if " ms" in line]
        seen = Seen(without_date(transport.value()), client.closed, transport.half_closed, client.aborted, logged)
        client.leave()
        return seen


class CutTests(SameResponseCase):
    """Streams of requests, good and bad."""

    def test_cut_anywhere(self) -> None:
        """The same bytes get the same responses, however they are cut, with and without time between the pieces."""
        codes: set[bytes] = set()

        @given(streams(), st.lists(PLACES, max_size=9))
        def check(data: bytes, places: list[float]) -> None:
            whole = self.seen(cut(data, []))
            pieces = cut(data, places)
            self.assertEqual(self.seen(pieces), whole, pieces)
            self.assertEqual(self.seen(*[[piece] for piece in pieces]), whole, pieces)
            if len(data) < 1000:
                self.assertEqual(self.seen([data[i : i + 1] for i in range(len(data))]), whole, data)
            codes.update(line[9:12] for line in whole.responses if line.startswith(b"HTTP/1.1 "))

        checked(check)()
        # The streams were worth it: most statuses occurred.
        self.assertLessEqual({b"%d" % code for code in (200, 202, 204, 400, 404, 405, 408, 431)}, codes)

    def test_cut_in_two(self) -> None:
        """A few streams, each cut in two at every place."""
        upgrade = {"Connection": "Upgrade", "Upgrade": "h2c"}
        chunks = message("PUT", "/", Transfer_Encoding="chunked")
        for data in (
            get(self.tasks[1]) + get(5) + message("OPTIONS", "/"),
            message("PUT", "/", get(5), **upgrade) + get(6),
            post(form("Bo"), Expect="100-continue") + get(6),
            post(b"", Content_Length="99999999999", Expect="100-continue") + get(6),
            post(form("Bo"), Host="a b") + get(6),
            chunks + b'5;a="b"\r\nhello\r\n0\r\nX: y\r\n\r\n\r\n' + get(5, Connection="close") + get(6),
            chunks + b"5\r\nhello\r\n0\r\nno colon\r\n\r\n" + get(5),
            get(5) + b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n" + get(6),
            get(5) + b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n" + get(6),
            get(5, Transfer_Encoding="identity") + get(6),
            b"GET x?task_id=5 HTTP/1.1\r\nHost: a\r\n\r\n" + get(6),
            b"\r\nGET /?task_id=5 HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n" + get(6),
            b"GET http://u@a/?task_id=5 HTTP/1.1\r\nHost: a\r\n\r\n" + get(6),
        ):
            whole = self.seen([data])
            for place in range(1, len(data)):
                self.assertEqual(self.seen([data[:place]], [data[place:]]), whole, data[place:])


class WayTests(SameResponseCase):
    """The fast path to a task's status, and the long way that a request with a preference takes."""

    LINES = (
        b"Host: b", b"Accept: */*", b"Accept: application/json", b"User-Agent: curl/8.5.0", b"X:", b"X: \xc3\xa9",
        b"X: a\tb ", b"Connection: keep-alive", b"Connection: close", b"connection: TE, Close", b"Content-Length: 0",
        b"Content-Length: 00", b"Content-Length: 2", b"Content-Length: +2", b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: identity", b"Expect: 100-continue", b"Expect: tea", b"Upgrade: h2c",
        b"Connection: Upgrade\r\nUpgrade: h2c", b" folded", b"no colon", b"X : y", b"X: \0", b"X: \x7f",
        b"Content-Type: text/plain", b"Range: bytes=0-1", b"If-None-Match: *", b"TE: trailers", b"A/B: c",
        b"X: " + b"y" * 9000, b"Y: " + b"y" * 9000, b"X" * 300 + b": y", b"X-HTTP-Method-Override: DELETE",
    )  # fmt: skip
    TARGETS = (
        b"/?task_id=%d", b"/?task_id=0%d", b"/?task_id=%d&x", b"/?x&task_id=%d", b"/?task_id=%d;", b"/?task_id=%d ",
        b"//?task_id=%d", b"http://a/?task_id=%d", b"http://a?task_id=%d", b"/?task%%5fid=%d", b"/?task_id=%d#f",
        b"/?task_id=%d%%20", b"x?task_id=%d", b"?task_id=%d", b"/?task_id=+%d", b"/?task_id=%d&task_id=5",
        b"/?task_id=-%d", b"/?TASK_ID=%d", b"/?task_id=%d\x80",
    )  # fmt: skip
    NO_OPS = (
        b"Prefer: foo",
        b"prefer: return=minimal",
        b"Prefer:",
        b"Cookie: a=b",
        b"Authorization: Basic YTpi",
        b"Accept: text/*",
    )
    """Headers that make no difference to a response, and for which the server must look closer."""

    def test_both_ways(self) -> None:
        """The responses are the same, and so is what is logged and whether the connection stays open."""
        codes: set[bytes] = set()

        def check(target: bytes, task: int, lines: list[bytes], no_op: bytes, version: bytes, end: bytes) -> None:
            opening = [b"GET " + target % task + b" HTTP/" + version, b"Host: localhost"]
            plain = self.seen([b"\r\n".join([*opening, *lines, b"", end])], [get(6)], seconds=1)
            looked_at = self.seen([b"\r\n".join([*opening, *lines, no_op, b"", end])], [get(6)], seconds=1)
            self.assertEqual(looked_at, plain, (opening, lines, no_op))
            codes.update(line[9:12] for line in plain.responses if line.startswith(b"HTTP/1.1 "))

        for no_op in self.NO_OPS:
            for task in self.tasks:
                for line in self.LINES:
                    check(self.TARGETS[0], task, [line], no_op, b"1.1", b"")
                for target in self.TARGETS:
                    check(target, task, [], no_op, b"1.1", b"")
        some_lines = st.lists(st.sampled_from(self.LINES[1:]), max_size=4)
        versions = st.sampled_from((b"1.1",) * 5 + (b"1.0", b"2.0"))
        ends = st.sampled_from((b"", b"", b"", b"\r\n", b"more", get(self.tasks[2]), b"0\r\n\r\n"))
        targets = st.sampled_from(self.TARGETS[:1] * 9 + self.TARGETS)
        drawn = given(targets, st.sampled_from(self.tasks), some_lines, st.sampled_from(self.NO_OPS), versions, ends)
        checked(drawn(check))()
        self.assertLessEqual({b"200", b"202", b"400", b"404"}, codes)

    def test_whole_and_in_pieces(self) -> None:
        """A status request alone, in two pieces, and behind another one gets the same response each way."""
        for task, lines in itertools.product(self.tasks, ([], [b"Prefer: foo"], [b"Connection: close"], [b"X : y"])):
            data = b"\r\n".join([b"GET /?task_id=%d HTTP/1.1" % task, b"Host: a", *lines, b"", b""])
            whole = self.seen([data], seconds=1)
            for place in (1, 20, len(data) - 1):
                self.assertEqual(self.seen([data[:place]], [data[place:]], seconds=1), whole)
            first = self.seen([get(6)], seconds=1)
            behind = self.seen([get(6) + data], seconds=1)
            # Each response ends with its body, behind which the next one's first line comes.
            self.assertEqual(
                b"\r\n".join(behind.responses), b"\r\n".join(first.responses) + b"\r\n".join(whole.responses)
            )

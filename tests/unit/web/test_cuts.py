"""Streams that were requests until they were bent: nothing escapes, and whatever is answered is HTTP.

How a stream is cut up on its way must not matter either: two readings of the same bytes are how requests get smuggled.
"""

import itertools
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from merlind.tasks.intake import Limits
from tests.unit.support import JPEG
from tests.unit.web.support import Client, EdgeCase, checked, chunked, form, get, message, post

FIRST_TASK = 10**15
"""Tasks are counted from here, so that no bent number meets one but by a splice."""

LINGERING = 200.0
"""Seconds by which every connection is over, whatever came in on it: more than any deadline."""

STATUSES = {100, 200, 202, 204, 400, 404, 405, 408, 411, 413, 414, 415, 422, 431}
"""What a client can bring about. Not 500 and 503: those are ours."""

SEEDS = (
    get(5),
    get(FIRST_TASK),
    get(FIRST_TASK, Prefer="wait=1"),
    get(5, "HEAD"),
    get(5, Connection="close"),
    message("GET", "/", Accept="text/html"),
    message("GET", "http://localhost:8000/?task_id=5"),
    message("DELETE", "/?task_id=5"),
    message("OPTIONS", "/"),
    message("PUT", "/", b"a body"),
    message("GET", "/%C3%A9lse"),
    message("GET", "/?task_id=5").replace(b"HTTP/1.1", b"HTTP/1.0"),
    post(form("Bo")),
    post(form("Bo"), Expect="100-continue"),
    post(b"", Transfer_Encoding="chunked") + chunked(form("Bo")),
    post(form("Cy", JPEG * 9), Connection="close"),
)
"""Requests that are right."""

TOKENS = (
    b"\r\n", b"\r", b"\n", b"\0", b" ", b"\t", b":", b",", b"\xff", b"%FF", b"--", b"0\r\n\r\n", b"Host: b\r\n",
    b"Content-Length: 4\r\n", b"Content-Length: 99999999999\r\n", b"Content-Length: " + b"9" * 5000 + b"\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip\r\n", b"Connection: close\r\n",
    b"Expect: 100-continue\r\n", b"X: " + b"y" * 17000 + b"\r\n", b"/" + b"a" * 17000, b"HTTP/1.0", b"HEAD ",
    b"Content-Type: text/plain\r\n", b"Prefer: wait=1\r\n",
)  # fmt: skip
"""What is put in."""

PLACES = st.floats(0, 1, exclude_max=True)
CUTS = st.lists(PLACES, max_size=12)


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """A few requests one after the other, bent here and there."""
    data = b"".join(draw(st.lists(st.sampled_from(SEEDS), min_size=1, max_size=4)))
    for _ in range(draw(st.sampled_from((2, 1, 0, 3, 5)))):
        # Half of the places are ends of lines, where the most depends on each byte.
        ends = [i for i in range(len(data)) if data[i : i + 1] == b"\n"]
        start = int(draw(PLACES) * (len(data) + 1))
        if ends and draw(st.booleans()):
            start = ends[int(draw(PLACES) * len(ends))] + 1
        end = min(len(data), start + draw(st.integers(0, 60)))
        match draw(st.sampled_from(("put in", "cut out", "double", "splice", "change", "truncate"))):
            case "put in":
                data = data[:start] + draw(st.sampled_from(TOKENS)) + data[start:]
            case "cut out":
                data = data[:start] + data[end:]
            case "double":
                data = data[:end] + data[start:end] + data[end:]
            case "splice":
                other = draw(st.sampled_from(SEEDS))
                data = data[:start] + other[int(draw(PLACES) * len(other)) :] + data[end:]
            case "change":
                data = data[:start] + draw(st.binary(min_size=1, max_size=3)) + data[start + 1 :]
            case _:
                data = data[:start]
    return data


def cut(data: bytes, places: list[float]) -> list[bytes]:
    """The stream in pieces, none of them empty."""
    marks = sorted({0, len(data), *(int(place * len(data)) for place in places)})
    return [data[start:end] for start, end in itertools.pairwise(marks)]


class CutTests(EdgeCase):
    """The channel, with the real entry point behind it."""

    limits = Limits(max_pending=1_000_000, min_free_bytes=0, max_uploads=100, max_upload_bytes=2**30)

    def setUp(self) -> None:
        super().setUp()
        self.core.ids = itertools.count(FIRST_TASK).__next__
        self.accepted("Al")
        self.clients.pop().leave()
        self.seen: Counter[int] = Counter()
        self.told: list[tuple[bytes, int]] = []
        answered = self.site.responded

        def tell(method: bytes, code: int, seconds: float = 0.0) -> None:
            self.told.append((method, code))
            answered(method, code, seconds)

        self.patch(self.site, "responded", tell)

    def open(self) -> Client:
        """A connection that ``told`` is all about."""
        self.told.clear()
        return Client(self.site, self.settle)

    def judge(self, client: Client) -> list[tuple[bytes, int]]:
        """All answers so far: HTTP to the letter, and just what was counted. Returns what was counted."""
        self.assertEqual(self.flushLoggedErrors(), [])
        methods = [method.decode("ascii") for method, code in self.told if code != 204]  # it never has a body
        replies = client.replies(*methods)
        self.assertLessEqual({reply.code for reply in replies}, STATUSES)
        final = [reply for reply in replies if reply.code != 100]
        self.assertEqual([reply.code for reply in final], [code for _, code in self.told])
        for reply in final:
            self.assert_safe(reply)
        self.assertNotIn("close", [reply.get("Connection") for reply in final[:-1]])
        if final and final[-1].get("Connection") == "close":
            self.assertTrue(client.closed or client.lingers or client.aborted)
        self.seen.update(reply.code for reply in replies)
        return list(self.told)

    def leave(self, client: Client) -> None:
        """The end of a connection, which leaves nothing of what didn't come in whole."""
        client.leave()
        self.settle()
        self.assertEqual(self.flushLoggedErrors(), [])
        self.assertEqual(
            (self.site.connections, self.core.intake.active_uploads, self.core.intake.active_bytes), (0, 0, 0)
        )
        self.assertEqual([path for path in self.core.files() if path.startswith("incoming/")], [])

    def judge_once(self, pieces: list[bytes], at_once: bool) -> list[tuple[bytes, int]]:
        client = self.open()
        for some in [pieces] if at_once else [[piece] for piece in pieces]:
            client.send(*some)
        self.reactor.run_for(5)  # longer than the answers to a whole stream are held
        told = self.judge(client)
        self.leave(client)
        return told

    def test_cut_up(self) -> None:
        """The same bytes get the same answers, in one piece and in many, with and without time between them."""

        @checked
        @given(streams(), CUTS)
        def check(data: bytes, places: list[float]) -> None:
            whole = kinds(self.judge_once([data], True))
            self.assertEqual(kinds(self.judge_once(cut(data, places), True)), whole)
            self.assertEqual(kinds(self.judge_once(cut(data, places), False)), whole)

        check()
        # It was about something: most that can be answered was.
        self.assertLessEqual({100, 200, 202, 204, 400, 404, 405, 415, 431}, set(self.seen))

    def test_over_in_the_end(self) -> None:
        """Whatever came in, and whether or not the client goes on, the connection doesn't stay for ever."""

        @checked
        @given(streams(), st.booleans())
        def check(data: bytes, ends: bool) -> None:
            client = self.open().send(data)
            if ends:
                client.end_input()
            self.reactor.run_for(LINGERING)
            self.judge(client)
            self.assertTrue(client.closed or client.aborted)
            self.leave(client)

        check()
        self.assertLessEqual({202, 400, 404, 408}, set(self.seen))


def kinds(told: list[tuple[bytes, int]]) -> list[tuple[bytes, int]]:
    """The answers, but for whether a task is there: a spliced DELETE may have got to it the time before."""
    there = {202, 204, 404}
    return [(method, 404 if code in there and method != b"POST" else code) for method, code in told]

"""Requests with random damage: no exception escapes, every response is HTTP, and how the bytes are cut is no matter.

Two readings of the same bytes are how requests get smuggled.
"""

import itertools
from collections import Counter
from collections.abc import Sequence

from hypothesis import example, given
from hypothesis import strategies as st

from merlind.tasks.intake import Limits
from merlind.web.response import Response
from tests.unit.support import JPEG
from tests.unit.web.auth.support import LateCase, signed
from tests.unit.web.support import Client, EdgeCase, checked, chunked, form, get, message, post

FIRST_TASK = 10**15
"""Tasks are numbered from here, so that damage makes no number of a task except by a splice."""

LINGERING = 200.0
"""Seconds after which every connection is closed, whatever came in: more than any deadline."""

STATUSES = {100, 200, 202, 204, 400, 401, 404, 405, 408, 411, 413, 414, 415, 422, 431, 501}
"""The statuses that a client can cause; 500 and 503 are our own faults."""

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
"""Well-formed requests."""

TOKENS = (
    b"\r\n", b"\r", b"\n", b"\0", b" ", b"\t", b":", b",", b"\xff", b"%FF", b"--", b"0\r\n\r\n", b"Host: b\r\n",
    b"Content-Length: 4\r\n", b"Content-Length: 99999999999\r\n", b"Content-Length: " + b"9" * 5000 + b"\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip\r\n", b"Connection: close\r\n",
    b"Expect: 100-continue\r\n", b"X: " + b"y" * 17000 + b"\r\n", b"/" + b"a" * 17000, b"HTTP/1.0", b"HEAD ",
    b"Content-Type: text/plain\r\n", b"Prefer: wait=1\r\n",
)  # fmt: skip
"""What is inserted."""

SPOILT = (
    post(form("Bo"), Content_Type="text/plain"),
    get(5, X="y" * 17000),
    get(5, Host="a b"),
    post(form("Bo"))[:-20],
)
"""Requests with damage that the random one may miss: for each there is a status of its own."""

PLACES = st.floats(0, 1, exclude_max=True)
CUTS = st.lists(PLACES, max_size=12)


@st.composite
def streams(draw: st.DrawFn, seeds: Sequence[bytes]) -> bytes:
    """A few requests one after the other, damaged in places."""
    data = b"".join(draw(st.lists(st.sampled_from(seeds), min_size=1, max_size=4)))
    for _ in range(draw(st.sampled_from((2, 1, 0, 3, 5)))):
        # Half of the places are ends of lines, where each byte matters most.
        ends = [i for i in range(len(data)) if data[i : i + 1] == b"\n"]
        start = int(draw(PLACES) * (len(data) + 1))
        if draw(st.booleans()) and ends:
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
                other = draw(st.sampled_from(seeds))
                data = data[:start] + other[int(draw(PLACES) * len(other)) :] + data[end:]
            case "change":
                data = data[:start] + draw(st.binary(min_size=1, max_size=3)) + data[start + 1 :]
            case _:
                data = data[:start]
    return data


def cut(data: bytes, places: list[float]) -> list[bytes]:
    """The stream in pieces; none is empty."""
    marks = sorted({0, len(data), *(int(place * len(data)) for place in places)})
    return [data[start:end] for start, end in itertools.pairwise(marks)]


class CutTests(EdgeCase):
    """The connection, with the real entry point behind it."""

    limits = Limits(max_pending=1_000_000, min_free_bytes=0, max_uploads=100, max_upload_bytes=2**30)
    seeds: Sequence[bytes] = SEEDS
    spoilt: Sequence[bytes] = SPOILT
    unsigned: frozenset[int] = frozenset()
    """The statuses that must occur because of sign-in."""

    def setUp(self) -> None:
        super().setUp()
        self.core.ids = itertools.count(FIRST_TASK).__next__
        self.accepted("Al")
        self.clients.pop().leave()
        self.seen: Counter[int] = Counter()
        self.responded: list[tuple[bytes, int]] = []
        original = self.site.on_response

        def record(method: bytes, response: Response, seconds: float) -> None:
            self.responded.append((method, response.code))
            original(method, response, seconds)

        self.patch(self.site, "on_response", record)

    def open(self) -> Client:
        """A new connection; ``responded`` lists its responses from here on."""
        self.responded.clear()
        return Client(self.site, self.settle)

    def judge(self, client: Client) -> list[tuple[bytes, int]]:
        """All responses so far are HTTP to the letter, and those that were counted. Returns what was counted."""
        self.assertEqual(self.flushLoggedErrors(), [])
        methods = [method.decode("ascii") for method, code in self.responded if code != 204]  # it never has a body
        replies = client.replies(*methods)
        self.assertLessEqual({reply.code for reply in replies}, STATUSES)
        final = [reply for reply in replies if reply.code != 100]
        self.assertEqual([reply.code for reply in final], [code for _, code in self.responded])
        for reply in final:
            self.assert_safe(reply)
        self.assertNotIn("close", [reply.get("Connection") for reply in final[:-1]])
        if final and final[-1].get("Connection") == "close":
            self.assertTrue(client.closed or client.lingers or client.aborted)
        self.seen.update(reply.code for reply in replies)
        return list(self.responded)

    def leave(self, client: Client) -> None:
        """End the connection, which leaves nothing of an incomplete request."""
        client.leave()
        self.settle()
        self.assertEqual(self.flushLoggedErrors(), [])
        self.assertEqual(
            (self.site.connections, self.core.intake.active_uploads, self.core.intake.active_bytes), (0, 0, 0)
        )
        self.assertEqual([path for path in self.core.files() if path.startswith("incoming/")], [])

    def judge_once(self, pieces: list[bytes], together: bool) -> list[tuple[bytes, int]]:
        """The responses on a connection of its own, with or without time between the pieces."""
        client = self.open()
        for some in [pieces] if together else [[piece] for piece in pieces]:
            client.send(*some)
        self.reactor.run_for(5)  # longer than all long polls of a stream together
        responded = self.judge(client)
        self.leave(client)
        return responded

    def test_cut_up(self) -> None:
        """The same bytes get the same responses, in one piece and in many, with and without time between them."""

        @given(streams(self.seeds), CUTS)
        def check(data: bytes, places: list[float]) -> None:
            whole = comparable(self.judge_once([data], True))
            self.assertEqual(comparable(self.judge_once(cut(data, places), True)), whole)
            self.assertEqual(comparable(self.judge_once(cut(data, places), False)), whole)

        for data in (*self.seeds, *self.spoilt):
            check = example(data, [0.1, 0.5, 0.9])(check)
        checked(check)()
        # The streams were worth it: most statuses occurred.
        self.assertLessEqual({100, 200, 202, 204, 400, 404, 405, 415, 431} | self.unsigned, set(self.seen))

    def test_closed_in_the_end(self) -> None:
        """Whatever came in, and whether or not the client closes its direction, the connection is closed in the end."""

        @given(streams(self.seeds), st.booleans())
        def check(data: bytes, ends: bool) -> None:
            client = self.open().send(data)
            if ends:
                client.end_input()
            self.reactor.run_for(LINGERING)
            self.judge(client)
            self.assertTrue(client.closed or client.aborted)
            self.leave(client)

        for data in (*self.seeds, *self.spoilt):
            check = example(data, False)(example(data, True)(check))
        checked(check)()
        self.assertLessEqual({202, 400, 404, 408} | self.unsigned, set(self.seen))


class SignedInCutTests(LateCase, CutTests):
    """The same where it takes a moment to find out who asks."""

    seeds = (*map(signed, SEEDS), signed(get(5), "bob"), signed(post(form("Bo")), "bob"), post(form("Bo")))
    spoilt = tuple(map(signed, SPOILT))
    unsigned = frozenset({401})


def comparable(responded: list[tuple[bytes, int]]) -> list[tuple[bytes, int]]:
    """The responses, except for whether a task exists: a spliced DELETE may have erased it the time before."""
    there = {202, 204, 404}
    return [(method, 404 if code in there and method != b"POST" else code) for method, code in responded]

"""The fast path to a task's status: what takes it, and that its responses are the router's, byte for byte."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from merlind.core.outcome import Rejected, Scored, TaskError
from merlind.web.server.head import Head
from merlind.web.server.interfaces import HandledRequest
from merlind.web.server.phase import HEADER_TIMEOUT, IDLE_TIMEOUT, LINGER_TIMEOUT
from tests.unit.web.support import Client, EdgeCase, LogLines, checked, form, get, message, post, without_date

HEADERS: tuple[dict[str, str | None], ...] = (
    {},
    {"Accept": "*/*", "User-Agent": "curl/8.5.0"},
    {"Accept_Encoding": "gzip, deflate", "Connection": "keep-alive"},
    {"CONNECTION": "Keep-Alive", "traceparent": "00-4bf92f-00f0-01", "X_Empty": ""},
    {"Host": "[::1]:8000", "X": "\xe9"},
)
"""Headers that make no difference to a status."""

LINES = (
    b"Host: localhost", b"host: [::1]:8000", b"HOST:a", b"Host: a b", b"Host: a, b", b"Host:", b"Host : a",
    b"Accept: */*", b"User-Agent: one", b"X-Request-Id: 1", b"X:", b"X:  spaces  ", b"X: \xc3\xa9", b"X: a\tb",
    b"Connection: keep-alive", b"Connection: close", b"connection: Close, TE", b"Connection: keep-alive, close",
    b"Prefer: wait=0", b"prefer: return=minimal", b"Expect: 100-continue", b"Content-Length: 0", b"Content-Length: 2",
    b"Content-Length: x", b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", b"Upgrade: h2c", b": none",
    b" folded", b"no colon", b"Content-Type: text/plain", b"Range: bytes=0-1", b"A/B: c", b"X: \0", b"Cookie: a=b",
)  # fmt: skip
"""Header lines that some requests may have and others may not."""

TARGETS = ("/?task_id=%d", "/?task_id=0%d", "//?task_id=%d", "/?task_id=%d&x", "/?task_id=%d ", "http://a/?task_id=%d")


class FastPathTests(EdgeCase):
    """A task that is scored, one that failed, one in flight and one that doesn't exist."""

    def setUp(self) -> None:
        super().setUp()
        self.routed: list[bytes] = []
        respond = self.routes.respond

        def route(request: HandledRequest) -> Any:
            self.routed.append(request.head.target)
            return respond(request)

        self.patch(self.site.entry, "_route", route)
        self.tasks = [self.accepted(), self.accepted("Bo"), self.accepted("Cy"), 5]
        ready, failed, _ = self.core.upstream.begun
        ready.respond(Scored(0.25))
        failed.respond(Rejected(TaskError("refused", "no face")))
        self.settle()
        self.routed.clear()

    def test_same_response_as_the_router(self) -> None:
        """Whatever is sent, the fast path changes neither a byte of the responses nor the state of the connection."""
        ways: set[bool] = set()
        entry = self.site.entry

        class RouterOnly:
            """An entry point that leaves status requests to the router."""

            identify = staticmethod(entry.identify)
            open_body = staticmethod(entry.open_body)
            respond = staticmethod(self.routes.respond)
            adapt = staticmethod(entry.adapt)

            @staticmethod
            def respond_at_once(head: Head) -> None:
                """Route everything."""

        def responses(client: Client, data: bytes, task: int) -> tuple[list[bytes], bool, bool]:
            client.send(data).send(get(task)).send(b"\r\n" + get(task, "HEAD"))
            return without_date(client.transport.value()), client.lingers, client.closed

        def check(target: str, task: int, lines: list[bytes], end: bytes) -> None:
            head = b"GET %s HTTP/1.1" % (target % task).encode()
            data = b"\r\n".join([head, *lines, b"", b""]) + end
            self.routed.clear()
            self.site.entry = entry
            short = responses(self.connect(), data, task)
            ways.add(bool(self.routed))
            self.site.entry = RouterOnly()
            self.assertEqual(short, responses(self.connect(), data, task))
            for client in self.clients:
                client.leave()
            self.clients.clear()

        for line in LINES:
            check(TARGETS[0], self.tasks[0], [LINES[0], line], b"")
        ends = st.sampled_from((b"", b"", b"", b"\r\n", b"more", get(5)))
        hosts = st.sampled_from(LINES[:2])
        lines = st.tuples(hosts, st.lists(st.sampled_from(LINES), max_size=4)).map(lambda made: [made[0], *made[1]])
        lines = lines.flatmap(st.permutations)
        targets = st.sampled_from(TARGETS[:1] * 5 + TARGETS)
        checked(given(targets, st.sampled_from(self.tasks), lines, ends)(check))()
        self.assertEqual(ways, {True, False})

    def test_plain_requests_are_not_routed(self) -> None:
        """A GET for one task takes the fast path, whether memory has the task or not, and whatever its headers."""
        for headers in HEADERS:
            for task, code in zip(self.tasks, (200, 200, 202, 404), strict=True):
                self.assertEqual(self.ask(get(task, "GET", **headers)).code, code)
        self.assertEqual(self.routed, [])

    def test_other_requests_are_routed(self) -> None:
        """Another method, a preference, and a query that isn't exactly one task_id are left to the router."""
        ready = self.tasks[0]
        for data in (
            get(ready, "HEAD"),
            get(ready, Prefer="wait=1"),
            get(ready, Cookie="a=b"),
            get(ready, Authorization="Basic eDp5"),
            get(ready, Accept="text/HTML, */*"),
            get(f"{ready}&more"),
            get(f"{ready:017}"),
            message("GET", "/"),
        ):
            self.connect().send(data)
            self.assertEqual(len(self.routed), 1, data)
            self.routed.clear()

    def test_in_pieces(self) -> None:
        """A request that comes in two pieces, or with another in one piece, gets the same response."""
        data = get(self.tasks[0])
        client = self.connect().send(data[:20], data[20:]).send(data * 2)
        self.assertEqual([reply.code for reply in client.replies()], [200, 200, 200])

    def test_behind_another_request(self) -> None:
        """A request waits for the long poll before it; behind the beginning of a line, it is part of that line."""
        polling = self.connect().send(get(self.tasks[2], Prefer="wait=3"), get(self.tasks[0]))
        self.assertTrue(polling.silent)
        self.reactor.run_for(3)
        self.assertEqual([reply.code for reply in polling.replies()], [202, 200])
        begun = self.connect().send(get(self.tasks[0]) + b"GET /?task_id=5&x=", get(self.tasks[0]))
        self.assertEqual([reply.code for reply in begun.replies()], [200, 400])

    def test_draining(self) -> None:
        """While merlind stops, the connection closes with the response."""
        client = self.connect().send(post(form("Di")), get(self.tasks[2])[:9])
        self.site.drain()
        client.send(get(self.tasks[2])[9:])
        self.assertEqual([reply.get("Connection") for reply in client.replies()], [None, "close"])
        late = self.connect().send(get(self.tasks[0]))
        self.assertEqual((late.reply().code, late.reply().get("Connection"), late.closed), (200, "close", True))

    def test_deadlines(self) -> None:
        """After the response the connection may be idle as long as after any other."""
        client = self.connect()
        self.reactor.run_for(HEADER_TIMEOUT - 1)
        client.send(get(self.tasks[0]))
        self.reactor.run_for(IDLE_TIMEOUT - 1)
        self.assertFalse(client.closed)
        self.reactor.run_for(2)
        self.assertTrue(client.closed)
        self.reactor.run_for(LINGER_TIMEOUT)

    def test_counted_and_logged(self) -> None:
        """The response is counted and logged like any other."""
        lines = LogLines.of(self).lines
        before = self.metrics.exposition().decode()
        self.ask(get(self.tasks[0]))
        self.assertEqual(lines, ["GET 200 0 ms"])
        self.assertNotIn('method="GET"', before)
        self.assertIn('merlind_http_requests_total{code="200",method="GET"} 1.0', self.metrics.exposition().decode())

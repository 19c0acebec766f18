"""The short ways to a task's status: what they take, and that they answer byte for byte what the long way does."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.web.http import HTTPChannel

from merlind.core.outcome import Rejected, Scored, TaskError
from merlind.web.server.channel import HEADER_TIMEOUT, IDLE_TIMEOUT, LINGER_TIMEOUT
from tests.unit.web.support import Client, EdgeCase, LogLines, checked, form, get, message, post, without_date

PLAIN = (
    {},
    {"Accept": "*/*", "User-Agent": "curl/8.5.0"},
    {"Accept_Encoding": "gzip, deflate", "Connection": "keep-alive", "Cookie": "a=b; c=d"},
    {"CONNECTION": "Keep-Alive", "traceparent": "00-4bf92f-00f0-01", "X_Empty": ""},
)
"""Headers that change nothing."""

LINES = (
    b"Host: localhost", b"host: [::1]:8000", b"HOST:a", b"Host: a b", b"Host: a, b", b"Host:", b"Host : a",
    b"Accept: */*", b"User-Agent: one", b"X-Request-Id: 1", b"X:", b"X:  spaces  ", b"X: \xc3\xa9", b"X: a\tb",
    b"Connection: keep-alive", b"Connection: close", b"connection: Close, TE", b"Connection: keep-alive, close",
    b"Prefer: wait=0", b"prefer: return=minimal", b"Expect: 100-continue", b"Content-Length: 0", b"Content-Length: 2",
    b"Content-Length: x", b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", b"Upgrade: h2c", b": none",
    b" folded", b"no colon", b"Content-Type: text/plain", b"Range: bytes=0-1", b"A/B: c", b"X: \0", b"Cookie: a=b",
)  # fmt: skip
"""Header lines that one request may and another may not have."""

TARGETS = ("/?task_id=%d", "/?task_id=0%d", "//?task_id=%d", "/?task_id=%d&x", "/?task_id=%d ", "http://a/?task_id=%d")


class StatusCase(EdgeCase):
    """Tasks in each state, and a count of the requests that were parsed."""

    def setUp(self) -> None:
        super().setUp()
        self.parsed: list[bytes] = []
        receive = HTTPChannel.dataReceived

        def parse(channel: HTTPChannel, data: bytes) -> None:
            self.parsed.append(data)
            receive(channel, data)

        self.patch(HTTPChannel, "dataReceived", parse)
        self.tasks = [self.accepted(), self.accepted("Bo"), self.accepted("Cy"), 5]
        ready, failed, _ = self.core.upstream.begun
        ready.answer(Scored(0.25))
        failed.answer(Rejected(TaskError("refused", "no face")))
        self.settle()
        self.parsed.clear()


class AtOnceTests(StatusCase):
    """Without parsing."""

    def test_the_same(self) -> None:
        """Whatever comes is answered the same without the short way, and leaves the connection as it was."""
        ways: set[bool] = set()

        def answers(client: Client, data: bytes, task: int) -> tuple[list[bytes], bool, bool]:
            client.send(data).send(get(task)).send(b"\r\n" + get(task, "HEAD"))
            return without_date(client.transport.value()), client.lingers, client.closed

        def check(target: str, task: int, lines: list[bytes], end: bytes) -> None:
            head = b"GET %s HTTP/1.1" % (target % task).encode()
            data = b"\r\n".join([head, *lines, b"", b""]) + end
            self.parsed.clear()
            told = answers(self.connect(), data, task)
            ways.add(data in self.parsed)
            long = self.connect()
            long.protocol._answered_at_once = lambda data: False
            self.assertEqual(told, answers(long, data, task))
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

    def test_plain(self) -> None:
        """A plain request for what memory has is not parsed."""
        for headers in PLAIN:
            for task, code in zip(self.tasks[:3], (200, 200, 202), strict=True):
                self.assertEqual(self.ask(get(task, **headers)).code, code)
        self.assertEqual(self.parsed, [])

    def test_left_to_the_long_way(self) -> None:
        """What memory doesn't have, what isn't plain, and what doesn't come whole and alone."""
        ready = self.tasks[0]
        for data in (
            get(5),
            get(ready, "HEAD"),
            get(ready, Prefer="wait=1"),
            get(ready, Connection="close"),
            get(ready, Host=None),
            get(ready, Host="[::1]:8000"),
            get(ready) * 2,
            get(f"{ready}&more"),
            get(f"{ready:017}"),
            message("GET", "/"),
            get(ready, X="\xe9"),
        ):
            self.connect().send(data)
            self.assertEqual(self.parsed, [data])
            self.parsed.clear()

    def test_in_pieces(self) -> None:
        """One that comes in two pieces is parsed, and the next one is not."""
        data = get(self.tasks[0])
        client = self.connect().send(data[:20], data[20:])
        self.assertEqual(self.parsed, [data[:20], data[20:]])
        self.assertEqual([reply.code for reply in client.send(data).replies()], [200, 200])
        self.assertEqual(len(self.parsed), 2)

    def test_behind_another(self) -> None:
        """While a request is held, in its turn; with a line's beginning before it, as a part of that line."""
        held = self.connect().send(get(self.tasks[2], Prefer="wait=3"), get(self.tasks[0]))
        self.assertTrue(held.silent)
        self.reactor.run_for(3)
        self.assertEqual([reply.code for reply in held.replies()], [202, 200])
        begun = self.connect().send(get(self.tasks[0]) + b"GET /?task_id=5&x=", get(self.tasks[0]))
        self.assertEqual([reply.code for reply in begun.replies()], [200, 400])

    def test_draining(self) -> None:
        """At the end, a connection is closed with its answer."""
        client = self.connect().send(post(form("Di")), get(self.tasks[2])[:9])
        self.site.drain()
        client.send(get(self.tasks[2])[9:])
        self.assertEqual([reply.get("Connection") for reply in client.replies()], [None, "close"])
        late = self.connect().send(get(self.tasks[0]))
        self.assertEqual((late.reply().code, late.reply().get("Connection"), late.closed), (200, "close", True))

    def test_deadlines(self) -> None:
        """The connection is idle after it, for as long as after any other request."""
        client = self.connect()
        self.reactor.run_for(HEADER_TIMEOUT - 1)
        client.send(get(self.tasks[0]))
        self.reactor.run_for(IDLE_TIMEOUT - 1)
        self.assertFalse(client.closed)
        self.reactor.run_for(2)
        self.assertTrue(client.closed)
        self.reactor.run_for(LINGER_TIMEOUT)

    def test_counted_and_logged(self) -> None:
        """Like every answer."""
        lines = LogLines.of(self).lines
        before = self.metrics.exposition().decode()
        self.ask(get(self.tasks[0]))
        self.assertEqual(lines, ["GET 200 0 ms"])
        self.assertNotIn('method="GET"', before)
        self.assertIn('merlind_http_requests_total{code="200",method="GET"} 1.0', self.metrics.exposition().decode())

"""The load generator: keep-alive connections on uvloop that are written and parsed by hand."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Sequence

HOST = "127.0.0.1"

Request = Sequence[bytes]
"""A request as the pieces that go to the socket. One of no pieces means: ask me again in a moment."""

_AT_ONCE = 32
"""How many connections are opened at a time: fewer than a listener's backlog."""


def get(target: str, *headers: str) -> Request:
    """A GET request."""
    lines = [f"GET {target} HTTP/1.1", f"Host: {HOST}", "Accept: application/json", *headers]
    return ("\r\n".join(lines).encode() + b"\r\n\r\n",)


def ask(task_id: int, *headers: str) -> Request:
    """A request for a task's status."""
    return get(f"/?task_id={task_id}", *headers)


class Answers:
    """What came back: a latency in seconds for each answer, and how often which code did."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.latencies: list[float] = []
        self.codes: Counter[int] = Counter()
        self.lost = 0

    def quantile(self, share: float) -> float:
        """The latency below which ``share`` of them lie."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")

    def expect(self, *codes: int) -> None:
        """Raises RuntimeError if another code came, or a connection was lost: then the figures mean nothing."""
        strange = {code: n for code, n in self.codes.items() if code not in codes}
        if strange or self.lost:
            raise RuntimeError(f"answers that were not expected: {strange}, connections lost: {self.lost}")


class Connection(asyncio.Protocol):
    """One connection, one request at a time; ``answered(connection, code, body)`` is told of each answer."""

    def __init__(self, answered: Callable[["Connection", int, bytes], None], lost: Callable[[], None]) -> None:
        self._answered = answered
        self._lost = lost
        self._data = b""
        self._busy = False
        self.began = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self._busy:
            self._lost()

    def send(self, request: Request, began: float | None = None) -> None:
        """Send it; its latency counts from ``began``."""
        self._busy = True
        self.began = time.perf_counter() if began is None else began
        if len(request) == 1:
            self._transport.write(request[0])
        else:
            self._transport.writelines(request)

    def data_received(self, data: bytes) -> None:
        data = self._data + data if self._data else data
        end = data.find(b"\r\n\r\n")
        if end >= 0:
            head = data[: end + 2].lower()
            at = head.find(b"\r\ncontent-length:")
            length = int(head[at + 17 : head.find(b"\r\n", at + 17)]) if at >= 0 else 0
            if len(data) >= end + 4 + length:
                self._data = b""
                self._busy = False
                self._answered(self, int(data[9:12]), data[end + 4 :])
                return
        self._data = data

    def close(self) -> None:
        self._busy = False
        self._transport.close()


async def connect(
    port: int, count: int, answered: Callable[[Connection, int, bytes], None], lost: Callable[[], None]
) -> list[Connection]:
    """Open connections, some at a time."""
    loop = asyncio.get_running_loop()
    opened: list[Connection] = []
    while len(opened) < count:
        some = min(_AT_ONCE, count - len(opened))
        made = [loop.create_connection(lambda: Connection(answered, lost), HOST, port) for _ in range(some)]
        opened += [protocol for _, protocol in await asyncio.gather(*made)]
    return opened


async def closed_loop(
    port: int,
    connections: int,
    next_request: Callable[[], Request | None],
    seconds: float,
    on_answer: Callable[[int, bytes], None] | None = None,
) -> tuple[Answers, float]:
    """Each connection sends its next request when the last was answered, until there is none or time is up.

    Returns the answers, and the seconds that they took.
    """
    answers = Answers()
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    end = answers.began + seconds
    running = connections

    def stopped() -> None:
        nonlocal running
        running -= 1
        if running == 0 and not done.done():
            done.set_result(None)

    def answered(connection: Connection, code: int, body: bytes) -> None:
        answers.latencies.append(time.perf_counter() - connection.began)
        answers.codes[code] += 1
        if on_answer is not None:
            on_answer(code, body)
        go_on(connection)

    def go_on(connection: Connection) -> None:
        request = next_request() if time.perf_counter() < end else None
        if request is None:
            stopped()
        elif request:
            connection.send(request)
        else:
            loop.call_later(0.01, go_on, connection)

    def lost() -> None:
        answers.lost += 1
        stopped()

    opened = await connect(port, connections, answered, lost)
    answers.began = time.perf_counter()
    end = answers.began + seconds
    for connection in opened:
        go_on(connection)
    await done
    took = time.perf_counter() - answers.began
    for connection in opened:
        connection.close()
    return answers, took


async def open_loop(
    port: int,
    rate: float,
    seconds: float,
    next_request: Callable[[], Request],
    most: int = 1000,
    connections: int = 64,
    patience: float = 30.0,
) -> Answers:
    """Requests at a fixed rate whatever the answers do; a latency counts from when its request was due.

    Starts with ``connections`` and opens more, up to ``most``, when all are busy.
    """
    answers = Answers()
    idle: list[Connection] = []
    waiting: list[float] = []
    total = int(rate * seconds)
    done = asyncio.get_running_loop().create_future()

    def over() -> None:
        if len(answers.latencies) + answers.lost == total and not done.done():
            done.set_result(None)

    def answered(connection: Connection, code: int, body: bytes) -> None:
        answers.latencies.append(time.perf_counter() - connection.began)
        answers.codes[code] += 1
        if waiting:
            connection.send(next_request(), waiting.pop(0))
        else:
            idle.append(connection)
        over()

    def lost() -> None:
        answers.lost += 1
        over()

    opened = await connect(port, connections, answered, lost)
    idle += opened
    answers.began = time.perf_counter()
    for number in range(total):
        due = answers.began + number / rate
        if (pause := due - time.perf_counter()) > 0:
            await asyncio.sleep(pause)
        if not idle and len(opened) < most:
            more = await connect(port, 1, answered, lost)
            opened += more
            idle += more
        if idle:
            idle.pop().send(next_request(), due)
        else:
            waiting.append(due)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(done, patience)
    # What was never answered counts as having taken until now.
    missing = total - len(answers.latencies) - answers.lost
    answers.latencies += [patience] * missing
    for connection in opened:
        connection.close()
    return answers


async def fetch(port: int, request: Request, timeout: float = 10.0) -> tuple[int, bytes]:
    """One request on a connection of its own."""
    reader, writer = await asyncio.wait_for(asyncio.open_connection(HOST, port), timeout)
    try:
        writer.writelines(request)
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), timeout)
        at = head.lower().find(b"\r\ncontent-length:")
        length = int(head[at + 17 : head.find(b"\r\n", at + 17)]) if at >= 0 else 0
        return int(head[9:12]), await asyncio.wait_for(reader.readexactly(length), timeout)
    finally:
        writer.close()

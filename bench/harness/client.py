"""The load generator: keep-alive connections on uvloop, with requests and responses written and parsed by hand."""

import asyncio
import itertools
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

HOST = "127.0.0.1"

PATIENCE = 120.0  # s that a closed loop still waits for responses after its time is up
LATEST = 30.0  # s that an open loop does; this is then the latency of those that are missing

Request = Sequence[bytes]  # the pieces to write to the socket
Response = tuple[int, bytes, float]  # the code, the body, and the time at which it arrived
NextRequest = Callable[[], Request]  # makes the request to send next
NOT_YET: Request = ()  # in place of a request, for closed loops: there is none at the moment, ask again soon
END: Request = (b"",)  # there are no more

_BOUNDARY = b"----merlinbench7d1f0c2a9e"
_JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"
_serial = itertools.count(int.from_bytes(os.urandom(6), "big"))


def get(target: str, *headers: str) -> Request:
    """A GET request."""
    lines = [f"GET {target} HTTP/1.1", f"Host: {HOST}", "Accept: application/json", *headers]
    return ("\r\n".join(lines).encode() + b"\r\n\r\n",)


def get_status(task_id: int, *headers: str) -> Request:
    """A request for a task's status."""
    return get(f"/?task_id={task_id}", *headers)


def photo_maker(size: int) -> Callable[[], Request]:
    """A maker of POST requests, each with a photo of ``size`` bytes that differs from all others."""
    head = (
        b'--%b\r\nContent-Disposition: form-data; name="name"\r\n\r\nMerlin\r\n'
        b'--%b\r\nContent-Disposition: form-data; name="photo"; filename="photo.jpg"\r\n'
        b"Content-Type: image/jpeg\r\n\r\n%b"
    ) % (_BOUNDARY, _BOUNDARY, _JPEG)
    tail = os.urandom(max(0, size - len(_JPEG) - 16)) + b"\r\n--%b--\r\n" % _BOUNDARY
    start = (
        b"POST / HTTP/1.1\r\nHost: %b\r\nAccept: application/json\r\n"
        b"Content-Type: multipart/form-data; boundary=%b\r\nContent-Length: %d\r\n\r\n%b"
    ) % (HOST.encode(), _BOUNDARY, len(head) + 16 + len(tail), head)
    return lambda: (start, b"%016x" % next(_serial), tail)


class Connection(asyncio.Protocol):
    """A connection for one request at a time."""

    transport: Any
    _response: asyncio.Future[Response] | None = None
    _data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self._response is not None and not self._response.done():
            self._response.set_exception(exc or ConnectionResetError("the server closed the connection"))

    def send(self, request: Request) -> asyncio.Future[Response]:
        """Send a request. The result fails with an OSError when the connection is lost."""
        self._response = asyncio.get_running_loop().create_future()
        if self.transport.is_closing():
            self.connection_lost(None)
        elif len(request) == 1:
            self.transport.write(request[0])
        else:
            self.transport.writelines(request)
        return self._response

    def data_received(self, data: bytes) -> None:
        data = self._data + data if self._data else data
        end = data.find(b"\r\n\r\n")
        if end >= 0:
            head = data[: end + 2].lower()
            at = head.find(b"\r\ncontent-length:")
            length = int(head[at + 17 : head.find(b"\r\n", at + 17)]) if at >= 0 else 0
            if len(data) >= end + 4 + length:
                self._data = b""
                if self._response is not None and not self._response.done():
                    self._response.set_result((int(data[9:12]), data[end + 4 :], monotonic()))
                return
        self._data = data


async def connect(port: int, source: str | None = None) -> Connection:
    """Connect to a server, from another address of loopback if one is given."""
    local = None if source is None else (source, 0)
    return (await asyncio.get_running_loop().create_connection(Connection, HOST, port, local_addr=local))[1]


@asynccontextmanager
async def connections(port: int, count: int) -> AsyncIterator[list[Connection]]:
    """Open connections, 32 at a time (fewer than a listener's backlog), and close them when the block ends.

    The block may append further ones.
    """
    opened: list[Connection] = []
    try:
        while len(opened) < count:
            opened += await asyncio.gather(*(connect(port) for _ in range(min(32, count - len(opened)))))
        yield opened
    finally:
        for connection in opened:
            connection.transport.close()


async def fetch(port: int, request: Request, timeout: float = 10.0) -> tuple[int, bytes]:
    """Send one request on a connection of its own; returns the code and the body. Raises OSError."""
    async with connections(port, 1) as (connection,):
        code, body, _ = await asyncio.wait_for(connection.send(request), timeout)
    return code, body


class Load:
    """What came back for a load: a latency in seconds for each response, and how often which code came."""

    def __init__(self) -> None:
        self.latencies: list[float] = []
        self.codes: Counter[int] = Counter()
        self.lost = 0
        self.seconds = 0.0

    async def send(self, connection: Connection, request: Request, due: float | None = None) -> bytes:
        """Send a request and note its response; the latency counts from when it was due. Returns a success's body."""
        began = monotonic() if due is None else due
        try:
            code, body, arrived = await connection.send(request)
        except OSError:
            self.lost += 1
            return b""
        self.latencies.append(arrived - began)
        self.codes[code] += 1
        return body if code < 300 else b""

    def figures(self, prefix: str = "") -> dict[str, float]:
        """The median and the 99th percentile of the latencies, in milliseconds."""
        ordered = sorted(self.latencies) or [float("nan")]
        return {f"{prefix}p{percent}_ms": ordered[len(ordered) * percent // 100] * 1e3 for percent in (50, 99)}

    def expect(self, *codes: int) -> None:
        """Raise RuntimeError if another code came or a connection was lost: then the figures mean nothing."""
        strange = {code: n for code, n in self.codes.items() if code not in codes}
        if strange or self.lost:
            raise RuntimeError(f"unexpected codes: {strange}, connections lost: {self.lost}")


async def closed_loop(
    port: int, count: int, next_request: NextRequest, seconds: float, on_body: Callable[[bytes], object] = bool
) -> Load:
    """Let each of ``count`` connections send its next request after the last one's response, until time is up.

    ``on_body`` is called with the body of each success.
    """
    load = Load()

    async def run(connection: Connection) -> None:
        while monotonic() < began + seconds and not load.lost and (request := next_request()) is not END:
            if request is NOT_YET:
                await asyncio.sleep(0.01)
            elif body := await load.send(connection, request):
                on_body(body)

    async with connections(port, count) as opened, asyncio.timeout(seconds + PATIENCE):
        began = monotonic()
        await asyncio.gather(*map(run, opened))
        load.seconds = monotonic() - began
    return load


async def open_loop(
    port: int,
    rate: float,
    seconds: float,
    next_request: NextRequest,
    began: float = 0.0,
    count: int = 64,
    most: int = 1000,
) -> Load:
    """Send requests at a fixed rate, whatever the responses do; a latency counts from when its request was due.

    The first is due at ``began``, or at once. When all ``count`` connections wait for a response, another is opened;
    when there are ``most`` of them, requests wait for one to become free.
    """
    load = Load()
    began = began or monotonic()
    spare = most - count
    free: asyncio.LifoQueue[Connection] = asyncio.LifoQueue()

    async def send(due: float) -> None:
        nonlocal spare
        if free.empty() and spare > 0:
            spare -= 1
            opened.append(await connect(port))
            free.put_nowait(opened[-1])
        connection = await free.get()
        await load.send(connection, next_request(), due)
        free.put_nowait(connection)

    async with connections(port, count) as opened:
        for connection in opened:
            free.put_nowait(connection)
        sent: list[asyncio.Task[None]] = []
        for number in range(int(rate * seconds)):
            due = began + number / rate
            await asyncio.sleep(max(0.0, due - monotonic()))
            sent.append(asyncio.create_task(send(due)))
        done, missing = await asyncio.wait(sent, timeout=LATEST)
        for task in done:
            task.result()  # raises what kept it from sending
        for task in missing:
            task.cancel()
    load.latencies += [LATEST] * len(missing)
    return load

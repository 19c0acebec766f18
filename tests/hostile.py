"""Hostile clients: ``python -m tests.hostile PORT --requests 100000`` sends all kinds, and counts responses.

A visit is one connection: what it sends, how many requests that counts as, and how it ends. The fault suite and the
bench send the same ones.
"""

import argparse
import asyncio
import itertools
import json
import random
import re
import socket
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

HOST = "127.0.0.1"
PATIENCE = 2.0
"""How many seconds a visit waits for its responses at most."""

RESET_AFTER = 0.005
"""After how many seconds a visit resets its connection."""

_CODE = re.compile(rb"HTTP/1\.1 ([1-5][0-9]{2}) ")
_BOUNDARY = b"hostile"
_FORM = b"Content-Type: multipart/form-data; boundary=" + _BOUNDARY
_CHUNKED = b"Transfer-Encoding: chunked"
_NAME_BYTES = b"abcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+.^_`|~"
_PHOTO = b"\xff\xd8\xff\xe0"


class End(Enum):
    """How a visit ends, once everything is sent."""

    READ = "read all responses"
    LEAVE = "close at once"
    RESET = "reset soon"
    HOLD = "stay for a while, reading"
    UNREAD = "stay for a while, reading nothing"
    HALF = "close our direction, and read all responses"


@dataclass(frozen=True)
class Visit:
    """One connection."""

    sent: bytes
    end: End = End.READ
    requests: int = 1
    segment: int = 0
    """How many bytes are sent at a time; 0 sends all at once."""


Kind = Callable[[random.Random], Visit]


def head(line: bytes, *lines: bytes) -> bytes:
    """A request's line and headers."""
    return b"\r\n".join([line, b"Host: a", *lines, b"", b""])


def status(task: int, *lines: bytes) -> bytes:
    """A request for a task's status."""
    return head(b"GET /?task_id=%d HTTP/1.1" % task, *lines)


def form(name: bytes, photo: bytes) -> bytes:
    """A form's body."""
    part = b'--%b\r\nContent-Disposition: form-data; name="%b"%b\r\n\r\n%b\r\n'
    return b"".join(
        (
            part % (_BOUNDARY, b"name", b"", name),
            part % (_BOUNDARY, b"photo", b'; filename="a.jpg"', photo),
            b"--%b--\r\n" % _BOUNDARY,
        )
    )


def upload(body: bytes, *lines: bytes) -> bytes:
    """A POST of a form, whose length is announced."""
    return head(b"POST / HTTP/1.1", _FORM, b"Content-Length: %d" % len(body), *lines) + body


def in_chunks(body: bytes, size: int, extension: bytes = b"") -> bytes:
    """A body in chunks, all of one size, without the last one."""
    pieces = (body[start : start + size] for start in range(0, len(body), size))
    return b"".join(b"%x%b\r\n%b\r\n" % (len(piece), extension, piece) for piece in pieces)


def names(length: int) -> Iterator[bytes]:
    """Names for headers, of this length; none comes twice."""
    for letters in itertools.cycle(itertools.product(_NAME_BYTES, repeat=min(length, 5))):
        yield bytes(letters).rjust(length, b"x")


SHORT, MIDDLE, LONG = names(3), names(200), names(16_000)

TARGETS = (
    b"x?task_id=1", b"*", b"?task_id=1", b"/?x=\x80", b"/?task_id=1#f", b"http://u@a/", b"//", b"/%00", b"/;x",
    b"/%", b"http:/", b"/?task_id=" + b"9" * 5000, b"/" + b"a" * 20_000, b"/?" + b"&" * 8000,
    b"/?task_id=1&task_id=2", b"/%ff%fe", b"/../..",
)  # fmt: skip
LINES = (
    b"BREW / HTTP/1.1", b"get / HTTP/1.1", b"M" * 15_000 + b" / HTTP/1.1", b"CONNECT a:443 HTTP/1.1",
    b"PRI * HTTP/2.0", b"PUT / HTTP/1.1", b"TRACE / HTTP/1.1", b"GET / HTTP/3.0", b"GET /", b"\x16\x03\x01\x02",
    b"OPTIONS * HTTP/1.0", b"",
)  # fmt: skip
FIELDS = (
    b"Transfer-Encoding: identity", b"Transfer-Encoding: gzip, chunked", b"Content-Length: 5\r\nContent-Length: 6",
    b"X : y", b"Content-Length: +1", b"Content-Length: " + b"9" * 5000, b" folded", b"X: \0", b"X: a\nb", b"Host: b",
    b"no colon", b"Prefer: wait=9", b"Connection: Upgrade\r\nUpgrade: h2c", b"Expect: tea",
    b"Accept: " + b"," * 15_000, b"X: " + b"y" * 60_000, b"Cookie: a=\xff", b"Accept: text/html;q=1e3, */*",
    b"Authorization: Basic !!", b"Content-Length: 5", b"Transfer-Encoding: chunked",
)  # fmt: skip
FORMS = (
    form(("a" + "\u0345" * 2000 + "\u0334" * 2000).encode(), _PHOTO), form(b"\xff\xfe", _PHOTO),
    form(b"a" * 9000, _PHOTO), form(b"a", b"text"), form(b"", _PHOTO), b"x" * 400,
    form(b"a", _PHOTO).replace(b"photo", b"other"), b"--hostile\r\n" * 900, b"--hostile\r\n" + b"X: y\r\n" * 3000,
    b"--hostile\r\nContent-Disposition: " + b"x" * 9000, b"\r\n--hostil" * 6000, b"--hostile--",
    form(b"a", b"\r\n--hostil" * 600), form(b"a", _PHOTO)[:-9],
)  # fmt: skip


CHUNKS = (
    in_chunks(form(b"a", _PHOTO + b"x" * 500), 1),
    in_chunks(form(b"a", _PHOTO + b"x" * 20_000), 1),
    in_chunks(form(b"a", _PHOTO + b"x" * 5000), 1, b";a=b"),
    in_chunks(_PHOTO * 20, 1, b";" + b"a" * 3000),
)


def _ending(chance: random.Random) -> End:
    return chance.choice((End.LEAVE, End.RESET, End.HOLD))


def _part_of(data: bytes, chance: random.Random) -> Visit:
    return Visit(data[: chance.randrange(len(data))], _ending(chance))


def _odd(chance: random.Random) -> Visit:
    line = b"GET %b HTTP/1.1" % chance.choice(TARGETS) if chance.random() < 0.5 else chance.choice(LINES)
    return Visit(
        head(line, *chance.sample(FIELDS, chance.randrange(3))) + status(1) * 3, chance.choice((End.READ, End.HALF)), 4
    )


def _many_headers(chance: random.Random) -> Visit:
    lines = [next(SHORT) + b":" for _ in range(chance.choice((98, 200, 1500)))]
    return Visit(
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"\r\n".join(lines) + chance.choice((b"\r\n\r\n", b"\r\nX")),
        chance.choice(list(End)),
    )


def _new_names(chance: random.Random) -> Visit:
    one = status(1, *(next(MIDDLE) + b": %d" % chance.getrandbits(64) for _ in range(70)))
    return Visit(one * 2, End.READ, 2)


def _trailers(chance: random.Random) -> Visit:
    lines = chance.choice((b"a\r\n", b"a:\r\n", b"%b: y\r\n" % next(SHORT))) * chance.choice((900, 21_000))
    return Visit(
        head(b"GET / HTTP/1.1", _CHUNKED) + b"0\r\n" + lines + chance.choice((b"\r\n", b"")), chance.choice(list(End))
    )


def _chunks(chance: random.Random) -> Visit:
    return Visit(head(b"POST / HTTP/1.1", _FORM, _CHUNKED) + chance.choice(CHUNKS), _ending(chance))


def _uploads(chance: random.Random) -> Visit:
    size = chance.choice((400, 400, 300_000, 10_000_000))
    begun = head(
        b"POST / HTTP/1.1", _FORM, b"Content-Length: %d" % size, chance.choice((b"X: y", b"Expect: 100-continue"))
    )
    return Visit(begun + form(b"a", _PHOTO + b"x" * 100_000)[: chance.choice((0, 100, size // 2))], _ending(chance))


def _pipeline(chance: random.Random) -> Visit:
    one = chance.choice((status(1), head(b"GET / HTTP/1.1"), status(1, b"Prefer: wait=1"), head(b"OPTIONS * HTTP/1.1")))
    count = chance.choice((5, 20, 50))
    return Visit(one * count, chance.choice(list(End)), count)


def _flood(chance: random.Random) -> Visit:
    one = chance.choice((status(1), head(b"GET / HTTP/1.1")))
    count = 65_536 // len(one)
    return Visit(one * count, chance.choice(list(End)), count)


KINDS: dict[str, Kind] = {
    "silent": lambda chance: Visit(b"", _ending(chance)),
    "half a head": lambda chance: _part_of(status(1, b"X: " + b"y" * 3000), chance),
    "half a form": lambda chance: _part_of(upload(form(b"a", _PHOTO * 300)), chance),
    "odd requests": _odd,
    "many headers": _many_headers,
    "new names": _new_names,
    "long names": lambda chance: Visit(status(1, next(LONG) + b":"), chance.choice((End.READ, End.LEAVE))),
    "trailers": _trailers,
    "chunks": _chunks,
    "uploads begun": _uploads,
    "tiny segments": lambda chance: Visit(upload(form(b"held", _PHOTO + b"x" * 300)), _ending(chance), segment=2),
    "bad forms": lambda chance: Visit(upload(chance.choice(FORMS)), chance.choice((End.READ, End.RESET))),
    "pipelines": _pipeline,
    "floods": _flood,
    "erasing": lambda chance: Visit(head(b"DELETE /?task_id=%d HTTP/1.1" % chance.getrandbits(50)) * 8, End.READ, 8),
    "long polls": lambda chance: Visit(upload(form(b"held", _PHOTO), b"Prefer: wait=60") * 9, _ending(chance), 9),
}
"""All kinds of visits, by name."""

MIX = tuple(name for name in KINDS if name != "floods")
"""The kinds that are sent together: of a million requests, floods would be nearly all."""


class Client(asyncio.Protocol):
    """The connection of one visit; counts the status codes that come back."""

    transport: Any

    def __init__(self, visit: Visit, codes: "Counter[str]") -> None:
        self._codes = codes
        self._rest = b""
        self._missing = visit.requests
        self.done = asyncio.get_running_loop().create_future()
        """Fires when all responses are here, or the connection is closed."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        found = _CODE.findall(data)
        self._rest = data[-12:]  # one byte less than what is looked for
        self._codes.update(code.decode("ascii") for code in found)
        self._missing -= len(found)
        if self._missing <= 0:
            self.connection_lost(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)


async def pay(visit: Visit, port: int, hold: float, codes: "Counter[str]") -> None:
    """Pay one visit. Raises OSError where there was no connection."""
    loop = asyncio.get_running_loop()
    transport, client = await loop.create_connection(lambda: Client(visit, codes), HOST, port)
    try:
        if visit.end is End.UNREAD:
            transport.pause_reading()
        size = visit.segment or len(visit.sent) or 1
        for start in range(0, len(visit.sent), size):
            transport.write(visit.sent[start : start + size])
            await asyncio.sleep(0)
        match visit.end:
            case End.HALF:
                transport.write_eof()
                await asyncio.wait([client.done], timeout=PATIENCE)
            case End.READ:
                await asyncio.wait([client.done], timeout=PATIENCE)
            case End.HOLD | End.UNREAD:
                await asyncio.sleep(hold)
            case End.RESET:
                await asyncio.sleep(RESET_AFTER)  # or else nobody would have read anything
                sock = transport.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    finally:
        # What wasn't taken yet is dropped: to send all of it to a server that doesn't read would take for ever.
        transport.abort()


async def attack(port: int, kinds: list[Kind], requests: int, clients: int, hold: float, seed: int) -> "Counter[str]":
    """Let so many clients at a time pay visits, until so many requests were sent; returns what came of them."""
    codes: Counter[str] = Counter()
    chance = random.Random(seed)

    async def run() -> None:
        while codes["sent"] < requests:
            visit = chance.choice(kinds)(chance)
            codes["sent"] += visit.requests
            codes["visits"] += 1
            try:
                await pay(visit, port, hold, codes)
            except OSError:
                codes["no connection"] += 1
                await asyncio.sleep(0.05)

    await asyncio.gather(*(run() for _ in range(clients)))
    return codes


def main() -> None:
    parser = argparse.ArgumentParser(description="Send hostile requests to a server on loopback.")
    parser.add_argument("port", type=int)
    parser.add_argument("--kinds", default=",".join(MIX), help=f"what to send, of {', '.join(KINDS)}")
    parser.add_argument("--requests", type=int, default=10_000, help="how many (default: 10000)")
    parser.add_argument("--clients", type=int, default=32, help="connections at a time (default: 32)")
    parser.add_argument(
        "--hold", type=float, default=0.05, help="how many seconds one stays that waits (default: 0.05)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the random numbers")
    options = parser.parse_args()
    kinds = [KINDS[name] for name in options.kinds.split(",")]
    arguments = options.port, kinds, options.requests, options.clients, options.hold, options.seed
    print(json.dumps(asyncio.run(attack(*arguments))))


if __name__ == "__main__":
    main()

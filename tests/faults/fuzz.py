"""Sends random byte streams to a real merlind: ``python -m tests.faults.fuzz --cases 100000``.

A case is a sequence of valid requests in which bytes were changed, put in, cut out, doubled or cut off, sent in pieces
of any size. merlind must stay alive, respond with valid HTTP or not at all, never with a 5xx, and log no traceback.
"""

import argparse
import contextlib
import random
import re
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.client import form, jpeg, request
from tests.processes import HOST, Merlind

_STATUS = re.compile(rb"HTTP/1\.1 ([1-5][0-9]{2}) [ -~]+\r\n")

_SEEDS: tuple[Callable[[random.Random], bytes], ...] = (
    lambda r: b"GET /?task_id=%d HTTP/1.1\r\nHost: x\r\n\r\n" % r.randrange(1 << 60),
    lambda r: b"GET / HTTP/1.1\r\nHost: x\r\nAccept: text/html\r\n\r\n",
    lambda r: b"HEAD http://x/?task_id=1 HTTP/1.1\r\nHost: x\r\nPrefer: wait=0\r\n\r\n",
    lambda r: b"DELETE /?task_id=%d HTTP/1.1\r\nHost: x\r\n\r\n" % r.randrange(1 << 60),
    lambda r: b"OPTIONS * HTTP/1.0\r\n\r\n",
    lambda r: b"BREW / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nabcde",
    lambda r: _upload(r, chunked=False),
    lambda r: _upload(r, chunked=True),
)

_TOKENS = (
    b"\r\n", b"\n", b"\r", b"\0", b":", b" ", b"\t", b"--", b"\xff", b"%00", b"Transfer-Encoding: chunked\r\n",
    b"Content-Length: 0\r\n", b"Content-Length: 99999999999\r\n", b"Expect: 100-continue\r\n", b"0\r\n\r\n",
    b"Content-Disposition: form-data; name=\"photo\"\r\n\r\n", b"filename*=utf-8''%ff", b"Host: y\r\n", b"9" * 5000,
    b"a" * 20000, b"Connection: close\r\n", b"Content-Type: multipart/form-data; boundary=" + b"b" * 71 + b"\r\n",
)  # fmt: skip


def _upload(r: random.Random, chunked: bool) -> bytes:
    sent = form(f"n{r.randrange(1000)}", jpeg(r.randbytes(r.randrange(200))))
    head = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: {sent.content_type}\r\n".encode()
    if not chunked:
        return head + b"Content-Length: %d\r\n\r\n" % len(sent.body) + sent.body
    cut = r.randrange(1, len(sent.body))
    pieces = (sent.body[:cut], sent.body[cut:])
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"


def bend(r: random.Random, data: bytes) -> bytes:
    """Return ``data`` with some bytes changed, put in, cut out, doubled or cut off."""
    bent = bytearray(data)
    for _ in range(r.choice((0, 1, 1, 2, 5, 20))):
        if not bent:
            break
        at = r.randrange(len(bent))
        to = at + r.randrange(1, 40)
        match r.randrange(6):
            case 0:
                bent[at] = r.randrange(256)
            case 1:
                bent[at:at] = r.choice(_TOKENS)
            case 2:
                del bent[at:to]
            case 3:
                bent[at:at] = bent[at:to]
            case 4:
                bent[at:to] = r.choice(_TOKENS)
            case _ if r.random() < 0.2:
                del bent[at:]
    return bytes(bent)


def stream(r: random.Random) -> Iterator[bytes]:
    """Yield the pieces of one case."""
    data = b"".join(bend(r, r.choice(_SEEDS)(r)) for _ in range(r.choice((1, 1, 2, 4))))
    while data:
        size = r.choice((1, 7, 100, 4096, 1 << 20))
        yield data[:size]
        data = data[size:]


class Fuzzer:
    """Sends cases to a merlind; raises AssertionError with the seed and the number of one that does harm."""

    def __init__(self, merlind: Merlind, seed: int) -> None:
        self._merlind = merlind
        self.seed = seed
        self.cases = 0
        self.codes: Counter[int] = Counter()

    def run(self, cases: int) -> None:
        """Send so many cases, and check that merlind still serves."""
        for _ in range(cases):
            self.case(random.Random(f"{self.seed} {self.cases}"))
            self.cases += 1
        assert request(self._merlind.port, "OPTIONS").code == 204

    def case(self, r: random.Random) -> None:
        """Send one case, and check the responses."""
        responses = b""
        where = f"seed {self.seed}, case {self.cases}"
        with socket.create_connection((HOST, self._merlind.port)) as client, contextlib.suppress(ConnectionError):
            client.settimeout(30)
            for piece in stream(r):
                client.sendall(piece)
            if r.random() < 0.9:
                with contextlib.suppress(OSError):  # merlind may have hung up already
                    client.shutdown(socket.SHUT_WR)
                while piece := client.recv(65536):
                    responses += piece
        codes = [int(code) for code in _STATUS.findall(responses)]
        assert not responses or responses.startswith(b"HTTP/1.1 "), (where, responses[:200])
        assert not any(code >= 500 and code != 501 for code in codes), (where, responses[:500])  # 501: unknown method
        assert self._merlind.running, where
        self.codes.update(codes)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cases", type=int, default=10_000, help="how many cases to send [default: %(default)s]")
    parser.add_argument(
        "--seed",
        type=int,
        default=random.randrange(1 << 32),
        help="the seed of a run to repeat [default: a random one]",
    )
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        merlind = Merlind(stack.callback, folder).start()
        fuzzer = Fuzzer(merlind, options.seed)
        memory, began = merlind.memory(), time.monotonic()
        while fuzzer.cases < options.cases:
            fuzzer.run(min(5000, options.cases - fuzzer.cases))
            assert "Traceback" not in merlind.log(), f"a traceback in the log in {merlind.folder}"
            print(
                f"seed {fuzzer.seed}: {fuzzer.cases} cases in {time.monotonic() - began:.0f} s, "
                f"memory {memory >> 20} -> {merlind.memory() >> 20} MB, responses {dict(sorted(fuzzer.codes.items()))}",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())

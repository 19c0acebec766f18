"""An upstream that misbehaves as a test's script says: a raw-socket server with a thread for each connection."""

import hashlib
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from merlind.merlinface.score import score_of_digest

_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
_BOUNDARY = re.compile(rb'boundary="?([^\s";]+)', re.IGNORECASE)
_FIELD = re.compile(rb'name="(\w+)"')


def reset(connection: socket.socket) -> None:
    """Close a connection with a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


class Exchange:
    """One request that came in whole, and ways to answer it. ``nth`` counts those for the same name or retry_id."""

    nth = 0

    def __init__(self, server: "Upstream", connection: socket.socket, fields: dict[str, bytes]) -> None:
        self._server = server
        self.socket = connection
        self.kind = "poll" if "retry_id" in fields else "upload"
        self.fields = fields
        self.at = time.monotonic()

    @property
    def name(self) -> str:
        """The name that was sent."""
        return self.fields.get("name", b"").decode("utf-8")

    @property
    def sha256(self) -> bytes:
        """The digest of the photo that was sent."""
        return hashlib.sha256(self.fields.get("photo", b"")).digest()

    @property
    def retry_id(self) -> str:
        """The retry_id that was sent."""
        return self.fields.get("retry_id", b"").decode("utf-8")

    @property
    def about(self) -> str:
        """What it is about: the name, or the retry_id."""
        return self.name or self.retry_id

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.socket.sendall(data)

    def answer(self, code: int, body: bytes, *headers: str) -> bool:
        """Send a whole answer; the connection is kept."""
        lines = [f"HTTP/1.1 {code} So", "Content-Type: application/json", f"Content-Length: {len(body)}", *headers]
        self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        return True

    def say(self, **answer: Any) -> bool:
        """Answer 200 with an object."""
        return self.answer(200, json.dumps(answer).encode())

    def wait(self, retry_id: str) -> bool:
        """Ask for patience."""
        return self.say(status="wait", result=None, retry_id=retry_id)

    def score(self) -> bool:
        """Answer an upload with the stand-in's score."""
        return self.say(status="ready", result=score_of_digest(self.name, self.sha256))

    def reset(self) -> None:
        """Reset the connection."""
        reset(self.socket)

    def keep_silent(self) -> None:
        """Say nothing until the other side hangs up, or the test is over."""
        self.drip(b"", 0.1)
        while not self._server.closed:
            with suppress(TimeoutError):
                if not self.socket.recv(4096):
                    return

    def drip(self, data: bytes, pause: float) -> None:
        """Send byte by byte, for as long as the other side listens."""
        self.socket.settimeout(pause)
        for byte in data:
            if self._server.closed:
                return
            self.send(bytes([byte]))
            time.sleep(pause)


Script = Callable[[Exchange], object]
"""What an upstream does with a request; the connection is kept if it returns True."""


class Upstream:
    """Listens on a port of loopback, a free one by default, and does with each request as ``script`` says.

    ``begun``, if it is set, is called with the connection when a request's headers are in, before its body is read.
    """

    def __init__(self, cleanup: Callable[..., Any], script: Script, port: int = 0) -> None:
        self.script = script
        self.begun: Callable[[socket.socket], None] | None = None
        self.exchanges: list[Exchange] = []
        self.closed = False
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._socket = socket.create_server(("127.0.0.1", port), backlog=1024)
        self.port = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/api/"
        threading.Thread(target=self._accept, daemon=True).start()
        cleanup(self.close)

    def close(self) -> None:
        """Stop listening, and hang up."""
        self.closed = True
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for connection in list(self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def seen(self, kind: str | None = None, about: str | None = None) -> list[Exchange]:
        """The exchanges so far, of one kind and about one thing if asked for."""
        return [e for e in list(self.exchanges) if kind in (None, e.kind) and about in (None, e.about)]

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self._connections.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A peer that hangs up in the middle is what much of this is about.
        with connection, suppress(OSError):
            while (fields := self._read(connection)) is not None:
                exchange = Exchange(self, connection, fields)
                with self._lock:
                    exchange.nth = 1 + len(self.seen(exchange.kind, exchange.about))
                    self.exchanges.append(exchange)
                if self.script(exchange) is not True:
                    break
        self._connections.discard(connection)

    def _read(self, connection: socket.socket) -> dict[str, bytes] | None:
        connection.settimeout(None)
        data = b""
        while b"\r\n\r\n" not in data:
            if not (piece := connection.recv(65536)):
                return None
            data += piece
        if self.begun is not None:
            self.begun(connection)
        head, _, body = data.partition(b"\r\n\r\n")
        length, boundary = _LENGTH.search(head), _BOUNDARY.search(head)
        assert length is not None and boundary is not None, head
        pieces = [body]
        missing = int(length[1]) - len(body)
        while missing > 0:
            if not (piece := connection.recv(min(missing, 1 << 20))):
                return None
            pieces.append(piece)
            missing -= len(piece)
        fields = {}
        for part in b"".join(pieces).split(b"--" + boundary[1])[1:-1]:
            head, _, content = part.partition(b"\r\n\r\n")
            field = _FIELD.search(head)
            assert field is not None, head
            fields[field[1].decode()] = content[:-2]
        return fields

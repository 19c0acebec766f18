"""An upstream that responds, or misbehaves, as a test's script says: raw sockets, and a thread for each connection."""

import hashlib
import json
import re
import socket
import ssl
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


class UpstreamRequest:
    """A request that arrived whole, and ways to respond to it. The first of its kind for its key has ``nth`` 1."""

    nth = 0

    def __init__(self, server: "Upstream", connection: socket.socket, fields: dict[str, bytes]) -> None:
        self._server = server
        self.socket = connection
        self.kind = "poll" if "retry_id" in fields else "upload"
        self.fields = fields
        self.at = time.monotonic()

    @property
    def name(self) -> str:
        """The name in the form; empty in a poll."""
        return self.fields.get("name", b"").decode("utf-8")

    @property
    def sha256(self) -> bytes:
        """The SHA-256 of the photo in the form."""
        return hashlib.sha256(self.fields.get("photo", b"")).digest()

    @property
    def retry_id(self) -> str:
        """The retry_id in the form; empty in an upload."""
        return self.fields.get("retry_id", b"").decode("utf-8")

    @property
    def key(self) -> str:
        """What requests are counted by: the name of an upload, the retry_id of a poll."""
        return self.name or self.retry_id

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.socket.sendall(data)

    def respond(self, code: int, body: bytes, *headers: str) -> bool:
        """Send a whole response; the connection is kept."""
        lines = [f"HTTP/1.1 {code} So", "Content-Type: application/json", f"Content-Length: {len(body)}", *headers]
        self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        return True

    def respond_json(self, **fields: Any) -> bool:
        """Respond 200 with a JSON object."""
        return self.respond(200, json.dumps(fields).encode())

    def wait(self, retry_id: str) -> bool:
        """Respond that there is no score yet, and that ``retry_id`` is to be polled."""
        return self.respond_json(status="wait", result=None, retry_id=retry_id)

    def score(self) -> bool:
        """Respond to an upload with the score that the stand-in would give."""
        return self.respond_json(status="ready", result=score_of_digest(self.name, self.sha256))

    def reset(self) -> None:
        """Reset the connection."""
        reset(self.socket)

    def keep_silent(self) -> None:
        """Send nothing until merlind hangs up or the test ends."""
        self.drip(b"", 0.1)
        while not self._server.closed:
            with suppress(TimeoutError):
                if not self.socket.recv(4096):
                    return

    def drip(self, data: bytes, pause: float) -> None:
        """Send byte by byte, with a pause after each, as long as merlind listens."""
        self.socket.settimeout(pause)
        for byte in data:
            if self._server.closed:
                return
            self.send(bytes([byte]))
            time.sleep(pause)


Script = Callable[[UpstreamRequest], object]
"""Responds to a request, or doesn't; the connection is kept if it returns True."""


class Upstream:
    """Listens on loopback, on a free port by default, and calls ``script`` with each request.

    A test may set ``on_headers``, which gets the connection when a request's headers have arrived, before its body.
    With ``tls``, which a test may replace, it speaks TLS.
    """

    def __init__(
        self, cleanup: Callable[..., Any], script: Script, port: int = 0, tls: ssl.SSLContext | None = None
    ) -> None:
        self.script = script
        self.tls = tls
        self.on_headers: Callable[[socket.socket], None] | None = None
        self.requests: list[UpstreamRequest] = []
        self.closed = False
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._socket = socket.create_server(("127.0.0.1", port), backlog=1024)
        self.port = self._socket.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}/api/"
        threading.Thread(target=self._accept, daemon=True).start()
        cleanup(self.close)

    def close(self) -> None:
        """Stop listening, and close all connections."""
        self.closed = True
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for connection in list(self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def seen(self, kind: str | None = None, key: str | None = None) -> list[UpstreamRequest]:
        """Return the requests so far: all, or those of one kind ("upload" or "poll"), or with one key."""
        return [r for r in list(self.requests) if kind in (None, r.kind) and key in (None, r.key)]

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
        # merlind may hang up at any point; many tests make it do so.
        with connection, suppress(OSError):
            if self.tls is not None:
                connection = self.tls.wrap_socket(connection, server_side=True)
            while (fields := self._read(connection)) is not None:
                request = UpstreamRequest(self, connection, fields)
                with self._lock:
                    request.nth = 1 + len(self.seen(request.kind, request.key))
                    self.requests.append(request)
                if self.script(request) is not True:
                    break
        self._connections.discard(connection)

    def _read(self, connection: socket.socket) -> dict[str, bytes] | None:
        connection.settimeout(None)
        data = b""
        while b"\r\n\r\n" not in data:
            if not (piece := connection.recv(65536)):
                return None
            data += piece
        if self.on_headers is not None:
            self.on_headers(connection)
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

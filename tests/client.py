"""A client of merlind: photos, forms and requests, and a ledger that checks that no acknowledged task is lost."""

import hashlib
import http.client
import json
import random
import secrets
import struct
import threading
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from merlind.merlinface.score import score_of_digest

GONE_AWAY = (OSError, http.client.HTTPException)
"""What a request raises when the server dies or hangs up."""


def jpeg(comment: bytes = b"") -> bytes:
    """Return a whole baseline JPEG of 8 x 8 grey pixels; the comment makes it differ from others."""

    def segment(marker: int, content: bytes) -> bytes:
        return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content

    one_code = bytes([1, *[0] * 15, 0])
    return b"".join(
        (
            b"\xff\xd8",
            segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0"),
            segment(0xFE, comment),
            segment(0xDB, b"\0" + b"\1" * 64),
            segment(0xC0, b"\x08\0\x08\0\x08\1\1\x11\0"),
            segment(0xC4, b"\0" + one_code),
            segment(0xC4, b"\x10" + one_code),
            segment(0xDA, b"\1\1\0\0\x3f\0"),
            b"\x3f\xff\xd9",
        )
    )


def png(side: int = 8) -> bytes:
    """Return a whole PNG of ``side`` x ``side`` random grey pixels, a byte each: no two are alike."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = b"".join(b"\0" + secrets.token_bytes(side) for _ in range(side))
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 0)) + chunk(b"IEND", b"")


@dataclass(frozen=True)
class Form:
    """An encoded form with a name and a photo, and its Content-Type."""

    content_type: str
    body: bytes


def form(name: str, photo: bytes, filename: str = "photo.png") -> Form:
    """Encode a name and a photo as the form that a client sends."""
    boundary = secrets.token_hex(12)
    body = b"".join(
        (
            f'--{boundary}\r\nContent-Disposition: form-data; name="name"\r\n\r\n{name}\r\n'.encode(),
            f'--{boundary}\r\nContent-Disposition: form-data; name="photo"; filename="{filename}"\r\n'.encode(),
            b"Content-Type: image/png\r\n\r\n",
            photo,
            f"\r\n--{boundary}--\r\n".encode(),
        )
    )
    return Form(f"multipart/form-data; boundary={boundary}", body)


@dataclass(frozen=True)
class Reply:
    """A response, read to its end."""

    code: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def request(
    port: int,
    method: str,
    target: str = "/",
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = 60.0,
) -> Reply:
    """Send one request on a connection of its own, and return the response."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        return ask(connection, method, target, body, headers)
    finally:
        connection.close()


def ask(
    connection: http.client.HTTPConnection,
    method: str,
    target: str = "/",
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """Send one request on an open connection, which stays open, and return the response."""
    connection.request(method, target, body, dict(headers or {}))
    response = connection.getresponse()
    return Reply(response.status, dict(response.headers.items()), response.read())


def post(port: int, name: str, photo: bytes, headers: Mapping[str, str] | None = None, timeout: float = 60.0) -> Reply:
    """Upload a photo with a name on a connection of its own, and return the response."""
    sent = form(name, photo)
    return request(port, "POST", "/", sent.body, {"Content-Type": sent.content_type, **(headers or {})}, timeout)


@dataclass(frozen=True)
class Promise:
    """What a task that got a 202 or 200 must belong to: the name and the SHA-256 of the photo that were sent."""

    name: str
    sha256: bytes


class Ledger:
    """All acknowledged tasks, by number: what merlind must not lose, whatever is done to it.

    Each is written to a file, outside of merlind's data directory, before it counts.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")
        self._lock = threading.Lock()
        self.promises: dict[int, Promise] = {}

    def close(self) -> None:
        self._file.close()

    def post(self, port: int, name: str, photo: bytes) -> int:
        """Upload a photo, which must be accepted, and return the task's number."""
        reply = post(port, name, photo)
        assert reply.code in (200, 202), (reply.code, reply.body)
        return self.note(reply, name, photo)

    def note(self, reply: Reply, name: str, photo: bytes) -> int:
        """Record the task that a 202 or 200 to a POST acknowledged, and return its number."""
        task = int(reply.json()["task"])
        promise = Promise(name, hashlib.sha256(photo).digest())
        with self._lock:
            before = self.promises.setdefault(task, promise)
            self._file.write(json.dumps([task, promise.sha256.hex(), name]) + "\n")
            self._file.flush()
        assert before == promise, f"task {task} was given to two submissions"
        return task

    def fault(self, port: int, task: int, finished: bool) -> str | None:
        """Ask for a task, and return what is wrong with it, or None; with ``finished`` it must be ready."""
        reply = request(port, "GET", f"/?task_id={task}")
        status = reply.json()
        promise = self.promises[task]
        if status["status"] == "ready":
            right = score_of_digest(promise.name, promise.sha256)
            return None if status["result"] == right else f"task {task} has another's result"
        return None if status["status"] == "wait" and not finished else f"task {task} is {status}"

    def losses(self, port: int, finished: bool = False) -> list[str]:
        """Return what is wrong with the acknowledged tasks, one sentence each; ``finished`` is as in fault."""
        return [fault for task in self.promises if (fault := self.fault(port, task, finished))]


class Load:
    """Clients that upload photos, repeat uploads and ask for tasks, until they are stopped.

    They go on while the server is down, and repeat an upload until it is acknowledged, as real clients do. Acknowledged
    tasks go into the ledger, broken promises into ``broken``. ``tried`` counts requests, ``refused`` uploads that got
    an error. A photo has up to ``largest`` squared bytes.
    """

    def __init__(self, port: int, ledger: Ledger, clients: int = 4, largest: int = 300) -> None:
        self._port = port
        self._ledger = ledger
        self._largest = largest
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n,), daemon=True) for n in range(clients)]
        self.tried = 0
        self.refused = 0
        self.broken: list[str] = []

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _run(self, number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        mine: list[tuple[int, str, bytes]] = []
        photo = b""
        while not self._stopped.is_set():
            self.tried += 1
            try:
                if mine and random.random() < 0.3:
                    self._look_again(connection, *random.choice(mine))
                    continue
                # Repeat an upload that was not acknowledged.
                photo = photo or png(random.randrange(8, self._largest))
                name = f"{number}-{len(mine)}"
                reply = self._post(connection, name, photo)
                if reply.code in (200, 202):
                    mine.append((self._ledger.note(reply, name, photo), name, photo))
                    photo = b""
                else:
                    self.refused += 1
                    time.sleep(0.05)
            except GONE_AWAY:
                connection.close()
                time.sleep(0.01)
            except AssertionError as error:
                self.broken.append(str(error))
        connection.close()

    def _post(self, connection: http.client.HTTPConnection, name: str, photo: bytes) -> Reply:
        sent = form(name, photo)
        return ask(connection, "POST", "/", sent.body, {"Content-Type": sent.content_type})

    def _look_again(self, connection: http.client.HTTPConnection, task: int, name: str, photo: bytes) -> None:
        if random.random() < 0.5:
            reply = self._post(connection, name, photo)
            assert reply.code not in (200, 202) or reply.json()["task"] == task, f"task {task} became another"
        else:
            reply = ask(connection, "GET", f"/?task_id={task}")
            assert reply.code != 404, f"task {task} is not found"

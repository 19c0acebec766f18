"""What the stand-in's tests share: forms, requests, and a strict reader of its responses."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesParser
from itertools import count
from typing import Any
from uuid import UUID

PHOTO = b"\xff\xd8\xff\xe0 not much of a photo \r\n--\r\n"
MULTIPART = b"multipart/form-data; boundary=B"


def part(name: str, value: bytes, extra: str = "", headers: str = "") -> bytes:
    """Write one part of a form: ``extra`` goes after the name, ``headers`` are whole lines."""
    return f'--B\r\nContent-Disposition: form-data; name="{name}"{extra}\r\n{headers}\r\n'.encode() + value + b"\r\n"


def name_part(name: str | bytes) -> bytes:
    return part("name", name if isinstance(name, bytes) else name.encode("utf-8"))


def photo_part(photo: bytes = PHOTO, filename: str = '; filename="a.jpg"', media_type: str = "image/jpeg") -> bytes:
    return part("photo", photo, filename, f"Content-Type: {media_type}\r\n" if media_type else "")


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--B--\r\n"


def poll_form(retry_id: str) -> bytes:
    return form(part("retry_id", retry_id.encode("utf-8")))


UPLOAD = form(name_part("Anna"), photo_part())


def post(body: bytes, content_type: bytes = MULTIPART, path: bytes = b"/api/", version: bytes = b"1.1") -> bytes:
    return b"POST %s HTTP/%s\r\nHost: h\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s" % (
        path,
        version,
        content_type,
        len(body),
        body,
    )


def numbered_ids() -> Callable[[], UUID]:
    numbers = count(1)
    return lambda: UUID(int=next(numbers))


def numbered(number: int) -> str:
    return str(UUID(int=number))


@dataclass
class Reply:
    """A response as a client reads it, its body unchunked."""

    code: int
    headers: Message
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def read_reply(wire: bytes) -> Reply:
    """Parse one response. Whatever follows it is an error."""
    head, _, rest = wire.partition(b"\r\n\r\n")
    line, _, fields = head.partition(b"\r\n")
    headers = BytesParser().parsebytes(fields + b"\r\n\r\n")
    if headers["Transfer-Encoding"] == "chunked":
        body = b""
        while True:
            length, _, rest = rest.partition(b"\r\n")
            chunk, rest = rest[: int(length, 16)], rest[int(length, 16) :]
            assert rest.startswith(b"\r\n"), rest
            rest = rest[2:]
            if not chunk:
                break
            body += chunk
        assert rest == b"", rest
    else:
        body = rest
    return Reply(int(line.split(b" ")[1]), headers, body)

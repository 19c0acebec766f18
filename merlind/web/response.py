"""HTTP answers as values, and as bytes: every answer of the public listener goes through here."""

import json
import math
import time
from dataclasses import dataclass
from typing import Any

from twisted.web.http import RESPONSES, datetimeToString

_REASONS: dict[int, bytes] = {
    **RESPONSES,
    408: b"Request Timeout",
    413: b"Content Too Large",
    414: b"URI Too Long",
    422: b"Unprocessable Content",
    429: b"Too Many Requests",
    431: b"Request Header Fields Too Large",
}

ALLOW = b"GET, HEAD, POST, DELETE, OPTIONS"
"""The methods of the one entry point."""

JSON = b"application/json"
PROBLEM = b"application/problem+json"


@dataclass(frozen=True, slots=True)
class Response:
    """A status code, a body with its media type, and the headers of its own."""

    code: int
    body: bytes = b""
    content_type: bytes = JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()

    def with_header(self, name: bytes, value: bytes) -> "Response":
        """The same with one header more."""
        return Response(self.code, self.body, self.content_type, (*self.headers, (name, value)))

    def to_bytes(self, head: bool = False, close: bool = False) -> bytes:
        """The answer as it goes over the wire; without its body for a HEAD request."""
        lines = [
            b"HTTP/1.1 %d %s" % (self.code, _REASONS[self.code]),
            b"Date: " + _date(),
            b"Cache-Control: no-store",
            b"X-Content-Type-Options: nosniff",
        ]
        # RFC 9110, 8.6: no Content-Length in a 204.
        if self.code != 204:
            lines += [b"Content-Type: " + self.content_type, b"Content-Length: %d" % len(self.body)]
        lines += [name + b": " + value for name, value in self.headers]
        if close:
            lines.append(b"Connection: close")
        return b"\r\n".join(lines) + b"\r\n\r\n" + (b"" if head else self.body)


class HTTPError(Exception):
    """A request is turned down with an answer."""

    def __init__(self, answer: Response) -> None:
        super().__init__(answer.code)
        self.answer = answer


# One encoder for all: json.dumps makes one for each call that isn't plain.
_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def json_response(code: int, value: dict[str, Any], *headers: tuple[bytes, bytes]) -> Response:
    """An answer in compact JSON."""
    return Response(code, _encode(value).encode("ascii"), JSON, headers)


def problem(status: int, code: str, detail: str, *headers: tuple[bytes, bytes]) -> Response:
    """An error that the brief does not word, as application/problem+json (RFC 9457), with a stable ``code``."""
    value = {
        "type": "about:blank",
        "title": _REASONS[status].decode("ascii"),
        "status": status,
        "detail": detail,
        "code": code,
    }
    return Response(status, _encode(value).encode("ascii"), PROBLEM, headers)


def unavailable(code: str, detail: str, after: float = 5.0) -> Response:
    """503: try again in ``after`` seconds."""
    return problem(503, code, detail, retry_after(after))


def retry_after(seconds: float) -> tuple[bytes, bytes]:
    """The Retry-After header (RFC 9110, 10.2.3), in whole seconds of at least one."""
    return b"Retry-After", b"%d" % max(1, math.ceil(seconds))


NOT_ALLOWED = problem(405, "method_not_allowed", "this method is not allowed here", (b"Allow", ALLOW))
"""The entry point has no such method."""

NO_STORAGE = unavailable("storage", "the server can't store anything just now")
"""The disk is full, or can't be written to."""

_dated: tuple[int, bytes] = (0, b"")


def _date() -> bytes:
    """The Date header's value, made once a second."""
    global _dated
    now = int(time.time())
    if _dated[0] != now:
        _dated = (now, datetimeToString(now))
    return _dated[1]

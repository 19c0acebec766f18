"""HTTP responses as values and as bytes. Every response of the public listener is made here."""

import json
import math
import time
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from twisted.web.http import RESPONSES, datetimeToString

# Twisted lacks some reasons, and has older wordings than RFC 9110, section 15, for others.
_REASONS: dict[int, bytes] = {
    **RESPONSES,
    408: b"Request Timeout",
    413: b"Content Too Large",
    414: b"URI Too Long",
    421: b"Misdirected Request",
    422: b"Unprocessable Content",
    429: b"Too Many Requests",
    431: b"Request Header Fields Too Large",
}

ALLOW = b"GET, HEAD, POST, DELETE, OPTIONS"
"""The methods of the one entry point, as the Allow header has them."""

METHODS = frozenset(ALLOW.split(b", "))

JSON = b"application/json"
PROBLEM = b"application/problem+json"


@dataclass(frozen=True, slots=True)
class Response:
    """A response: its status code, body and media type, and the headers that not every response has."""

    code: int
    body: bytes = b""
    content_type: bytes = JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()
    task: int | None = None
    """The number of the task that a POST is about, for the log."""
    problem: str | None = None
    """The code of an error, for the log and the metrics."""

    def with_header(self, name: bytes, value: bytes) -> "Response":
        """Return the same response with one more header."""
        return replace(self, headers=(*self.headers, (name, value)))

    def to_bytes(self, head: bool = False, close: bool = False) -> bytes:
        """Return what goes over the wire.

        ``head`` leaves out the body, for a HEAD request; ``close`` says that the connection is closed.
        """
        lines = [
            b"HTTP/1.1 %d %s" % (self.code, _REASONS[self.code]),
            b"Date: " + _date(int(time.time())),
            b"Cache-Control: no-store",
            b"X-Content-Type-Options: nosniff",
        ]
        # RFC 9110, section 8.6: a 204 must not have a Content-Length.
        if self.code != 204:
            lines += [b"Content-Type: " + self.content_type, b"Content-Length: %d" % len(self.body)]
        lines += [name + b": " + value for name, value in self.headers]
        if close:
            lines.append(b"Connection: close")
        return b"\r\n".join(lines) + b"\r\n\r\n" + (b"" if head else self.body)


@lru_cache(maxsize=1)
def _date(second: int) -> bytes:
    """Return a time in seconds since the epoch as an HTTP date; most responses share it with the one before."""
    return bytes(datetimeToString(second))


class HTTPError(Exception):
    """A request is refused with ``response``."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.code)
        self.response = response


# json.dumps would make a new encoder for each call with these arguments.
_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def json_response(code: int, value: dict[str, Any], *headers: tuple[bytes, bytes], task: int | None = None) -> Response:
    """Make a response in compact JSON. Raises ValueError for a number that JSON doesn't have, such as NaN."""
    return Response(code, _encode(value).encode("ascii"), JSON, headers, task)


def problem(status: int, code: str, detail: str, *headers: tuple[bytes, bytes]) -> Response:
    """Make an error response (RFC 9457), with a stable ``code``: docs/contract.md, "Errors"."""
    value = {
        "type": "about:blank",
        "title": _REASONS[status].decode("ascii"),
        "status": status,
        "detail": detail,
        "code": code,
    }
    return Response(status, _encode(value).encode("ascii"), PROBLEM, headers, problem=code)


def unavailable(code: str, detail: str, after: float = 5.0) -> Response:
    """Make a 503 that says to try again in ``after`` seconds."""
    return problem(503, code, detail, retry_after(after))


def too_many(code: str, detail: str, after: float = 5.0) -> Response:
    """Make a 429 that says to try again in ``after`` seconds (RFC 6585, section 4)."""
    return problem(429, code, detail, retry_after(after))


def retry_after(seconds: float) -> tuple[bytes, bytes]:
    """Return the Retry-After header (RFC 9110, section 10.2.3), in whole seconds, at least one."""
    return b"Retry-After", b"%d" % max(1, math.ceil(seconds))


NOT_ALLOWED = problem(405, "method_not_allowed", "this method is not allowed here", (b"Allow", ALLOW))
"""The entry point doesn't have this method (RFC 9110, section 15.5.6)."""

NO_STORAGE = unavailable("storage", "the server can't store anything just now")
"""The disk is full, or can't be written to or read."""

"""Speaks merlind's public side (docs/contract.md) over treq."""

import json
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

import treq
from treq.client import HTTPClient
from twisted.internet.defer import CancelledError
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.error import ConnectError, ConnectionClosed, DNSLookupError
from twisted.web.client import Agent, HTTPConnectionPool, ResponseFailed, ResponseNeverReceived
from twisted.web.http_headers import Headers

from merlind.cli.exits import CommandError, Exit

REQUEST_TIMEOUT = 60.0
"""Seconds until a request that waits for nothing has its response."""

UPLOAD_TIMEOUT = 900.0
"""Seconds until an upload has its response; merlind's own limit."""

MAX_RESPONSE = 1 << 20
"""The longest response that is read, in bytes."""

_NO_RESPONSE = (
    ConnectError, ConnectionClosed, DNSLookupError, ResponseFailed, ResponseNeverReceived, DeferredTimeout,
    CancelledError, OSError,
)  # fmt: skip


class Unreachable(Exception):
    """The server can't be reached, or fails."""


class TryLater(Exception):
    """The server has no room for this now."""

    def __init__(self, detail: str, after: float) -> None:
        super().__init__(detail)
        self.after = after
        """Seconds to wait before the next try."""


class Refused(Exception):
    """The server doesn't take this, and wouldn't the next time."""


@dataclass(frozen=True, slots=True)
class Status:
    """How a task stands, by the word of the server: received, wait, ready, failed or not_found."""

    word: str
    task: int | None = None
    result: float | None = None
    error: str | None = None


class Client:
    """One merlind at ``url``. ``authorization`` is the header's value, or None.

    All methods raise Unreachable, TryLater and Refused, and CommandError where another user is needed.
    """

    def __init__(
        self, reactor: Any, url: str, authorization: str | None = None, http: HTTPClient | None = None
    ) -> None:
        self._url, self._authorization = _without_user(url, authorization)
        pool = HTTPConnectionPool(reactor)
        pool.maxPersistentPerHost = 8
        self._http = http or HTTPClient(Agent(reactor, connectTimeout=10.0, pool=pool))
        self._reactor = reactor

    async def submit(self, photo: Path, name: str) -> Status:
        """Send a photo with a name. Raises OSError if the file can't be read, besides the others."""
        with photo.open("rb") as file:
            # Always the same filename: that of the file is nobody's business.
            files = {"photo": ("photo", "application/octet-stream", file)}
            return _status(await self._ask("POST", "", UPLOAD_TIMEOUT, data={"name": name}, files=files))

    async def status(self, task: int, wait: int = 0) -> Status:
        """Ask how a task stands, and wait up to so many seconds for its end."""
        prefer = {"Prefer": f"wait={wait}"} if wait else {}
        return _status(await self._ask("GET", f"?task_id={task}", REQUEST_TIMEOUT + wait, headers=prefer, known=(404,)))

    async def erase(self, task: int) -> bool:
        """Erase a task; returns whether there was one."""
        code, _, _ = await self._ask("DELETE", f"?task_id={task}", REQUEST_TIMEOUT, known=(404,))
        return code != 404

    async def _ask(
        self, method: str, query: str, seconds: float, headers: "dict[str, str] | None" = None,
        known: tuple[int, ...] = (), **more: Any,
    ) -> "tuple[int, dict[str, Any], Callable[[str], str | None]]":  # fmt: skip
        sent = Headers({"Accept": ["application/json"]})
        for name, value in {**(headers or {}), "Authorization": self._authorization}.items():
            if value is not None:
                sent.addRawHeader(name, value)
        try:
            response = await self._http.request(
                method, self._url + query, headers=sent, timeout=seconds, allow_redirects=False, unbuffered=True, **more
            )
            pieces: list[bytes] = []
            await treq.collect(response, pieces.append).addTimeout(REQUEST_TIMEOUT, self._reactor)
        except _NO_RESPONSE as error:
            raise Unreachable(f"{self._url} can't be reached: {_reason(error)}") from error

        def header(name: str) -> str | None:
            values = response.headers.getRawHeaders(name)
            return values[-1] if values else None

        return check(response.code, _json(b"".join(pieces)), header, known)


def check(
    code: int, body: dict[str, Any], header: Callable[[str], str | None], known: tuple[int, ...] = ()
) -> "tuple[int, dict[str, Any], Callable[[str], str | None]]":
    """Return a response that is no error, or whose code is one of ``known``; raise what it means otherwise."""
    if 200 <= code < 300 or (code in known and body.get("status") == "not_found"):
        return code, body, header
    detail = str(body.get("detail") or f"the server answered HTTP {code}, and not as merlind does")
    if code in (401, 403):
        raise CommandError(Exit.NOT_ALLOWED, f"{detail} (HTTP {code})")
    if code in (429, 503):
        raise TryLater(detail, _seconds(header("Retry-After")))
    if code >= 500:
        raise Unreachable(detail)
    if code in (404, 405) or not body.get("code"):
        # Another path, a proxy's page, another server: nothing that concerns this one photo.
        raise CommandError(Exit.UNREACHABLE, f"{detail}: is the URL right?")
    raise Refused(detail)


def basic(user: str, password: str) -> str:
    """Return the Authorization header for a user and a password (RFC 7617)."""
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode("ascii")


def _without_user(url: str, authorization: str | None) -> tuple[str, str | None]:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise CommandError(Exit.USAGE, f"{url} is no http or https URL")
    if parts.username is not None and authorization is None:
        authorization = basic(unquote(parts.username), unquote(parts.password or ""))
    path = parts.path if parts.path.endswith("/") else parts.path + "/"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], path, "", "")), authorization


def _status(asked: "tuple[int, dict[str, Any], Callable[[str], str | None]]") -> Status:
    _, body, _ = asked
    word, error = body.get("status"), body.get("error")
    if not isinstance(word, str):
        raise CommandError(Exit.UNREACHABLE, "the server doesn't answer as merlind does: is the URL right?")
    detail = str(error.get("detail") or error.get("code")) if isinstance(error, dict) else None
    return Status(word, body.get("task"), body.get("result"), detail)


def _json(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data[:MAX_RESPONSE] or b"{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _seconds(retry_after: str | None) -> float:
    return min(300.0, float(retry_after)) if retry_after is not None and retry_after.isdecimal() else 5.0


def _reason(error: BaseException) -> str:
    inner = getattr(error, "reasons", None)
    return str(inner[0].value if inner else error) or type(error).__name__

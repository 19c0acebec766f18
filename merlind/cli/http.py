"""Sends requests to a merlind over treq, and tells what its responses mean for a command."""

import json
from base64 import b64encode
from dataclasses import dataclass, field
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

MAX_RESPONSE = 4 << 20
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
class Reply:
    """A response, read to its end."""

    code: int
    content: bytes = b""
    retry_after: str | None = None
    body: dict[str, Any] = field(init=False)
    """The JSON object in it; empty if it is something else."""

    def __post_init__(self) -> None:
        try:
            value = json.loads(self.content or b"{}")
        except ValueError:
            value = None
        object.__setattr__(self, "body", value if isinstance(value, dict) else {})

    def checked(self) -> "Reply":
        """Return it if it is no error. Raises Unreachable, TryLater, Refused and CommandError for what it means."""
        if 200 <= self.code < 300:
            return self
        detail = str(self.body.get("detail") or f"the server answered HTTP {self.code}, and not as merlind does")
        if self.code in (401, 403):
            raise CommandError(Exit.NOT_ALLOWED, f"{detail} (HTTP {self.code})")
        if self.code in (429, 503):
            raise TryLater(detail, _seconds(self.retry_after))
        if self.code >= 500:
            raise Unreachable(detail)
        if self.code in (404, 405) or not self.body.get("code"):
            # Another path, a proxy's page, another server: nothing that concerns this one photo or task.
            raise CommandError(Exit.UNREACHABLE, f"{detail}: is the URL right?")
        raise Refused(detail)


class Server:
    """The merlind at ``url``. ``authorization`` is the header's value, or None; ``keep_alive`` is whether connections
    are used again.

    Raises CommandError for what is no URL.
    """

    def __init__(
        self,
        reactor: Any,
        url: str,
        authorization: str | None = None,
        http: HTTPClient | None = None,
        keep_alive: bool = True,
    ) -> None:
        self.url, self._authorization = _without_user(url, authorization)
        pool = HTTPConnectionPool(reactor, persistent=keep_alive)
        pool.maxPersistentPerHost = 8
        # Shorter than merlind's own: a POST on a connection that it just closed would fail.
        pool.cachedConnectionTimeout = 20
        self._http = http or HTTPClient(Agent(reactor, connectTimeout=10.0, pool=pool))
        self._reactor = reactor

    async def ask(
        self, method: str, target: str, seconds: float = REQUEST_TIMEOUT,
        headers: "dict[str, str] | None" = None, **more: Any,
    ) -> Reply:  # fmt: skip
        """Send a request for what is below the URL; ``seconds`` is the most until the response begins.

        Raises Unreachable.
        """
        sent = Headers({"Accept": ["application/json"]})
        for name, value in {**(headers or {}), "Authorization": self._authorization}.items():
            if value is not None:
                sent.addRawHeader(name, value)
        pieces: list[bytes] = []
        try:
            response = await self._http.request(
                method, self.url + target, headers=sent, timeout=seconds, allow_redirects=False, unbuffered=True, **more
            )
            await treq.collect(response, _Bounded(pieces)).addTimeout(REQUEST_TIMEOUT, self._reactor)
        except _NO_RESPONSE as error:
            raise Unreachable(f"{self.url} can't be reached: {_reason(error)}") from error
        after = response.headers.getRawHeaders("Retry-After")
        return Reply(response.code, b"".join(pieces), after[-1] if after else None)


class _Bounded:
    """Keeps up to MAX_RESPONSE bytes. Raises OSError for more, which closes the connection."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces
        self._size = 0

    def __call__(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > MAX_RESPONSE:
            raise OSError(f"a response of more than {MAX_RESPONSE} bytes")
        self._pieces.append(piece)


def basic(user: str, password: str) -> str:
    """Return the Authorization header for a user and a password (RFC 7617)."""
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode("ascii")


def _without_user(url: str, authorization: str | None) -> tuple[str, str | None]:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise CommandError(Exit.USAGE, f"{url} is no http or https URL")
    if parts.username is not None and authorization is None:
        authorization = basic(unquote(parts.username), unquote(parts.password or ""))
    path = parts.path if parts.path.endswith("/") else parts.path + "/"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], path, "", "")), authorization


def _seconds(retry_after: str | None) -> float:
    return min(300.0, float(retry_after)) if retry_after is not None and retry_after.isdecimal() else 5.0


def _reason(error: BaseException) -> str:
    inner = getattr(error, "reasons", None)
    return str(inner[0].value if inner else error) or type(error).__name__

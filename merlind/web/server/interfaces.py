"""What the parts of the HTTP server ask of each other and of the entry point behind them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from merlind.web.response import Response
from merlind.web.server.head import Head


class BodyReceiver(Protocol):
    """What takes a request's body as it comes in."""

    def write(self, data: bytes) -> None:
        """Take the next bytes. Raises HTTPError to refuse the request, and OSError if the disk fails."""

    def discard(self) -> None:
        """Drop what came in: nobody needs it. May be called at any time."""


class HandledRequest(Protocol):
    """What a handler knows of a request."""

    head: Head
    client: str
    """Who asks, for the limits by client: a user that signed in, or an address."""
    user: str
    """Whose tasks it is about: a user that signed in, or ANONYMOUS."""
    receiver: BodyReceiver | None
    """What took the body. A handler that takes it over sets this to None."""

    def when_gone(self, call: Callable[[], None]) -> None:
        """Call this if the client goes away before the response; now, if it has gone already."""


class Entry(Protocol):
    """What requests are for. The server calls the methods in this order."""

    def respond_at_once(self, head: Head) -> Response | None:
        """Return the response to a request without a body that needs no more than a look into memory, or None."""

    def identify(self, head: Head, client: str, by_unix_socket: bool) -> "str | Response | Deferred[str | Response]":
        """Return the user who asks, or the response that refuses the request, or what fires with either.

        It is called before a byte of the body is read, with the client by address. The Deferred doesn't fail.
        """

    def open_body(self, head: Head, client: str) -> BodyReceiver | None:
        """Choose what takes the body, when the head is in. None expects no body. Raises HTTPError to refuse it all."""

    def respond(self, request: HandledRequest) -> "Response | Deferred[Response]":
        """Handle a request that is whole. It goes on to its end even if the client goes away."""

    def adapt(self, head: Head, response: Response) -> Response:
        """Return a response as the client of this request gets it. ``respond_at_once`` returns it so already."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """How many connections there may be at once, and how slow a body may come in."""

    connections: int
    refused: int
    """How many past that, at once, get a response that says so; more are closed without one."""
    min_rate: int
    """The slowest, in bytes a second."""
    upload_timeout: float
    """The longest that it may take, in seconds, however fast it is."""


class ConnectionOwner(Protocol):
    """What connections need of the site that they belong to."""

    reactor: IReactorTime
    entry: Entry
    limits: ConnectionLimits
    draining: bool
    """Whether connections close with their next response, because merlind stops."""
    on_response: Callable[[bytes, Response, float], None]
    """Told of each response: the request's method, the response, and how long it took in seconds."""

    def opened(self, connection: Any) -> None:
        """Count a new connection."""

    def closed(self, connection: Any) -> None:
        """Forget a connection."""

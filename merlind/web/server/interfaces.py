"""What the parts of the HTTP server ask of each other and of the entry point behind them."""

from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.web.http_headers import Headers
from twisted.web.resource import IResource

from merlind.web.response import Response


class BodyReceiver(Protocol):
    """What takes a request's body as it comes in."""

    def write(self, data: bytes) -> None:
        """Take the next bytes. Raises HTTPError to refuse the request, and OSError if the disk fails."""

    def discard(self) -> None:
        """Drop what came in: nobody needs it. May be called at any time."""


class ParsedRequest(Protocol):
    """What the entry point knows of a request before it is routed."""

    method: bytes
    path: bytes
    query: bytes
    """The part of the target behind the question mark, not decoded."""
    requestHeaders: Headers
    client: str
    """Who asks, for the limits by client: an address, or a network."""

    def getHeader(self, key: bytes) -> bytes | None:
        """Return a header's value, the last one if it was sent more than once."""


class Entry(Protocol):
    """What requests are for. The server calls the methods in this order."""

    resource: IResource
    """The router, which gets the requests that ``before_routing`` leaves."""

    def open_body(self, request: ParsedRequest, length: int | None) -> BodyReceiver | None:
        """Choose what takes the body, when the headers are in. None expects no body.

        ``length`` is the body's size in bytes, or None if it comes in chunks. Raises HTTPError to refuse the request.
        """

    def before_routing(self, request: ParsedRequest) -> "Response | Deferred[Response] | None":
        """Return the response to a request that needs no router, when its body is in, or None."""


class ConnectionOwner(Protocol):
    """What connections and their requests need of the site that they belong to."""

    reactor: IReactorTime
    entry: Entry
    min_rate: int
    """The slowest that a body may come in, in bytes a second."""
    draining: bool
    """Whether connections close with their next response, because merlind stops."""

    def opened(self, connection: Any) -> None:
        """Count a new connection."""

    def closed(self, connection: Any) -> None:
        """Forget a connection."""

    def responded(self, method: bytes, code: int, seconds: float = 0.0) -> None:
        """Count and log a response that took ``seconds``."""

"""Lets pages of other origins read responses: the CORS protocol (https://fetch.spec.whatwg.org/#http-cors-protocol).

No response allows a browser to add cookies or passwords of its own: a script that has a token sends it itself.
"""

from collections.abc import Collection
from dataclasses import replace

from merlind.core.origin import ANY
from merlind.web.response import Response
from merlind.web.server.head import Head

_VARY = (b"Vary", b"Origin")
_EXPOSED = (
    b"Access-Control-Expose-Headers",
    b"Location, Content-Location, Retry-After, Preference-Applied, RateLimit, RateLimit-Policy, Link",
)
_PREFLIGHT = (
    (b"Access-Control-Allow-Methods", b"GET, HEAD, POST, DELETE"),
    (b"Access-Control-Allow-Headers", b"Accept, Authorization, Content-Type, Prefer"),
    (b"Access-Control-Max-Age", b"7200"),  # in seconds: as long as Chromium keeps it
)
# https://wicg.github.io/private-network-access/: asked for by Chromium up to 141, when merlind is on a private network.
_ASKS_PRIVATE = b"access-control-request-private-network"
_PRIVATE = (b"Access-Control-Allow-Private-Network", b"true")


class Cors:
    """An adapter: adds to responses what pages of ``origins`` need to read them; ANY are all origins."""

    def __init__(self, origins: Collection[str]) -> None:
        self._origins = frozenset(origin.encode("ascii") for origin in origins)
        self._any = ANY in origins

    def __call__(self, head: Head, response: Response) -> Response:
        """Return the response with these headers, if a page asks."""
        origin = head.get(b"origin")
        if origin is None:
            return response
        headers = [] if self._any else [_VARY]
        if self._any or origin in self._origins:
            headers.append((b"Access-Control-Allow-Origin", ANY.encode("ascii") if self._any else origin))
            headers += _preflight(head) if _is_preflight(head) else [_EXPOSED]
        return replace(response, headers=(*response.headers, *headers))


def _is_preflight(head: Head) -> bool:
    """Whether a browser asks if it may send another request."""
    return head.method == b"OPTIONS" and head.get(b"access-control-request-method") is not None


def _preflight(head: Head) -> list[tuple[bytes, bytes]]:
    return [*_PREFLIGHT, _PRIVATE] if head.get(_ASKS_PRIVATE) == b"true" else [*_PREFLIGHT]

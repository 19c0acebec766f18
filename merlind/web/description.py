"""The description of the public side for programs: OpenAPI 3.1, in openapi.json beside this module.

Whoever asks for ``/`` with an Accept that prefers it gets it, and each 4xx has a link that says where it is (RFC 8631,
"service-desc"). The link is relative, so that it is right below any path that a proxy serves merlind at.
"""

from importlib.resources import files

from werkzeug.http import parse_accept_header

from merlind.web.response import JSON, Response
from merlind.web.server.head import Head

DOCUMENT = files("merlind.web").joinpath("openapi.json").read_bytes()

MAX_ACCEPT = 1024
"""The longest Accept that is looked at, in bytes: a long one takes milliseconds."""

_MAX_DEPTH = 16
"""The deepest path whose link is worked out; one that is deeper was never near to ``/``."""

_TYPE = b"application/openapi+json"
_OLD_TYPE = b"application/vnd.oai.openapi+json"
"""What tools asked for before the other had been registered."""

_RESPONSES = {
    media_type.decode("ascii"): Response(200, DOCUMENT, media_type + b"; version=3.1", ((b"Vary", b"Accept"),))
    for media_type in (_TYPE, _OLD_TYPE)
}

PLAIN_DESCRIPTION = Response(200, DOCUMENT, JSON)
"""The description where a path of its own says what it is."""


def description_for(head: Head) -> Response | None:
    """Return the description if a GET of ``/`` prefers it to all else; or None.

    Its query doesn't matter: many libraries take the link ``?`` for the URL of the request, with the query in it.
    """
    field = head.get(b"accept") or b""
    if b"openapi" not in field.lower() or len(field) > MAX_ACCEPT:
        return None
    qualities = {
        media_type.partition(";")[0].lower(): quality
        for media_type, quality in reversed(parse_accept_header(field.decode("latin-1")))
    }
    best = max(qualities.get("application/json", 0), qualities.get("text/html", 0))
    for media_type, response in _RESPONSES.items():
        if 0 < qualities.get(media_type, 0) >= best:
            return response
    return None


def link_to_description(head: Head, response: Response) -> Response:
    """Add to a 4xx the link to the description: an adapter of the entry point."""
    if not 400 <= response.code < 500:
        return response
    return response.with_header(b"Link", b'<%s?>; rel="service-desc"' % _way_up(head.path))


def _way_up(path: bytes) -> bytes:
    """Return the reference from a path to ``/`` (RFC 3986, section 5.2)."""
    depth = path.count(b"/") - 1
    if depth == 0:
        return b"" if path == b"/" else b"./"
    return b"../" * min(depth, _MAX_DEPTH)

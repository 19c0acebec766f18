"""Refuses what a page of somebody else makes a visitor's browser send: docs/contract.md, "From another origin".

A browser sends a form to any address, and one on a private network may be merlind's. It says itself where a request
comes from, and no page can change what it says.
"""

from collections.abc import Collection

from merlind.core.origin import ANY, is_foreign
from merlind.web.response import HTTPError, problem
from merlind.web.server.head import Head

_METHODS = (b"POST", b"DELETE")

_BY_SITE = problem(
    403,
    "cross_site",
    "a browser sent this from a page of another origin; if that page may, name its origin by --cors-origin",
)
_BY_ORIGIN = problem(
    403,
    "cross_site",
    "a browser sent this from a page whose Origin is not the Host that was asked; if it was merlind's own page, let "
    "the proxy in front pass on the Host with its port (nginx: $http_host) or set X-Forwarded-Host; if it was another "
    "page that may, name its origin by --cors-origin",
)
_CREDENTIALS = problem(
    403,
    "cross_site",
    f"--cors-origin {ANY} is for requests without a cookie or a password; name this page's origin instead",
)


class CrossSite:
    """Checks a request's head. ``allowed`` are the origins whose pages may send anything; ANY are all of them."""

    def __init__(self, allowed: Collection[str]) -> None:
        self._allowed = frozenset(allowed)

    def __call__(self, head: Head, client: str) -> None:
        """Raise HTTPError, 403, if a page may not send this."""
        if head.method not in _METHODS:
            return
        site, origin = _text(head.get(b"sec-fetch-site")), _text(head.get(b"origin"))
        if not is_foreign(site, origin, _hosts(head)) or origin in self._allowed:
            return
        if ANY not in self._allowed:
            if site is None and _was_allowed(head):
                return
            raise HTTPError(_BY_SITE if site is not None else _BY_ORIGIN)
        if _has_credentials(head):
            raise HTTPError(_CREDENTIALS)


def _was_allowed(head: Head) -> bool:
    """Whether a page of another origin could have sent this only after a preflight, which allows none but ``allowed``.

    So merlind's own page works over plain http behind a proxy that changes the Host
    (https://fetch.spec.whatwg.org/#cors-safelisted-request-header).
    """
    return head.method == b"DELETE" or head.get(b"prefer") is not None


def _hosts(head: Head) -> list[str]:
    """Return the names by which merlind may have been asked for.

    X-Forwarded-Host counts from anybody: whoever can set it isn't a page, or is one that --cors-origin allows to.
    """
    told = [name.strip() for line in head.get_all(b"x-forwarded-host") for name in line.split(b",", 8)]
    return [name.decode("latin-1") for name in (head.get(b"host"), *told) if name]


def _has_credentials(head: Head) -> bool:
    """Whether a request has what browsers add by themselves. A Bearer token is what a script must know."""
    if head.get(b"cookie") is not None:
        return True
    authorization = head.get(b"authorization")
    return authorization is not None and not authorization.lower().startswith(b"bearer ")


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")

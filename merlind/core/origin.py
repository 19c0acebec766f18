"""The origin of the page that a browser's request comes from, as the Fetch standard has it.

https://fetch.spec.whatwg.org/#origin-header: a scheme, a host, and a port unless it is the scheme's own; or ``null``,
which may be anybody.
"""

import re
from collections.abc import Iterable

ANY = "*"
"""Stands for every origin where origins are allowed."""

_PORTS = {"http": "80", "https": "443"}
_NAME = r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)"
_ORIGIN = re.compile(rf"([a-z][a-z0-9+.-]*)://{_NAME}(?::([1-9][0-9]{{0,4}}))?")
_HOST = re.compile(rf"{_NAME}(?::([0-9]{{0,5}}))?")


def read_origin(text: str) -> str:
    """Return the origin that an operator names, as browsers write it; or ANY. Raises ValueError."""
    if text == ANY:
        return text
    found = _ORIGIN.fullmatch(text.lower())
    if found is None or int(found[3] or 0) > 65535:
        raise ValueError(
            f"{text!r} is no origin such as https://app.example.org or http://localhost:3000 (a scheme, a host in "
            f"ASCII, perhaps a port, and no slash behind that), and not {ANY} for all"
        )
    scheme, name, port = found.groups()
    own = _PORTS.get(scheme)
    return f"{scheme}://{name}" if port is None or port == own else f"{scheme}://{name}:{port}"


def is_foreign(site: str | None, origin: str | None, hosts: Iterable[str]) -> bool:
    """Whether a request comes from a page of another origin than the one that it goes to.

    ``site`` is its Sec-Fetch-Site (https://www.w3.org/TR/fetch-metadata/), which all browsers of today send, but not
    over plain http to another machine; there its ``origin`` is compared with the ``hosts`` by which merlind may have
    been asked. What has neither was not sent by a page.
    """
    if site is not None:
        return site not in ("same-origin", "none")
    return origin is not None and not _is_own(origin, hosts)


def _is_own(origin: str, hosts: Iterable[str]) -> bool:
    """Whether a page's origin is one of these hosts, with http or https: a proxy may take the TLS away.

    A host without a port has the origin's scheme's own.
    """
    found = _ORIGIN.fullmatch(origin.lower())
    if found is None or found[1] not in _PORTS:
        return False
    own = _PORTS[found[1]]
    for host in hosts:
        asked = _HOST.fullmatch(host.lower())
        if asked is not None and (asked[1], asked[2] or own) == (found[2], found[3] or own):
            return True
    return False

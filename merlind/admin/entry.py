"""The admin listener's entry point: what it checks before a request is routed."""

from collections.abc import Callable, Collection

from twisted.internet.defer import Deferred

from merlind.admin.parameters import ParametersBody
from merlind.core.hosts import is_own_host
from merlind.core.origin import is_foreign
from merlind.core.users import ANONYMOUS
from merlind.web.ignored_body import IgnoredBody
from merlind.web.response import Response, problem
from merlind.web.server.head import Head
from merlind.web.server.interfaces import BodyReceiver, ConnectionLimits, HandledRequest

CONNECTION_LIMITS = ConnectionLimits(connections=16, refused=0, min_rate=1024, upload_timeout=20.0)
"""A monitoring system, some probes and a few people."""

_WRONG_HOST = problem(421, "wrong_host", "this host name is not one of the admin listener's: see --admin-host")

_CROSS_SITE = problem(403, "cross_site", "a browser sent this from a page of another origin")


def _as_it_is(head: Head, response: Response) -> Response:
    """Return a response unchanged."""
    return response


class AdminEntry:
    """Refuses requests for other hosts, and those that a stranger's page makes a browser send to change something.

    All others are left to ``route``, and every response goes through ``adapter``. ``hosts`` are the names besides those
    that are always allowed, in lower case.
    """

    def __init__(
        self,
        route: Callable[[HandledRequest], "Response | Deferred[Response]"],
        hosts: Collection[str],
        adapter: Callable[[Head, Response], Response] = _as_it_is,
    ) -> None:
        self._route = route
        self._hosts = frozenset(hosts)
        self._adapter = adapter

    def respond_at_once(self, head: Head) -> Response | None:
        """Return None: nothing here is asked for so often."""
        return None

    def identify(self, head: Head, client: str, by_unix_socket: bool) -> str:
        """Ask nobody to sign in."""
        return ANONYMOUS

    def open_body(self, head: Head, client: str) -> BodyReceiver | None:
        """Read the short body of a POST, and ignore another one. Raises HTTPError for a long one."""
        if head.method == b"POST":
            return ParametersBody(head.length)
        return None if head.length == 0 else IgnoredBody(head.length)

    def respond(self, request: HandledRequest) -> "Response | Deferred[Response]":
        """Route a request that is for this host (RFC 9110, section 15.5.20), and that no stranger's page sent."""
        host = request.head.get(b"host")
        if host is not None and not is_own_host(host, self._hosts):
            return _WRONG_HOST
        return _CROSS_SITE if _changes_from_elsewhere(request.head) else self._route(request)

    def adapt(self, head: Head, response: Response) -> Response:
        """Return the response as its client should get it."""
        return self._adapter(head, response)


def _changes_from_elsewhere(head: Head) -> bool:
    """Whether a page of another origin sent what may change something: curl says nothing of a page, and passes."""
    if head.method in (b"GET", b"HEAD", b"OPTIONS"):
        return False
    site, origin, host = (head.get(name) for name in (b"sec-fetch-site", b"origin", b"host"))
    return is_foreign(_text(site), _text(origin), [] if host is None else [host.decode("latin-1")])


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")

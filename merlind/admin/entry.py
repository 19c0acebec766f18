"""The admin listener's entry point: what it checks before a request is routed."""

from collections.abc import Callable, Collection

from twisted.internet.defer import Deferred

from merlind.core.hosts import is_own_host
from merlind.core.users import ANONYMOUS
from merlind.web.ignored_body import IgnoredBody
from merlind.web.response import Response, problem
from merlind.web.server.head import Head
from merlind.web.server.interfaces import BodyReceiver, ConnectionLimits, HandledRequest

CONNECTION_LIMITS = ConnectionLimits(connections=16, refused=0, min_rate=1024, upload_timeout=20.0)
"""A monitoring system, some probes and a few people."""

_WRONG_HOST = problem(421, "wrong_host", "this host name is not one of the admin listener's: see --admin-host")


class AdminEntry:
    """Refuses requests for other hosts, and leaves all others to the router. ``hosts`` are the names besides those
    that are always allowed, in lower case."""

    def __init__(
        self, route: Callable[[HandledRequest], "Response | Deferred[Response]"], hosts: Collection[str]
    ) -> None:
        self._route = route
        self._hosts = frozenset(hosts)

    def respond_at_once(self, head: Head) -> Response | None:
        """Return None: nothing here is asked for so often."""
        return None

    def identify(self, head: Head, client: str, by_unix_socket: bool) -> str:
        """Ask nobody to sign in."""
        return ANONYMOUS

    def open_body(self, head: Head, client: str) -> BodyReceiver | None:
        """Ignore a short body. Raises HTTPError for a long one."""
        return None if head.length == 0 else IgnoredBody(head.length)

    def respond(self, request: HandledRequest) -> "Response | Deferred[Response]":
        """Route a request that is for this host (RFC 9110, section 15.5.20)."""
        host = request.head.get(b"host")
        return self._route(request) if host is None or is_own_host(host, self._hosts) else _WRONG_HOST

    def adapt(self, head: Head, response: Response) -> Response:
        """Return the response as it is."""
        return response

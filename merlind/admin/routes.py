"""All routes of the admin listener: several routers, each with paths of its own."""

from twisted.internet.defer import Deferred

from merlind.web.response import Response
from merlind.web.router import Router
from merlind.web.server.interfaces import HandledRequest


class AdminRoutes:
    """Passes a request on to the router that has its path, or to the first one, which says that there is none."""

    def __init__(self, first: Router, *others: Router) -> None:
        self._first = first
        self._by_path = {path: router for router in (first, *others) for path in router.paths}

    def __call__(self, request: HandledRequest) -> "Response | Deferred[Response]":
        """Return the response to a request, or what fires with it."""
        return self._by_path.get(request.head.path, self._first)(request)

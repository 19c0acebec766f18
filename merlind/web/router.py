"""Klein's routes as a table from path and method to handler."""

from collections.abc import Callable
from typing import Any, cast

from klein import Klein
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from merlind.web.response import Response
from merlind.web.server.interfaces import HandledRequest


class Router:
    """Finds the handler of a request, and calls it.

    All paths of ``app`` are fixed, so a table stands in for Klein's matcher, which leaves garbage behind each request;
    and handlers return a Response, since Klein's rendering needs a request of twisted.web. ``on_error`` makes the
    response to a handler's failure, or returns the failure. ``not_allowed`` is the response to a method that a path
    doesn't have, ``no_such_path`` to any other path.
    """

    def __init__(
        self, app: Klein, on_error: Callable[[Failure], Any], not_allowed: Response, no_such_path: Response
    ) -> None:
        self._app = app
        self._on_error = on_error
        self._not_allowed = not_allowed
        self._no_such_path = no_such_path
        self._endpoints = {
            (rule.rule.encode("ascii"), method.encode("ascii")): rule.endpoint
            for rule in app.url_map.iter_rules()
            for method in rule.methods or ()
        }
        self.paths = {path for path, _ in self._endpoints}
        """The paths that there are."""

    def __call__(self, request: HandledRequest) -> "Response | Deferred[Response]":
        head = request.head
        endpoint = self._endpoints.get((head.path, head.method))
        if endpoint is None:
            return self._not_allowed if head.path in self.paths else self._no_such_path
        response: Any = self._app.execute_endpoint(endpoint, cast(Any, request))
        return response.addErrback(self._on_error) if isinstance(response, Deferred) else response

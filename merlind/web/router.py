"""Klein's routes as a table from path and method to handler."""

from collections.abc import Callable
from typing import Any, cast

from klein import Klein
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from merlind.web.response import Response, problem
from merlind.web.server.interfaces import HandledRequest

_NO_SUCH_PATH = problem(404, "not_found", "there is nothing here")


class Router:
    """Finds the handler of a request, and calls it.

    All paths of ``app`` are fixed, so a table stands in for Klein's matcher, which leaves garbage behind each request;
    and handlers return a Response, since Klein's rendering needs a request of twisted.web. ``on_error`` makes the
    response to a handler's failure, or returns the failure.
    """

    def __init__(self, app: Klein, allow: bytes, on_error: Callable[[Failure], Any]) -> None:
        self._app = app
        self._on_error = on_error
        self._not_allowed = problem(405, "method_not_allowed", "this method is not allowed here", (b"Allow", allow))
        self._endpoints = {
            (rule.rule.encode("ascii"), method.encode("ascii")): rule.endpoint
            for rule in app.url_map.iter_rules()
            for method in rule.methods or ()
        }
        self._paths = {path for path, _ in self._endpoints}

    def __call__(self, request: HandledRequest) -> "Response | Deferred[Response]":
        head = request.head
        endpoint = self._endpoints.get((head.path, head.method))
        if endpoint is None:
            return self._not_allowed if head.path in self._paths else _NO_SUCH_PATH
        response: Any = self._app.execute_endpoint(endpoint, cast(Any, request))
        return response.addErrback(self._on_error) if isinstance(response, Deferred) else response

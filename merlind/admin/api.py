"""The admin listener's routes of health and metrics, for operators, on an address of its own."""

from collections.abc import Awaitable, Callable

from klein import Klein
from prometheus_client import CONTENT_TYPE_LATEST
from twisted.python.failure import Failure

from merlind.admin.errors import NO_SUCH_PATH, not_allowed
from merlind.admin.health import Progress
from merlind.daemon.metrics import Metrics
from merlind.web.description import PLAIN_DESCRIPTION
from merlind.web.response import Response, json_response
from merlind.web.router import Router
from merlind.web.server.interfaces import HandledRequest


class Admin:
    """The routes of health and metrics.

    ``readiness`` returns the reasons why merlind is not ready, ``progress`` whether tasks get on. ``refresh`` looks up,
    before the metrics are shown, what is not in memory.
    """

    app = Klein()

    def __init__(
        self,
        metrics: Metrics,
        readiness: Callable[[], Awaitable[list[str]]],
        progress: Callable[[], Progress],
        refresh: Callable[[], Awaitable[None]],
    ) -> None:
        self._metrics = metrics
        self._readiness = readiness
        self._progress = progress
        self._refresh = refresh
        self.respond = Router(self.app, _as_it_is, not_allowed(b"GET, HEAD"), NO_SUCH_PATH)
        """Returns the response to a request, or what fires with it."""

    @app.route("/health/live", methods=["GET"])  # type: ignore[type-var]
    def live(self, request: HandledRequest) -> Response:
        """Respond: then the reactor runs, and that is what this asks."""
        return json_response(200, {"status": "ok"})

    @app.route("/health/ready", methods=["GET"])  # type: ignore[type-var]
    async def ready(self, request: HandledRequest) -> Response:
        """Say whether merlind can take photos, and the reasons if not."""
        reasons = await self._readiness()
        status, code = ("not_ready", 503) if reasons else ("ready", 200)
        return json_response(code, {"status": status, "reasons": reasons})

    @app.route("/health/working", methods=["GET"])  # type: ignore[type-var]
    def working(self, request: HandledRequest) -> Response:
        """Say whether tasks get on, the reasons if not, and what slows them down."""
        progress = self._progress()
        status, code = ("not_working", 503) if progress.reasons else ("working", 200)
        return json_response(code, {"status": status, "reasons": progress.reasons, "notes": progress.notes})

    @app.route("/openapi.json", methods=["GET"])  # type: ignore[type-var]
    def description(self, request: HandledRequest) -> Response:
        """Show the description of the public side, for those who run it."""
        return PLAIN_DESCRIPTION

    @app.route("/metrics", methods=["GET"])  # type: ignore[type-var]
    async def metrics(self, request: HandledRequest) -> Response:
        """Show the metrics in the Prometheus text format."""
        await self._refresh()
        return Response(200, self._metrics.exposition(), CONTENT_TYPE_LATEST.encode("ascii"))


def _as_it_is(failure: Failure) -> Failure:
    """Return a failure: none is foreseen here."""
    return failure

"""The admin listener: health and metrics for operators, on an address of its own."""

import json
from collections.abc import Awaitable, Callable

from klein import Klein
from prometheus_client import CONTENT_TYPE_LATEST
from twisted.web.server import Request

from merlind.admin.health import Progress
from merlind.daemon.metrics import Metrics


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

    @app.route("/health/live", methods=["GET"])
    def live(self, request: Request) -> bytes:
        """Respond: then the reactor runs, and that is what this asks."""
        return _json(request, 200, {"status": "ok"})

    @app.route("/health/ready", methods=["GET"])
    async def ready(self, request: Request) -> bytes:
        """Say whether merlind can take photos, and the reasons if not."""
        reasons = await self._readiness()
        if reasons:
            return _json(request, 503, {"status": "not_ready", "reasons": reasons})
        return _json(request, 200, {"status": "ready", "reasons": []})

    @app.route("/health/working", methods=["GET"])
    def working(self, request: Request) -> bytes:
        """Say whether tasks get on, the reasons if not, and what slows them down."""
        progress = self._progress()
        status, code = ("not_working", 503) if progress.reasons else ("working", 200)
        return _json(request, code, {"status": status, "reasons": progress.reasons, "notes": progress.notes})

    @app.route("/metrics", methods=["GET"])
    async def metrics(self, request: Request) -> bytes:
        """Show the metrics in the Prometheus text format."""
        await self._refresh()
        return _respond(request, 200, CONTENT_TYPE_LATEST, self._metrics.exposition())


def _json(request: Request, code: int, value: dict[str, object]) -> bytes:
    return _respond(request, code, "application/json", json.dumps(value).encode("ascii"))


def _respond(request: Request, code: int, content_type: str, body: bytes) -> bytes:
    request.setResponseCode(code)
    request.responseHeaders.removeHeader(b"Server")
    for name, value in (
        (b"Cache-Control", b"no-store"),
        (b"X-Content-Type-Options", b"nosniff"),
        (b"Content-Type", content_type.encode("ascii")),
        (b"Content-Length", b"%d" % len(body)),
    ):
        request.setHeader(name, value)
    return body

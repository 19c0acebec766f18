"""The admin listener: is it alive, is it ready, and what does it count. For operators, on an address of its own."""

import json
from collections.abc import Awaitable, Callable

from klein import Klein
from prometheus_client import CONTENT_TYPE_LATEST
from twisted.web.server import Request

from merlind.daemon.metrics import Metrics


class Admin:
    """Health and metrics; ``readiness`` fires with the reasons why merlind is not ready."""

    app = Klein()

    def __init__(
        self, metrics: Metrics, readiness: Callable[[], Awaitable[list[str]]], refresh: Callable[[], Awaitable[None]]
    ) -> None:
        self._metrics = metrics
        self._readiness = readiness
        self._refresh = refresh

    @app.route("/health/live", methods=["GET"])
    def live(self, request: Request) -> bytes:
        """The reactor turns: that is all that is asked."""
        return _json(request, 200, {"status": "ok"})

    @app.route("/health/ready", methods=["GET"])
    async def ready(self, request: Request) -> bytes:
        """Whether photos can be taken and are being worked on, with the reasons if not."""
        reasons = await self._readiness()
        if reasons:
            return _json(request, 503, {"status": "not_ready", "reasons": reasons})
        return _json(request, 200, {"status": "ready", "reasons": []})

    @app.route("/metrics", methods=["GET"])
    async def metrics(self, request: Request) -> bytes:
        """The Prometheus exposition."""
        await self._refresh()
        return _answer(request, 200, CONTENT_TYPE_LATEST, self._metrics.exposition())


def _json(request: Request, code: int, value: dict[str, object]) -> bytes:
    return _answer(request, code, "application/json", json.dumps(value).encode("ascii"))


def _answer(request: Request, code: int, content_type: str, body: bytes) -> bytes:
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

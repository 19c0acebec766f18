"""The admin listener's routes to pause requests to the upstream, and to resume them."""

from klein import Klein

from merlind.admin.errors import NO_SUCH_PATH, not_allowed, refuse
from merlind.admin.parameters import number, read_body, take
from merlind.tasks.pauser import Pauser
from merlind.web.response import Response, json_response
from merlind.web.router import Router
from merlind.web.server.interfaces import HandledRequest

MAX_SECONDS = 366 * 86400.0
"""The longest pause with an end."""


class PauseRoutes:
    """``POST /pause`` and ``POST /resume``: docs/contract.md, "Admin side"."""

    app = Klein()

    def __init__(self, pauser: Pauser) -> None:
        self._pauser = pauser
        self.respond = Router(self.app, refuse, not_allowed(b"POST"), NO_SUCH_PATH)
        """Returns the response to a request, or what fires with it."""

    @app.route("/pause", methods=["POST"])  # type: ignore[type-var]
    async def pause(self, request: HandledRequest) -> Response:
        """Pause, for ``seconds`` or without end: respond when a new start would know of it."""
        what = f"a number from 1 to {MAX_SECONDS:.0f}"
        seconds = take(read_body(request, ["seconds"]), "seconds", number(1.0, MAX_SECONDS), what)
        await self._pauser.pause(seconds)
        return self._state()

    @app.route("/resume", methods=["POST"])  # type: ignore[type-var]
    async def resume(self, request: HandledRequest) -> Response:
        """End the pause, if there is one."""
        read_body(request, [])
        await self._pauser.resume()
        return self._state()

    def _state(self) -> Response:
        pause = self._pauser.current
        return json_response(200, {"paused": pause.paused, "until": pause.until, "seconds_left": self._pauser.left})

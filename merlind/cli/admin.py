"""Speaks merlind's admin side (docs/contract.md)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from merlind.cli.exits import CommandError, Exit
from merlind.cli.http import Refused, Reply, Server

PAGE = 500
"""The most tasks that a page may have."""

RETRY_TIMEOUT = 600.0
"""Seconds until all tasks that match have started anew."""


@dataclass(frozen=True, slots=True)
class Health:
    """Whether all is well, the reasons if not, and what is worth knowing besides."""

    well: bool
    reasons: list[str]
    notes: list[str]


class Admin:
    """The admin side of a server. All methods raise Unreachable, TryLater and CommandError."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def tasks(self, wanted: Mapping[str, object], most: int) -> list[dict[str, Any]]:
        """List up to ``most`` tasks that match, the newest first."""
        found: list[dict[str, Any]] = []
        cursor: str | None = ""
        while cursor is not None and len(found) < most:
            limit = min(PAGE, most - len(found))
            page = await self._get("tasks", {**wanted, "limit": limit, **({"cursor": cursor} if cursor else {})})
            found += page.get("tasks", [])
            cursor = page.get("cursor")
        return found

    async def retry(self, which: Mapping[str, object]) -> dict[str, Any]:
        """Start failed tasks anew: ``ids``, or what they have in common."""
        return await self._post("tasks/retry", which, RETRY_TIMEOUT)

    async def pause(self, seconds: float | None) -> dict[str, Any]:
        """Let no request go to the upstream, for so long or until it is resumed."""
        return await self._post("pause", {} if seconds is None else {"seconds": seconds})

    async def resume(self) -> dict[str, Any]:
        """End the pause."""
        return await self._post("resume", {})

    async def health(self, kind: str) -> Health:
        """Ask for ``ready`` (can it take photos?) or ``working`` (do tasks get on?)."""
        reply = await self._server.ask("GET", f"health/{kind}")
        if reply.code != 503 or "reasons" not in reply.body:
            reply = self._checked(reply)
        return Health(reply.code == 200, list(reply.body.get("reasons", [])), list(reply.body.get("notes", [])))

    async def metrics(self) -> str:
        """Return all metrics, in the Prometheus text format."""
        return self._checked(await self._server.ask("GET", "metrics")).content.decode("utf-8", "replace")

    async def _get(self, path: str, parameters: Mapping[str, object]) -> dict[str, Any]:
        given = {name: str(value) for name, value in parameters.items()}
        return self._checked(await self._server.ask("GET", path, params=given)).body

    async def _post(self, path: str, body: Mapping[str, object], seconds: float = 60.0) -> dict[str, Any]:
        return self._checked(await self._server.ask("POST", path, seconds, json=dict(body))).body

    def _checked(self, reply: Reply) -> Reply:
        if reply.code in (404, 405):
            raise CommandError(
                Exit.UNREACHABLE, f"{self._server.url} is no admin listener of merlind's: see --admin-url"
            )
        try:
            return reply.checked()
        except Refused as error:
            raise CommandError(Exit.USAGE, str(error)) from error

"""Speaks merlind's public side (docs/contract.md)."""

from dataclasses import dataclass
from pathlib import Path

from merlind.cli.exits import CommandError, Exit
from merlind.cli.http import REQUEST_TIMEOUT, Reply, Server

UPLOAD_TIMEOUT = 900.0
"""Seconds until an upload has its response; merlind's own limit."""


@dataclass(frozen=True, slots=True)
class Status:
    """How a task stands, by the word of the server: received, wait, ready, failed or not_found."""

    word: str
    task: int | None = None
    result: float | None = None
    error: str | None = None


class Client:
    """The public side of a server.

    All methods raise Unreachable, TryLater and Refused, and CommandError where another user is needed.
    """

    def __init__(self, server: Server) -> None:
        self._server = server

    async def submit(self, photo: Path, name: str) -> Status:
        """Send a photo with a name. Raises OSError if the file can't be read, besides the others."""
        with photo.open("rb") as file:
            # Always the same filename: that of the file is nobody's business.
            files = {"photo": ("photo", "application/octet-stream", file)}
            reply = await self._server.ask("POST", "", UPLOAD_TIMEOUT, data={"name": name}, files=files)
        return _status(reply.checked())

    async def status(self, task: int, wait: int = 0) -> Status:
        """Ask how a task stands, and wait up to so many seconds for its end."""
        prefer = {"Prefer": f"wait={wait}"} if wait else {}
        reply = await self._server.ask("GET", f"?task_id={task}", REQUEST_TIMEOUT + wait, prefer)
        return _status(reply if _unknown(reply) else reply.checked())

    async def erase(self, task: int) -> bool:
        """Erase a task; returns whether there was one."""
        reply = await self._server.ask("DELETE", f"?task_id={task}")
        if _unknown(reply):
            return False
        reply.checked()
        return True


def _unknown(reply: Reply) -> bool:
    """Whether merlind, and no other server, says that there is no such task."""
    return reply.code == 404 and reply.body.get("status") == "not_found"


def _status(reply: Reply) -> Status:
    body = reply.body
    word, error = body.get("status"), body.get("error")
    if not isinstance(word, str):
        raise CommandError(Exit.UNREACHABLE, "the server doesn't answer as merlind does: is the URL right?")
    detail = str(error.get("detail") or error.get("code")) if isinstance(error, dict) else None
    return Status(word, body.get("task"), body.get("result"), detail)

"""Why a client gets a no just now: the server is full, or this client has as much as one may have, or is too fast."""

from merlind.core.clients import is_local, is_user

_WORDS = {"connections": "connections", "uploads": "active uploads", "tasks": "unfinished tasks",
          "long_polls": "long polls"}  # fmt: skip

CLIENT_LIMITS = (*_WORDS, "requests")
"""The limits that a client can be over; the codes of their responses begin with too_many_."""

_SHARED = " (all clients behind a proxy on this machine count as one unless it sends X-Forwarded-For)"


class Refused(Exception):
    """Something can't be had just now; the message says why. ``limit`` and ``by`` are labels for the metrics."""

    by = ""

    def __init__(self, limit: str, message: str) -> None:
        super().__init__(message)
        self.limit = limit


class OverCapacity(Refused):
    """No photo can be taken just now, from nobody."""

    by = "server"


class ClientOverLimit(Refused):
    """One client has ``most`` of something: its connections, uploads, tasks or long_polls are the ``limit``."""

    by = "client"

    def __init__(self, limit: str, most: int, client: str) -> None:
        held = f"as many {_WORDS[limit]} as one may have, {most}"
        super().__init__(limit, f"this {_who(client)} has {held}{_shared(client)}")


class ClientTooFast(Refused):
    """One client has submitted ``times`` in ``seconds``."""

    by = "client"

    def __init__(self, times: int, seconds: int, client: str) -> None:
        who = _who(client)
        super().__init__("requests", f"this {who} may submit {times} photos in {seconds} s{_shared(client)}")


def _who(client: str) -> str:
    return "user" if is_user(client) else "client"


def _shared(client: str) -> str:
    return _SHARED if is_local(client) else ""

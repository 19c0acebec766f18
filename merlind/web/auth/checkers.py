"""Makes the checkers that ``--auth`` names, in twisted.cred's words: ``KIND:ARGUMENT``."""

from collections.abc import Sequence
from typing import Any

from twisted.cred.credentials import IUsernamePassword
from twisted.cred.strcred import InvalidAuthType, findCheckerFactories, makeChecker

from merlind.web.auth.credentials import IProxiedRequest, IToken

SUPPORTED = (IUsernamePassword, IToken, IProxiedRequest)
"""What a request can bring to sign in with."""

_UNIX = ("unix:", "haproxy:unix:", "systemd:domain=UNIX")


class AuthUnusable(Exception):
    """What an ``--auth`` says can't be done. The message is one line that says why."""


def make_checkers(descriptions: Sequence[str], listen: Sequence[str]) -> list[Any]:
    """Return the checkers in their order; ``listen`` are the public listeners. Raises AuthUnusable."""
    return [_make(description, listen) for description in descriptions]


def _make(description: str, listen: Sequence[str]) -> Any:
    try:
        checker = makeChecker(description)
    except InvalidAuthType:
        raise AuthUnusable(f"--auth {description}: there is no such checker; there are {_kinds()}") from None
    except Exception as error:
        # A checker may raise anything.
        raise AuthUnusable(f"--auth {description}: {error or type(error).__name__}") from None
    if not any(interface in SUPPORTED for interface in checker.credentialInterfaces):
        raise AuthUnusable(f"--auth {description}: it takes neither passwords nor tokens nor the word of a proxy")
    if IProxiedRequest in checker.credentialInterfaces and not any(where.startswith(_UNIX) for where in listen):
        raise AuthUnusable(
            f"--auth {description}: a proxy is believed on unix sockets only, and no --listen has one, "
            "such as unix:/run/merlind/socket:mode=660"
        )
    return checker


def _kinds() -> str:
    usable = [
        factory.authType
        for factory in findCheckerFactories()
        if any(interface in SUPPORTED for interface in factory.credentialInterfaces)
    ]
    return ", ".join(sorted(set(usable)))

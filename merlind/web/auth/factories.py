"""What twisted.cred finds merlind's own checkers by: the words before the colon in ``--auth``.

twistd loads this at each start, for whatever it runs, so it imports what a checker needs only when one is made.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.cred.credentials import IUsernamePassword
from twisted.cred.strcred import ICheckerFactory
from twisted.plugin import IPlugin
from zope.interface import implementer

from merlind.web.auth.credentials import IProxiedRequest, IToken


@implementer(ICheckerFactory, IPlugin)
class CheckerFactory:
    """One kind of checker; ``make`` gets what comes after the colon."""

    def __init__(self, kind: str, argument: str, text: str, interface: Any, make: Callable[[str], Any]) -> None:
        self.authType = kind
        self.argStringFormat = argument
        self.authHelp = text
        self.credentialInterfaces = (interface,)
        self._make = make

    def generateChecker(self, argument: str) -> Any:
        """Return the checker. Raises FileUnusable, or ValueError for an argument that can't be one."""
        if not argument:
            raise ValueError(f"say {self.authType}:{self.argStringFormat}")
        return self._make(argument)


def _htpasswd(argument: str) -> Any:
    from twisted.internet import reactor

    from merlind.web.auth.password_checker import HtpasswdChecker

    return HtpasswdChecker(reactor, Path(argument))


def _tokens(argument: str) -> Any:
    from merlind.web.auth.tokens import TokenChecker

    return TokenChecker(Path(argument))


def _proxy(argument: str) -> Any:
    from merlind.web.auth.proxy import ProxyChecker

    return ProxyChecker(argument)


HTPASSWD = CheckerFactory("htpasswd", "FILE", "Users and argon2id hashes in a file.", IUsernamePassword, _htpasswd)
TOKENS = CheckerFactory("tokens", "FILE", "Users and the SHA-256 of their tokens in a file.", IToken, _tokens)
PROXY = CheckerFactory("proxy", "HEADER", "The header in which a proxy names its user.", IProxiedRequest, _proxy)

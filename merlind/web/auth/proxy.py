"""Believes a proxy about who its user is."""

import re

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from merlind.core.users import user_name
from merlind.web.auth.credentials import Avatar, IProxiedRequest, ProxiedRequest

_HEADER = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,63}", re.ASCII)
_NEVER = frozenset({"authorization", "host", "content-length", "transfer-encoding", "connection", "cookie"})


@implementer(ICredentialsChecker)
class ProxyChecker:
    """The user in a header that a proxy sets. Only requests that came in on a unix socket may be given to it.

    Raises ValueError if the header can't be one for this.
    """

    credentialInterfaces = (IProxiedRequest,)

    def __init__(self, header: str) -> None:
        if not _HEADER.fullmatch(header) or header.lower() in _NEVER:
            raise ValueError(f"{header!r} is no header such as Remote-User")
        self._header = header.lower().encode("ascii")

    def requestAvatarId(self, credentials: ProxiedRequest) -> "Deferred[Avatar]":
        """Fire with the user's name. Fails with UnauthorizedLogin where there is none.

        Two of the header are as bad as none: one may be the client's own, which the proxy should have removed.
        """
        values = credentials.get_all(self._header)
        try:
            (value,) = values
            return succeed(user_name(value).encode("utf-8"))
        except ValueError:
            return fail(UnauthorizedLogin())

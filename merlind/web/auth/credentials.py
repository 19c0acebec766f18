"""What a request brings to sign in with, as credentials of twisted.cred: docs/contract.md, "Signing in"."""

import base64
import binascii
import re
from typing import Protocol

from twisted.cred.credentials import ICredentials, UsernamePassword
from zope.interface import Attribute, Interface, implementer

from merlind.core.users import normal_password, user_name

MAX_CREDENTIALS = 4096
"""The longest Authorization that is looked at, in bytes."""

Avatar = bytes | tuple[()]
"""What a checker finds: the name of a user. (Twisted has an empty tuple for anonymous ones.)"""

# RFC 6750, section 2.1.
_TOKEN = re.compile(rb"[A-Za-z0-9._~+/-]+=*")


class IToken(ICredentials):
    """A bearer token (RFC 6750)."""

    token = Attribute("The token, as bytes.")


class IProxiedRequest(ICredentials):
    """A request of a proxy that has signed its user in, and may say in a header who it is."""

    def get_all(name: bytes) -> list[bytes]:
        """Return all values of a header; ``name`` is in lower case."""


class IRecallsPasswords(Interface):
    """A checker that remembers for a while which passwords were right."""

    def recall(credentials: UsernamePassword) -> bool:
        """Return whether these credentials were right lately, and would be now."""


@implementer(IToken)
class Token:
    """A bearer token."""

    def __init__(self, token: bytes) -> None:
        self.token = token


class Headers(Protocol):
    """Where a proxy's word is looked for: the head of a request."""

    def get_all(self, name: bytes) -> list[bytes]:
        """Return all values of a header; ``name`` is in lower case."""


@implementer(IProxiedRequest)
class ProxiedRequest:
    """A request that came in on a unix socket."""

    def __init__(self, headers: Headers) -> None:
        self._headers = headers

    def get_all(self, name: bytes) -> list[bytes]:
        return self._headers.get_all(name)


def read_authorization(field: bytes) -> UsernamePassword | Token:
    """Return the credentials in an Authorization header (RFC 9110, section 11.6.2).

    Raises ValueError for another scheme, and for what is malformed, without a part of it in the message.
    """
    scheme, _, value = field.partition(b" ")
    value = value.strip(b" ")
    if len(field) > MAX_CREDENTIALS:
        raise ValueError("the Authorization is too long")
    match scheme.lower():
        case b"basic":
            return _read_basic(value)
        case b"bearer" if _TOKEN.fullmatch(value):
            return Token(value)
        case b"bearer":
            raise ValueError("the token is malformed")
        case _:
            raise ValueError("the Authorization has another scheme")


def _read_basic(value: bytes) -> UsernamePassword:
    """Read a user and a password (RFC 7617, section 2), both in the form in which they are compared."""
    try:
        user, colon, password = base64.b64decode(value, validate=True).partition(b":")
    except binascii.Error:
        raise ValueError("the user and password aren't in base64") from None
    if not colon:
        raise ValueError("there is no colon between user and password")
    return UsernamePassword(user_name(user).encode("utf-8"), normal_password(password))

"""Bearer tokens: a file of their hashes, and the checker of it."""

import hashlib
import re
import secrets
from collections.abc import Mapping
from pathlib import Path

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from merlind.core.users import user_name
from merlind.web.auth.credentials import Avatar, IToken, Token
from merlind.web.auth.watched_file import BadLine, WatchedFile, lines_of

_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)

COMMAND = "python -m merlind.web.auth.token FILE USER LABEL"
"""What makes a token and its line."""


def new_token() -> str:
    """Return a token of 256 random bits. The word before it lets scanners for secrets find it."""
    return "merlind_" + secrets.token_urlsafe(32)


def hash_token(token: bytes) -> str:
    """Return what is kept of a token: nobody can guess 256 bits, so a fast hash does."""
    return hashlib.sha256(token).hexdigest()


def token_line(user: str, label: str, token: str, created: str) -> str:
    """Return the line of a token. Raises ValueError for a user or label that can't be one."""
    user = user_name(user.encode("utf-8", "surrogateescape"))
    if ":" in label or not label.isprintable() or len(label) > 128:
        raise ValueError("a label has up to 128 printable characters, and no colon")
    return f"{user}:{label}:{hash_token(token.encode('ascii'))}:{created}"


def parse_tokens(text: str) -> Mapping[str, str]:
    """Return the user of each token's hash: lines of ``USER:LABEL:SHA256:CREATED``. Raises BadLine."""
    users: dict[str, str] = {}
    for number, line in lines_of(text):
        fields = line.split(":", 3)
        if len(fields) != 4:
            raise BadLine(number, f"it is not USER:LABEL:SHA256:CREATED; {COMMAND} makes one")
        try:
            user = user_name(fields[0].encode("utf-8"))
        except ValueError as error:
            raise BadLine(number, str(error)) from None
        if not _SHA256.fullmatch(fields[2]):
            raise BadLine(number, f"the third field is not a SHA-256 in hexadecimal; {COMMAND} makes one")
        if fields[2] in users:
            raise BadLine(number, "this token is there twice")
        users[fields[2]] = user
    return users


@implementer(ICredentialsChecker)
class TokenChecker:
    """The tokens of a file, which is read again when it changes. Raises FileUnusable.

    They are looked up by their hash, so the time that it takes tells nothing of a token.
    """

    credentialInterfaces = (IToken,)

    def __init__(self, path: Path) -> None:
        self._file: WatchedFile[Mapping[str, str]] = WatchedFile(path, parse_tokens)

    def requestAvatarId(self, credentials: Token) -> "Deferred[Avatar]":
        """Fire with the user's name. Fails with UnauthorizedLogin."""
        user = self._file.content.get(hash_token(credentials.token))
        return fail(UnauthorizedLogin()) if user is None else succeed(user.encode("utf-8"))

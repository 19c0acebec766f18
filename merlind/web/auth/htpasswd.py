"""Files of users and password hashes: lines of ``USER:HASH``, with argon2id (RFC 9106) and no other hash."""

import re
from collections.abc import Mapping

from argon2.exceptions import VerifyMismatchError
from argon2.low_level import Type, hash_secret, verify_secret

from merlind.core.users import user_name
from merlind.web.auth.watched_file import BadLine, lines_of

MEMORY_KIB = 19456
"""What a hash costs: memory in KiB, passes over it, and lanes, as OWASP's Password Storage Cheat Sheet has them."""
PASSES = 2
LANES = 1

_HASH = re.compile(
    rf"\$argon2id\$v=19\$m={MEMORY_KIB},t={PASSES},p={LANES}\$[A-Za-z0-9+/]{{22,86}}\$[A-Za-z0-9+/]{{43}}", re.ASCII
)
_OTHERS = (
    ("$argon2id$", f"an argon2id hash, but not of m={MEMORY_KIB},t={PASSES},p={LANES}"),
    ("$argon2", "an argon2 hash, but not argon2id"),
    ("$2", "a bcrypt hash"),
    ("$apr1$", "an MD5 hash of Apache"),
    ("{SHA}", "a SHA-1 hash"),
    ("$5$", "a SHA-256 hash of crypt"),
    ("$6$", "a SHA-512 hash of crypt"),
    ("$", "a hash of another kind"),
)

COMMAND = "python -m merlind.web.auth.passwd FILE USER"
"""What makes a line."""


def hash_password(password: bytes, salt: bytes) -> str:
    """Return the hash of a password, as a file has it. Takes 19 MiB and some 20 ms."""
    return hash_secret(password, salt, PASSES, MEMORY_KIB, LANES, 32, Type.ID).decode("ascii")


def is_password(hashed: str, password: bytes) -> bool:
    """Return whether this is the password. Takes 19 MiB and some 20 ms."""
    try:
        return verify_secret(hashed.encode("ascii"), password, Type.ID)
    except VerifyMismatchError:
        return False


def parse_users(text: str) -> Mapping[str, str]:
    """Return the hashes of a file's users. Raises BadLine, which tells neither user nor hash."""
    users: dict[str, str] = {}
    for number, line in lines_of(text):
        name, colon, hashed = line.partition(":")
        if not colon:
            raise BadLine(number, "there is no colon between user and hash")
        try:
            user = user_name(name.encode("utf-8"))
        except ValueError as error:
            raise BadLine(number, str(error)) from None
        if user in users:
            raise BadLine(number, "this user is there twice")
        if not _HASH.fullmatch(hashed):
            raise BadLine(number, f"{_kind_of(hashed)}; make the line anew: {COMMAND}")
        users[user] = hashed
    return users


def _kind_of(hashed: str) -> str:
    found = [words for prefix, words in _OTHERS if hashed.startswith(prefix)]
    return found[0] if found else "no hash that is known"

"""Users: what one may be called, and the form of a password that is checked."""

import unicodedata

ANONYMOUS = ""
"""The one user that there is without sign-in."""

MAX_USER = 128
"""The longest name of a user, in characters (code points after NFC)."""

MAX_PASSWORD_BYTES = 1024
"""The longest password, in bytes of UTF-8."""


def user_name(raw: bytes) -> str:
    """Return the name of a user in the form in which users are told apart: Unicode NFC.

    Raises ValueError, saying why these bytes can't be one. A colon would end it (RFC 7617, section 2), and a # at its
    start begins a comment in our files.
    """
    # NFC sorts combining marks in a time that grows with the square of their number, and makes a text up to 4 times
    # as short; a character has up to 4 bytes.
    if len(raw) > 16 * MAX_USER:
        raise ValueError(f"a user's name has {MAX_USER} characters at most")
    try:
        name = unicodedata.normalize("NFC", raw.decode("utf-8"))
    except UnicodeDecodeError:
        raise ValueError("a user's name is UTF-8") from None
    if not 0 < len(name) <= MAX_USER:
        raise ValueError(f"a user's name has 1 to {MAX_USER} characters")
    if not name.isprintable() or name != name.strip() or ":" in name or name[0] == "#":
        raise ValueError("a user's name is printable, without a colon, a # at its start and spaces at its ends")
    return name


def normal_password(raw: bytes) -> bytes:
    """Return a password in the form in which it is hashed and checked: UTF-8 in NFC (RFC 8265, section 4.2).

    Raises ValueError, saying why these bytes can't be one.
    """
    if not 0 < len(raw) <= MAX_PASSWORD_BYTES:
        raise ValueError(f"a password has 1 to {MAX_PASSWORD_BYTES} bytes")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("a password is UTF-8") from None
    if any(unicodedata.category(character) == "Cc" for character in text):
        raise ValueError("a password has no control characters")
    return unicodedata.normalize("NFC", text).encode("utf-8")

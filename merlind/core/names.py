"""What a name may be, and the form in which it is kept and compared."""

import unicodedata

MAX_NAME = 200
"""The longest name, in characters (code points after NFC)."""

_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_WHITE = "\t\n\v\f\r \u0085\u00a0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
_FORBIDDEN = frozenset({"Cc", "Cs", "Zl", "Zp"})


def canonical_name(text: str) -> str:
    """Return a name in the form in which names are compared: Unicode NFC, trimmed of white space."""
    return unicodedata.normalize("NFC", text).strip(_WHITE)


def normal_name(raw: bytes) -> str:
    """Return the name in Unicode NFC, trimmed. Raises ValueError, saying why it can't be a name."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("the name is not UTF-8") from None
    name = canonical_name(text)
    if not name:
        raise ValueError("the name is empty")
    if len(name) > MAX_NAME:
        raise ValueError(f"the name is longer than {MAX_NAME} characters")
    if any(c in _BIDI or unicodedata.category(c) in _FORBIDDEN for c in name):
        raise ValueError("the name has control characters in it")
    return name

"""What a name may be, the form in which it is kept and compared, and how it is kept out of the log."""

import re
import unicodedata

from merlind.core.invisible import MAX_ATTACHED, trim, visible_span

MAX_NAME = 200
"""The longest name, in characters (code points after NFC)."""

_MAX_DECOMPOSED = 4 * MAX_NAME
"""The most characters that NFC may make MAX_NAME of: none stands for more than 4."""

_TOO_LONG = f"name is longer than {MAX_NAME} characters"
_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_FORBIDDEN = frozenset({"Cc", "Cs", "Zl", "Zp"})


def canonical_name(text: str) -> str:
    """Return a name in the form in which names are compared: Unicode NFC, trimmed of what can't be seen.

    Raises ValueError if it is longer than MAX_NAME.
    """
    # Printable ASCII is in NFC, and nothing in it is invisible but spaces.
    name = text.strip() if text.isascii() and text.isprintable() else _visible_nfc(text)
    if len(name) > MAX_NAME:
        raise ValueError(_TOO_LONG)
    return name


def _visible_nfc(text: str) -> str:
    start, end = visible_span(text)
    # NFC sorts combining marks in a time that grows with the square of their number.
    if end - start > _MAX_DECOMPOSED:
        raise ValueError(_TOO_LONG)
    return trim(unicodedata.normalize("NFC", text[start : end + MAX_ATTACHED]))


def normal_name(raw: bytes) -> str:
    """Return the canonical name in these bytes. Raises ValueError, saying why it can't be a name."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("name is not UTF-8") from None
    name = canonical_name(text)
    if not name:
        raise ValueError("name is empty")
    if not name.isascii() or not name.isprintable():
        _check_characters(name)
    return name


def _check_characters(name: str) -> None:
    if any(c in _BIDI or unicodedata.category(c) in _FORBIDDEN for c in name):
        raise ValueError("name has control characters in it")


def without_name(text: str, name: str) -> str:
    """Return what an upstream said with "[name]" in the place of a task's name, and of each word in it.

    A last word that was cut short is left out: it could be the beginning of the name.
    """
    if text.endswith("…"):
        text = text.rpartition(" ")[0] + " …"
    words = sorted({name, *re.findall(r"\w+", name)}, key=len, reverse=True)
    # Many scripts have no spaces between words; in ASCII, an "a" is a name only if it stands alone.
    patterns = (rf"(?<!\w){re.escape(word)}(?!\w)" if word.isascii() else re.escape(word) for word in words)
    return re.sub("|".join(patterns), "[name]", unicodedata.normalize("NFC", text), flags=re.IGNORECASE)

"""How names are compared with the tables: case, accents and punctuation don't count."""

import re
import unicodedata

from anyascii import anyascii

_LATIN = re.compile(r"[A-Za-z\u00c0-\u024f\u1e00-\u1eff'’ʼ`.\-\s]*")
_ARABIC_VOWELS = range(0x064B, 0x0660)
_LATIN_AND_CYRILLIC_ACCENTS = range(0x0300, 0x0370)


def key_of(name: str) -> str:
    """Return the key that a name is looked up by: in its own script, letters only; "" if it has no letter.

    A Latin name becomes plain a to z ("José-María" is "josemaria"). Other scripts keep their letters, less accents and
    vowel signs that people leave out ("Алёна" is "алена").
    """
    folded = unicodedata.normalize("NFKC", name).casefold()
    if _LATIN.fullmatch(folded):
        return ascii_key_of(folded)
    decomposed = unicodedata.normalize("NFD", folded)
    key = unicodedata.normalize("NFC", "".join(filter(_counts, decomposed)))
    return key if any(map(str.isalpha, key)) else ""


def ascii_key_of(key: str) -> str:
    """Return a key, or a name of nothing but letters, transliterated to plain a to z."""
    return re.sub(r"[^a-z]", "", anyascii(key).lower())


def _counts(character: str) -> bool:
    code = ord(character)
    if code in _LATIN_AND_CYRILLIC_ACCENTS or code in _ARABIC_VOWELS:
        return False
    return unicodedata.category(character)[0] in "LM"

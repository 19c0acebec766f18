"""Which characters can't be seen, and trimming of them.

They come along unnoticed: a byte order mark from a text file, marks of direction from a chat. A name mustn't be another
name because of them.
"""

import re
import unicodedata

_WHITE = ((0x09, 0x0D), (0x20, 0x20), (0x85, 0x85), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A), (0x2028, 0x2029),
          (0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000))  # fmt: skip
"""White_Space: PropList.txt of the Unicode Character Database 16.0.0."""

_DEFAULT_IGNORABLE = (
    (0xAD, 0xAD), (0x34F, 0x34F), (0x61C, 0x61C), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F),
    (0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F), (0x3164, 0x3164), (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF),
    (0xFFA0, 0xFFA0), (0xFFF0, 0xFFF8), (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A), (0xE0000, 0xE0FFF),
)  # fmt: skip
"""Default_Ignorable_Code_Point: DerivedCoreProperties.txt of the Unicode Character Database 16.0.0."""

_NONCHARACTERS = ((0xFDD0, 0xFDEF), *((plane + 0xFFFE, plane + 0xFFFF) for plane in range(0, 0x110000, 0x10000)))
"""The Unicode Standard 16.0, section 23.7."""

_BLANK = ((0x2800, 0x2800), (0xFFF9, 0xFFFB), (0x13430, 0x13440), (0x16FE4, 0x16FE4), (0x1D159, 0x1D159))
"""Drawn as nothing by themselves, though no property says so: an empty braille pattern, a musical null notehead, a
filler, and controls of annotations and hieroglyphs."""

MAX_ATTACHED = 8
"""The most invisible characters that belong to the visible one before them."""


def _one_of(*ranges: tuple[int, int]) -> str:
    return "[" + "".join(rf"\U{first:08x}-\U{last:08x}" for first, last in ranges) + "]"


_INVISIBLE = re.compile(_one_of(*_WHITE, *_DEFAULT_IGNORABLE, *_NONCHARACTERS, *_BLANK) + "*")

_FLAG = "\U0001f3f4"
_TAGS = re.compile(rf"[\U000e0020-\U000e007e]{{1,{MAX_ATTACHED - 1}}}\U000e007f")
_JOINER = re.compile("[\u200c\u200d]")
_VARIATION = re.compile(_one_of((0x180B, 0x180D), (0x180F, 0x180F), (0xFE00, 0xFE0F), (0xE0100, 0xE01EF)))
_NOTHING = re.compile("")
_VARIED = frozenset({"Lo", "Sc", "Sk", "Sm", "So"})
_VARIED_PUNCTUATION = frozenset("\u203c\u2049\u2139\u3030")
_VIRAMA = 9


def visible_span(text: str) -> tuple[int, int]:
    """Return where the first visible character begins and the last one ends; both are 0 if there is none."""
    start = _end_of(_INVISIBLE, text, 0)
    if start == len(text):
        return 0, 0
    # Backwards: a search for what stands before the end would try every run of invisible characters.
    return start, len(text) - _end_of(_INVISIBLE, text[::-1], 0)


def trim(text: str) -> str:
    """Return the text without invisible characters at its ends, except for those that shape its last character."""
    start, end = visible_span(text)
    return text[start : _end_of(_attached_to(text[end - 1]), text, end)] if end else ""


def _attached_to(last: str) -> re.Pattern[str]:
    """Return what may follow a visible character and belong to it: it would look or read differently without."""
    if last == _FLAG:
        return _TAGS  # the flag of Scotland: UTS #51, "Emoji Tag Sequence"
    if unicodedata.combining(last) == _VIRAMA:
        return _JOINER  # the last letter of many names in Malayalam: The Unicode Standard, section 12.9
    if unicodedata.category(last) in _VARIED or last in _VARIED_PUNCTUATION:
        return _VARIATION  # a red heart, or one form of an ideograph: The Unicode Standard, section 23.4
    return _NOTHING


def _end_of(pattern: re.Pattern[str], text: str, start: int) -> int:
    """Return the end of what the pattern matches at ``start``, or ``start`` if it matches nothing."""
    found = pattern.match(text, start)
    return found.end() if found else start

"""What a name and a photo may be: pure functions on what a client sent. Nothing is decoded here."""

import unicodedata

MAX_NAME = 200
"""The longest name, in characters (code points after NFC)."""

_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_WHITE = "\t\n\v\f\r \u0085\u00a0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
_FORBIDDEN = frozenset({"Cc", "Cs", "Zl", "Zp"})

SNIFF = 16
"""How many of a photo's first bytes tell its type."""

_BRANDS = {
    b"heic": "image/heic",
    b"heix": "image/heic",
    b"heim": "image/heic",
    b"heis": "image/heic",
    b"hevc": "image/heic",
    b"mif1": "image/heic",
    b"msf1": "image/heic",
    b"avif": "image/avif",
    b"avis": "image/avif",
}


def normal_name(raw: bytes) -> str:
    """The name as it is kept: in NFC, trimmed. Raises ValueError, saying why it can't be one."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("the name is not UTF-8") from None
    name = unicodedata.normalize("NFC", text).strip(_WHITE)
    if not name:
        raise ValueError("the name is empty")
    if len(name) > MAX_NAME:
        raise ValueError(f"the name is longer than {MAX_NAME} characters")
    if any(c in _BIDI or unicodedata.category(c) in _FORBIDDEN for c in name):
        raise ValueError("the name has control characters in it")
    return name


def image_type(head: bytes) -> str | None:
    """The media type that the first SNIFF bytes of an image tell, or None if they are of none that we take."""
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "image/webp"
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12])
    if head.startswith((b"II*\x00", b"MM\x00*")):
        return "image/tiff"
    # "BM" alone is two letters of any text: the reserved bytes behind the size are zero in a bitmap.
    if head.startswith(b"BM") and len(head) >= 14 and head[6:10] == b"\0\0\0\0":
        return "image/bmp"
    return None

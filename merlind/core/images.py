"""Which image format a photo has, by its first bytes. Nothing is decoded in this process."""

SNIFF = 256
"""The most of a photo's first bytes that it takes to show its type: room for 60 brands, and files have about ten."""

_SIGNATURE = 16
"""How many bytes show the type of all photos but ISO base media files."""

_AVIF = frozenset({b"avif", b"avis"})
_HEIF = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1", b"miaf"})
"""The brands of still images and image sequences in ISO base media files (ISO/IEC 23008-12): those that HEVC encodes,
and those that leave the coding open."""


def bytes_needed(head: bytes) -> int:
    """Return how many of a photo's first bytes show its type, as far as those at hand tell; at most SNIFF."""
    if head[4:8] != b"ftyp" or len(head) < _SIGNATURE:
        return _SIGNATURE
    _, end = _brands_at(head)
    return min(max(end, _SIGNATURE), SNIFF)


def image_type(head: bytes) -> str | None:
    """Return the media type shown by a photo's first bytes, or None if it is none that we accept.

    Give it as many as ``bytes_needed`` says, or all of a photo that is shorter.
    """
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "image/webp"
    if head[4:8] == b"ftyp":
        return _heif_type(head)
    if head.startswith((b"II*\x00", b"MM\x00*")):
        return "image/tiff"
    # BigTIFF: the size of its offsets follows, which is 8, and two zeros.
    if head.startswith((b"II+\x00\x08\x00\x00\x00", b"MM\x00+\x00\x08\x00\x00")):
        return "image/tiff"
    # Any text may begin with "BM"; in a bitmap the reserved bytes after the size are zero.
    if head.startswith(b"BM") and len(head) >= 14 and head[6:10] == b"\0\0\0\0":
        return "image/bmp"
    return None


def _heif_type(head: bytes) -> str | None:
    """Return the media type of an ISO base media file (ISO/IEC 14496-12) by all brands that its ftyp box names.

    The major brand isn't enough: an encoder may say that the file is some image, and AVIF only among the compatible
    brands.
    """
    start, end = _brands_at(head)
    # Between the major brand and the compatible ones stand four bytes of a version.
    brands = {head[i : i + 4] for i in range(start, min(end, len(head)) - 3, 4) if i != start + 4}
    if brands & _AVIF:
        return "image/avif"
    return "image/heic" if brands & _HEIF else None


def _brands_at(head: bytes) -> tuple[int, int]:
    """Return where the brands of a ftyp box begin and end."""
    start, end = 8, int.from_bytes(head[:4], "big")
    if end == 1:
        # The size is a large one: it follows, in eight bytes.
        start, end = 16, int.from_bytes(head[8:16], "big")
    return start, max(end, start + 4)

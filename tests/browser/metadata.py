"""Puts metadata into photos by hand, as cameras and phones do, and finds what is left of it."""

import struct
import zlib
from collections.abc import Iterator

SECRETS = tuple(
    f"SECRET-{where}".encode()
    for where in ("CAMERA", "DATE", "PLACE", "XMP", "IPTC", "NOTE", "TRAILER", "THUMBNAIL", "TEXT")
)
"""What the metadata say: none of it may leave the browser."""

_LATITUDE = struct.pack("<6I", 48, 1, 51, 1, 0x5EC2E7, 100)
CAMERA, DATE, PLACE, XMP, IPTC, NOTE, TRAILER, THUMBNAIL, TEXT = SECRETS

_ORIENTATION = 0x0112
_ASCII, _SHORT, _LONG, _RATIONAL, _UNDEFINED = 2, 3, 4, 5, 7


def exif(orientation: int = 1) -> bytes:
    """Return an Exif body in TIFF format with a camera, a date, a GPS position and an orientation, little-endian."""

    def directory(at: int, fields: list[tuple[int, int, int, bytes]]) -> bytes:
        # Values longer than four bytes follow the directory.
        entries, behind = b"", b""
        end = at + 2 + 12 * len(fields) + 4
        for tag, kind, count, value in fields:
            if len(value) > 4:
                entries += struct.pack("<HHII", tag, kind, count, end + len(behind))
                behind += value + b"\0" * (len(value) % 2)
            else:
                entries += struct.pack("<HHI", tag, kind, count) + value.ljust(4, b"\0")
        return struct.pack("<H", len(fields)) + entries + b"\0\0\0\0" + behind

    def main(gps_at: int) -> bytes:
        fields = [
            (0x010F, _ASCII, len(CAMERA) + 1, CAMERA + b"\0"),
            (_ORIENTATION, _SHORT, 1, struct.pack("<H", orientation)),
            (0x0132, _ASCII, len(DATE) + 1, DATE + b"\0"),
            (0x8825, _LONG, 1, struct.pack("<I", gps_at)),
        ]
        return directory(8, fields)

    gps_at = 8 + len(main(0))
    gps = [
        (0x0001, _ASCII, 2, b"N\0"),
        (0x0002, _RATIONAL, 3, _LATITUDE),
        (0x001B, _UNDEFINED, len(PLACE), PLACE),
    ]
    return b"II*\0\x08\0\0\0" + main(gps_at) + directory(gps_at, gps) + THUMBNAIL


def xmp() -> bytes:
    """Return an XMP packet with a place."""
    return b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF exif:GPSLatitude="' + XMP + b'"/></x:xmpmeta>'


def in_jpeg(photo: bytes, orientation: int = 1) -> bytes:
    """Return the JPEG with Exif, XMP, IPTC, a comment, and a trailer as phones append it."""

    def segment(marker: int, content: bytes) -> bytes:
        return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content

    metadata = (
        segment(0xE1, b"Exif\0\0" + exif(orientation)),
        segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp()),
        segment(0xED, b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\x0e\x1c\x02\x5a\0\x0b" + IPTC),
        segment(0xFE, NOTE),
    )
    return photo[:2] + b"".join(metadata) + photo[2:] + TRAILER


def in_png(photo: bytes) -> bytes:
    """Return the PNG with Exif, a text and XMP."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    after_header = 8 + 12 + 13
    metadata = (
        chunk(b"eXIf", exif()),
        chunk(b"tEXt", b"Comment\0" + TEXT),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp()),
    )
    return photo[:after_header] + b"".join(metadata) + photo[after_header:]


def in_webp(photo: bytes) -> bytes:
    """Return the WebP, as Chromium writes it, with Exif and XMP."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return kind + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)

    assert photo[12:16] == b"VP8X", "it has no flags"
    has_exif_and_xmp = 0x08 | 0x04
    body = (
        photo[8:20]
        + bytes([photo[20] | has_exif_and_xmp])
        + photo[21:]
        + chunk(b"EXIF", exif())
        + chunk(b"XMP ", xmp())
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


def leaks(photo: bytes) -> list[str]:
    """Return what a photo tells about where, when and with what it was taken."""
    found = [secret.decode() for secret in SECRETS if secret in photo]
    found += ["latitude"] * (_LATITUDE in photo)
    if photo.startswith(b"\xff\xd8"):
        found += [f"Exif tag {tag:#06x}" for tag in exif_tags(photo) if tag != _ORIENTATION]
        found += [f"segment {marker:#04x}" for marker, _ in segments(photo) if marker in (0xED, 0xFE)]
        found += ["XMP"] * any(content.startswith(b"http:") for _, content in segments(photo))
    return found


def segments(jpeg: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the marker and the content of each segment of a JPEG, up to the first scan's header."""
    at = 2
    while True:
        assert jpeg[at] == 0xFF, f"no marker at {at}"
        marker, length = jpeg[at + 1], struct.unpack_from(">H", jpeg, at + 2)[0]
        yield marker, jpeg[at + 4 : at + 2 + length]
        if marker == 0xDA:
            return
        at += 2 + length


def scan(jpeg: bytes) -> bytes:
    """Return the picture of a JPEG as it is stored: from the first scan's header to the end-of-image marker."""
    begin = 2 + sum(4 + len(content) for marker, content in segments(jpeg) if marker != 0xDA)
    return jpeg[begin : jpeg.rindex(b"\xff\xd9") + 2]


def exif_tags(jpeg: bytes) -> list[int]:
    """Return the tags of the main directories in a JPEG's Exif segments, in any byte order."""
    found: list[int] = []
    for marker, content in segments(jpeg):
        if marker == 0xE1 and content.startswith(b"Exif\0\0"):
            tiff = content[6:]
            order = "<" if tiff.startswith(b"II") else ">"
            (at,) = struct.unpack_from(f"{order}I", tiff, 4)
            (count,) = struct.unpack_from(f"{order}H", tiff, at)
            found += [struct.unpack_from(f"{order}H", tiff, at + 2 + 12 * n)[0] for n in range(count)]
    return found

"""Pictures for the face scorer's tests: a real portrait (tests/portraits), and what can be made of it."""

import io
import struct
import zlib
from functools import cache
from pathlib import Path

from PIL import Image

PORTRAITS = Path(__file__).parents[3] / "portraits"


@cache
def portrait(name: str = "astronaut.jpg") -> Image.Image:
    """Open a portrait. Don't change it: all tests get the same one."""
    return Image.open(PORTRAITS / name).convert("RGB")


def encode(image: Image.Image, image_format: str = "JPEG", **options: object) -> bytes:
    """Write an image as a file of some format."""
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def with_orientation(image: Image.Image, orientation: int, image_format: str = "JPEG") -> bytes:
    """Write an image with an EXIF orientation (1 to 8)."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode(image, image_format, exif=exif)


def jpeg_that_claims(width: int, height: int, photo: bytes | None = None) -> bytes:
    """Write a JPEG of one small block, or of ``photo``, whose header claims another size."""
    jpeg = bytearray(photo or encode(Image.new("RGB", (8, 8))))
    frame = max(jpeg.find(b"\xff\xc0"), jpeg.find(b"\xff\xc2"))
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(jpeg)


def jpeg_with_more_scans(photo: bytes, scans: int) -> bytes:
    """Repeat the last scan of a progressive JPEG, with the table before it, so many times."""
    end = photo.rindex(b"\xff\xd9")
    scan = photo[photo.rindex(b"\xff\xc4", 0, photo.rindex(b"\xff\xda")) : end]
    return photo[:end] + scans * scan + photo[end:]


def png(width: int, height: int, bits: int, color: int, rows: bytes) -> bytes:
    """Write a PNG from its header's fields and its unpacked rows; they may be fewer than the header claims."""
    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def gif_that_claims(width: int, height: int) -> bytes:
    """Write a GIF of one pixel that claims another size."""
    screen, size = struct.pack("<HH", width, height), struct.pack("<HHHH", 0, 0, width, height)
    return b"GIF89a" + screen + b"\x80\0\0\0\0\0\xff\xff\xff," + size + b"\0\x02\x02\x44\x01\0;"


def side_by_side(*images: Image.Image) -> Image.Image:
    """Put images in a row, on gray, each in the middle of the height."""
    height = max(image.height for image in images)
    row = Image.new("RGB", (sum(image.width for image in images), height), (128, 128, 128))
    left = 0
    for image in images:
        row.paste(image, (left, (height - image.height) // 2))
        left += image.width
    return row

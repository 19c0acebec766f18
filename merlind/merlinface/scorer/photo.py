"""A photo's bytes become pixels: upright, RGB, no larger than is useful. Limits are checked before it is decoded."""

import io
import re
import warnings
from typing import cast

import pi_heif
from PIL import Image, ImageOps
from PIL.JpegImagePlugin import JpegImageFile

from merlind.merlinface.scorer.judgement import NOT_AN_IMAGE, TOO_MANY_PIXELS, TOO_SMALL, Refused

LONG_SIDE = 1024
"""The most pixels of the long side that a photo comes out with."""

SHORTEST_SIDE = 20
"""The fewest pixels of a side: no face can be judged in less."""

MAX_PIXELS = 40_000_000
"""The most pixels that are decoded. A JPEG counts as what it is decoded to: ½, ¼ or ⅛ of its sides."""

MAX_JPEG_PIXELS = 200_000_000
"""The most pixels of a JPEG, of which an eighth of the sides may be enough."""

MAX_JPEG_COEFFICIENTS = 600_000_000
"""The most coefficients of a JPEG in several scans, such as a progressive one. They are in memory all at once, in two
bytes each: it has as many as it has samples, three a pixel without subsampling."""

MAX_JPEG_WORK = 4_000_000_000
"""The most coefficients times scans. Each scan goes over all coefficients, and a few hundred bytes make one: a small
file could keep a worker busy for minutes. This much takes about three seconds. Most progressive JPEGs have 10 scans."""

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF")
"""The formats that are opened, as Pillow calls them. JPEG opens MPO too: a JPEG with more pictures behind it."""

_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd7\xff])", re.DOTALL)
"""What begins a segment of a JPEG. The bytes left out occur in coded data, and begin none."""
_START_OF_SCAN, _END_OF_IMAGE = b"\xda", b"\xd9"

_WITH_ALPHA = ("LA", "La", "RGBA", "RGBa")

# Thumbnails and everything but the main picture stay unread.
pi_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False)
# Ours are the limits: they are the same for every format, and a photo past them is refused and not warned about.
Image.MAX_IMAGE_PIXELS = None


def decode(photo: bytes) -> Image.Image:
    """Return the photo upright in RGB, its long side at most LONG_SIDE; of an animation, the first picture.

    Raises Refused for what is no such image, is cut short, or is past the limits. May raise MemoryError.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(photo), formats=FORMATS) as image:
                _check_size(image, photo)
                return _normalised(image)
    except (Refused, MemoryError):
        raise
    except Exception as error:  # Pillow raises nearly anything for a broken file.
        raise Refused(NOT_AN_IMAGE) from error


def _check_size(image: Image.Image, photo: bytes) -> None:
    """Refuse what is too large or too small, by its header. A JPEG is then decoded to a half, a quarter or an eighth of
    its sides, as long as enough of it is left."""
    if isinstance(image, JpegImageFile):
        _check_jpeg(image, scans_of_jpeg(photo))
        image.draft(None, (LONG_SIDE, LONG_SIDE))
    if image.width * image.height > MAX_PIXELS:
        raise Refused(TOO_MANY_PIXELS)
    if min(image.size) < SHORTEST_SIDE:
        raise Refused(TOO_SMALL)


def _check_jpeg(image: JpegImageFile, scans: int) -> None:
    pixels = image.width * image.height
    if pixels > MAX_JPEG_PIXELS:
        raise Refused(TOO_MANY_PIXELS)
    samples = [across * down for _, across, down, _ in image.layer]
    coefficients = pixels * sum(samples) // max(samples)
    if scans > 1 and (coefficients > MAX_JPEG_COEFFICIENTS or coefficients * scans > MAX_JPEG_WORK):
        raise Refused(TOO_MANY_PIXELS)


def scans_of_jpeg(photo: bytes) -> int:
    """Count the scans of a JPEG, those of a thumbnail and of what is behind it aside."""
    scans, at = 0, 2
    while (marker := _MARKER.search(photo, at)) and marker[1] != _END_OF_IMAGE:
        scans += marker[1] == _START_OF_SCAN
        at = marker.end() + int.from_bytes(photo[marker.end() : marker.end() + 2])
    return scans


def _normalised(image: Image.Image) -> Image.Image:
    image.load()
    ImageOps.exif_transpose(image, in_place=True)
    upright = _averageable(image)
    if upright.width * upright.height > 4 * LONG_SIDE**2:
        # Averaging whole blocks first keeps what follows cheap.
        upright = upright.reduce(max(upright.size) // (2 * LONG_SIDE) or 1)
    rgb = _on_white(upright) if upright.mode in _WITH_ALPHA else upright.convert("RGB")
    rgb.thumbnail((LONG_SIDE, LONG_SIDE), Image.Resampling.BILINEAR)
    return rgb


def _averageable(image: Image.Image) -> Image.Image:
    """Bring an image to a mode in which pixels can be averaged: no palette, and gray of 8 bits."""
    match image.mode:
        case "P" | "PA":
            return image.convert("RGBA" if image.has_transparency_data else "RGB")
        case "1":
            return image.convert("L")
        case "I;16" | "I;16B" | "I;16L" | "I;16N":
            return image.convert("I").point(lambda value: value / 256).convert("L")
        case "I" | "F":
            # There is no agreed range: it is stretched to what is in the image.
            low, high = cast(tuple[float, float], image.getextrema())
            scale = 255 / (high - low or 1)
            return image.point(lambda value: value * scale - low * scale).convert("L")
        case _:
            return image


def _on_white(image: Image.Image) -> Image.Image:
    """Lay what is transparent on white, which is what most viewers show it on."""
    with_alpha = image.convert("RGBA")
    white = Image.new("RGB", with_alpha.size, (255, 255, 255))
    white.paste(with_alpha, mask=with_alpha.getchannel("A"))
    return white

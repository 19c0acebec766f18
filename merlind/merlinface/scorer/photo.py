"""A photo's bytes become pixels: upright, RGB, no larger than is useful. Limits are checked before it is decoded."""

import io
import warnings
from typing import cast

import pi_heif
from PIL import Image, ImageOps

from merlind.merlinface.scorer.judgement import NOT_AN_IMAGE, TOO_MANY_PIXELS, TOO_SMALL, Refused

LONG_SIDE = 1024
"""The most pixels of the long side that a photo comes out with."""

SHORTEST_SIDE = 20
"""The fewest pixels of a side: no face can be judged in less."""

MAX_PIXELS = 40_000_000
"""The most pixels that are decoded. A JPEG counts as what it is decoded to: ½, ¼ or ⅛ of its sides."""

MAX_JPEG_PIXELS = 200_000_000
"""The most pixels of a JPEG: a progressive one has its coefficients in memory for all of them."""

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF")
"""The formats that are opened, as Pillow calls them. JPEG opens MPO too: a JPEG with more pictures behind it."""

_SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N")
_WITH_TRANSPARENCY = ("P", "PA", "LA", "La", "RGBA", "RGBa")

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
                return _normalised(image)
    except (Refused, MemoryError):
        raise
    except Exception as error:  # Pillow raises nearly anything for a broken file.
        raise Refused(NOT_AN_IMAGE) from error


def _normalised(image: Image.Image) -> Image.Image:
    _shrink_while_decoding(image)
    _check_size(image)
    image.load()
    upright = ImageOps.exif_transpose(_eight_bits(image))
    if upright.width * upright.height > 4 * LONG_SIDE**2:
        # Averaging whole blocks first keeps what follows cheap.
        upright = upright.reduce(max(upright.size) // (2 * LONG_SIDE) or 1)
    rgb = _rgb(upright)
    rgb.thumbnail((LONG_SIDE, LONG_SIDE), Image.Resampling.BILINEAR)
    return rgb


def _shrink_while_decoding(image: Image.Image) -> None:
    """Have a JPEG decoded to a half, a quarter or an eighth of its sides, as long as enough of it is left."""
    if image.format in ("JPEG", "MPO"):
        if image.width * image.height > MAX_JPEG_PIXELS:
            raise Refused(TOO_MANY_PIXELS)
        image.draft(None, (LONG_SIDE, LONG_SIDE))


def _check_size(image: Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise Refused(TOO_MANY_PIXELS)
    if min(image.size) < SHORTEST_SIDE:
        raise Refused(TOO_SMALL)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Bring gray of 16 or 32 bits to 8. The latter has no agreed range: it is stretched to what is in the image."""
    if image.mode in _SIXTEEN_BITS:
        return image.point(lambda value: value / 256, "L")
    if image.mode in ("I", "F"):
        low, high = cast(tuple[float, float], image.getextrema())
        scale = 255 / (high - low or 1)
        return image.point(lambda value: value * scale - low * scale).convert("L")
    return image


def _rgb(image: Image.Image) -> Image.Image:
    """Lay what is transparent on white, which is what most viewers show it on."""
    if image.mode not in _WITH_TRANSPARENCY:
        return image.convert("RGB")
    with_alpha = image.convert("RGBA")
    white = Image.new("RGB", with_alpha.size, (255, 255, 255))
    white.paste(with_alpha, mask=with_alpha.getchannel("A"))
    return white

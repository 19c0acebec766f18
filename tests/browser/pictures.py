"""Pictures that Chromium draws and looks at: with a colour in each corner, so that one sees which side is up."""

import base64
import random
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from tests.browser.support import browser

if TYPE_CHECKING:
    from playwright.sync_api import Page

CORNERS = ("red", "lime", "blue", "yellow")
"""The colours at the top left, top right, bottom left and bottom right of a picture that stands upright."""

_DRAW = """async ([width, height, type, noise, corners, seed]) => {
  const canvas = document.createElement("canvas");
  canvas.width = width; canvas.height = height;
  const pen = canvas.getContext("2d");
  if (noise) {
    const pixels = pen.createImageData(width, height);
    const words = new Uint32Array(pixels.data.buffer);
    let state = seed | 1;
    for (let i = 0; i < words.length; i++) {
      state ^= state << 13; state ^= state >>> 17; state ^= state << 5;
      words[i] = state | 0xff000000;
    }
    pen.putImageData(pixels, 0, 0);
  }
  const [w, h] = [width / 4, height / 4];
  [[0, 0], [width - w, 0], [0, height - h], [width - w, height - h]].forEach(([x, y], i) => {
    if (corners[i]) { pen.fillStyle = corners[i]; pen.fillRect(x, y, w, h); }
  });
  for (let i = 0; i < 4; i++) {
    pen.fillStyle = `hsl(${seed >> (8 * i) & 255} 80% 50%)`;
    pen.fillRect(width / 4 + i * width / 8, height / 4, width / 8, height / 2);
  }
  const blob = await new Promise(resolve => canvas.toBlob(resolve, type, 0.95));
  let text = "";
  for (const byte of new Uint8Array(await blob.arrayBuffer())) text += String.fromCharCode(byte);
  return btoa(text);
}"""

_LOOK = """async encoded => {
  const bytes = Uint8Array.from(atob(encoded), c => c.charCodeAt(0));
  const image = await createImageBitmap(new Blob([bytes]), {imageOrientation: "from-image"});
  const canvas = document.createElement("canvas");
  canvas.width = image.width; canvas.height = image.height;
  const pen = canvas.getContext("2d");
  pen.drawImage(image, 0, 0);
  const points = [[0.1, 0.1], [0.9, 0.1], [0.1, 0.9], [0.9, 0.9]];
  const colours = points.map(([x, y]) => [...pen.getImageData(image.width * x, image.height * y, 1, 1).data]);
  return {width: image.width, height: image.height, colours};
}"""

_NAMES = {
    (255, 0, 0): "red",
    (0, 255, 0): "lime",
    (0, 0, 255): "blue",
    (255, 255, 0): "yellow",
    (255, 255, 255): "white",
    (0, 0, 0): "black",
}


@dataclass(frozen=True)
class Look:
    """What a picture looks like in a viewer: its size in pixels, and the colours of its corners, as CORNERS."""

    width: int
    height: int
    corners: tuple[str, ...]


@cache
def _studio() -> "Page":
    return browser().new_page()


def draw(
    width: int = 64, height: int = 48, kind: str = "jpeg", noise: bool = False, corners: tuple[str, ...] = CORNERS
) -> bytes:
    """Draw a picture unlike any other, as a jpeg, png or webp; with ``noise``, one that can't be made small.

    Without noise and corners, a PNG is transparent but for its middle.
    """
    arguments = [width, height, f"image/{kind}", noise, list(corners), random.getrandbits(31)]
    return base64.b64decode(_studio().evaluate(_DRAW, arguments))


def look(photo: bytes) -> Look:
    """Look at a picture, turned as its orientation says."""
    seen = _studio().evaluate(_LOOK, base64.b64encode(photo).decode("ascii"))
    return Look(seen["width"], seen["height"], tuple(_nearest(pixel) for pixel in seen["colours"]))


def _nearest(pixel: list[int]) -> str:
    red, green, blue, alpha = pixel
    if alpha == 0:
        return "transparent"

    def distance(colour: tuple[int, int, int]) -> int:
        return sum((a - b) ** 2 for a, b in zip(colour, (red, green, blue), strict=True))

    return _NAMES[min(_NAMES, key=distance)]

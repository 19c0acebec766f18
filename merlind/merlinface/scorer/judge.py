"""Judges the face in a photo: apparent gender and age, by HSE FaceRes (data/faceres.onnx).

The model's output that would tell people apart was cut off it (tools/convert_faceres.py): no embedding is computed.
"""

import numpy as np
from PIL import Image

from merlind.merlinface.scorer.detect import Array, Detector
from merlind.merlinface.scorer.judgement import NO_FACE, Judgement, Refused
from merlind.merlinface.scorer.model import load_model
from merlind.merlinface.scorer.photo import decode

SIDE = 224
"""Pixels of the model's input, which is square."""

POINTS = (
    np.array([(38.29, 51.70), (73.53, 51.50), (56.03, 71.74), (41.55, 92.37), (70.73, 92.20)], np.float32) * SIDE / 112
)
"""Where eyes, nose and corners of the mouth are put in the input (as ArcFace has them in 112 x 112 pixels)."""

MEAN_BGR = np.array([103.939, 116.779, 123.68], np.float32)
"""The mean color of ImageNet, which the model has taken off its input."""

AGES = np.arange(1, 101, dtype=np.float32)
"""The ages in years that the model gives a probability for."""

AGE_OFFSET = 1.5
AGE_SLOPE = 1.02
"""The model's mean age, corrected: it judges people somewhat young (docs/scorer.md)."""


class Judge:
    """Both models, loaded, which takes about a second. Not for more than one thread."""

    def __init__(self) -> None:
        self._detector = Detector()
        self._model = load_model("faceres.onnx")

    def look(self, photo: bytes) -> Judgement:
        """Judge the face that the photo is of. Raises Refused; may raise MemoryError."""
        found = self._detector.find(decode(photo))
        if found is None:
            raise Refused(NO_FACE)
        image, face = found
        pixels = np.asarray(aligned(image, face.points), np.float32)
        male, ages = self._model.run(None, {"input_1": pixels[None, :, :, ::-1] - MEAN_BGR})
        age = AGE_OFFSET + AGE_SLOPE * float(ages[0] @ AGES)
        return Judgement(female=1 - float(male[0, 0]), age=age)


def aligned(image: Image.Image, points: Array) -> Image.Image:
    """Turn, scale and shift the image so that the face's points come to lie on POINTS as nearly as can be."""
    turn, shift = similarity(points, POINTS)
    scale = float(np.sqrt(abs(np.linalg.det(turn))))
    if scale < 0.5:
        # Sampling between pixels would skip most of them: average whole blocks first.
        block = int(0.5 / scale) + 1
        image, points = image.reduce(block), points / block
        turn, shift = similarity(points, POINTS)
    back = np.linalg.inv(turn)
    start = -back @ shift
    matrix = (back[0, 0], back[0, 1], start[0], back[1, 0], back[1, 1], start[1])
    return image.transform((SIDE, SIDE), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)


def similarity(points: Array, targets: Array) -> tuple[Array, Array]:
    """Return turn and scale (2 x 2) and the shift that bring points nearest to targets: least squares, by Umeyama."""
    centred, wanted = points - points.mean(0), targets - targets.mean(0)
    left, spread, right = np.linalg.svd(wanted.T @ centred)
    # No mirror image, even if that would be nearer.
    signs = np.array([1.0, np.sign(np.linalg.det(left) * np.linalg.det(right))])
    scale = (spread * signs).sum() / (centred**2).sum()
    turn = scale * left @ np.diag(signs) @ right
    return turn, targets.mean(0) - turn @ points.mean(0)

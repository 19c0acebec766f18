"""Finds the face that a photo is of, by YuNet (data/yunet.onnx)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from merlind.merlinface.scorer.model import load_model

Array = npt.NDArray[np.floating[Any]]

SEARCHED_SIDES = (320, 768)
"""Pixels of the long side that faces are looked for at: at the second, small faces, if the first shows none."""

MARGIN = 0.2
"""Gray around the photo, as a share of its sides: a face that fills the photo is only found with room around it."""

GRAY = 128
STRIDES = (8, 16, 32)
"""Pixels between the places where YuNet looks: it has three grids of them."""

MIN_CONFIDENCE = 0.6
MAX_OVERLAP = 0.3
"""Two faces that share more than so much of the area that they cover are one face found twice."""

LARGE = 0.5
"""Of several faces, those with at least so much of the largest one's area count."""

TURNS = (None, Image.Transpose.ROTATE_270, Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180)
"""The turns that a photo is tried in: as it is, then as cameras are held that don't say how they were."""

SURE = 0.9
"""A photo with so sure a face isn't turned. Of 187 portraits, all are above it (0.916 and more), and of 561 turned
ones, one: YuNet finds upright faces in those too, though not as surely."""

LIKELY = 0.8
"""With so sure a face, in any turn, small faces aren't looked for."""

TURN_MARGIN = 0.03
"""A turn has to be surer by so much than the photo as it is: for turned portraits it is, by 0.043 and more."""


@dataclass(frozen=True, slots=True)
class Face:
    """A face in a photo: its upper left corner, width and height, how sure it is one (0 to 1), and where eyes, nose and
    corners of the mouth are (5 x 2), all in pixels."""

    left: float
    top: float
    width: float
    height: float
    confidence: float
    points: Array

    @property
    def area(self) -> float:
        return self.width * self.height

    @property
    def upright(self) -> bool:
        """Whether the mouth is below the eyes, rather than beside or above them."""
        across, down = self.points[3:].mean(0) - self.points[:2].mean(0)
        return bool(down > abs(across))


class Detector:
    """The model, loaded. Not for more than one thread."""

    def __init__(self) -> None:
        self._model = load_model("yunet.onnx")

    def find(self, photo: Image.Image) -> tuple[Image.Image, Face] | None:
        """Find the face that the photo is of, and the photo turned so that it is upright; None if there is none."""
        best: tuple[Image.Image, Face] | None = None
        surest = 0.0
        for side in SEARCHED_SIDES:
            for turn in TURNS:
                turned = photo if turn is None else photo.transpose(turn)
                faces = [face for face in self.faces(turned, side) if face.upright]
                if not faces:
                    continue
                face = main_face(faces, turned.width, turned.height)
                if turn is None and face.confidence >= SURE:
                    return turned, face
                confidence = face.confidence - (0.0 if turn is None else TURN_MARGIN)
                if confidence > surest:
                    best, surest = (turned, face), confidence
            if surest >= LIKELY:
                break
        return best

    def faces(self, photo: Image.Image, side: int) -> list[Face]:
        """Return all faces that show when the photo's long side is scaled to ``side`` pixels, surest first."""
        scale = side / max(photo.size)
        width, height = (max(1, round(pixels * scale)) for pixels in photo.size)
        left, top = round(width * MARGIN), round(height * MARGIN)
        canvas = np.full((_whole_cells(height + 2 * top), _whole_cells(width + 2 * left), 3), GRAY, np.float32)
        small = photo.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)
        canvas[top : top + height, left : left + width] = np.asarray(small)[:, :, ::-1]
        outputs = self._model.run(None, {"input": canvas.transpose(2, 0, 1)[None]})
        return without_doubles(_faces(outputs, canvas.shape[1], np.array([left, top]), scale))


def main_face(faces: list[Face], width: float, height: float) -> Face:
    """Return the face nearest the middle of the photo, of those at least half as large as the largest."""
    largest = max(face.area for face in faces)
    large = [face for face in faces if face.area >= LARGE * largest]

    def distance(face: Face) -> float:
        return (face.left + (face.width - width) / 2) ** 2 + (face.top + (face.height - height) / 2) ** 2

    return min(large, key=distance)


def without_doubles(faces: list[Face]) -> list[Face]:
    """Drop what overlaps a surer face too much."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda face: -face.confidence):
        if all(_overlap(face, other) <= MAX_OVERLAP for other in kept):
            kept.append(face)
    return kept


def _overlap(face: Face, other: Face) -> float:
    """Return the shared area as a share of the area that the two cover."""
    width = min(face.left + face.width, other.left + other.width) - max(face.left, other.left)
    height = min(face.top + face.height, other.top + other.height) - max(face.top, other.top)
    shared = max(width, 0.0) * max(height, 0.0)
    return shared / (face.area + other.area - shared)


def _whole_cells(pixels: int) -> int:
    """Round up to a multiple of the largest stride, which is what YuNet takes."""
    return -(-pixels // STRIDES[-1]) * STRIDES[-1]


def _faces(outputs: list[Any], canvas_width: int, offset: Array, scale: float) -> list[Face]:
    """Read YuNet's output: for each stride whether it is a face (class and object), the box, and the five points."""
    faces = []
    for index, stride in enumerate(STRIDES):
        is_class, is_object, boxes, points = (outputs[index + 3 * kind][0] for kind in range(4))
        confidence = np.sqrt(np.clip(is_class[:, 0], 0, 1) * np.clip(is_object[:, 0], 0, 1))
        for cell in np.flatnonzero(confidence >= MIN_CONFIDENCE):
            at = np.array([cell % (canvas_width // stride), cell // (canvas_width // stride)], np.float32)
            size = np.exp(boxes[cell, 2:4]) * stride / scale
            corner = ((at + boxes[cell, :2]) * stride - offset) / scale - size / 2
            marks = ((at + points[cell].reshape(5, 2)) * stride - offset) / scale
            left, top, width, height = map(float, (*corner, *size))
            faces.append(Face(left, top, width, height, float(confidence[cell]), marks))
    return faces

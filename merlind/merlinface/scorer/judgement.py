"""What the face scorer sees in a photo: a judgement of one face, or a reason why there is none."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Judgement:
    """What one face looks like. Nothing else of the photo is kept.

    ``female`` is the probability (0 to 1) that the face looks like a woman's rather than a man's: the models know these
    two classes alone. ``age`` is the apparent age in years.
    """

    female: float
    age: float


class Refused(Exception):
    """The photo or the name can't be scored: ``reason`` says why, in words for a person that quote neither."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


NOT_AN_IMAGE = "not an image that can be opened"
TOO_MANY_PIXELS = "too many pixels"
TOO_SMALL = "the image is too small"
NO_FACE = "no face found"
NO_LETTER = "the name has no letters"

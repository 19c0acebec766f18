"""Judging photos from their bytes to gender and age, with the models that come with merlind."""

from functools import cache

from twisted.trial.unittest import SynchronousTestCase

from merlind.merlinface.scorer.judgement import NO_FACE, NOT_AN_IMAGE, Judgement, Refused
from tests.unit.merlinface.scorer.support import MISSING

if not MISSING:
    import numpy as np
    from PIL import Image

    from merlind.merlinface.scorer.judge import POINTS, SIDE, Judge, aligned, similarity
    from tests.unit.merlinface.scorer.pictures import PORTRAITS, encode, portrait, side_by_side, with_orientation


@cache
def judge() -> "Judge":
    """Load it once for all tests."""
    return Judge()


class AlignmentTests(SynchronousTestCase):
    """Bringing a face to where the model expects it."""

    skip = MISSING

    def test_points_come_to_their_places(self) -> None:
        """Points that were turned, scaled and shifted from where they belong are brought back exactly."""
        for angle, scale, shift in ((0.0, 1.0, (0, 0)), (0.5, 3.0, (100, -40)), (-2.5, 0.1, (7, 7))):
            turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
            moved = POINTS @ turn.T + shift

            back, offset = similarity(moved, POINTS)

            np.testing.assert_allclose(moved @ back.T + offset, POINTS, atol=1e-3)

    def test_no_mirror_image(self) -> None:
        """Points that are mirrored are not met by mirroring the face."""
        turn, _ = similarity(POINTS * [-1, 1], POINTS)

        self.assertGreater(np.linalg.det(turn), 0)

    def test_large_and_small_faces_look_alike(self) -> None:
        """A face of any size fills the model's input in the same way, without aliasing."""
        points = POINTS / SIDE * 100 + [175, 75]
        middle = np.asarray(aligned(portrait(), points), np.float64)
        for scale in (0.5, 2, 7):
            size = (round(512 * scale), round(512 * scale))
            other = aligned(portrait().resize(size, Image.Resampling.LANCZOS), points * scale)

            self.assertEqual(other.size, (SIDE, SIDE))
            self.assertLess(np.abs(np.asarray(other, np.float64) - middle).mean(), 6, scale)


class JudgeTests(SynchronousTestCase):
    """The astronaut Eileen Collins, in an official portrait of 1999: a woman of 42 years."""

    skip = MISSING

    def setUp(self) -> None:
        self.judge = judge()
        self.plain = self.judge.look((PORTRAITS / "astronaut.jpg").read_bytes())

    def assert_alike(self, judgement: Judgement, message: object, female: float = 0.1, years: float = 6.0) -> None:
        """Assert that a judgement is that of the plain portrait, nearly."""
        self.assertApproximates(judgement.female, self.plain.female, female, message)
        self.assertApproximates(judgement.age, self.plain.age, years, message)

    def test_a_portrait(self) -> None:
        """Gender is as on record, and age within ten years."""
        self.assertGreater(self.plain.female, 0.95)
        self.assertTrue(30 < self.plain.age < 50, self.plain)

    def test_any_format(self) -> None:
        """The file's format makes no difference."""
        for image_format in ("PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"):
            self.assert_alike(self.judge.look(encode(portrait(), image_format)), image_format)
        self.assert_alike(self.judge.look((PORTRAITS / "astronaut.heic").read_bytes()), "HEIC")

    def test_any_color_mode(self) -> None:
        """Nor does the color mode, gray included."""
        for mode, image_format in (("L", "JPEG"), ("CMYK", "JPEG"), ("RGBA", "PNG"), ("P", "PNG"), ("LA", "PNG")):
            self.assert_alike(self.judge.look(encode(portrait().convert(mode), image_format)), mode)

    def test_any_size(self) -> None:
        """A portrait may be large or small."""
        for side in (256, 1000, 4000, 8000):
            self.assert_alike(self.judge.look(encode(portrait().resize((side, side)))), side)

    def test_hardly_any_pixels(self) -> None:
        """A face of 16 pixels and more is found and judged, if roughly: below some 50 pixels the judgement drifts."""
        head = portrait().crop((132, 30, 312, 210))
        for side in (32, 48, 64, 120):
            judgement = self.judge.look(encode(head.resize((side, side), Image.Resampling.LANCZOS), "PNG"))
            self.assertTrue(0 <= judgement.female <= 1 and 15 < judgement.age < 60, (side, judgement))

    def test_turned(self) -> None:
        """A turn is undone, whether EXIF tells of it or not."""
        for orientation, turn in (
            (3, Image.Transpose.ROTATE_180),
            (6, Image.Transpose.ROTATE_90),
            (8, Image.Transpose.ROTATE_270),
        ):
            turned = portrait().transpose(turn)
            self.assert_alike(self.judge.look(with_orientation(turned, orientation)), orientation)
            self.assert_alike(self.judge.look(encode(turned, "PNG")), turn)

    def test_several_faces(self) -> None:
        """The large one counts, whatever is beside it."""
        small = portrait().resize((150, 150))

        self.assert_alike(self.judge.look(encode(side_by_side(small, portrait(), small))), "between small ones")
        self.assert_alike(self.judge.look(encode(side_by_side(small, small, portrait()))), "at the side")

    def test_refusals(self) -> None:
        """Without a face, or an image, there is no judgement."""
        for photo, reason in ((encode(Image.new("RGB", (300, 300))), NO_FACE), (b"hello", NOT_AN_IMAGE)):
            self.assertEqual(self.assertRaises(Refused, self.judge.look, photo).reason, reason)

    def test_the_same_again(self) -> None:
        """One photo is judged the same each time: nothing is left of those before."""
        photo = (PORTRAITS / "astronaut.jpg").read_bytes()
        self.judge.look(encode(portrait().convert("L")))

        self.assertEqual(self.judge.look(photo), self.plain)

"""Finding the face that a photo is of."""

from functools import cache

from twisted.trial.unittest import SynchronousTestCase

from tests.unit.merlinface.scorer.support import MISSING

if not MISSING:
    import numpy as np
    from PIL import Image, ImageDraw

    from merlind.merlinface.scorer.detect import Detector, Face, main_face, without_doubles
    from tests.unit.merlinface.scorer.pictures import portrait, side_by_side


def face(left: float, top: float, side: float, confidence: float = 0.9) -> "Face":
    """Make up a square face."""
    return Face(left, top, side, side, confidence, np.zeros((5, 2), np.float32))


@cache
def detector() -> "Detector":
    """Load it once for all tests."""
    return Detector()


class ChoiceTests(SynchronousTestCase):
    """Which of several faces counts."""

    skip = MISSING

    def test_the_one_in_the_middle(self) -> None:
        """Of faces of one size, the one nearest the middle of the photo."""
        faces = [face(0, 0, 100), face(440, 450, 100), face(900, 900, 100)]

        self.assertIs(main_face(faces, 1000, 1000), faces[1])

    def test_small_faces_do_not_count(self) -> None:
        """A face of less than half the largest one's area is in the background, even in the middle."""
        faces = [face(0, 0, 200), face(430, 430, 140), face(480, 480, 141.5)]

        self.assertIs(main_face(faces, 1000, 1000), faces[2])
        self.assertIs(main_face(faces[:2], 1000, 1000), faces[0])

    def test_one_face_found_twice(self) -> None:
        """The surer find is kept; faces that only touch are two."""
        unsure, sure, beside = face(10, 0, 100, 0.7), face(0, 0, 100, 0.9), face(70, 0, 100, 0.8)

        self.assertEqual(without_doubles([unsure, sure, beside]), [sure, beside])
        self.assertEqual(without_doubles([]), [])


class DetectorTests(SynchronousTestCase):
    """The model, on a real portrait and what is made of it."""

    skip = MISSING

    def setUp(self) -> None:
        self.detector = detector()

    def test_a_portrait(self) -> None:
        """Its face is found where it is, with the eyes above the mouth."""
        found = self.detector.find(portrait())

        assert found is not None
        image, face = found
        self.assertIs(image, portrait())
        middle = (face.left + face.width / 2, face.top + face.height / 2)
        self.assertTrue(190 < middle[0] < 255 and 90 < middle[1] < 160, middle)
        self.assertTrue((face.points[:2, 1] < face.points[3:, 1]).all())

    def test_turned_without_saying_so(self) -> None:
        """A photo from a camera that was held sideways or upside down is turned until a face is upright."""
        for turn in (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270):
            found = self.detector.find(portrait().transpose(turn))

            assert found is not None, turn
            self.assertEqual(found[0].tobytes(), portrait().tobytes(), turn)

    def test_tilted(self) -> None:
        """A head that is tilted needs no turn."""
        for angle in (-30, -15, 15, 30):
            tilted = portrait().rotate(angle)

            found = self.detector.find(tilted)

            assert found is not None, angle
            self.assertIs(found[0], tilted, angle)

    def test_a_face_that_fills_the_photo(self) -> None:
        """It is found although nothing is around it."""
        self.assertIsNotNone(self.detector.find(portrait().crop((175, 70, 275, 190))))

    def test_a_small_face(self) -> None:
        """A face of 15 pixels in a photo of 320 shows at the second size."""
        scene = Image.new("RGB", (1024, 1024), (90, 120, 90))
        scene.paste(portrait().resize((200, 200)), (700, 500))

        self.assertIsNotNone(self.detector.find(scene))

    def test_several_faces(self) -> None:
        """Each is found once."""
        row = side_by_side(portrait(), portrait(), portrait())

        self.assertEqual(len(self.detector.faces(row, 768)), 3)

    def test_no_face(self) -> None:
        """One color, noise, stripes, and a drawing of a house have none, whatever the turn."""
        noise = np.random.default_rng(0).integers(0, 256, (600, 600, 3), dtype=np.uint8)
        stripes = np.tile(np.arange(600) // 20 % 2 * 255, (600, 1)).astype(np.uint8)
        house = Image.new("RGB", (400, 400), "skyblue")
        draw = ImageDraw.Draw(house)
        draw.polygon([(100, 200), (200, 100), (300, 200)], fill="brown")
        draw.rectangle((120, 200, 280, 350), fill="wheat")
        draw.rectangle((150, 230, 190, 270), fill="black")
        for picture in (
            Image.new("RGB", (600, 600), (120, 130, 140)),
            Image.fromarray(noise),
            Image.fromarray(stripes).convert("RGB"),
            house,
            Image.new("RGB", (1024, 1)),
            Image.new("RGB", (1, 1024)),
        ):
            self.assertIsNone(self.detector.find(picture))

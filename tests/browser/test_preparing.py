"""What happens to a photo before it is sent: the upstream gets no place, no date and no camera."""

import secrets
import struct
from pathlib import Path

from tests.browser import metadata
from tests.browser.metadata import leaks
from tests.browser.pictures import CORNERS, draw, look
from tests.browser.support import PLAYWRIGHT, PageCase, score_of, unique

if PLAYWRIGHT:
    from playwright.sync_api import expect

HEIC = Path(__file__).parents[1] / "portraits" / "astronaut.heic"
GOES_AS_IT_IS = "This browser can’t open the photo, so it goes as it is, with place and date in it."

TURNED = ("lime", "yellow", "red", "blue")
"""The corners of a picture that stands upright once it is turned by 90 degrees clockwise, Exif's orientation 6."""


class PrepareTest(PageCase):
    """The bytes that the upstream gets."""

    def upload(self, photo: bytes, kind: str = "jpg") -> bytes:
        """Send a photo with the page, and return what the upstream got."""
        self.scorer()
        (name,) = unique("Ada")
        page = self.open()
        self.choose(page, photo, kind=kind)
        self.send(page, name)
        expect(score_of(page, name)).to_be_visible()
        self.assertNotIn(GOES_AS_IT_IS, page.locator("body").inner_text())
        return self.sent(name)[0].fields["photo"]

    def test_small_jpeg(self) -> None:
        """A small JPEG loses its metadata, and not a bit of its picture."""
        photo = metadata.in_jpeg(draw(640, 480))
        self.assertEqual(len(leaks(photo)), 15, leaks(photo))

        got = self.upload(photo)

        self.assertEqual(leaks(got), [])
        self.assertEqual(metadata.scan(got), metadata.scan(photo))

    def test_small_jpeg_turned(self) -> None:
        """A small JPEG keeps its orientation, so that it stands upright, and still loses all else."""
        photo = metadata.in_jpeg(draw(640, 480, corners=TURNED), orientation=6)
        self.assertEqual(look(photo).corners, CORNERS)

        got = self.upload(photo)

        self.assertEqual(leaks(got), [])
        self.assertEqual(metadata.scan(got), metadata.scan(photo))
        self.assertEqual((look(got).width, look(got).height, look(got).corners), (480, 640, CORNERS))

    def test_large_jpeg(self) -> None:
        """A large JPEG becomes 1600 pixels long, stands upright and has no metadata."""
        photo = metadata.in_jpeg(draw(2400, 1200, corners=TURNED), orientation=6)

        got = self.upload(photo)

        self.assertEqual(leaks(got), [])
        self.assertEqual((look(got).width, look(got).height, look(got).corners), (800, 1600, CORNERS))
        self.assertLess(len(got), len(photo))

    def test_just_as_long(self) -> None:
        """A JPEG of 1600 pixels is small."""
        photo = metadata.in_jpeg(draw(1600, 400))
        got = self.upload(photo)
        self.assertEqual(leaks(got), [])
        self.assertEqual(metadata.scan(got), metadata.scan(photo))

    def test_big_endian_exif(self) -> None:
        """Exif in the other byte order, and a scan with restart markers' bytes in it, are read as well."""
        photo = draw(320, 240, noise=True, corners=TURNED)
        camera, orientation = (0x010F, 2, 14, 38), (0x0112, 3, 1, 6 << 16)
        entries = b"".join(struct.pack(">HHII", *entry) for entry in (camera, orientation))
        exif = b"MM\0*\0\0\0\x08\0\x02" + entries + b"\0\0\0\0SECRET-CAMERA\0"
        segment = b"\xff\xe1" + (8 + len(exif)).to_bytes(2, "big") + b"Exif\0\0" + exif
        photo = photo[:2] + segment + photo[2:]
        self.assertEqual(look(photo).corners, CORNERS)

        got = self.upload(photo)

        self.assertEqual(leaks(got), [])
        self.assertEqual(look(got).corners, CORNERS)
        self.assertEqual(metadata.scan(got), metadata.scan(photo))

    def test_png(self) -> None:
        """A small PNG has no metadata either when it arrives, and looks the same."""
        photo = metadata.in_png(draw(300, 200, "png"))
        self.assertGreaterEqual(len(leaks(photo)), 6)
        got = self.upload(photo, "png")
        self.assertEqual(leaks(got), [])
        self.assertEqual((look(got).width, look(got).height, look(got).corners), (300, 200, CORNERS))

    def test_webp(self) -> None:
        """Nor has a small WebP."""
        photo = metadata.in_webp(draw(300, 200, "webp"))
        self.assertGreaterEqual(len(leaks(photo)), 6)
        self.assertEqual(look(photo).corners, CORNERS)
        got = self.upload(photo, "webp")
        self.assertEqual(leaks(got), [])
        self.assertEqual((look(got).width, look(got).height, look(got).corners), (300, 200, CORNERS))

    def test_transparent(self) -> None:
        """What is transparent in a large PNG becomes white, not black."""
        got = self.upload(draw(1700, 400, "png", corners=()), "png")
        self.assertEqual((look(got).width, look(got).corners), (1600, ("white",) * 4))

    def test_wrong_ending(self) -> None:
        """A JPEG whose name says that it is a PNG is a JPEG."""
        photo = metadata.in_jpeg(draw(640, 480))
        got = self.upload(photo, "png")
        self.assertEqual(leaks(got), [])

    def test_heic(self) -> None:
        """A HEIC, which Chromium can't open, goes as it is, and the page says so before it is sent."""
        self.scorer()
        (name,) = unique("Ada")
        # An empty box at the end changes nothing but the hash.
        photo = HEIC.read_bytes() + (24).to_bytes(4, "big") + b"free" + secrets.token_bytes(16)
        page = self.open()

        self.choose(page, photo, kind="heic")
        expect(page.get_by_text(GOES_AS_IT_IS)).to_be_visible()
        self.send(page, name)

        expect(score_of(page, name)).to_be_visible()
        self.assertEqual(self.sent(name)[0].fields["photo"], photo)

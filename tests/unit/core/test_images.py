"""Image formats, recognized by a photo's first bytes."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from merlind.core.images import SNIFF, image_type
from tests.unit.web.support import checked


class ImageTests(SynchronousTestCase):
    """The media type of a photo."""

    def test_accepted_types(self) -> None:
        """Every accepted type is recognized, however it begins."""
        for head, media_type in (
            (b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01", "image/jpeg"),
            (b"\xff\xd8\xff\xdb" + bytes(12), "image/jpeg"),
            (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "image/png"),
            (b"GIF87a" + bytes(10), "image/gif"),
            (b"GIF89a" + bytes(10), "image/gif"),
            (b"RIFF\x24\x00\x00\x00WEBPVP8 ", "image/webp"),
            (b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00", "image/heic"),
            (b"\x00\x00\x00\x18ftypheix\x00\x00\x00\x00", "image/heic"),
            (b"\x00\x00\x00\x18ftyphevc\x00\x00\x00\x00", "image/heic"),
            (b"\x00\x00\x00\x18ftypmif1\x00\x00\x00\x00", "image/heic"),
            (b"\x00\x00\x00\x1cftypavif\x00\x00\x00\x00", "image/avif"),
            (b"\x00\x00\x00\x1cftypavis\x00\x00\x00\x00", "image/avif"),
            (b"BM\x46\x00\x00\x00\x00\x00\x00\x00\x36\x00\x00\x00\x28\x00", "image/bmp"),
            (b"II*\x00\x08\x00\x00\x00" + bytes(8), "image/tiff"),
            (b"MM\x00*\x00\x00\x00\x08" + bytes(8), "image/tiff"),
        ):
            self.assertEqual(len(head), SNIFF, head)
            self.assertEqual(image_type(head), media_type)

    def test_anything_else(self) -> None:
        """What only resembles an image is none, and neither are formats that can have scripts in them."""
        for head in (
            b"",
            b"\xff\xd8",
            b"\x89PNG",
            b"GIF88a" + bytes(10),
            b"GIF8",
            b"<!doctype html><html>"[:SNIFF],
            b"<svg xmlns='http://www.w3.org/2000/svg'>"[:SNIFF],
            b"<?xml version='1.0'?>"[:SNIFF],
            b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n0",
            b"RIFF\x24\x00\x00\x00WAVEfmt ",
            b"RIFF\x24\x00\x00\x00WEB",
            b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00",
            b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00",
            b"\x00\x00\x00\x18ftyphei",
            b"BMW is a car, not a photo"[:SNIFF],
            b"BM\x46\x00\x00\x00\x00\x00\x00\x00",
            b"BM\x46\x00\x00\x00\x00\x00\x00\x01\x36\x00\x00\x00\x28\x00",
            b"PK\x03\x04" + bytes(12),
            b"\x7fELF" + bytes(12),
            b"MZ" + bytes(14),
            b" \xff\xd8\xff\xe0" + bytes(11),
            b"\n\x89PNG\r\n\x1a\n" + bytes(7),
            b"//8=",
        ):
            self.assertIsNone(image_type(head), head)

    @checked
    @given(st.binary(max_size=SNIFF))
    def test_any_bytes(self, head: bytes) -> None:
        """Any bytes have an image's media type or none, and raise nothing."""
        self.assertIn((image_type(head) or "image/").partition("/")[0], "image")

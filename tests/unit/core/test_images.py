"""Image formats, recognized by a photo's first bytes (docs/battery.md, C7 and C13)."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from merlind.core.images import SNIFF, bytes_needed, image_type
from tests.unit.web.support import checked


def ftyp(*brands: bytes, version: bytes = bytes(4), behind: bytes = b"\x00\x00\x00\x20meta") -> bytes:
    """The beginning of an ISO base media file: its ftyp box, and what is behind it."""
    major, *compatible = brands
    box = b"ftyp" + major + version + b"".join(compatible)
    return (4 + len(box)).to_bytes(4, "big") + box + behind


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
            (b"II+\x00\x08\x00\x00\x00\x10" + bytes(7), "image/tiff"),
            (b"MM\x00+\x00\x08\x00\x00" + bytes(7) + b"\x10", "image/tiff"),
        ):
            self.assertEqual(image_type(head), media_type, head)

    def test_brands(self) -> None:
        """All brands of an ISO base media file count, and AVIF's before the others (docs/battery.md, C13)."""
        for brands, media_type in (
            *(((brand,), "image/avif") for brand in (b"avif", b"avis")),
            *(((brand,), "image/heic") for brand in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm")),
            *(((brand,), "image/heic") for brand in (b"hevs", b"mif1", b"msf1", b"miaf")),
            ((b"mif1", b"avif", b"miaf", b"MA1B"), "image/avif"),
            ((b"mif1", b"miaf", b"MA1B", b"avif"), "image/avif"),
            ((b"msf1", b"mif1", b"iso8", b"avis"), "image/avif"),
            ((b"mif1", b"heic", b"avif"), "image/avif"),
            ((b"mif1", b"mif1", b"heic"), "image/heic"),
            ((b"isom", b"mif1", b"hevx"), "image/heic"),
            ((b"mif1", *[b"iso8"] * 56, b"avif"), "image/avif"),
            ((b"isom", b"iso2", b"avc1", b"mp41"), None),
            ((b"crx ", b"isom"), None),
        ):
            head = ftyp(*brands)
            self.assertEqual(image_type(head[: bytes_needed(head)]), media_type, head)
            long_form = b"\0\0\0\1ftyp" + (len(head)).to_bytes(8, "big") + head[8:]
            self.assertEqual(image_type(long_form[: bytes_needed(long_form)]), media_type, long_form)

    def test_what_is_no_brand(self) -> None:
        """The version, and what is behind the box or only partly in it, name no type."""
        self.assertEqual(image_type(ftyp(b"mif1", version=b"avif")), "image/heic")
        self.assertEqual(image_type(ftyp(b"mif1", behind=b"avif")), "image/heic")
        self.assertEqual(image_type(ftyp(b"mif1", b"av", behind=b"if")), "image/heic")
        self.assertIsNone(image_type(ftyp(b"isom", version=b"avif")))
        self.assertIsNone(image_type(b"\0\0\0\0ftyp" + b"isom" + bytes(4) + b"avif"))
        self.assertIsNone(image_type(b"\0\0\0\x01ftyp" + bytes(7)))

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
            b"II+\x00\x04\x00\x00\x00" + bytes(8),
            b"MM\x00+\x00\x08\x00\x01" + bytes(8),
            b"MM+\x00\x08\x00\x00\x00" + bytes(8),
            b"II+\x00\x08",
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

    def test_bytes_needed(self) -> None:
        """16 bytes show most types at once; of an ISO base media file all brands are needed, up to a limit."""
        for head, needed in (
            (b"", 16),
            (b"\xff\xd8\xff\xe0", 16),
            (b"\xff\xd8\xff\xe0" + bytes(300), 16),
            (ftyp(b"mif1", b"avif")[:15], 16),
            (ftyp(b"heic")[:16], 16),
            (ftyp(b"mif1", b"avif", b"miaf")[:16], 24),
            (b"\0\0\0\1ftyp" + (40).to_bytes(8, "big"), 40),
            (b"\0\0\0\0ftypmif1" + bytes(4), 16),
            (b"\xff\xff\xff\xffftypmif1" + bytes(4), SNIFF),
        ):
            self.assertEqual(bytes_needed(head), needed, head)

    @checked
    @given(st.binary(max_size=40), st.sampled_from([b"", b"\0\0\0\x1cftyp", b"\0\0\0\1ftyp\0\0\0\0\0\0\0"]))
    def test_no_more_is_needed(self, tail: bytes, start: bytes) -> None:
        """How many bytes are needed is known from the first 16 on, and is never more than SNIFF."""
        photo = start + tail + bytes(SNIFF)
        self.assertEqual({bytes_needed(photo[:size]) for size in range(16, len(photo))}, {bytes_needed(photo)})
        self.assertTrue(16 <= bytes_needed(photo) <= SNIFF)

    @checked
    @given(st.binary(max_size=SNIFF))
    def test_any_bytes(self, head: bytes) -> None:
        """Any bytes have an image's media type or none, and raise nothing."""
        self.assertIn((image_type(head) or "image/").partition("/")[0], "image")

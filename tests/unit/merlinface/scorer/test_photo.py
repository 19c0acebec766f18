"""Decoding a photo: what is taken, what is refused, and in which shape it comes out."""

from twisted.trial.unittest import SynchronousTestCase

from merlind.merlinface.scorer.judgement import NOT_AN_IMAGE, TOO_MANY_PIXELS, TOO_SMALL, Refused
from tests.unit.merlinface.scorer.support import MISSING

if not MISSING:
    from PIL import Image

    from merlind.merlinface.scorer.photo import (
        FORMATS,
        LONG_SIDE,
        MAX_JPEG_COEFFICIENTS,
        MAX_JPEG_PIXELS,
        MAX_JPEG_WORK,
        MAX_PIXELS,
        decode,
        scans_of_jpeg,
    )
    from tests.unit.merlinface.scorer.pictures import (
        PORTRAITS,
        encode,
        gif_that_claims,
        jpeg_that_claims,
        jpeg_with_more_scans,
        png,
        portrait,
        with_orientation,
    )

    RED, GREEN, BLUE, WHITE = (230, 20, 20), (20, 200, 20), (20, 20, 230), (255, 255, 255)


def corners() -> "Image.Image":
    """Draw a picture of 64 x 48: red, green, blue and white corners, clockwise from the upper left."""
    picture = Image.new("RGB", (64, 48))
    for box, color in (((0, 0), RED), ((32, 0), GREEN), ((32, 24), BLUE), ((0, 24), WHITE)):
        picture.paste(color, (*box, box[0] + 32, box[1] + 24))
    return picture


class PhotoCase(SynchronousTestCase):
    """Assertions on pixels and refusals."""

    skip = MISSING

    def assert_corners(self, picture: "Image.Image", message: object = None, tolerance: int = 60) -> None:
        """Assert that a picture is ``corners()``, in any size, upright."""
        self.assertEqual(picture.mode, "RGB", message)
        self.assertGreater(picture.width, picture.height, message)
        x, y = picture.width // 4, picture.height // 4
        for at, color in (((x, y), RED), ((3 * x, y), GREEN), ((3 * x, 3 * y), BLUE), ((x, 3 * y), WHITE)):
            found = picture.getpixel(at)
            assert isinstance(found, tuple)
            distance = max(abs(a - b) for a, b in zip(found, color, strict=True))
            self.assertLess(distance, tolerance, (message, at, found))

    def assert_refused(self, photo: bytes, reason: str, message: object = None) -> None:
        refused = self.assertRaises(Refused, decode, photo)
        self.assertEqual(refused.reason, reason, message)


class ShapeTests(PhotoCase):
    """What comes out."""

    def test_every_format(self) -> None:
        """All formats that are taken give the same picture."""
        for image_format in (*set(FORMATS) - {"HEIF"}, "MPO"):
            self.assert_corners(decode(encode(corners(), image_format)), image_format)

    def test_heic(self) -> None:
        """HEIC too, which the tests can't write: a file of it ships with them."""
        heic, jpeg = decode((PORTRAITS / "astronaut.heic").read_bytes()), portrait().resize((256, 256))

        self.assertEqual((heic.mode, heic.size), ("RGB", (256, 256)))
        differences = zip(heic.resize((8, 8)).tobytes(), jpeg.resize((8, 8)).tobytes(), strict=True)
        self.assertLess(max(abs(a - b) for a, b in differences), 25)

    def test_color_modes(self) -> None:
        """Color in any mode stays what it is."""
        for image_format, mode in (
            ("JPEG", "CMYK"),
            ("PNG", "P"),
            ("PNG", "RGBA"),
            ("GIF", "P"),
            ("WEBP", "RGBA"),
            ("TIFF", "CMYK"),
            ("TIFF", "RGBA"),
            ("TIFF", "LAB"),
            ("TIFF", "YCbCr"),
        ):
            picture = encode(_in_mode(corners(), mode), image_format)
            self.assert_corners(decode(picture), (image_format, mode))

    def test_gray_modes(self) -> None:
        """Gray of 1, 8, 16 and 32 bits comes out as gray, dark where it was dark."""
        gray = Image.linear_gradient("L").resize((64, 64))
        wide = Image.frombytes("I;16", gray.size, b"".join(bytes([0, level]) for level in gray.tobytes()))
        for name, photo in (
            ("L", encode(gray, "PNG")),
            ("LA", encode(gray.convert("LA"), "PNG")),
            ("1", encode(gray.convert("1"), "PNG")),
            ("16 bits", encode(wide, "PNG")),
            ("16 bits, TIFF", encode(wide, "TIFF")),
            ("16 bits, big-endian TIFF", encode(wide.convert("I").convert("I;16B"), "TIFF")),
            ("32 bits", encode(gray.convert("I"), "TIFF")),
            ("float", encode(gray.convert("F"), "TIFF")),
            ("float from 0 to 1", encode(gray.convert("F").point(lambda value: value / 255 + 0), "TIFF")),
        ):
            picture = decode(photo)
            self.assertEqual(picture.mode, "RGB", name)
            top, bottom = (picture.crop((0, y, 64, y + 16)).resize((1, 1)).getpixel((0, 0)) for y in (0, 48))
            assert isinstance(top, tuple) and isinstance(bottom, tuple)
            self.assertLess(top[0], 60, name)
            self.assertGreater(bottom[0], 195, name)
            self.assertEqual(len(set(top)), 1, name)

    def test_16_bits_of_color(self) -> None:
        """The upper eight bits of each color count."""
        rows = b"".join(
            b"\0" + b"".join(bytes([level, 0]) for level in corners().tobytes()[y * 192 : y * 192 + 192])
            for y in range(48)
        )

        self.assert_corners(decode(png(64, 48, 16, 2, rows)))

    def test_what_is_transparent_is_white(self) -> None:
        """As most viewers show it."""
        clear = Image.new("RGBA", (64, 48), (0, 0, 0, 0))

        self.assertEqual(decode(encode(clear, "PNG")).getcolors(), [(64 * 48, (255, 255, 255))])

    def test_orientation(self) -> None:
        """All eight orientations that EXIF knows come out upright, in every format that has them."""
        turns = {
            1: None,
            2: Image.Transpose.FLIP_LEFT_RIGHT,
            3: Image.Transpose.ROTATE_180,
            4: Image.Transpose.FLIP_TOP_BOTTOM,
            5: Image.Transpose.TRANSPOSE,
            6: Image.Transpose.ROTATE_90,
            7: Image.Transpose.TRANSVERSE,
            8: Image.Transpose.ROTATE_270,
        }
        for orientation, turn in turns.items():
            stored = corners() if turn is None else corners().transpose(turn)
            for image_format in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF"):
                photo = with_orientation(stored, orientation, image_format)
                self.assert_corners(decode(photo), (orientation, image_format))

    def test_an_orientation_that_does_not_exist(self) -> None:
        """It is ignored."""
        for orientation in (0, 9, 65535):
            self.assert_corners(decode(with_orientation(corners(), orientation)), orientation)

    def test_the_first_picture_of_an_animation(self) -> None:
        """The others don't count."""
        others = [Image.new("RGB", (64, 48), color) for color in (RED, BLUE)]
        for image_format in ("GIF", "WEBP", "PNG", "AVIF", "TIFF", "MPO"):
            photo = encode(corners(), image_format, save_all=True, append_images=others)
            self.assert_corners(decode(photo), image_format)

    def test_large_photos_come_out_smaller(self) -> None:
        """The long side is at most LONG_SIDE, whatever the format."""
        large = corners().resize((4000, 3000))
        for photo in (encode(large), encode(large, progressive=True), encode(large, "PNG"), encode(large, "WEBP")):
            picture = decode(photo)
            self.assertEqual(picture.size, (LONG_SIDE, LONG_SIDE * 3 // 4))
            self.assert_corners(picture)

    def test_large_photos_of_any_mode(self) -> None:
        """Palettes, gray of 1 and 16 bits and the like can be large too."""
        gray = Image.linear_gradient("L").resize((4200, 4100))
        for mode, image_format in (
            ("P", "PNG"),
            ("P", "GIF"),
            ("1", "PNG"),
            ("I;16", "PNG"),
            ("I;16B", "TIFF"),
            ("I", "TIFF"),
            ("F", "TIFF"),
            ("LA", "PNG"),
            ("RGBA", "PNG"),
            ("PA", "TIFF"),
            ("CMYK", "TIFF"),
        ):
            large = gray.convert("I").convert(mode) if mode.startswith("I") else gray.convert(mode)
            options = {"compress_level": 1} if image_format == "PNG" else {}
            self.assertEqual(
                decode(encode(large, image_format, **options)).size, (LONG_SIDE, 1000), (mode, image_format)
            )

    def test_the_orientation_of_gray_with_16_bits(self) -> None:
        """It counts, though such gray is brought to 8 bits."""
        wide = Image.new("I;16", (64, 48))
        for image_format in ("PNG", "TIFF"):
            self.assertEqual(decode(with_orientation(wide, 6, image_format)).size, (48, 64), image_format)

    def test_small_photos_keep_their_size(self) -> None:
        """Nothing is blown up here."""
        self.assertEqual(decode(encode(corners().resize((40, 30)))).size, (40, 30))

    def test_narrow_photos(self) -> None:
        """A strip stays a strip, of at least one pixel."""
        self.assertEqual(decode(encode(Image.new("RGB", (20000, 20)), "PNG")).size, (LONG_SIDE, 1))


class RefusalTests(PhotoCase):
    """What is refused, and with which reason."""

    def test_what_is_no_image(self) -> None:
        """Nothing, text, drawings that are programs, and formats that aren't taken."""
        for photo in (
            b"",
            b"hello " * 100,
            b"<svg xmlns='http://www.w3.org/2000/svg'/>",
            b"%PDF-1.7\n",
            b"\xff\xd8\xff\xe0",
            b"\x89PNG\r\n\x1a\n",
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n",
            encode(corners(), "JPEG2000"),
            encode(corners(), "PPM"),
            encode(corners(), "ICO"),
            encode(corners(), "PDF"),
        ):
            self.assert_refused(photo, NOT_AN_IMAGE, photo[:20])

    def test_a_file_that_is_cut_short(self) -> None:
        """Whatever its format, wherever it is cut: half a face is no face."""
        picture = portrait().resize((256, 256))
        for image_format in sorted(set(FORMATS) - {"HEIF"}):
            photo = encode(picture, image_format)
            for share in (0.01, 0.05, 0.5, 0.9):
                self.assert_refused(photo[: int(share * len(photo))], NOT_AN_IMAGE, (image_format, share))
        heic = (PORTRAITS / "astronaut.heic").read_bytes()
        for share in (0.01, 0.05, 0.5, 0.9):
            self.assert_refused(heic[: int(share * len(heic))], NOT_AN_IMAGE, ("HEIC", share))

    def test_more_pixels_than_are_decoded(self) -> None:
        """The header's word is enough: nothing is decoded, though the files are tiny."""
        for photo in (
            png(30000, 30000, 8, 2, bytes(100)),
            png(2**31 - 1, 2**31 - 1, 1, 0, bytes(100)),
            png(MAX_PIXELS // 4000 + 1, 4000, 8, 0, bytes(100)),
            gif_that_claims(60000, 60000),
            jpeg_that_claims(65000, 65000),
            jpeg_that_claims(MAX_JPEG_PIXELS // 10000 + 1, 10000),
            _claims_more(encode(corners(), "BMP"), b"\x40\0\0\0\x30\0\0\0", b"\x30\x75\0\0\x30\x75\0\0"),
        ):
            self.assert_refused(photo, TOO_MANY_PIXELS, photo[:30])

    def test_a_heic_that_claims_too_many_pixels(self) -> None:
        """The size that it claims counts."""
        heic = (PORTRAITS / "astronaut.heic").read_bytes()

        claims_more = _claims_more(heic, b"\0\0\x01\0\0\0\x01\0", b"\0\0\x75\x30\0\0\x75\x30")

        self.assertRaises(Refused, decode, claims_more)

    def test_as_many_pixels_as_are_decoded(self) -> None:
        """At the limit, a photo is taken."""
        gray = Image.new("L", (8000, MAX_PIXELS // 8000), 128)

        self.assertEqual(decode(encode(gray, "PNG", compress_level=1)).size, (LONG_SIDE, 640))

    def test_a_jpeg_of_200_megapixels(self) -> None:
        """It is decoded at an eighth of its sides."""
        gray = Image.new("L", (20000, MAX_JPEG_PIXELS // 20000), 128)

        self.assertEqual(decode(encode(gray)).size, (LONG_SIDE, LONG_SIDE // 2))

    def test_a_jpeg_in_several_scans_that_takes_much_memory(self) -> None:
        """All coefficients of a progressive JPEG are in memory at once: four a pixel in CMYK."""
        side = 1 + int((MAX_JPEG_COEFFICIENTS / 4) ** 0.5)
        self.assertLess(side * side, MAX_JPEG_PIXELS)
        cmyk = Image.new("CMYK", (8, 8))

        self.assert_refused(jpeg_that_claims(side, side, encode(cmyk, progressive=True)), TOO_MANY_PIXELS)
        # In one scan, it is shrunk as it is read.
        self.assertEqual(decode(jpeg_that_claims(side, side, encode(cmyk))).size, (LONG_SIDE, LONG_SIDE))

    def test_a_jpeg_in_very_many_scans(self) -> None:
        """A small file could keep a worker busy for minutes."""
        gray = encode(Image.new("L", (1000, 1000), 128), progressive=True)

        self.assertEqual(decode(jpeg_with_more_scans(gray, 20)).size, (1000, 1000))
        self.assert_refused(jpeg_with_more_scans(gray, MAX_JPEG_WORK // 1000**2), TOO_MANY_PIXELS)

    def test_the_scans_of_a_jpeg(self) -> None:
        """Neither a thumbnail's count nor those of another picture or a video behind it."""
        thumbnail = encode(corners(), progressive=True)
        photo = encode(corners(), comment=thumbnail)

        self.assertEqual(scans_of_jpeg(photo + thumbnail), 1)
        self.assertEqual(scans_of_jpeg(thumbnail), 10)
        self.assertEqual(scans_of_jpeg(jpeg_with_more_scans(thumbnail, 5)), 15)

    def test_too_few_pixels(self) -> None:
        """No face can be told in them."""
        for size in ((1, 1), (19, 400), (400, 19)):
            self.assert_refused(encode(Image.new("RGB", size)), TOO_SMALL, size)

    def test_a_chunk_of_text_that_unpacks_to_much(self) -> None:
        """A megabyte of text at most is unpacked from a PNG's comments."""
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        for number in range(100):
            info.add_text(f"comment {number}", "x" * 1_000_000, zip=True)

        photo = encode(corners(), "PNG", pnginfo=info)

        self.assertLess(len(photo), 300_000)
        self.assert_refused(photo, NOT_AN_IMAGE)

    def test_lack_of_memory_is_no_refusal(self) -> None:
        """It is for the worker to say what becomes of it."""

        def no_memory(*_: object, **__: object) -> None:
            raise MemoryError

        self.patch(Image, "open", no_memory)

        self.assertRaises(MemoryError, decode, b"")


def _in_mode(picture: "Image.Image", mode: str) -> "Image.Image":
    if mode == "P":
        return picture.quantize(16)
    if mode == "LAB":
        from PIL import ImageCms

        return ImageCms.applyTransform(
            picture,
            ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"),
        )  # type: ignore[return-value]
    return picture.convert(mode)


def _claims_more(photo: bytes, size: bytes, larger: bytes) -> bytes:
    assert size in photo
    return photo.replace(size, larger)

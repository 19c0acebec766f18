"""The Content-Disposition of a part, with filenames in all charsets (docs/battery.md, C10)."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from merlind.web.disposition import AmbiguousDisposition, parse_disposition
from tests.unit.web.support import checked

CHARSETS = ("cp1251", "koi8_r", "latin-1", "shift_jis", "euc_jp", "gbk", "gb18030", "big5", "euc_kr", "cp874", "utf-8")
BACKSLASHES = ("表.jpg", "表", "写ソ", "\\", "許功蓋", "a\\b.jpg")
"""Filenames with bytes of a backslash in Shift JIS or Big5, some of them the last one."""


def encoded(text: str) -> list[bytes]:
    """The text in each charset that has all of its characters."""
    found = []
    for charset in CHARSETS:
        try:
            found.append(text.encode(charset))
        except UnicodeEncodeError:
            continue
    return found


def parse(value: bytes) -> tuple[str | None, str | None]:
    """Name and filename in a header's value."""
    return parse_disposition(value.decode("latin-1"))


class DispositionTests(SynchronousTestCase):
    """Name and filename."""

    def test_plain(self) -> None:
        """In quotation marks or not, with white space or without, in either case, among other parameters."""
        for value, expected in (
            (b'form-data; name="photo"; filename="me.jpg"', ("photo", "me.jpg")),
            (b"form-data;NAME=photo;FileName=me.jpg", ("photo", "me.jpg")),
            (b"form-data ; name = photo ; size = 7 ; filename = me.jpg ;", ("photo", "me.jpg")),
            (b'form-data; filename="me.jpg"; name="photo"', ("photo", "me.jpg")),
            (b"form-data; filename*=utf-8''me.jpg; name=photo", ("photo", "utf-8''me.jpg")),
            (b"form-data; name=photo; filename*=utf-8''me.jpg", ("photo", "utf-8''me.jpg")),
            (b'form-data; name="photo"; filename=""', ("photo", "")),
            (b'form-data; name="photo"; filename=""; size=0', ("photo", "")),
            (b'form-data; name="photo";', ("photo", None)),
            (b'form-data; name=""', ("", None)),
            (b"form-data", (None, None)),
            (b"form-data; filename=x", (None, "x")),
            (b"form-data; name*=utf-8''photo", (None, None)),
            (b'form-data; name="a%22b\\c"', ('a"b\\c', None)),
            (b'form-data; name="a\\"b"', ('a"b', None)),
            ('form-data; name="имя"'.encode(), ("имя", None)),
            (b'form-data; name="\xff"', ("\ufffd", None)),
        ):
            self.assertEqual(parse(value), expected, value)

    def test_filenames_in_any_charset(self) -> None:
        """The name is told, whether it stands before the filename or behind it."""
        for text in ("Фото.jpg", "Zoë.jpg", "写真.jpg", "照片.jpg", "사진.jpg", "ภาพ.jpg", *BACKSLASHES):
            for filename in encoded(text):
                for value in (
                    b'form-data; name="photo"; filename="' + filename + b'"',
                    b'form-data; filename="' + filename + b'"; name="photo"',
                    b"form-data; name=photo; filename=" + filename,
                ):
                    name, seen = parse(value)
                    self.assertEqual(name, "photo", value)
                    self.assertTrue(seen, value)

    def test_quotation_marks_in_filenames(self) -> None:
        """With a backslash before them, or without; no name comes out of a filename."""
        for value in (
            b'form-data; name="photo"; filename="a\\"b.jpg"',
            b'form-data; name="photo"; filename="a"b.jpg"',
            b'form-data; name="photo"; filename="a',
            b'form-data; name="photo"; filename="\\"; name=\\"name"',
            b'form-data; name="photo"; filename="a"; name="name"',
            b'form-data; name="photo"; filename="\0\x1b$B"\x1b(B\r"; name="name"',
            b'form-data; filename="a\\"; name=\\"name"; name="photo"',
            b'form-data; filename="; name=name"; name="photo"',
        ):
            name, filename = parse(value)
            self.assertEqual(name, "photo", value)
            self.assertTrue(filename, value)

    def test_ambiguous(self) -> None:
        """Where the name can't be told, none is guessed."""
        for value in (
            b'form-data; name="photo"; name="name"',
            b'form-data; name="photo',
            b'form-data; name="pho"to"',
            b"form-data; name",
            b'form-data; filename="a"b"; name="photo"',
            b'form-data; filename="a; name="photo"',
            b'form-data; filename="\\"; name="; name=a; x="\\"',
        ):
            self.assertRaises(AmbiguousDisposition, parse, value)

    @checked
    @given(st.binary(max_size=30), st.booleans())
    def test_any_filename(self, filename: bytes, escaped: bool) -> None:
        """Bytes of any kind in a filename behind the name leave the name as it is."""
        if escaped:
            filename = filename.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
            # A client that escapes may also put the filename first.
            value = b'form-data; filename="' + filename + b'"; name="photo"'
            try:
                self.assertEqual(parse(value)[0], "photo")
            except AmbiguousDisposition:
                self.assertIn(b'"', filename)
        name, seen = parse(b'form-data; name="photo"; filename="' + filename + b'"')
        self.assertEqual(name, "photo")
        self.assertIsNotNone(seen)

    @checked
    @given(st.text(st.sampled_from('ab=;"\\ \t%\xff*'), max_size=30))
    def test_any_value(self, text: str) -> None:
        """Whatever a header has in it, it is read or refused."""
        for value in (text, f"form-data; {text}", f"form-data; name={text}", f"form-data; filename={text}"):
            try:
                parse_disposition(value)
            except AmbiguousDisposition:
                continue

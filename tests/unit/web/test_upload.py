"""The form of an upload: what is accepted, what is refused and with which code, and what it leaves behind."""

import hashlib
import itertools
import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from merlind.core.interfaces import StagedPhoto
from merlind.storage.photos.spool import Spool
from merlind.storage.photos.staging import SpooledPhoto
from merlind.tasks.intake import Reservation
from merlind.web.multipart import FormEvent, FormReader
from merlind.web.response import HTTPError
from merlind.web.upload import FORM_OVERHEAD, PhotoForm, boundary_of
from tests.unit.support import JPEG
from tests.unit.web.support import BOUNDARY, LIMIT, checked, form, form_of, part, photo_of

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR and so on"
NAME = part("name", b"Anna")
PHOTO = part("photo", JPEG, "Content-Type: image/jpeg", filename="me.jpg")
OPEN = b"--" + BOUNDARY + b"\r\n"


class FormCase(SynchronousTestCase):
    """Forms that are staged in a spool of their own."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute() / "spool"
        self.folder.parent.mkdir()
        self.spool = Spool(self.folder)
        self.spool.prepare()
        self.open_uploads = 0

    def tearDown(self) -> None:
        """Every form was finished or discarded."""
        self.assertEqual(self.open_uploads, 0)
        self.assertEqual(self.incoming(), [])

    def incoming(self) -> list[str]:
        return [entry.path for entry in os.scandir(self.folder / "incoming")]

    def make(self, limit: int = LIMIT, boundary: bytes = BOUNDARY) -> PhotoForm:
        self.open_uploads += 1

        def close() -> None:
            self.open_uploads -= 1

        return PhotoForm(boundary, Reservation(self.spool.stage(), close), limit)

    def take(self, *pieces: bytes, limit: int = LIMIT, boundary: bytes = BOUNDARY) -> tuple[str, bytes, str]:
        """The name, the photo's bytes and its type of a form that comes in these pieces. Raises HTTPError."""
        photo_form = self.make(limit, boundary)
        try:
            for piece in pieces:
                photo_form.write(piece)
            name, staged, media_type = photo_form.finish()
        except BaseException:
            photo_form.discard()
            raise
        return name, self.content(staged), media_type

    def content(self, staged: StagedPhoto) -> bytes:
        """What was staged, taken out of the spool."""
        assert isinstance(staged, SpooledPhoto)
        digest = staged.sha256()
        staged.commit_to(self.spool.path(1))
        content = Path(self.spool.path(1)).read_bytes()
        self.assertEqual((staged.size, digest), (len(content), hashlib.sha256(content).digest()))
        self.spool.remove(1)
        return content

    def outcome(self, *pieces: bytes, limit: int = LIMIT) -> tuple[str, bytes, str] | str:
        """What ``take`` returns, or the code of its error."""
        try:
            return self.take(*pieces, limit=limit)
        except HTTPError as error:
            return code_of(error)

    def assert_refused(self, status: int, code: str, *pieces: bytes, limit: int = LIMIT) -> None:
        error = self.assertRaises(HTTPError, self.take, *pieces, limit=limit)
        self.assertEqual((error.response.code, code_of(error)), (status, code), pieces[:1])


def code_of(error: HTTPError) -> str:
    """The stable code in the error's response."""
    body = error.response.body
    return body.rpartition(b'"code":"')[2].partition(b'"')[0].decode("ascii")


class BoundaryTests(SynchronousTestCase):
    """The Content-Type (docs/battery.md, C1)."""

    def test_usable(self) -> None:
        """Quoted or not, of 1 to 70 ASCII characters."""
        for content_type, boundary in (
            (b"multipart/form-data; boundary=x", b"x"),
            (b"Multipart/Form-Data;boundary=----WebKitFormBoundary7MA4YWxk", b"----WebKitFormBoundary7MA4YWxk"),
            (b'multipart/form-data; charset=utf-8; boundary="with space:?"', b"with space:?"),
            (b"multipart/form-data; boundary=" + b"b" * 70, b"b" * 70),
        ):
            self.assertEqual(boundary_of(content_type), boundary)

    def test_other_types(self) -> None:
        """415 for what isn't a form."""
        for content_type in (
            None,
            b"",
            b"application/json",
            b"application/x-www-form-urlencoded",
            b"image/jpeg",
            b"multipart/mixed; boundary=x",
            b"multipart/form-datax; boundary=x",
            b"\xff\xfe",
        ):
            answer = self.assertRaises(HTTPError, boundary_of, content_type).response
            self.assertEqual(answer.code, 415)
            self.assertIn(b'"code":"not_a_form"', answer.body)

    def test_unusable(self) -> None:
        """400 for a boundary that is missing, empty, too long or not printable ASCII."""
        for options in (
            b"",
            b"; boundary=",
            b'; boundary=""',
            b"; boundary=" + b"b" * 71,
            b"; boundary=" + b"b" * 15000,
            b'; boundary="\xe9"',
            b'; boundary="a\tb"',
        ):
            answer = self.assertRaises(HTTPError, boundary_of, b"multipart/form-data" + options).response
            self.assertEqual(answer.code, 400, options)
            self.assertIn(b'"code":"bad_boundary"', answer.body)

    @checked
    @given(st.binary(max_size=100))
    def test_any_bytes(self, options: bytes) -> None:
        """Any bytes are a boundary, or refused with 400 or 415."""
        try:
            boundary = boundary_of(b"multipart/form-data; boundary=" + options)
        except HTTPError as error:
            self.assertIn(error.response.code, (400, 415))
        else:
            self.assertTrue(1 <= len(boundary) <= 70)


class TakenTests(FormCase):
    """Forms that are accepted."""

    def test_plain(self) -> None:
        """The name, the photo byte for byte, and its type by its bytes whatever the form says."""
        self.assertEqual(self.take(form("Анна", JPEG)), ("Анна", JPEG, "image/jpeg"))
        self.assertEqual(self.take(form("Bo", PNG)), ("Bo", PNG, "image/png"))

    def test_variants(self) -> None:
        """Other clients write the same form in other ways (docs/battery.md, C4)."""
        for body in (
            form_of(PHOTO, NAME),
            form_of(NAME, part("photo", JPEG)),
            form_of(NAME, part("photo", JPEG, "Content-Type: text/html", filename="me.html")),
            form_of(NAME, part("photo", JPEG, "Content-Transfer-Encoding: BINARY", filename="")),
            form_of(part("name", b"Anna", "Content-Transfer-Encoding: 8bit", "Content-Type: text/plain"), PHOTO),
            form_of(NAME, b"Content-Disposition: form-data; name=photo; filename*=utf-8''me.jpg\r\n\r\n" + JPEG),
            form_of(NAME, b"content-disposition: form-data; name=photo\r\n\r\n" + JPEG),
            form_of(part("name", b"Anna", "Content-Length: 4"), PHOTO),
            b"\r\n" + form_of(NAME, PHOTO),
            b"\r\n\r\n" + form_of(NAME, PHOTO),
            b"This is a multi-part message in MIME format.\r\n" + form_of(NAME, PHOTO),
            b"Content-Type: multipart/form-data\r\nMIME-Version: 1.0\r\n\r\n" + form_of(NAME, PHOTO),
            b"x" * 4096 + b"\r\n" + form_of(NAME, PHOTO),
            form_of(NAME, PHOTO) + b"\r\nan epilogue\r\n--" + BOUNDARY + b"--\r\n",
            form_of(NAME, PHOTO) + b"x" * FORM_OVERHEAD,
            form_of(NAME, PHOTO).removesuffix(b"\r\n"),
        ):
            self.assertEqual(self.take(body), ("Anna", JPEG, "image/jpeg"), body)

    def test_filenames(self) -> None:
        """The filename is ignored, whatever it is (docs/battery.md, C6)."""
        for filename in ("../../etc/passwd", "/etc/passwd", "C:\\\\boot.ini", "a\0b", "", "x" * 2000, "é%00", "."):
            body = form_of(NAME, part("photo", JPEG, filename=filename))
            self.assertEqual(self.take(body)[1], JPEG, filename)

    def test_filenames_in_any_charset(self) -> None:
        """Neither the charset of a filename matters, nor a backslash in it (docs/battery.md, C10)."""
        for text, charset in (
            ("Фото.jpg", "cp1251"),
            ("Zoë.jpg", "latin-1"),
            ("写真.jpg", "shift_jis"),
            ("表", "shift_jis"),
            ("照片.jpg", "gbk"),
            ("許功蓋", "big5"),
            ("写真.jpg", "iso2022_jp"),
        ):
            filename = b'; filename="' + text.encode(charset) + b'"'
            for disposition in (b'; name="photo"' + filename, filename + b'; name="photo"'):
                headers = b"Content-Disposition: form-data" + disposition + b"\r\nContent-Type: image/jpeg\r\n\r\n"
                self.assertEqual(self.take(form_of(NAME, headers + JPEG)), ("Anna", JPEG, "image/jpeg"), headers)

    def test_other_fields(self) -> None:
        """Small plain fields besides name and photo are ignored, wherever they are (docs/battery.md, C14)."""
        for others in (
            [part("more", b"x")],
            [part("csrf_token", b"a" * 100), part("MAX_FILE_SIZE", b"30000"), part("submit", b"Send")],
            [part("Name", b"Bo"), part("photo[]", JPEG), part("", b"Bo"), part("\xff", b"x")],
            [b"Content-Disposition: form-data\r\n\r\nBo"],
            [b"Content-Disposition: form-data; name*=utf-8''name\r\n\r\nBo"],
            [b'Content-Disposition: form-data; name="\xe8\xec\xff"\r\n\r\n\xc0'],
            [part("avatar", b"", "Content-Type: application/octet-stream", filename="")],
            [part("x", b"1")] * 32,
            [part("x", b"1" * 16384)],
            [part("x", b"1" * 512)] * 32,
        ):
            for body in (form_of(*others, NAME, PHOTO), form_of(NAME, *others, PHOTO), form_of(PHOTO, NAME, *others)):
                self.assertEqual(self.take(body), ("Anna", JPEG, "image/jpeg"), body[:200])

    def test_near_boundaries(self) -> None:
        """A photo may contain anything but its own boundary (docs/battery.md, C3)."""
        photo = JPEG + b"\r\n--" + BOUNDARY[:-1] + b"\r\n--\r\n\r\n--b" * 40 + b"\r"
        self.assertEqual(self.take(form(photo=photo))[1], photo)

    def test_small_photos(self) -> None:
        """A photo shorter than the bytes that show its type is judged at its end."""
        self.assertEqual(self.take(form(photo=b"\xff\xd8\xff")), ("Anna", b"\xff\xd8\xff", "image/jpeg"))

    def test_avif_in_a_general_container(self) -> None:
        """The brand that shows its type may come pieces later (docs/battery.md, C13)."""
        photo = b"\0\0\0\x24ftypmif1\0\0\0\0mif1miafMA1Bavif" + b"x" * 500
        body = form(photo=photo)
        for size in (1, 7, len(body)):
            pieces = (body[i : i + size] for i in range(0, len(body), size))
            self.assertEqual(self.take(*pieces), ("Anna", photo, "image/avif"))

    def test_name_arrives_as_sent(self) -> None:
        """Emoji and combining marks too; composed and trimmed (docs/battery.md, C5)."""
        self.assertEqual(self.take(form("  👩‍👩‍👧 e\u0301 \t"))[0], "👩‍👩‍👧 é")

    def test_photo_at_the_limit(self) -> None:
        """A photo of exactly the largest size is accepted (docs/battery.md, C2)."""
        photo = photo_of(LIMIT)
        self.assertEqual(self.take(form(photo=photo))[1], photo)
        self.assertEqual(self.take(form(photo=b"\xff\xd8\xff\xe0"), limit=4)[1], b"\xff\xd8\xff\xe0")

    def test_form_at_its_limit(self) -> None:
        """The rest of the form may be as long as FORM_OVERHEAD."""
        body = form(photo=photo_of(LIMIT))
        epilogue = b"x" * (LIMIT + FORM_OVERHEAD - len(body))
        self.assertEqual(self.take(body, epilogue)[1], photo_of(LIMIT))
        self.assert_refused(413, "too_large", body, epilogue + b"x")

    def test_discard_after_finish(self) -> None:
        """A finished form has given its room back, once; the staged photo is its caller's."""
        photo_form = self.make()
        photo_form.write(form())
        _, staged, _ = photo_form.finish()
        self.assertEqual(self.open_uploads, 0)
        photo_form._reservation.close()
        self.assertEqual(self.open_uploads, 0)
        self.content(staged)

    def test_discarded_at_any_time(self) -> None:
        """A form that is discarded, wherever it is, leaves no file and gives its room back."""
        body = form()
        self.make().discard()
        for length in range(1, len(body)):
            photo_form = self.make()
            photo_form.write(body[:length])
            photo_form.discard()
            self.assertEqual((self.incoming(), self.open_uploads), ([], 0), length)


class RefusedTests(FormCase):
    """Forms that are refused, each with its own code."""

    def test_malformed(self) -> None:
        """A body that isn't a complete, well-formed form (docs/battery.md, C1 and C4)."""
        whole = form()
        for body in (
            b"not a form at all" * 10,
            b"name=Anna&photo=x",
            form_of(NAME, PHOTO, boundary=b"another"),
            whole[:-4],
            whole[: len(whole) // 2],
            OPEN + NAME,
            b"--" + BOUNDARY,
            b"--" + BOUNDARY + b"\n" + whole,
            whole.replace(b"\r\n", b"\n"),
            form_of(b"\r\nno headers", PHOTO),
            form_of(b"Content-Disposition: attachment; name=name\r\n\r\nAnna", PHOTO),
            form_of(b"Content-Type: text/plain\r\n\r\nAnna", PHOTO),
            form_of(b"no colon\r\n\r\nAnna", PHOTO),
            form_of(b"bad name: x\r\n\r\nAnna", PHOTO),
            form_of(b" folded first: x\r\n\r\nAnna", PHOTO),
            form_of(b'Content-Disposition: form-data; name="name"; name="photo"\r\n\r\nAnna', PHOTO),
            b"x" * 4097 + b"\r\n" + whole,
            whole + b"x" * (FORM_OVERHEAD + 1),
            form_of(b'Content-Disposition: form-data; name="name"\nX: y\r\n\r\nAnna', PHOTO),
            form_of(NAME, part("photo", JPEG, "Content-Length: 5")),
            form_of(NAME, part("photo", JPEG, f"Content-Length: {len(JPEG) + 1}")),
            form_of(NAME, part("photo", JPEG, "Content-Length: -1")),
            form_of(NAME, part("photo", JPEG, "Content-Length: " + "9" * 4000)),
        ):
            self.assert_refused(400, "malformed_form", body)
        self.assert_refused(400, "malformed_form")

    def test_empty_form(self) -> None:
        """A form without any field."""
        self.assert_refused(400, "missing_field", b"--" + BOUNDARY + b"--\r\n")

    def test_too_complex(self) -> None:
        """Too many part headers, or too long ones, whether they end or not (docs/battery.md, C3)."""
        header = b'Content-Disposition: form-data; name="name"\r\n'
        for body in (
            form_of(header + b"X: y\r\n" * 8 + b"\r\nAnna", PHOTO),
            form_of(header + b"X: " + b"y" * 4096 + b"\r\n\r\nAnna", PHOTO),
            form_of(header + b"X: y\r\n" + b" z" * 3000 + b"\r\n\r\nAnna", PHOTO),
            OPEN + b"X" * 5_000_000,
        ):
            self.assert_refused(400, "form_too_complex", body, limit=10_000_000)

    def test_headers_at_their_limit(self) -> None:
        """8 headers are accepted, and one of 4,096 bytes; not one more."""
        header = b'Content-Disposition: form-data; name="name"\r\n'
        for count, outcome in ((7, ("Anna", JPEG, "image/jpeg")), (8, "form_too_complex")):
            self.assertEqual(self.outcome(form_of(header + b"X: y\r\n" * count + b"\r\nAnna", PHOTO)), outcome)
        for length, outcome in ((4093, ("Anna", JPEG, "image/jpeg")), (4094, "form_too_complex")):
            body = form_of(header + b"X: " + b"y" * length + b"\r\n\r\nAnna", PHOTO)
            self.assertEqual(self.outcome(body), outcome)

    def test_ten_thousand_parts(self) -> None:
        """They are refused at the first that is too many (docs/battery.md, C3)."""
        self.assert_refused(400, "form_too_complex", form_of(*[part("x", b"")] * 10_000), limit=10_000_000)
        self.assert_refused(400, "field_twice", form_of(*[NAME] * 10_000), limit=10_000_000)

    def test_preamble_flood(self) -> None:
        """Bytes without a boundary are malformed, whatever they are (docs/battery.md, C3)."""
        for flood in (b"x", b"\r\n", b"\r\n--b", b"-"):
            self.assert_refused(400, "malformed_form", flood * (1_000_000 // len(flood)), limit=10_000_000)

    def test_fields(self) -> None:
        """A form has the fields name and photo, each once and plain, and one file (docs/battery.md, C4)."""
        for code, body in (
            ("missing_field", form_of(NAME)),
            ("missing_field", b"a preamble, and no line break" + form_of(NAME, PHOTO)),
            ("missing_field", form_of(PHOTO)),
            ("field_twice", form_of(NAME, NAME, PHOTO)),
            ("field_twice", form_of(NAME, PHOTO, PHOTO)),
            ("missing_field", form_of(part("Name", b"Anna"), PHOTO)),
            ("missing_field", form_of(part("photo[]", JPEG), NAME)),
            ("missing_field", form_of(b"Content-Disposition: form-data\r\n\r\nAnna", PHOTO)),
            ("missing_field", form_of(b"Content-Disposition: form-data; name*=utf-8''name\r\n\r\nAnna", PHOTO)),
            ("unknown_field", form_of(NAME, PHOTO, part("more", b"x", filename="x"))),
            ("unknown_field", form_of(part("", JPEG, filename="me.jpg"), NAME)),
            ("unknown_field", form_of(b"Content-Disposition: form-data; filename=me.jpg\r\n\r\n" + JPEG, NAME)),
            (
                "unknown_field",
                form_of(b"Content-Disposition: form-data; name=x; filename*=utf-8''x\r\n\r\nx", NAME, PHOTO),
            ),
            ("form_too_complex", form_of(*[part("x", b"1")] * 33, NAME, PHOTO)),
            ("name_is_a_file", form_of(part("name", b"Anna", filename="name.txt"), PHOTO)),
            ("encoded_part", form_of(NAME, part("photo", b"/9j/4A==", "Content-Transfer-Encoding: base64"))),
            (
                "name_is_a_file",
                form_of(b"Content-Disposition: form-data; name=name; filename*=x''x\r\n\r\nAnna", PHOTO),
            ),
            ("encoded_part", form_of(part("x", b"=41", "Content-Transfer-Encoding: quoted-printable"), NAME, PHOTO)),
            ("encoded_part", form_of(part("name", b"=41nna", "Content-Transfer-Encoding: quoted-printable"), PHOTO)),
            ("nested_form", form_of(NAME, part("photo", PHOTO, "Content-Type: multipart/mixed; boundary=y"))),
        ):
            self.assert_refused(400, code, body)

    def test_other_fields_too_large(self) -> None:
        """Fields that are ignored are refused once they hold too much together (docs/battery.md, C14)."""
        self.assert_refused(413, "fields_too_large", form_of(part("x", b"1" * 16385), NAME, PHOTO), limit=10_000_000)
        self.assert_refused(413, "fields_too_large", form_of(NAME, PHOTO, *[part("x", b"1" * 600)] * 32))
        self.assert_refused(413, "fields_too_large", OPEN + part("x", b"1" * 1_000_000), limit=10_000_000)

    def test_names(self) -> None:
        """What can't be a name (docs/battery.md, C5)."""
        for name in (
            b"",
            b"   ",
            b"\0",
            b"An\0na",
            b"An\x1bna",
            "An\u202ena".encode(),
            b"\xed\xa0\x80",
            b"\xff",
            b"a" * 201,
        ):
            self.assert_refused(422, "bad_name", form(name))

    def test_name_size(self) -> None:
        """A name of far too many bytes is refused before its end."""
        self.assert_refused(422, "bad_name", form(b"a" * 8192))
        self.assert_refused(413, "name_too_large", form(b"a" * 8193), limit=10_000_000)
        self.assert_refused(413, "name_too_large", form(b"a" * 1_000_000), limit=10_000_000)
        opening = OPEN + part("name", b"")
        self.assert_refused(413, "name_too_large", opening, b"a" * 5000, b"a" * 3193)

    def test_photos(self) -> None:
        """What isn't an image (docs/battery.md, C7)."""
        for photo in (
            b"",
            b"\xff\xd8",
            b"not an image",
            b"<!doctype html><script>alert(1)</script>",
            b"<svg xmlns='http://www.w3.org/2000/svg'/>",
            b"BMW makes cars, and no images of this kind",
            b"\n" + JPEG,
        ):
            self.assert_refused(422, "not_an_image", form(photo=photo))

    def test_photo_too_large(self) -> None:
        """One byte too many, in whatever pieces; that it is no image is said first (docs/battery.md, C2)."""
        photo = photo_of(LIMIT + 1)
        self.assert_refused(413, "too_large", form(photo=photo))
        self.assert_refused(413, "too_large", *(form(photo=photo)[i : i + 7] for i in range(0, LIMIT + 600, 7)))
        self.assert_refused(413, "too_large", form(photo=JPEG), limit=10)
        self.assert_refused(413, "too_large", form(photo=b"\xff\xd8\xff\xe0"), limit=3)
        self.assert_refused(422, "not_an_image", form(photo=b"x" * (LIMIT + 1)))


class SmallPiecesTests(FormCase):
    """A body in the smallest pieces costs hardly more than in large ones (docs/battery.md, A5 and A9)."""

    def test_joined_before_reading_and_writing(self) -> None:
        """Neither the reader of forms nor the disk gets the pieces as they come."""
        reads, writes = [], []
        read, write = FormReader.read, os.write

        def count_reads(reader: FormReader, data: bytes) -> Iterator[FormEvent]:
            reads.append(len(data))
            return read(reader, data)

        def count_writes(descriptor: int, data: Any) -> int:
            writes.append(len(data))
            return write(descriptor, data)

        self.patch(FormReader, "read", count_reads)
        self.patch(os, "write", count_writes)
        photo = photo_of(300_000)
        body = form(photo=photo)
        self.assertEqual(self.take(*(body[i : i + 1] for i in range(len(body))), limit=300_000)[1], photo)
        self.assertLess(len(reads), 1024 + 300_000 / 8192 + 2)
        self.assertLess(len(writes), 1024 + 300_000 / 8192 + 2)

    def test_large_pieces_are_not_cut(self) -> None:
        """A piece as large as one read of a socket goes to the disk in one write, or almost."""
        writes, write = [], os.write

        def count_writes(descriptor: int, data: Any) -> int:
            writes.append(len(data))
            return write(descriptor, data)

        self.patch(os, "write", count_writes)
        body = form(photo=photo_of(1_000_000))
        self.take(*(body[i : i + 65536] for i in range(0, len(body), 65536)), limit=1_000_000)
        self.assertLessEqual(len(writes), 1_000_000 / 65536 + 3)

    def test_memory(self) -> None:
        """A photo that is kept in memory takes not twice its size there, though it comes two bytes at a time."""
        body = form(photo=photo_of(200_000))
        photo_form = PhotoForm(BOUNDARY, Reservation(self.spool.stage(in_memory=True), lambda: None), 200_000)
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        for i in range(0, len(body), 2):
            photo_form.write(body[i : i + 2])
        _, photo, _ = photo_form.finish()
        _, most = tracemalloc.get_traced_memory()
        self.assertEqual(photo.size, 200_000)
        self.assertLess(most, 2 * 200_000)


CUTS = st.lists(st.integers(0, 2000), max_size=12)


def cut(body: bytes, places: list[int]) -> list[bytes]:
    """Cut the body into pieces, none of them empty."""
    marks = sorted({0, len(body), *(place % (len(body) + 1) for place in places)})
    return [body[start:end] for start, end in itertools.pairwise(marks)]


ODD = [
    b"",
    b"\r",
    b"\n",
    b"\r\n",
    b"--",
    b"\r\n--" + BOUNDARY,
    b"\r\n--" + BOUNDARY + b"--",
    b"--" + BOUNDARY + b"\r\n",
    BOUNDARY,
    b"x" * 60,
    b"Content-Length: 4\r\n",
    b'Content-Disposition: form-data; name="name"\r\n',
    NAME,
    PHOTO,
    b"\0\xff",
]
"""What is inserted into good forms to spoil them."""


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Forms, most of them spoilt in some way."""
    parts = draw(
        st.lists(
            st.one_of(
                st.just(NAME),
                st.just(PHOTO),
                st.builds(part, st.just("name"), st.binary(max_size=30)),
                st.builds(part, st.just("photo"), st.binary(max_size=60).map(lambda tail: JPEG[:4] + tail)),
                st.builds(part, st.sampled_from(["photo", "name", "x"]), st.binary(max_size=30)),
            ),
            max_size=4,
        )
    )
    body = form_of(NAME, PHOTO) if draw(st.booleans()) else form_of(*parts)
    for _ in range(draw(st.integers(0, 2))):
        place, gone = draw(st.integers(0, len(body))), draw(st.sampled_from([0, 0, 1, 2, 10, 400]))
        body = body[:place] + draw(st.sampled_from(ODD)) + body[place + gone :]
    return body


class ChunkingTests(FormCase):
    """However a body is cut into pieces, its outcome is the same."""

    def test_byte_by_byte(self) -> None:
        """A good form, one byte at a time."""
        body = form("Анна", JPEG)
        self.assertEqual(self.take(*(body[i : i + 1] for i in range(len(body)))), ("Анна", JPEG, "image/jpeg"))

    def test_cut_in_two_anywhere(self) -> None:
        """Forms good and bad, cut in two at each place."""
        for body in (
            form(),
            b"a long preamble, longer than the boundary is" + form(),
            b"a long preamble, longer than the boundary is\r\n" + form(),
            b"\r\n" + form(),
            form_of(
                part("x", b"1"), b'Content-Disposition: form-data; filename="\x95\\"; name="photo"\r\n\r\n' + JPEG, NAME
            ),
            form_of(b'Content-Disposition: form-data; name="name"\nX: y\r\n\r\nAnna', PHOTO),
            form(photo=b"<html>" * 20),
            form() + b"\r\n\r\n",
        ):
            whole = self.outcome(body)
            for place in range(1, len(body)):
                self.assertEqual(self.outcome(body[:place], body[place:]), whole, (body, place))

    def test_too_large_and_wrong(self) -> None:
        """Of two faults the first in the body counts, though the length of all of it is known before."""
        for body, code in (
            (form_of(part("more", b"x", filename="x"), PHOTO) + b"x" * (LIMIT + FORM_OVERHEAD), "unknown_field"),
            (form(photo=b"x" * (LIMIT + FORM_OVERHEAD)), "not_an_image"),
            (form(photo=photo_of(2 * LIMIT + FORM_OVERHEAD)), "too_large"),
        ):
            self.assertEqual(self.outcome(body), code)
            self.assertEqual(self.outcome(*(body[i : i + 999] for i in range(0, len(body), 999))), code)

    @checked
    @given(st.text(max_size=20), st.binary(max_size=200), CUTS)
    def test_good(self, name: str, tail: bytes, places: list[int]) -> None:
        """A form with any name and photo."""
        body = form(name.encode("utf-8", "replace"), JPEG[:4] + tail)
        self.assertEqual(self.outcome(*cut(body, places)), self.outcome(body))

    @checked
    @given(bodies(), CUTS)
    def test_spoilt(self, body: bytes, places: list[int]) -> None:
        """Forms with something missing, twice, or in the wrong place."""
        self.assertEqual(self.outcome(*cut(body, places)), self.outcome(body), cut(body, places))

    def test_refused_at_the_same_place(self) -> None:
        """A faulty form is refused after the same byte, in whatever pieces it comes."""
        for size in range(0, 18_000, 500):
            body = form_of(PHOTO, part("x", b"x" * size), PHOTO)[:-1]
            for step in (7, 1000, 5000, 8191):
                photo_form, known = self.make(limit=20_000), 0
                code = None
                for end in range(step, len(body) + step, step):
                    try:
                        photo_form.write(body[end - step : end])
                    except HTTPError as error:
                        code, known = code_of(error), min(end, len(body))
                        break
                photo_form.discard()
                whole = known or len(body)
                self.assertEqual(self.refused_within(body[:whole]), code, (size, step))
                # Not earlier either: a piece less, and nothing is known.
                if known:
                    self.assertIsNone(self.refused_within(body[: known - step]), (size, step))

    def refused_within(self, body: bytes) -> str | None:
        """The code with which the beginning of a form is refused if it comes in one piece, or None."""
        photo_form = self.make(limit=20_000)
        try:
            photo_form.write(body)
        except HTTPError as error:
            return code_of(error)
        finally:
            photo_form.discard()
        return None

    @checked
    @given(st.lists(st.one_of(st.binary(min_size=1, max_size=40), st.sampled_from(ODD[1:])), max_size=30))
    def test_noise(self, pieces: list[bytes]) -> None:
        """Bytes of any kind never raise anything but HTTPError, and leave nothing behind."""
        self.outcome(*pieces)
        self.outcome(OPEN, *pieces)
        self.outcome(OPEN + part("photo", JPEG), *pieces)
        self.assertEqual((self.incoming(), self.open_uploads), ([], 0))

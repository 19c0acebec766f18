"""The forms that the API accepts."""

from twisted.trial.unittest import SynchronousTestCase

from merlind.merlinface.form import MAX_PHOTO, ApiForm, FormError, PollForm, UploadForm
from merlind.merlinface.score import score, score_of_digest
from tests.unit.merlinface.support import MULTIPART, PHOTO, UPLOAD, form, name_part, part, photo_part, poll_form


def read_form(body: bytes, content_type: bytes = MULTIPART, step: int = 0) -> UploadForm | PollForm | tuple[int, str]:
    """What a form asks for, or its error; written whole, or ``step`` bytes at a time."""
    read = ApiForm(content_type)
    for start in range(0, len(body), step or len(body) or 1):
        read.write(body[start : start + (step or len(body))])
    try:
        return read.finish()
    except FormError as error:
        return error.status, error.reason


def all_ways(body: bytes, content_type: bytes = MULTIPART) -> set[UploadForm | PollForm | tuple[int, str]]:
    """The outcomes of a form in pieces of different lengths: more than one is a bug."""
    return {read_form(body, content_type, step) for step in (0, 1, 2, 3, 7, 64, len(body) - 1, len(body) - 2)}


class FormTests(SynchronousTestCase):
    """What is accepted as which form, and what is rejected."""

    def test_upload(self) -> None:
        """A name and a photo, in either order, make an upload."""
        for body in (UPLOAD, form(photo_part(), name_part(" Anna\t"))):
            (upload,) = all_ways(body)
            assert isinstance(upload, UploadForm)
            self.assertEqual(upload.name, "Anna")
            self.assertEqual(score_of_digest(upload.name, upload.photo_sha256), score("Anna", PHOTO))

    def test_poll(self) -> None:
        """The field retry_id alone, byte for byte, makes a poll; the form's last line break may be missing."""
        self.assertEqual(all_ways(poll_form("some-id")), {PollForm("some-id")})
        self.assertEqual(all_ways(poll_form("some-id")[:-2]), {PollForm("some-id")})
        self.assertEqual(all_ways(poll_form(" e\u0301\r\n")), {PollForm(" e\u0301\r\n")})

    def test_boundary(self) -> None:
        """A boundary may be quoted and have any printable characters of ISO 8859-1."""
        body = UPLOAD.replace(b"--B", b"--b \xe9;")
        self.assertIsInstance(read_form(body, b'Multipart/Form-Data; charset=x; BOUNDARY="b \xe9;"'), UploadForm)

    def test_longest_name(self) -> None:
        """A name's length is counted in characters, after NFC and trimming."""
        for name in ("x" * 200, "\U0001f600" * 200, " " + "e\u0301" * 200 + " "):
            self.assertIsInstance(read_form(form(name_part(name), photo_part())), UploadForm)

    def test_largest_photo(self) -> None:
        """A photo of 20 MiB is accepted, and not one more byte."""
        body = form(name_part("Anna"), photo_part(bytes(MAX_PHOTO)))
        self.assertIsInstance(read_form(body, step=2**16), UploadForm)
        body = form(photo_part(bytes(MAX_PHOTO + 1)), name_part("Anna"))
        self.assertEqual(read_form(body, step=2**16), (400, "photo is larger than 20 MiB"))

    def test_content_type(self) -> None:
        """Only multipart/form-data with a usable boundary is accepted."""
        for content_type in (
            b"",
            b"application/json",
            b"application/x-www-form-urlencoded",
            b"multipart/mixed; boundary=B",
        ):
            self.assertEqual(read_form(UPLOAD, content_type), (415, "not multipart/form-data"))
        for content_type in (
            b"multipart/form-data",
            b"multipart/form-data; boundary=",
            b"multipart/form-data; boundary=" + b"B" * 1025,
        ):
            rejected = read_form(UPLOAD, content_type)
            assert isinstance(rejected, tuple)
            self.assertEqual(rejected[0], 400)
            self.assertIn("malformed form", rejected[1])

    def test_malformed(self) -> None:
        """A form that breaks the format is rejected, in whatever pieces it comes."""
        for body in (
            b"",
            b"\r\n",
            b"garbage that is long enough",
            UPLOAD[:-6],
            UPLOAD[: len(UPLOAD) // 2],
            UPLOAD + b"more",
            UPLOAD[:-2] + b"more",
            UPLOAD + b"\r\n",
            UPLOAD.replace(b"\r\n", b"\n"),
            form(name_part("Anna"), photo_part(), part("name", b"Otto")),
            form(b'--B\r\nContent-Disposition: attachment; name="name"\r\n\r\nAnna\r\n', photo_part()),
            form(b"--B\r\nContent-Disposition: form-data\r\n\r\nAnna\r\n", photo_part()),
            form(b"--B\r\n\r\nAnna\r\n", photo_part()),
            form(part("name", b"Anna", headers="Content-Length: 5\r\n"), photo_part()),
            form(part("name", b"Anna", headers="X: " + "x" * 5000 + "\r\n"), photo_part()),
        ):
            for rejected in all_ways(body):
                assert isinstance(rejected, tuple), body
                self.assertEqual(rejected[0], 400)
                self.assertIn("malformed form", rejected[1])

    def test_rejected_fields(self) -> None:
        """Each rule for the fields has its own error."""
        name, photo, retry_id = name_part("Anna"), photo_part(), part("retry_id", b"id")
        for body, reason in (
            (form(), "name is missing"),
            (form(name), "photo is missing"),
            (form(photo), "name is missing"),
            (form(name, name), "name comes twice"),
            (form(photo, photo), "photo comes twice"),
            (form(retry_id, retry_id), "retry_id comes twice"),
            (form(name, part("age", b"7")), "unknown field"),
            (form(part("", b"7"), name), "unknown field"),
            (form(part("Name", b"Anna"), photo), "unknown field"),
            (form(name_part(""), photo), "name is empty"),
            (form(name_part(" \u2003\r\n"), photo), "name is empty"),
            (form(name_part("x" * 201), photo), "name is longer than 200 characters"),
            (form(name_part(" " * 4097), photo), "a plain field is too long"),
            (form(name_part(b"Ren\xe9"), photo), "name is not UTF-8"),
            (form(part("name", b"Anna", '; filename="a"'), photo), "name is a plain field, without a filename"),
            (form(name, photo_part(filename="")), "photo has no filename"),
            (form(name, photo_part(filename='; filename=""')), "photo has no filename"),
            (form(name, photo_part(media_type="")), "photo is no image"),
            (form(name, photo_part(media_type="text/plain")), "photo is no image"),
            (form(name, photo_part(media_type="image/")), "photo is no image"),
            (form(name, photo_part(b"")), "photo is empty"),
            (form(retry_id, photo), "retry_id comes alone"),
            (form(name, retry_id), "retry_id comes alone"),
            (form(part("retry_id", b"id", '; filename=""')), "retry_id is a plain field, without a filename"),
            (form(part("retry_id", b"\xff")), "retry_id is not UTF-8"),
            (form(part("retry_id", b"")), "retry_id is empty"),
        ):
            self.assertEqual(all_ways(body), {(400, reason)})

"""What clients do wrong, and the sentence that each of them gets (docs/battery.md, C15)."""

from tests.unit.support import JPEG
from tests.unit.web.support import BOUNDARY, EdgeCase, form_of, message, part, photo_of, post

NAME = part("name", b"Anna")
PHOTO = part("photo", JPEG, "Content-Type: image/jpeg", filename="me.jpg")
CURL = "curl -F name=Anna -F photo=@face.jpg URL"
HOW = (
    f"to get a score, POST a form with the fields name and photo ({CURL}), then GET ?task_id=N with the task's number "
    "from the response; GET with Accept: application/openapi+json describes it all"
)
NO_IMAGE = "photo is not a JPEG, PNG, WebP, GIF, HEIC, AVIF, BMP or TIFF image"
TEXT = "photo is text, not a file: curl needs photo=@FILE"

FORMS = {
    "photo=face.jpg": (form_of(NAME, part("photo", b"face.jpg")), 422, "not_an_image", TEXT),
    "a long text as photo": (form_of(NAME, part("photo", b"x" * 3000)), 422, "not_an_image", TEXT),
    "an empty photo": (form_of(NAME, part("photo", b"")), 422, "not_an_image", "photo is empty"),
    "an empty file": (form_of(NAME, part("photo", b"", filename="x.jpg")), 422, "not_an_image", "photo is empty"),
    "a browser without a file": (
        form_of(NAME, part("photo", b"", "Content-Type: application/octet-stream", filename="")),
        422, "not_an_image", "photo is empty: no file was chosen",
    ),
    "a text file": (form_of(NAME, part("photo", b"hello", filename="x.txt")), 422, "not_an_image", NO_IMAGE),
    "an empty name": (form_of(part("name", b" "), PHOTO), 422, "bad_name", "name is empty"),
    "name=@file": (
        form_of(part("name", b"Anna", filename="x.txt"), PHOTO),
        400, "name_is_a_file", "name is a file, not a text: curl needs name=Anna, without @",
    ),
    "another field": (
        form_of(NAME, part("image", JPEG, filename="secret.jpg")),
        400, "unknown_field", "a file was sent named 'image': name its field photo",
    ),
    "PHP's brackets": (
        form_of(NAME, part("photo[]", JPEG, filename="me.jpg")),
        400, "unknown_field", "a file was sent named 'photo[]': name its field photo",
    ),
    "no field's name": (
        form_of(b"Content-Disposition: form-data; filename=me.jpg\r\n\r\n" + JPEG, NAME),
        400, "unknown_field", "a file was sent without a field's name: name its field photo",
    ),
    "a second file": (
        form_of(NAME, PHOTO, part("back", JPEG, filename="secret.jpg")),
        400, "unknown_field", "a second file, named 'back', was sent: send one photo a request",
    ),
    "a long field of odd characters": (
        form_of(NAME, PHOTO, part("\t\u202eé\x7f" + "x" * 500, JPEG, filename="x")),
        400, "unknown_field",
        f"a second file, named '??é?{'x' * 28}…', was sent: send one photo a request",
    ),
    "two photos": (
        form_of(NAME, PHOTO, PHOTO),
        400, "field_twice", "a second photo was sent: send one name and one photo a request",
    ),
    "two names": (
        form_of(NAME, NAME, PHOTO),
        400, "field_twice", "a second name was sent: send one name and one photo a request",
    ),
    "no photo": (form_of(NAME), 400, "missing_field", "the form has no field photo"),
    "a photo as text elsewhere": (
        form_of(NAME, part("picture", b"face.jpg")),
        400, "missing_field", "the form has no field photo; it has 'picture', which merlind ignores",
    ),
    "Name": (
        form_of(part("Name", b"Anna"), PHOTO, *[part(f"f{n}", b"") for n in range(9)]),
        400, "missing_field", "the form has no field name; it has 'Name', 'f0', 'f1', which merlind ignores",
    ),
    "an end that is missing": (
        form_of(NAME, PHOTO)[:-8],
        400, "malformed_form", "the body is not a whole multipart/form-data form: it ends too early",
    ),
    "too many fields": (
        form_of(*[part("x", b"")] * 33, NAME, PHOTO),
        400, "form_too_complex", "the form is too complex: too many parts",
    ),
    "a long field": (
        form_of(NAME, PHOTO, part("x", b"1" * 16385)),
        413, "fields_too_large", "the fields besides name and photo hold too much",
    ),
    "base64": (
        form_of(NAME, part("photo", b"/9j/4A==", "Content-Transfer-Encoding: base64")),
        400, "encoded_part", "photo came in a transfer encoding: send it as it is",
    ),
    "files in a file": (
        form_of(NAME, part("photo", PHOTO, "Content-Type: multipart/mixed; boundary=y")),
        400, "nested_form", "photo is itself multipart: send one photo, not several",
    ),
    "a large photo": (
        form_of(NAME, part("photo", photo_of(5000), filename="x.jpg")),
        413, "too_large", "a photo may have 4096 bytes at most",
    ),
}  # fmt: skip
"""Forms: what is wrong, the body, and the status, code and sentence that it gets."""

_SEND = f": send name and photo as multipart/form-data, such as {CURL}"
TYPES = {
    None: f"the request has no Content-Type{_SEND}",
    "": f"the request has no Content-Type{_SEND}",
    "application/json; charset=utf-8": f"the body is JSON{_SEND}",
    "application/vnd.api+json": f"the body is JSON{_SEND}",
    "application/x-www-form-urlencoded": "the body is URL-encoded, which can't hold a photo (curl: -F instead of -d; "
    f'HTML: enctype="multipart/form-data"){_SEND}',
    "image/jpeg": f"the body is a photo without a form (curl: -F instead of -T or --data-binary){_SEND}",
    "Application/Octet-Stream": f"the body is a photo without a form (curl: -F instead of -T or --data-binary){_SEND}",
    "multipart/mixed; boundary=x": f"the body is multipart of another kind{_SEND}",
    "text/plain": f"the body is no form{_SEND}",
}
"""The Content-Type of what isn't a form, and the sentence that it gets."""

QUERIES = {
    "": HOW,
    "lang=en": HOW,
    "task=5": "did you mean task_id? The query has 'task': GET ?task_id=N",
    "id=5": "did you mean task_id? The query has 'id': GET ?task_id=N",
    "taskid=5": "did you mean task_id? The query has 'taskid': GET ?task_id=N",
    "taskId=5": "did you mean task_id? The query has 'taskId': GET ?task_id=N",
    "x=1&task-id=5": "did you mean task_id? The query has 'task-id': GET ?task_id=N",
    "task_id%5B%5D=5": "did you mean task_id? The query has 'task_id[]': GET ?task_id=N",
    "tsak_id=5": "did you mean task_id? The query has 'tsak_id': GET ?task_id=N",
    "TASK_ID%0A=5": "did you mean task_id? The query has 'TASK_ID?': GET ?task_id=N",
    "task_id": "task_id is empty",
    "task_id=": "task_id is empty",
    "task_id=Anna": "task_id is not a number of 1 to 16 digits",
    "task_id=12345678901234567": "task_id is not a number of 1 to 16 digits",
    "task_id=1&task_id=2": "task_id was sent more than once: send one",
    "x&" * 33 + "task_id=1": "the query has more than 32 parameters",
}
"""Queries, and the sentence that they get."""


class WrongCallTests(EdgeCase):
    """Each wrong call gets its status, its code, and a sentence that names the field and the likely cause."""

    def test_forms(self) -> None:
        """Forms with something wrong in them; nothing of them is kept."""
        for what, (body, status, code, detail) in FORMS.items():
            reply = self.ask(post(body))
            self.assertEqual((reply.code, reply.json["code"], reply.json["detail"]), (status, code, detail), what)
            self.assertNotIn("secret", reply.json["detail"])
        self.assert_nothing_kept()

    def test_content_types(self) -> None:
        """A body that isn't a form: the sentence says what it seems to be, and what to send."""
        for content_type, detail in TYPES.items():
            reply = self.ask(post(b"x" * 100, Content_Type=content_type))
            self.assertEqual((reply.code, reply.json["code"]), (415, "not_a_form"), content_type)
            self.assertEqual(reply.json["detail"], detail)

    def test_boundary(self) -> None:
        """Whoever writes the Content-Type by hand is told to leave that to the library."""
        reply = self.ask(post(b"x" * 100, Content_Type="multipart/form-data"))
        self.assertEqual((reply.code, reply.json["code"]), (400, "bad_boundary"))
        self.assertIn("let the HTTP library make it", reply.json["detail"])

    def test_queries(self) -> None:
        """Queries without one good task_id, from GET and DELETE."""
        for query, detail in QUERIES.items():
            for method in ("GET", "DELETE"):
                reply = self.ask(message(method, f"/?{query}"))
                found = (reply.code, reply.json["code"], reply.json["detail"])
                self.assertEqual(found, (400, "bad_task_id", detail), query)

    def test_methods_and_paths(self) -> None:
        """Another method or path is told what to ask for, however large the photo is that came with it."""
        for method, path, status, detail in (
            ("PUT", "/", 405, f"this method is not allowed here: {HOW}"),
            ("PATCH", "/", 405, f"this method is not allowed here: {HOW}"),
            ("POST", "/upload", 404, f"there is nothing here, only at /: {HOW}"),
            ("GET", "/tasks/5", 404, f"there is nothing here, only at /: {HOW}"),
        ):
            for size in (0, 100, 100_000):
                reply = self.ask(message(method, path, b"x" * size))
                self.assertEqual((reply.code, reply.json["detail"]), (status, detail), (method, path, size))

    def test_fields_of_browsers_are_ignored(self) -> None:
        """A button's name, _charset_, MAX_FILE_SIZE and a file that wasn't chosen make no difference."""
        more = (
            part("MAX_FILE_SIZE", b"10485760"),
            part("_charset_", b"utf-8"),
            part("send", b"See how it suits"),
            part("name.dir", b"ltr"),
            part("second", b"", "Content-Type: application/octet-stream", filename=""),
            b'Content-Disposition: form-data; name="submit"\r\n\r\n',
        )
        reply = self.ask(post(form_of(more[0], NAME, *more[1:], PHOTO)))
        self.assertEqual(reply.code, 202, reply.body)

    def test_sentences_can_be_read(self) -> None:
        """They are short and printable, and quote neither boundary nor filename."""
        for what, (body, *_) in FORMS.items():
            detail = self.ask(post(body)).json["detail"]
            self.assertTrue(0 < len(detail) <= 300 and detail.isprintable(), what)
            self.assertNotIn(BOUNDARY.decode("ascii"), detail)

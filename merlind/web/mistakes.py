"""What a client most likely did wrong, as the sentences of error responses.

They name fields of a form or query, cut and printable, and quote nothing else that a client sent.
"""

import difflib
from collections.abc import Sequence

from merlind.web.response import ALLOW, Response, problem

MAX_SHOWN = 32
"""The longest name of a field that is quoted, in characters; of a longer one, the beginning."""

_MAX_OTHERS = 3
"""How many fields are named that may stand for a missing one."""

_CURL = "curl -F name=Anna -F photo=@face.jpg URL"

HOW = (
    f"to get a score, POST a form with the fields name and photo ({_CURL}), then GET ?task_id=N with the task's number "
    "from the response; GET with Accept: application/openapi+json describes it all"
)
"""What to ask merlind for, and how."""

NO_SUCH_PATH = problem(404, "not_found", f"there is nothing here, only at /: {HOW}")
METHOD_NOT_ALLOWED = problem(405, "method_not_allowed", f"this method is not allowed here: {HOW}", (b"Allow", ALLOW))

_TASK_ID_WORDS = frozenset({"id", "task", "taskid", "tasknumber", "job", "jobid", "number"})


def shown(name: str) -> str:
    """Return a field's name in quotation marks, cut, with a question mark for each character that can't be seen."""
    cut = name if len(name) <= MAX_SHOWN else name[:MAX_SHOWN] + "…"
    return "'" + "".join(character if character.isprintable() else "?" for character in cut) + "'"


def wrong_query(pairs: Sequence[tuple[str, str]]) -> str:
    """Say what is wrong with the query of a GET or DELETE that doesn't have exactly one good task_id."""
    values = [value for name, value in pairs if name == "task_id"]
    if len(values) > 1:
        return "task_id was sent more than once: send one"
    if values:
        return "task_id is empty" if not values[0] else "task_id is not a number of 1 to 16 digits"
    for name, _ in pairs:
        if _may_mean_task_id(name):
            return f"did you mean task_id? The query has {shown(name)}: GET ?task_id=N"
    return HOW


def _may_mean_task_id(name: str) -> bool:
    short = name[:MAX_SHOWN].lower()
    letters = "".join(filter(str.isalpha, short))
    return letters in _TASK_ID_WORDS or bool(difflib.get_close_matches(short, ["task_id"], 1, 0.8))


def not_a_form(content_type: bytes | None) -> Response:
    """Refuse a POST by its Content-Type: say what the body seems to be, and what it should be."""
    media_type = (content_type or b"").partition(b";")[0].strip().lower()
    match media_type.partition(b"/"):
        case b"", _, _:
            what = "the request has no Content-Type"
        case b"application", _, b"x-www-form-urlencoded":
            what = (
                "the body is URL-encoded, which can't hold a photo (curl: -F instead of -d; HTML: "
                'enctype="multipart/form-data")'
            )
        case b"application", _, subtype if subtype == b"json" or subtype.endswith(b"+json"):
            what = "the body is JSON"
        case (b"image", _, _) | (b"application", _, b"octet-stream"):
            what = "the body is a photo without a form (curl: -F instead of -T or --data-binary)"
        case b"multipart", _, _:
            what = "the body is multipart of another kind"
        case _:
            what = "the body is no form"
    return problem(415, "not_a_form", f"{what}: send name and photo as multipart/form-data, such as {_CURL}")


def missing_field(field: str, others: Sequence[str]) -> Response:
    """Refuse a form without ``field``; ``others`` are the fields that it has and that were ignored."""
    detail = f"the form has no field {field}"
    if others:
        detail += f"; it has {', '.join(map(shown, others[:_MAX_OTHERS]))}, which merlind ignores"
    return problem(400, "missing_field", detail)


def another_file(field: str | None, has_photo: bool) -> Response:
    """Refuse a file that came in another field than photo, before or after the photo itself."""
    named = f"named {shown(field)}" if field else "without a field's name"
    if has_photo:
        return problem(400, "unknown_field", f"a second file, {named}, was sent: send one photo a request")
    return problem(400, "unknown_field", f"a file was sent {named}: name its field photo")


def field_twice(field: str) -> Response:
    """Refuse a second name or photo."""
    return problem(400, "field_twice", f"a second {field} was sent: send one name and one photo a request")


def name_is_a_file() -> Response:
    """Refuse a name that came as a file."""
    return problem(400, "name_is_a_file", "name is a file, not a text: curl needs name=Anna, without @")


def encoded_part(field: str | None) -> Response:
    """Refuse a part in base64 or quoted-printable, which browsers don't send (RFC 7578, section 4.7)."""
    return problem(400, "encoded_part", f"{_part(field)} came in a transfer encoding: send it as it is")


def nested_form(field: str | None) -> Response:
    """Refuse several files in one part (RFC 7578, section 4.3)."""
    return problem(400, "nested_form", f"{_part(field)} is itself multipart: send one photo, not several")


def _part(field: str | None) -> str:
    return field if field in ("name", "photo") else shown(field) if field else "a part without a name"


def not_an_image(empty: bool, filename: str | None) -> Response:
    """Refuse a photo by its first bytes; ``filename`` is None if it came without one, as a text does."""
    if empty:
        detail = "photo is empty" + (": no file was chosen" if filename == "" else "")
    elif filename is None:
        detail = "photo is text, not a file: curl needs photo=@FILE"
    else:
        detail = "photo is not a JPEG, PNG, WebP, GIF, HEIC, AVIF, BMP or TIFF image"
    return problem(422, "not_an_image", detail)

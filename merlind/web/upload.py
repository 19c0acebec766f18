"""Reads the form that a client uploads: the name into memory, the photo into the spool; other small fields are ignored.

The rules are those of docs/contract.md, "Names and photos" and "Errors" in "Public side".
"""

from twisted.logger import Logger

from merlind.core.images import bytes_needed, image_type
from merlind.core.interfaces import StagedPhoto
from merlind.core.names import normal_name
from merlind.tasks.intake import Reservation
from merlind.web.mistakes import (
    another_file,
    encoded_part,
    field_twice,
    missing_field,
    name_is_a_file,
    nested_form,
    not_a_form,
    not_an_image,
)
from merlind.web.multipart import (
    BadBoundary,
    FormPart,
    FormReader,
    FormRules,
    FormTooComplex,
    NotAForm,
    PartEnd,
    UnreadableForm,
    find_boundary,
)
from merlind.web.response import HTTPError, problem

FORM_OVERHEAD = 65536
"""How much larger than its photo a form may be, in bytes: its boundaries, part headers and the name."""

MAX_NAME_BYTES = 8192
"""How much of a name is read, in bytes. Trimming may still make a name of it: see core/names.py."""

MAX_OTHER_FIELDS = 32
"""How many fields besides name and photo a form may have; they are ignored."""

MAX_OTHER_BYTES = 16384
"""How much these fields may hold together, in bytes."""

_RULES = FormRules(max_parts=2 + MAX_OTHER_FIELDS, max_preamble=4096, max_epilogue=FORM_OVERHEAD)

_READ_AT_ONCE = 1024
"""How much of a form is read as it comes, in bytes: there most faulty forms show that they are."""

_READ_STEP = 8192
"""In which steps the rest is read, in bytes: a piece may be a single byte, and each one read takes microseconds."""

_BAD_BOUNDARY = problem(
    400, "bad_boundary", "Content-Type has no usable boundary: let the HTTP library make it, with the boundary in it"
)


def boundary_of(content_type: bytes | None) -> bytes:
    """Return the boundary that the Content-Type of an upload names.

    Raises HTTPError: 415 for another media type, 400 for an unusable boundary.
    """
    try:
        boundary = find_boundary(content_type)
        if not boundary.isascii():
            raise BadBoundary("RFC 2046, section 5.1.1: a boundary is ASCII")
    except NotAForm:
        raise HTTPError(not_a_form(content_type)) from None
    except BadBoundary:
        raise HTTPError(_BAD_BOUNDARY) from None
    return boundary


def _unreadable(error: UnreadableForm) -> HTTPError:
    if isinstance(error, FormTooComplex):
        return HTTPError(problem(400, "form_too_complex", f"the form is too complex: {error}"))
    return HTTPError(problem(400, "malformed_form", f"the body is not a whole multipart/form-data form: {error}"))


class PhotoForm:
    """One form as it comes in. ``write`` and ``finish`` raise HTTPError, and OSError when the disk fails.

    It ends with exactly one of ``finish`` and ``discard``: whoever gets an exception discards it.
    """

    _log = Logger()

    def __init__(self, boundary: bytes, reservation: Reservation, max_photo_bytes: int) -> None:
        self._reader = FormReader(boundary, _RULES)
        self._reservation = reservation
        self._max_photo_bytes = max_photo_bytes
        self._received = 0
        self._unread: bytes | bytearray = b""
        self._field: str | None = None
        self._seen: set[str] = set()
        self._others: list[str] = []
        self._filename: str | None = None
        self._name = bytearray()
        self._other_bytes = 0
        self._head = b""
        self._media_type: str | None = None

    def write(self, data: bytes) -> None:
        """Take the next bytes of the body, in pieces of any size."""
        fitting = data[: self._max_photo_bytes + FORM_OVERHEAD - self._received]
        self._received += len(fitting)
        if len(fitting) >= _READ_STEP:
            self._unread = bytes(self._unread) + fitting  # without a copy if there is nothing unread
        else:
            self._unread = bytearray(self._unread) if isinstance(self._unread, bytes) else self._unread
            self._unread += fitting
        if len(fitting) < len(data):
            # A fault within the room comes before the one that there is too much, however the body was cut.
            self._read_up_to(self._received)
            raise _too_large(self._max_photo_bytes)
        whole_steps = self._received - self._received % _READ_STEP
        self._read_up_to(max(whole_steps, min(self._received, _READ_AT_ONCE)))

    def _read_up_to(self, place: int) -> None:
        """Read on to a place in the body; the places depend on its bytes alone, not on how it was cut."""
        length = place - (self._received - len(self._unread))
        if length <= 0:
            return
        data, self._unread = bytes(self._unread[:length]), self._unread[length:]
        try:
            for event in self._reader.read(data):
                if isinstance(event, FormPart):
                    self._begin_part(event)
                elif isinstance(event, PartEnd):
                    self._end_part()
                else:
                    self._take_content(event)
        except UnreadableForm as error:
            raise _unreadable(error) from None

    def finish(self) -> tuple[str, StagedPhoto, str]:
        """Return the name, the staged photo and its media type, now that the body has ended."""
        self._read_up_to(self._received)
        try:
            self._reader.close()
        except UnreadableForm as error:
            raise _unreadable(error) from None
        for field in ("name", "photo"):
            if field not in self._seen:
                raise HTTPError(missing_field(field, self._others))
        try:
            name = normal_name(bytes(self._name))
        except ValueError as error:
            raise HTTPError(problem(422, "bad_name", str(error))) from None
        assert self._media_type is not None, "a photo that ended has a type"
        photo = self._reservation.photo
        photo.finish()
        self._reservation.close()
        return name, photo, self._media_type

    def discard(self) -> None:
        """Delete what came in, and give the room back."""
        try:
            self._reservation.photo.discard()
        except OSError as error:
            # The next start deletes it.
            self._log.error("a photo could not be removed: {why}", why=error.strerror)
        finally:
            self._reservation.close()

    def _begin_part(self, part: FormPart) -> None:
        field = part.name if part.name in ("name", "photo") else None
        # A browser sends an empty filename for a file that wasn't chosen.
        if field is None and part.filename:
            raise HTTPError(another_file(part.name, "photo" in self._seen))
        if field is not None and field in self._seen:
            raise HTTPError(field_twice(field))
        if field == "name" and part.filename is not None:
            raise HTTPError(name_is_a_file())
        if part.transfer_encoding not in (None, "binary", "8bit", "7bit"):
            raise HTTPError(encoded_part(part.name))
        if (part.content_type or "").startswith("multipart/"):
            raise HTTPError(nested_form(part.name))
        if field is not None:
            self._seen.add(field)
        elif part.name:
            self._others.append(part.name)
        if field == "photo":
            self._filename = part.filename
        self._field = field

    def _take_content(self, data: bytes) -> None:
        if self._field == "photo":
            self._write_photo(data)
        elif self._field == "name":
            self._write_name(data)
        else:
            self._other_bytes += len(data)
            if self._other_bytes > MAX_OTHER_BYTES:
                raise HTTPError(problem(413, "fields_too_large", "the fields besides name and photo hold too much"))

    def _write_name(self, data: bytes) -> None:
        self._name += data
        if len(self._name) > MAX_NAME_BYTES:
            raise HTTPError(problem(413, "name_too_large", "name is too long"))

    def _write_photo(self, data: bytes) -> None:
        if self._media_type is None:
            self._head += data  # empty as a rule, and then nothing is copied
            if len(self._head) < bytes_needed(self._head):
                return
            data = self._judge_photo()
        self._keep(data)

    def _keep(self, data: bytes) -> None:
        photo = self._reservation.photo
        if photo.size + len(data) > self._max_photo_bytes:
            raise _too_large(self._max_photo_bytes)
        photo.write(data)

    def _judge_photo(self) -> bytes:
        """Find the photo's type by its first bytes, and return them."""
        head, self._head = self._head, b""
        self._media_type = image_type(head[: bytes_needed(head)])
        if self._media_type is None:
            raise HTTPError(not_an_image(not head, self._filename))
        return head

    def _end_part(self) -> None:
        if self._field == "photo" and self._media_type is None:
            self._keep(self._judge_photo())


def _too_large(max_photo_bytes: int) -> HTTPError:
    return HTTPError(problem(413, "too_large", f"a photo may have {max_photo_bytes} bytes at most"))

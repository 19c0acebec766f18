"""Reads the forms that the API is sent: uploads and polls (docs/contract.md, "Upload" and "Poll")."""

import hashlib
from dataclasses import dataclass

from merlind.core.names import MAX_NAME, canonical_name
from merlind.merlinface.photo_memory import HeldPhoto, PhotoMemory, PhotoMemoryFull
from merlind.web.multipart import (
    FormPart,
    FormReader,
    FormRules,
    NotAForm,
    PartEnd,
    UnreadableForm,
    find_boundary,
)

MAX_PHOTO = 20 * 2**20
"""The largest photo, in bytes."""

MAX_FIELD = 4096
"""The longest plain field, in bytes: room for any name of MAX_NAME characters, and some white space."""

_RULES = FormRules(max_parts=2)


class FormError(Exception):
    """The form is refused: with which HTTP status, and why, in words that quote nothing of it."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason


@dataclass(frozen=True, slots=True)
class UploadForm:
    """A name, the SHA-256 digest of a photo, and the photo itself if the scorer needs it: who takes it releases it."""

    name: str
    photo_sha256: bytes
    photo: HeldPhoto | None = None


@dataclass(frozen=True, slots=True)
class PollForm:
    """The retry_id of an earlier upload."""

    retry_id: str


class ApiForm:
    """One form as it comes in: plain fields are kept, a photo is hashed, and kept only if there is a ``memory`` for it.

    ``write`` never raises: ``finish`` raises the first fault, and whatever comes after it is ignored.
    """

    def __init__(self, content_type: bytes, memory: PhotoMemory | None = None) -> None:
        self._fields: dict[str, bytearray] = {}
        self._field: bytearray | None = None
        self._photo = hashlib.sha256()
        self._photo_size = 0
        self._held = None if memory is None else HeldPhoto(memory)
        self._error: FormError | None = None
        try:
            self._reader = FormReader(find_boundary(content_type), _RULES)
        except UnreadableForm as error:
            self._error = _unreadable(error)

    def write(self, data: bytes) -> None:
        """Take the next bytes of the body."""
        if self._error is not None:
            return
        try:
            for event in self._reader.read(data):
                if isinstance(event, FormPart):
                    self._begin(event)
                elif not isinstance(event, PartEnd):
                    self._take(event)
        except UnreadableForm as error:
            self._fail(_unreadable(error))
        except PhotoMemoryFull:
            self._fail(FormError(503, "too many photos wait"))
        except FormError as error:
            self._fail(error)

    def release(self) -> None:
        """Drop the photo, unless ``finish`` has handed it over."""
        if self._held is not None:
            self._held.release()

    def finish(self) -> UploadForm | PollForm:
        """Return what the form asks for, now that the body has ended. Raises FormError."""
        if self._error is not None:
            raise self._error
        try:
            self._reader.close()
        except UnreadableForm as error:
            raise _unreadable(error) from None
        if "retry_id" in self._fields:
            if len(self._fields) > 1:
                raise FormError(400, "retry_id comes alone")
            return PollForm(self._text("retry_id"))
        for name in ("name", "photo"):
            if name not in self._fields:
                raise FormError(400, f"{name} is missing")
        if not self._photo_size:
            raise FormError(400, "photo is empty")
        try:
            name = canonical_name(self._text("name"))
        except ValueError:
            raise FormError(400, f"name is longer than {MAX_NAME} characters") from None
        if not name:
            raise FormError(400, "name is empty")
        held, self._held = self._held, None
        return UploadForm(name, self._photo.digest(), held)

    def _fail(self, error: FormError) -> None:
        self._error = error
        self.release()

    def _begin(self, part: FormPart) -> None:
        name = part.name
        if name is None:
            raise FormError(400, "malformed form: a part has no name")
        if name not in ("name", "photo", "retry_id"):
            raise FormError(400, "unknown field")
        if name in self._fields:
            raise FormError(400, f"{name} comes twice")
        self._fields[name] = bytearray()
        if name != "photo":
            if part.filename is not None:
                raise FormError(400, f"{name} is a plain field, without a filename")
            self._field = self._fields[name]
            return
        if not part.filename:
            raise FormError(400, "photo has no filename")
        media_type, _, subtype = (part.content_type or "").partition("/")
        if media_type != "image" or not subtype:
            raise FormError(400, "photo is no image")
        self._field = None

    def _take(self, data: bytes) -> None:
        if self._field is None:
            self._photo.update(data)
            self._photo_size += len(data)
            if self._photo_size > MAX_PHOTO:
                raise FormError(400, "photo is larger than 20 MiB")
            if self._held is not None:
                self._held.write(data)
            return
        self._field += data
        if len(self._field) > MAX_FIELD:
            raise FormError(400, "a plain field is too long")

    def _text(self, name: str) -> str:
        try:
            text = self._fields[name].decode("utf-8")
        except UnicodeDecodeError:
            raise FormError(400, f"{name} is not UTF-8") from None
        if not text:
            raise FormError(400, f"{name} is empty")
        return text


def _unreadable(error: UnreadableForm) -> FormError:
    return FormError(415, str(error)) if isinstance(error, NotAForm) else FormError(400, f"malformed form: {error}")

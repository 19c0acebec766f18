"""The upload form as it streams in: the name into memory, the photo into the spool, everything else turned down."""

from multipart import (  # type: ignore[import-untyped]
    MultipartError,
    MultipartSegment,
    ParserLimitReached,
    PushMultipartParser,
    parse_options_header,
)
from twisted.logger import Logger

from merlind.core.images import SNIFF, image_type
from merlind.core.names import normal_name
from merlind.storage.photos.spool import Staged
from merlind.tasks.gateway import Reservation
from merlind.web.response import HTTPError, problem

FORM_OVERHEAD = 65536
"""How much larger than its photo a form may be, in bytes: its boundaries, part headers and the name."""

_MAX_NAME_BYTES = 8192
_MAX_PARTS = 3
_MAX_PART_HEADERS = 8
_MAX_PART_HEADER = 4096


def boundary_of(content_type: bytes | None) -> bytes:
    """The boundary that a Content-Type of multipart/form-data names (RFC 2046, 5.1.1: 1 to 70 characters).

    Raises Refusal: 415 for another type, 400 for a boundary that can't be one.
    """
    media_type, options = parse_options_header((content_type or b"").decode("latin-1"))
    if media_type != "multipart/form-data":
        raise HTTPError(problem(415, "not_a_form", "send the photo as multipart/form-data"))
    boundary = options.get("boundary", "")
    if not 1 <= len(boundary) <= 70 or not boundary.isascii() or not boundary.isprintable():
        raise HTTPError(problem(400, "bad_boundary", "the form has no usable boundary"))
    return bytes(boundary, "ascii")


class PhotoForm:
    """One form on its way in. ``write`` and ``finish`` raise Refusal, and OSError when the disk does.

    Ends with exactly one of ``finish`` and ``discard``; a refused form is discarded by whom it was refused to.
    """

    _log = Logger()

    def __init__(self, boundary: bytes, upload: Reservation, max_photo_bytes: int) -> None:
        self._parser = PushMultipartParser(
            boundary,
            max_segment_count=_MAX_PARTS,
            max_header_count=_MAX_PART_HEADERS,
            max_header_size=_MAX_PART_HEADER,
        )
        self._opening = b"--" + boundary
        self._beginning: bytes | None = b""
        self._upload = upload
        self._max_photo_bytes = max_photo_bytes
        self._received = 0
        self._field: str | None = None
        self._seen: set[str] = set()
        self._name = bytearray()
        self._head = b""
        self._media_type: str | None = None

    def write(self, data: bytes) -> None:
        """Take the next piece of the body."""
        self._received += len(data)
        if self._received > self._max_photo_bytes + FORM_OVERHEAD:
            raise _too_large(self._max_photo_bytes)
        if self._beginning is not None:
            # What may stand before the first boundary depends, with the parser alone, on how the body is cut up.
            self._beginning += data
            if len(self._beginning) < len(self._opening) + 2:
                return
            if not self._beginning.startswith((self._opening, b"\r\n" + self._opening)):
                raise _malformed()
            data, self._beginning = self._beginning, None
        try:
            for event in self._parser.parse(data):
                if event is None:
                    self._end_part()
                elif isinstance(event, MultipartSegment):
                    self._begin_part(event)
                elif self._field == "name":
                    self._write_name(event)
                else:
                    self._write_photo(event)
        except MultipartError as error:
            raise _malformed(error) from None

    def finish(self) -> tuple[str, Staged, str]:
        """The form is whole: its name, the staged photo and the photo's media type."""
        try:
            self._parser.close()
        except MultipartError as error:
            raise _malformed(error) from None
        for field in ("name", "photo"):
            if field not in self._seen:
                raise HTTPError(problem(400, "missing_field", f"the form has no field {field}"))
        try:
            name = normal_name(bytes(self._name))
        except ValueError as error:
            raise HTTPError(problem(422, "bad_name", str(error))) from None
        assert self._media_type is not None, "a photo that ended has a type"
        staged = self._upload.staging.finish()
        self._upload.close()
        return name, staged, self._media_type

    def discard(self) -> None:
        """Nobody wants it any more: no file stays, and its room is given back."""
        try:
            self._upload.staging.discard()
        except OSError as error:
            # The next start sweeps it.
            self._log.error("a photo could not be removed: {why}", why=error.strerror)
        finally:
            self._upload.close()

    def _begin_part(self, part: MultipartSegment) -> None:
        if any("\n" in value for _, value in part.headerlist):
            raise _malformed()  # the parser sees it only where the body is cut just behind
        field = part.name
        if field not in ("name", "photo"):
            raise HTTPError(problem(400, "unknown_field", "the form may have the fields name and photo alone"))
        if field in self._seen:
            raise HTTPError(problem(400, "field_twice", f"the form has the field {field} twice"))
        if field == "name" and part.filename is not None:
            raise HTTPError(problem(400, "name_is_a_file", "the field name is a text, not a file"))
        encoding = part.header("Content-Transfer-Encoding")
        if encoding is not None and encoding.lower() not in ("binary", "8bit", "7bit"):
            raise HTTPError(problem(400, "encoded_part", "send the parts as they are, without a transfer encoding"))
        if (part.content_type or "").startswith("multipart/"):
            raise HTTPError(problem(400, "nested_form", "send one photo, not several"))
        self._seen.add(field)
        self._field = field

    def _write_name(self, data: bytes) -> None:
        self._name += data
        if len(self._name) > _MAX_NAME_BYTES:
            raise HTTPError(problem(413, "name_too_large", "the name is too long"))

    def _write_photo(self, data: bytes) -> None:
        if self._media_type is None:
            self._head += data  # the first piece is long enough as a rule, and then not copied
            if len(self._head) < SNIFF:
                return
            data = self._judge_photo()
        self._keep(data)

    def _keep(self, data: bytes) -> None:
        staging = self._upload.staging
        if staging.size + len(data) > self._max_photo_bytes:
            raise _too_large(self._max_photo_bytes)
        staging.write(data)

    def _judge_photo(self) -> bytes:
        """See by its first bytes that the photo is one, and return them."""
        head, self._head = self._head, b""
        self._media_type = image_type(head[:SNIFF])
        if self._media_type is None:
            raise HTTPError(
                problem(422, "not_an_image", "the photo is not a JPEG, PNG, WebP, GIF, HEIC, AVIF, BMP or TIFF image")
            )
        return head

    def _end_part(self) -> None:
        if self._field == "photo" and self._media_type is None:
            self._keep(self._judge_photo())


def _too_large(max_photo_bytes: int) -> HTTPError:
    return HTTPError(problem(413, "too_large", f"a photo may have {max_photo_bytes} bytes at most"))


def _malformed(error: MultipartError | None = None) -> HTTPError:
    if isinstance(error, ParserLimitReached):
        return HTTPError(problem(400, "form_too_complex", "the form has too many parts or headers, or too long ones"))
    return HTTPError(problem(400, "malformed_form", "the body is not a whole multipart/form-data form"))

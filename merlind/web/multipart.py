"""Reads multipart/form-data (RFC 7578) piece by piece, for the public side and for the stand-in of the upstream.

It knows the format alone: no fields, no photos, no HTTP statuses. Whoever uses it decides what a form may hold.

How a body reads depends on its bytes, never on where they were cut on their way. The push parser of the package
multipart doesn't promise that: it judges preambles, unfinished header lines and line ends by the bytes at hand. So
FormReader finds the boundaries itself, and gives that parser only the headers of one part, whole. Reading costs some
microseconds for each piece: whoever gets many small ones joins them first.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache

from multipart import (  # type: ignore[import-untyped]
    MultipartError,
    ParserLimitReached,
    PushMultipartParser,
    parse_options_header,
)

from merlind.web.disposition import AmbiguousDisposition, parse_disposition

MAX_BOUNDARY = 70
"""The longest boundary, in characters (RFC 2046, section 5.1.1)."""

_ANY_BOUNDARY = b"-"
"""A boundary for the parser of part headers, which never sees a real one."""


class UnreadableForm(Exception):
    """The body can't be read as a form. The message says why, and quotes nothing of the body."""


class NotAForm(UnreadableForm):
    """The Content-Type is not multipart/form-data."""


class BadBoundary(UnreadableForm):
    """The Content-Type names no usable boundary."""


class MalformedForm(UnreadableForm):
    """The body breaks the rules of the format, or ends too early."""


class FormTooComplex(UnreadableForm):
    """The form has more parts or part headers, or longer part headers, than its reader takes."""


@dataclass(frozen=True, slots=True)
class FormRules:
    """How much of the format a reader takes; the limits on headers are for each part.

    ``max_header`` is the longest header in bytes, without its line break. Up to ``max_preamble`` bytes before the first
    boundary and ``max_epilogue`` bytes behind the closing one are ignored (RFC 2046, section 5.1.1), besides one CRLF.
    """

    max_parts: int
    max_headers: int = 8
    max_header: int = 4096
    max_preamble: int = 0
    max_epilogue: int = 0


@dataclass(frozen=True, slots=True)
class FormPart:
    """A part begins. Its name and filename are None if its Content-Disposition has none.

    The name is exact if it is UTF-8. Of the filename rely on nothing but whether there is one, and whether it is empty.
    ``content_type`` comes in lower case and without parameters, ``transfer_encoding`` in lower case.
    """

    name: str | None
    filename: str | None
    content_type: str | None
    transfer_encoding: str | None


@dataclass(frozen=True, slots=True)
class PartEnd:
    """The part that began last is whole."""


FormEvent = FormPart | bytes | PartEnd
"""What a reader reports: a part begins, more of its content, the part ends."""


def find_boundary(content_type: bytes | None) -> bytes:
    """Return the boundary that a Content-Type names: 1 to MAX_BOUNDARY printable characters of ISO 8859-1.

    Raises NotAForm for another media type or none, and BadBoundary if the boundary is missing or unusable.
    """
    media_type, parameters = parse_options_header((content_type or b"").decode("latin-1"))
    if media_type != "multipart/form-data":
        raise NotAForm("not multipart/form-data")
    boundary: str = parameters.get("boundary", "")
    if not 1 <= len(boundary) <= MAX_BOUNDARY or not boundary.isprintable():
        raise BadBoundary("no usable boundary")
    return boundary.encode("latin-1")


SHORT_HEADERS = 64
"""The longest headers of a part that are remembered, in bytes: too short for anybody's filename."""


class _Phase(Enum):
    """What comes next in the body."""

    PREAMBLE = auto()
    AFTER_BOUNDARY = auto()
    HEADERS = auto()
    CONTENT = auto()
    EPILOGUE = auto()


class FormReader:
    """Reads one form. Once it has raised, it may not be used any more."""

    def __init__(self, boundary: bytes, rules: FormRules) -> None:
        self._delimiter = b"\r\n--" + boundary
        self._rules = rules
        self._phase = _Phase.PREAMBLE
        # A boundary has a line break before it. The first one need not, so that one is put there.
        self._buffer = b"\r\n"
        self._at = 0
        self._parts = 0
        self._announced: int | None = None

    def read(self, data: bytes) -> Iterator[FormEvent]:
        """Take the next bytes of the body and report what they hold; the caller takes all events before it reads on.

        Raises MalformedForm and FormTooComplex, after the events of what came before the fault.
        """
        self._buffer = self._buffer[self._at :] + data
        self._at = 0
        while self._at < len(self._buffer):
            before = self._phase, self._at
            event = self._step()
            if event is not None:
                yield event
            if (self._phase, self._at) == before:
                return  # this step needs more bytes

    def close(self) -> None:
        """Say that the body ends here. Raises MalformedForm if the form isn't whole."""
        if self._phase is not _Phase.EPILOGUE:
            raise MalformedForm("it ends too early")

    def _step(self) -> FormEvent | None:
        match self._phase:
            case _Phase.PREAMBLE:
                self._skip_preamble()
            case _Phase.AFTER_BOUNDARY:
                return self._end_boundary()
            case _Phase.HEADERS:
                return self._read_headers()
            case _Phase.CONTENT:
                return self._read_content()
            case _Phase.EPILOGUE:
                self._skip_epilogue()
        return None

    def _skip_preamble(self) -> None:
        """Pass what stands before the first boundary, and the boundary itself."""
        furthest = len(b"\r\n") + self._rules.max_preamble + len(self._delimiter)
        start = self._buffer.find(self._delimiter, 0, furthest)
        if start >= 0:
            self._at = start + len(self._delimiter)
            self._phase = _Phase.AFTER_BOUNDARY
        elif len(self._buffer) >= furthest:
            raise MalformedForm("it doesn't begin with its boundary")

    def _end_boundary(self) -> PartEnd | None:
        """See whether the boundary begins a part or closes the form; either ends the part before it."""
        tail = self._buffer[self._at : self._at + 2]
        if len(tail) < 2:
            return None
        if tail not in (b"\r\n", b"--"):
            raise MalformedForm("unexpected bytes behind a boundary")
        if self._announced:
            raise MalformedForm("a part is shorter than its Content-Length")
        if tail == b"\r\n":
            self._phase = _Phase.HEADERS
        else:
            self._at += 2
            self._phase = _Phase.EPILOGUE
        return PartEnd() if self._parts else None

    def _read_headers(self) -> FormPart | None:
        """Take a part's headers, once they are whole. What follows them is the part's content."""
        rules = self._rules
        if self._parts == rules.max_parts:
            raise FormTooComplex("too many parts")
        # The CRLF of the boundary comes first, so that a part without headers ends with the same four bytes.
        most = rules.max_headers * (rules.max_header + 2) + 4
        end = self._buffer.find(b"\r\n\r\n", self._at, self._at + most) + 4
        if end < 4:
            if len(self._buffer) - self._at >= most:
                raise FormTooComplex("the headers of a part are too long")
            return None
        block = self._buffer[self._at : end]
        parse = _parse_short_headers if len(block) <= SHORT_HEADERS else _parse_headers
        part, self._announced = parse(block, rules)
        self._at = end
        self._parts += 1
        self._phase = _Phase.CONTENT
        return part

    def _read_content(self) -> bytes | None:
        """Take content up to the next boundary, or up to what may be the beginning of one."""
        end = self._buffer.find(self._delimiter, self._at)
        if end == self._at:
            self._at += len(self._delimiter)
            self._phase = _Phase.AFTER_BOUNDARY
            return None
        if end < 0:
            end = self._possible_delimiter()
        content = self._buffer[self._at : end]
        if self._announced is not None and content:
            # Report what was announced before the fault, wherever the body was cut.
            content = content[: self._announced]
            if not content:
                raise MalformedForm("a part is longer than its Content-Length")
            self._announced -= len(content)
        self._at += len(content)
        return content or None

    def _possible_delimiter(self) -> int:
        """Return where the buffer ends, or where a delimiter begins whose rest may be on its way."""
        # A boundary is printable, so that a delimiter has its only CR at its beginning.
        start = self._buffer.rfind(b"\r", max(self._at, len(self._buffer) - len(self._delimiter) + 1))
        if start >= 0 and self._delimiter.startswith(self._buffer[start:]):
            return start
        return len(self._buffer)

    def _skip_epilogue(self) -> None:
        """Look at what follows the closing boundary, and leave it where it is."""
        rest = self._buffer[self._at :]
        if not b"\r\n".startswith(rest) and len(rest.removeprefix(b"\r\n")) > self._rules.max_epilogue:
            raise MalformedForm("data after its end")


def _parse_headers(block: bytes, rules: FormRules) -> tuple[FormPart, int | None]:
    """Parse the headers of one part, with the CRLF before them: the part, and its Content-Length if it has one."""
    if block.count(b"\n") != block.count(b"\r\n"):
        raise MalformedForm("a line of a part header ends without CR")
    parser = PushMultipartParser(
        _ANY_BOUNDARY,
        max_header_count=rules.max_headers,
        max_header_size=rules.max_header,
        # Takes any bytes; parse_disposition decodes the names.
        header_charset="latin-1",
    )
    try:
        (segment,) = parser.parse(b"--" + _ANY_BOUNDARY + block)
    except ParserLimitReached as error:
        raise FormTooComplex(error.args[0]) from None
    except MultipartError as error:
        # Its messages are fixed sentences, which quote nothing.
        raise MalformedForm(error.args[0]) from None
    dispositions = [value for header, value in segment.headerlist if header == "Content-Disposition"]
    if len(dispositions) > 1:
        raise MalformedForm("a part has two names")
    try:
        name, filename = parse_disposition(dispositions[0])
    except AmbiguousDisposition:
        raise MalformedForm("the name of a part can't be told") from None
    encoding = segment.header("Content-Transfer-Encoding")
    length = segment.header("Content-Length")
    part = FormPart(name, filename, segment.content_type, None if encoding is None else encoding.lower())
    return part, None if length is None else int(length)


_parse_short_headers = lru_cache(maxsize=32)(_parse_headers)
"""Nearly all forms have the same headers before a name, and they take longer to parse than the name."""

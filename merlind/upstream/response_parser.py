"""Parses one HTTP/1.1 response from bytes as they arrive. Knows nothing of connections.

It reads what RFC 9112 lets a server send, refuses everything else, and never holds more than MAX_RESPONSE bytes. How
the bytes are cut into pieces makes no difference to what is read.
"""

import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass

MAX_RESPONSE = 65536
"""The largest response that is read, in bytes: interim responses, headers and body together, and the decoded body."""

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: [\t\x20-\x7e\x80-\xff]*)?")
_FIELD_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([\t\x20-\x7e\x80-\xff]*)")
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]+)[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?")
_COMPRESSIONS = (b"gzip", b"x-gzip", b"deflate")
_GZIP_OR_DEFLATE = 32 + zlib.MAX_WBITS  # which of them it is, zlib sees at the first bytes

_Fields = dict[bytes, list[bytes]]
"""Header fields: the values of each name, in lower case, in the order in which they came."""


class BadResponse(Exception):
    """The response is malformed or too large, or the connection ended before it was complete."""


@dataclass(frozen=True, slots=True)
class UpstreamResponse:
    """A complete response: status code, decoded body, and the values of Retry-After and Location.

    ``keep_alive`` says whether the server leaves the connection open for the next request.
    """

    status: int
    body: bytes
    retry_after: str | None
    keep_alive: bool
    location: str | None = None


class ResponseParser:
    """Feed it bytes until it returns a response. After BadResponse it is of no further use."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._position = 0
        self._overflowed = False
        self._status = 0
        self._keep_alive = False
        self._retry_after: str | None = None
        self._location: str | None = None
        self._compressed = False
        self._length = 0
        self._chunks: list[bytes] = []
        # A plain function: a bound method would make the parser refer to itself, and wait for the garbage collector.
        self._read: Callable[[ResponseParser], UpstreamResponse | None] = ResponseParser._read_head

    def feed(self, data: bytes) -> UpstreamResponse | None:
        """Take the next bytes; return the response once it is complete. Raises BadResponse."""
        room = MAX_RESPONSE - len(self._buffer)
        if len(data) > room:
            self._overflowed = True
            data = data[:room]
        self._buffer += data
        response = self._read(self)
        if response is None and self._overflowed:
            raise BadResponse("response too large")
        return response

    def end(self) -> UpstreamResponse:
        """Return the response that the end of the connection completes. Raises BadResponse if it cuts one short."""
        if self._read is not ResponseParser._read_to_the_end:
            raise BadResponse("response cut short")
        return self._complete(bytes(self._buffer[self._position :]), keep_alive=False)

    def _read_head(self) -> UpstreamResponse | None:
        while (end := self._buffer.find(b"\r\n\r\n", self._position)) >= 0:
            status_line, *lines = bytes(self._buffer[self._position : end]).split(b"\r\n")
            self._position = end + 4
            match = _STATUS_LINE.fullmatch(status_line)
            if match is None:
                raise BadResponse("malformed status line")
            self._status = int(match[2])
            fields = _parse_fields(lines)
            if self._status == 101:
                raise BadResponse("protocol switched unasked")
            if self._status < 200:
                continue  # an interim response (RFC 9110, section 15.2)
            self._read_fields(fields, http11=match[1] == b"1")
            return self._read(self)
        return None

    def _read_fields(self, fields: _Fields, http11: bool) -> None:
        """Find the few fields that matter, and from them where the body ends (RFC 9112, section 6.3)."""
        if b"retry-after" in fields:
            self._retry_after = fields[b"retry-after"][0].decode("latin-1")
        if b"location" in fields:
            self._location = fields[b"location"][0].decode("latin-1")
        self._keep_alive = http11 and b"close" not in _tokens(fields, b"connection")
        codings = [coding for coding in _tokens(fields, b"content-encoding") if coding not in (b"", b"identity")]
        self._compressed = len(codings) == 1 and codings[0] in _COMPRESSIONS
        chunked, length = _framing(fields)
        if self._status in (204, 304):
            self._read = ResponseParser._read_length
        elif chunked:
            self._read = ResponseParser._read_chunks
        elif length is None:
            self._read = ResponseParser._read_to_the_end
        elif length > MAX_RESPONSE:
            raise BadResponse("response too large")
        else:
            self._length, self._read = length, ResponseParser._read_length

    def _read_length(self) -> UpstreamResponse | None:
        end = self._position + self._length
        if len(self._buffer) < end:
            return None
        body = bytes(self._buffer[self._position : end])
        self._position = end
        return self._complete(body, self._keep_alive)

    def _read_chunks(self) -> UpstreamResponse | None:
        """Read chunks (RFC 9112, section 7.1); extensions are skipped, and a size may have any number of zeros."""
        while (line_end := self._buffer.find(b"\r\n", self._position)) >= 0:
            match = _CHUNK_LINE.fullmatch(self._buffer, self._position, line_end)
            if match is None:
                raise BadResponse("malformed chunk")
            size = int(match[1], 16)
            if size > MAX_RESPONSE:
                raise BadResponse("response too large")
            start = line_end + 2
            if size == 0:
                self._position = start
                self._read = ResponseParser._read_trailers
                return self._read(self)
            end = start + size
            if len(self._buffer) < end + 2:
                return None
            if self._buffer[end : end + 2] != b"\r\n":
                raise BadResponse("malformed chunk")
            self._chunks.append(bytes(self._buffer[start:end]))
            self._position = end + 2
        return None

    def _read_trailers(self) -> UpstreamResponse | None:
        # Trailers end with an empty line. Where there are none, it is the one right after the last chunk's line.
        end = self._buffer.find(b"\r\n\r\n", self._position - 2)
        if end < 0:
            return None
        trailers = bytes(self._buffer[self._position : end])
        _parse_fields(trailers.split(b"\r\n") if trailers else [])
        self._position = end + 4
        return self._complete(b"".join(self._chunks), self._keep_alive)

    def _read_to_the_end(self) -> None:
        return None

    def _complete(self, body: bytes, keep_alive: bool) -> UpstreamResponse:
        # Bytes beyond the body: the server is out of step with us, so the connection must not be used again.
        in_step = len(self._buffer) == self._position and not self._overflowed
        body = _decompress(body) if self._compressed else body
        return UpstreamResponse(self._status, body, self._retry_after, keep_alive and in_step, self._location)


def _parse_fields(lines: list[bytes]) -> _Fields:
    """Parse header or trailer lines. A folded line continues the one before it (RFC 9112, section 5.2)."""
    unfolded: list[bytes] = []
    for line in lines:
        if line.startswith((b" ", b"\t")) and unfolded:
            unfolded[-1] += b" " + line.strip(b" \t")
        else:
            unfolded.append(line)
    fields: _Fields = {}
    for line in unfolded:
        match = _FIELD_LINE.fullmatch(line)
        if match is None:
            raise BadResponse("malformed header")
        fields.setdefault(match[1].lower(), []).append(match[2].strip(b" \t"))
    return fields


def _tokens(fields: _Fields, name: bytes) -> list[bytes]:
    """Return the items of a comma-separated list, in lower case (RFC 9110, section 5.6.1)."""
    return [item.strip(b" \t").lower() for value in fields.get(name, ()) for item in value.split(b",")]


def _framing(fields: _Fields) -> tuple[bool, int | None]:
    """Return whether the body is chunked, and its length where there is one (RFC 9112, section 6.3).

    Both at once are an error, as the RFC advises, and so are lengths that differ. One length told twice is fine.
    """
    codings, lengths = fields.get(b"transfer-encoding"), fields.get(b"content-length")
    if codings is not None:
        # We send no TE, so a server may use no transfer coding but this one (RFC 9112, section 7.4).
        if lengths is not None or len(codings) != 1 or codings[0].lower() != b"chunked":
            raise BadResponse("malformed framing")
        return True, None
    if lengths is None:
        return False, None
    length, *others = set(_tokens(fields, b"content-length"))
    digits = length.lstrip(b"0") or b"0"
    if others or not length.isdigit() or len(digits) > 15:
        raise BadResponse("malformed framing")
    return False, int(digits)


def _decompress(body: bytes) -> bytes:
    """Decode up to MAX_RESPONSE bytes. A body that can't be decoded stays as it is: its status still counts.

    We ask for no coding, yet some servers use it all the same (docs/contract.md, "Upstream side").
    """
    decoder = zlib.decompressobj(_GZIP_OR_DEFLATE)
    try:
        decoded = decoder.decompress(body, MAX_RESPONSE + 1)
    except zlib.error:
        return body
    complete = decoder.eof and not decoder.unused_data and len(decoded) <= MAX_RESPONSE
    return decoded if complete else body

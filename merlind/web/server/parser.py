"""One connection's bytes to requests, by llhttp. Does no I/O, and knows no time.

llhttp can't be stopped between two requests, so it never gets the end of one together with anything behind it. A head
ends with an empty line and a body in chunks does, so that pieces are cut there; of any other body the length is known.
docs/how-it-works.md, "HTTP", tells more.
"""

from httptools import HttpParserError, HttpParserInvalidMethodError, HttpParserUpgrade, HttpRequestParser

from merlind.web.response import METHODS, HTTPError, problem
from merlind.web.server.head import MALFORMED, MAX_FIELDS, URI_TOO_LONG, Field, Head, check_fields

MAX_HEAD = 16384
"""The largest request line and header fields together, in bytes."""

BLOCK = 4096
"""Bytes of a body in chunks that are parsed at a time. Its limits are checked at the end of each block, so that they
don't depend on how the bytes were cut on their way. In each there is some payload: a chunk's extension, or all trailer
fields together, are shorter."""

SPARE_FRAMING = 65536
"""How much of a body in chunks may be other than payload, in bytes, beyond as much as there is payload."""

_END = b"\r\n\r\n"
_EMPTY_LINES = b"\r\n"


class _Notes:
    """What llhttp calls: it only takes notes. The parser doesn't own itself through it, so it leaves no garbage."""

    __slots__ = ("body", "complete", "fields", "head_complete")

    def __init__(self) -> None:
        self.fields: list[Field] = []
        self.body: list[bytes] = []
        self.head_complete = False
        self.complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note a header or trailer field; one more than there may be is enough to refuse them all."""
        if len(self.fields) <= MAX_FIELDS:
            self.fields.append((name, value))

    def on_headers_complete(self) -> None:
        """Note the end of the head."""
        self.head_complete = True

    def on_body(self, data: bytes) -> None:
        """Note a part of the payload."""
        self.body.append(data)

    def on_message_complete(self) -> None:
        """Note the end of the request."""
        self.complete = True


class RequestParser:
    """The requests of one connection, one at a time: ``feed`` until ``complete``, then ``reset`` for the next."""

    def __init__(self) -> None:
        self._notes = _Notes()
        self.reset()

    def reset(self) -> None:
        """Get ready for the next request."""
        # One for each request: llhttp remembers what it thinks of the connection, such as what a trailer says.
        self._llhttp: HttpRequestParser | None = None
        notes = self._notes
        notes.fields = []
        notes.head_complete = notes.complete = False
        self.head: Head | None = None
        """The request's head, once it is whole."""
        self.complete = False
        """Whether the request is whole."""
        self.started = False
        """Whether any of the request has come in."""
        self.payload = 0
        """Bytes of the body so far, without the framing of chunks."""
        self._line = bytearray()
        self._tail = b""
        self._size = 0
        self.left = 0
        """Bytes of the body that are still to come, where its length is known."""
        self._payload_before = 0

    @property
    def method(self) -> bytes:
        """The request's method if it is one of METHODS, as far as it has come in; otherwise ``-``."""
        method, space, _ = bytes(self._line[:16]).partition(b" ")
        return method if space and method in METHODS else b"-"

    def feed(self, data: bytes, start: int) -> int:
        """Parse a piece of ``data`` from ``start`` on, and return where it ends.

        Raises HTTPError for a malformed request, and for one beyond a limit. ``take_body`` has what came before that.
        """
        if not self.started:
            # RFC 9112, section 2.2: ignore empty lines before a request.
            begin = len(data) - len(data[start:].lstrip(_EMPTY_LINES))
            if begin > start:
                return begin
            self.started = True
        end = self._end_of_piece(data, start)
        piece = data if end - start == len(data) else data[start:end]
        if self.head is None:
            self._feed_head(piece)
        else:
            self._feed_body(piece)
        return end

    def take_body(self) -> bytes:
        """Return the payload that came in since the last call."""
        body = self._notes.body
        if not body:
            return b""
        data = body[0] if len(body) == 1 else b"".join(body)
        body.clear()
        return data

    def _end_of_piece(self, data: bytes, start: int) -> int:
        if self.left:
            return min(len(data), start + self.left)
        # The end may have begun in the piece before.
        end = (self._tail + data[start : start + 3]).find(_END)
        if end >= 0:
            end += start + 4 - len(self._tail)
        else:
            end = data.find(_END, start) + 4
            if end == 3:
                end = len(data)
        most = MAX_HEAD - self._size if self.head is None else BLOCK - self._size % BLOCK
        end = min(end, start + most)
        self._tail = (self._tail + data[max(start, end - 3) : end])[-3:]
        return end

    def _feed_head(self, piece: bytes) -> None:
        if b"\r\n" not in self._line:
            self._line += piece
        self._size += len(piece)
        try:
            self._parse(piece)
        except HttpParserUpgrade:
            self._ignore_upgrade()
        if not self._notes.head_complete:
            if self._size == MAX_HEAD:
                raise HTTPError(URI_TOO_LONG if b"\r\n" not in self._line else _HEAD_TOO_LARGE)
            return
        self.head = Head(bytes(self._line.partition(b"\r\n")[0]), self._notes.fields)
        self._notes.fields = []
        self.complete = self._notes.complete
        self.left = self.head.length or 0
        self._size = 0
        self._tail = b""

    def _parse(self, piece: bytes) -> None:
        if self._llhttp is None:
            self._llhttp = HttpRequestParser(self._notes)
        try:
            self._llhttp.feed_data(piece)
        except HttpParserUpgrade:
            raise
        except HttpParserInvalidMethodError as error:
            # llhttp doesn't tell unknown methods from what isn't HTTP at all, such as TLS.
            raise HTTPError(_UNKNOWN_METHOD if self._line[:1].isalpha() else MALFORMED) from error
        except HttpParserError as error:
            raise HTTPError(MALFORMED) from error

    def _ignore_upgrade(self) -> None:
        """Go on in HTTP/1.1 (RFC 9110, section 7.8): llhttp would leave all that follows, the body too, to another."""
        fields = self._notes.fields
        framing = [
            name + b": " + value + b"\r\n"
            for name, value in fields
            if name.lower() in (b"content-length", b"transfer-encoding")
        ]
        self._notes.fields = []
        self._notes.complete = False
        self._llhttp = HttpRequestParser(self._notes)
        self._parse(b"POST / HTTP/1.1\r\n" + b"".join(framing) + b"\r\n")
        self._notes.fields = fields

    def _feed_body(self, piece: bytes) -> None:
        try:
            self._parse(piece)
        finally:
            self.payload += sum(map(len, self._notes.body))
        if self.left:
            self.left -= len(piece)
        elif self._notes.complete:
            self._check_trailers()
        else:
            self._size += len(piece)
            if self._size % BLOCK == 0:
                self._check_framing()
        self.complete = self._notes.complete

    def _check_framing(self) -> None:
        if self._size - self.payload > self.payload + SPARE_FRAMING:
            raise HTTPError(problem(400, "bad_framing", "the body has too much chunking for its size"))
        if self.payload == self._payload_before:
            raise HTTPError(problem(431, "headers_too_large", "a chunk's extension or the trailers are too long"))
        self._payload_before = self.payload

    def _check_trailers(self) -> None:
        trailers = self._notes.fields
        check_fields(trailers)
        if sum(len(name) + len(value) + 4 for name, value in trailers) > BLOCK:
            raise HTTPError(_HEAD_TOO_LARGE)


_HEAD_TOO_LARGE = problem(431, "headers_too_large", "the headers are too large")
_UNKNOWN_METHOD = problem(501, "unknown_method", "the method is unknown")

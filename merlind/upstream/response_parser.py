"""Reads one HTTP/1.1 answer from bytes as they come, strictly and up to a size. Knows no connection."""

import re
from collections.abc import Callable
from dataclasses import dataclass

MAX_RESPONSE = 65536
"""The most bytes of one answer that are read, headers and body together."""

_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: [\x20-\x7e\x80-\xff\t]*)?")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00\r\n]*)")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\x00\r\n]*)?")


class BadResponse(Exception):
    """The answer is malformed, too large, or ended before its end."""


@dataclass(frozen=True, slots=True)
class UpstreamResponse:
    """An answer that is whole; ``keep_alive`` if its connection may be used again."""

    code: int
    body: bytes
    retry_after: str | None
    keep_alive: bool


class ResponseParser:
    """Fed with bytes until it returns an answer. Raises BadAnswer, and is of no use after that."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._received = 0
        self._place = 0
        self._code = 0
        self._keep_alive = False
        self._retry_after: str | None = None
        self._length: int | None = None
        # A function and not a method: what refers to itself is left to the garbage collector.
        self._read: Callable[[ResponseParser], UpstreamResponse | None] = ResponseParser._read_head
        self._pieces: list[bytes] = []

    def feed(self, data: bytes) -> UpstreamResponse | None:
        """Take the next bytes; returns the answer if it is whole now."""
        self._received += len(data)
        if self._received > MAX_RESPONSE:
            raise BadResponse("answer too large")
        self._buffer += data
        return self._read(self)

    def end(self) -> UpstreamResponse:
        """The connection ended; returns the answer if that is what ends it."""
        if self._read is not ResponseParser._read_to_the_end:
            raise BadResponse("answer cut short")
        return self._answer(bytes(self._buffer[self._place :]), keep_alive=False)

    def _read_head(self) -> UpstreamResponse | None:
        while (end := self._buffer.find(b"\r\n\r\n", self._place)) >= 0:
            status, *lines = bytes(self._buffer[self._place : end]).split(b"\r\n")
            self._place = end + 4
            found = _STATUS.fullmatch(status)
            if found is None:
                raise BadResponse("malformed status line")
            self._code = int(found[2])
            if self._code < 200:
                continue  # an interim answer (RFC 9110, 15.2)
            self._read_headers(lines, newer=found[1] == b"1")
            return self._read(self)
        return None

    def _read_headers(self, lines: list[bytes], newer: bool) -> None:
        """Find the few headers that matter, and with them how the body ends (RFC 9112, 6.3)."""
        found: dict[bytes, list[bytes]] = {}
        for line in lines:
            header = _HEADER.fullmatch(line)
            if header is None:
                raise BadResponse("malformed header")
            found.setdefault(header[1].lower(), []).append(header[2].strip(b" \t"))
        if b"retry-after" in found:
            self._retry_after = found[b"retry-after"][0].decode("latin-1")
        options = b",".join(found.get(b"connection", [])).lower()
        self._keep_alive = newer and b"close" not in options
        codings, lengths = found.get(b"transfer-encoding"), found.get(b"content-length")
        if self._code in (204, 304):
            self._length, self._read = 0, ResponseParser._read_length
        elif codings is not None:
            if lengths is not None or [c.lower() for c in codings] != [b"chunked"]:
                raise BadResponse("malformed framing")
            self._read = ResponseParser._read_chunks
        elif lengths is not None:
            if len(set(lengths)) != 1 or not lengths[0].isdigit() or len(lengths[0]) > 15:
                raise BadResponse("malformed framing")
            self._length, self._read = int(lengths[0]), ResponseParser._read_length
            if self._length > MAX_RESPONSE:
                raise BadResponse("answer too large")
        else:
            self._read = ResponseParser._read_to_the_end

    def _read_length(self) -> UpstreamResponse | None:
        assert self._length is not None, "set with the headers"
        end = self._place + self._length
        if len(self._buffer) < end:
            return None
        # What comes after it nobody asked for: such a connection is not used again.
        return self._answer(bytes(self._buffer[self._place : end]), self._keep_alive and len(self._buffer) == end)

    def _read_chunks(self) -> UpstreamResponse | None:
        while True:
            line_end = self._buffer.find(b"\r\n", self._place)
            if line_end < 0:
                return None
            size = _CHUNK.fullmatch(self._buffer, self._place, line_end)
            if size is None:
                raise BadResponse("malformed chunk")
            length = int(size[1], 16)
            if length == 0:
                self._place = line_end + 2
                self._read = ResponseParser._read_trailers
                return self._read(self)
            end = line_end + 2 + length
            if len(self._buffer) < end + 2:
                return None
            if self._buffer[end : end + 2] != b"\r\n":
                raise BadResponse("malformed chunk")
            self._pieces.append(bytes(self._buffer[line_end + 2 : end]))
            self._place = end + 2

    def _read_trailers(self) -> UpstreamResponse | None:
        while (line_end := self._buffer.find(b"\r\n", self._place)) >= 0:
            ended = line_end == self._place
            self._place = line_end + 2
            if ended:
                return self._answer(b"".join(self._pieces), self._keep_alive and len(self._buffer) == self._place)
        return None

    def _read_to_the_end(self) -> None:
        return None

    def _answer(self, body: bytes, keep_alive: bool) -> UpstreamResponse:
        return UpstreamResponse(self._code, body, self._retry_after, keep_alive)

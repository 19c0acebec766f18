"""Lines of text from bytes whose encoding nobody tells: UTF-8, with or without a BOM, or else Windows-1252."""

import codecs
from collections.abc import Iterable, Iterator
from typing import IO

MAX_LINE = 65_536
"""The longest line, in bytes. Something without line ends is no table, and would else be read into memory whole."""

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class BadLine(Exception):
    """A line is no text: its number, from 1, and why."""

    def __init__(self, line: int, cause: str) -> None:
        super().__init__(line, cause)
        self.line = line
        self.cause = cause


def raw_lines(stream: IO[bytes]) -> Iterator[bytes]:
    """Yield the lines of a stream; one that is too long comes as its first MAX_LINE + 1 bytes, and ends them."""
    while line := stream.readline(MAX_LINE + 1):
        yield line
        if len(line) > MAX_LINE:
            return


def decoded(lines: Iterable[bytes]) -> Iterator[str]:
    """Decode lines, without their ends. Raises BadLine for one that is too long, or no text.

    Latin-1 is read as what extends it, Windows-1252. ASCII is the same in both, so the first line that isn't ASCII
    decides. In a file that is UTF-8 so far, a line that isn't is damage: as Windows-1252 its names would be wrong.
    """
    encoding = "ascii"
    for number, line in enumerate(lines, 1):
        if number == 1:
            if line.startswith(_UTF16):
                raise BadLine(1, "this is UTF-16: save it as UTF-8")
            line = line.removeprefix(codecs.BOM_UTF8)
        if len(line) > MAX_LINE:
            raise BadLine(number, f"longer than {MAX_LINE} bytes: this is no text, or its lines end with CR alone")
        if b"\0" in line:
            raise BadLine(number, "a NUL byte: this is no text, or the file is damaged")
        if encoding == "ascii" and not line.isascii():
            encoding = "utf-8" if _is_utf8(line) else "cp1252"
        try:
            yield line.decode(encoding).rstrip("\r\n")
        except UnicodeDecodeError as error:
            byte = f"the byte 0x{line[error.start]:02x}"
            if encoding == "utf-8":
                raise BadLine(number, f"{byte} is no UTF-8, but the lines before are: is the file damaged?") from None
            raise BadLine(number, f"{byte} is neither UTF-8 nor Windows-1252: save the file as UTF-8") from None


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True

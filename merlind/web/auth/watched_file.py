"""A file of users or tokens, which is read again when it has changed."""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from twisted.logger import Logger

T = TypeVar("T")

MAX_FILE_BYTES = 4 * 1024 * 1024
"""The largest file that is read, in bytes: some 20,000 users."""

_log = Logger()


class FileUnusable(Exception):
    """A file can't be used. The message is one line that names it, and says why; nothing of what is in it."""


class BadLine(Exception):
    """A line of a file can't be used. ``number`` counts from 1."""

    def __init__(self, number: int, why: str) -> None:
        super().__init__(f"line {number}: {why}")


class WatchedFile(Generic[T]):
    """The parsed content of a file. ``parse`` gets its text, and raises BadLine.

    To look at the file's times at each use costs 2 µs, and works wherever files do; a signal would have to be sent.
    """

    def __init__(self, path: Path, parse: Callable[[str], T]) -> None:
        """Read the file. Raises FileUnusable."""
        self.path = path.absolute()
        self._parse = parse
        self._stamp: tuple[int, ...] | None = None
        self._fault: str | None = None
        self._content = self._read()

    @property
    def content(self) -> T:
        """What the file says now: the same object as long as it hasn't changed.

        A file that can't be used any more, such as one that is being written, leaves what was there before in force.
        """
        if self._now() != self._stamp:
            try:
                self._content = self._read()
            except FileUnusable as error:
                if str(error) != self._fault:
                    self._fault = str(error)
                    _log.error("{why}; what it said before counts on", why=self._fault)
            else:
                self._fault = None
                _log.info("{path} was read again", path=str(self.path))
        return self._content

    def _now(self) -> tuple[int, ...] | None:
        try:
            return _stamp(os.stat(self.path))
        except OSError:
            return None

    def _read(self) -> T:
        try:
            # O_NONBLOCK: to open a named pipe would wait for its other end.
            with open(os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
                found = os.fstat(file.fileno())
                if not stat.S_ISREG(found.st_mode):
                    raise FileUnusable(f"{self.path} can't be used: it is no regular file")
                raw = file.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            raise FileUnusable(f"{self.path} can't be read: {error.strerror}") from None
        self._stamp = _stamp(found)  # a fault in it stays until it changes
        if len(raw) > MAX_FILE_BYTES:
            raise FileUnusable(f"{self.path} can't be used: it has more than {MAX_FILE_BYTES} bytes")
        try:
            return self._parse(raw.decode("utf-8"))
        except UnicodeDecodeError:
            raise FileUnusable(f"{self.path} can't be used: it is not UTF-8") from None
        except BadLine as error:
            raise FileUnusable(f"{self.path}, {error}") from None


def _stamp(found: os.stat_result) -> tuple[int, ...]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def lines_of(text: str) -> list[tuple[int, str]]:
    """Return the lines that say something, with their numbers: neither empty ones nor comments (``#``)."""
    lines = enumerate((line.strip() for line in text.split("\n")), 1)
    return [(number, line) for number, line in lines if line and not line.startswith("#")]

"""A photo on its way in: in memory while it is small, in a file of ``incoming/`` beyond that.

A small photo stays in memory until the database's thread commits it: making a file can take milliseconds, and the
reactor must not wait for it.
"""

import hashlib
import os
from contextlib import suppress

MAX_IN_MEMORY = 256 * 1024
"""The most bytes of a photo that are kept in memory. Most photos, on their way to a scoring API, are smaller."""

_READ_SIZE = 1024 * 1024
"""How much of a file is read and hashed at a time, in bytes: each step waits for the interpreter's lock."""


class NotWritten(OSError):
    """A photo could not be written: it isn't there, and no flush failed."""


class SpooledPhoto:
    """A StagedPhoto of the spool (core.interfaces), which alone commits it.

    Beyond ``in_memory`` bytes it moves to the file at ``path``, which is made when it is needed first.
    """

    def __init__(self, path: str, in_memory: int) -> None:
        self._path = path
        self._in_memory = in_memory
        self._content = bytearray()
        self._descriptor = -1
        self._has_file = False
        self._digest: bytes | None = None
        self._size = 0

    @property
    def size(self) -> int:
        """The bytes received so far."""
        return self._size

    def write(self, data: bytes) -> None:
        """Add the next bytes. Raises OSError, for example on a full disk."""
        self._size += len(data)
        if self._descriptor >= 0:
            _write_all(self._descriptor, data)
        elif self._size <= self._in_memory:
            self._content += data
        else:
            self._roll_over(data)

    def _roll_over(self, data: bytes) -> None:
        self._descriptor = _create(self._path)
        self._has_file = True
        if self._content:
            _write_all(self._descriptor, self._content)
            self._content = bytearray()
        _write_all(self._descriptor, data)

    def finish(self) -> None:
        """Say that the photo is whole. Raises OSError; then discard it."""
        if self._has_file:
            self._close()
        else:
            # Here and not in sha256: a batch of many small photos would wait for the interpreter's lock with each.
            self._digest = hashlib.sha256(self._content).digest()

    def sha256(self) -> bytes:
        """Return the digest of the whole photo. Reads what is in a file, so call it off the reactor. Raises OSError."""
        if self._digest is None:
            digest = hashlib.sha256()
            with open(self._path, "rb", buffering=0) as file:
                while piece := file.read(_READ_SIZE):
                    digest.update(piece)
            self._digest = digest.digest()
        return self._digest

    def commit_to(self, path: str) -> None:
        """Put the whole photo at a path; it survives a power loss once file and folder are flushed.

        A file that is there already is replaced as a whole. Raises NotWritten, or another OSError where a file could
        not be renamed.
        """
        if not self._has_file:
            try:
                _write_file(path, self._content)
            except FileExistsError:
                self._has_file = True
                _write_file(self._path, self._content)
        if self._has_file:
            os.rename(self._path, path)
            self._has_file = False

    def discard(self) -> None:
        """Delete what there is of it; does nothing once it is committed. Raises OSError."""
        self._content = bytearray()
        if self._has_file:
            self._has_file = False
            try:
                self._close()
            finally:
                remove(self._path)

    def _close(self) -> None:
        if self._descriptor >= 0:
            # Forget it even if close fails: the number may be another file's by then.
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)


def remove(path: str) -> None:
    """Unlink a file, if it is there. Raises OSError."""
    with suppress(FileNotFoundError):
        os.unlink(path)


def _create(path: str) -> int:
    """Return a descriptor of a new file. Raises FileExistsError if there is one already."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)


def _write_file(path: str, content: bytearray) -> None:
    """Write a new file. Raises FileExistsError, or NotWritten."""
    try:
        descriptor = _create(path)
        try:
            _write_all(descriptor, content)
        finally:
            os.close(descriptor)
    except FileExistsError:
        raise
    except OSError as error:
        raise NotWritten(error.errno, error.strerror) from error


def _write_all(descriptor: int, data: bytes | bytearray) -> None:
    # The kernel may take less than it is given.
    written = os.write(descriptor, data)
    while written < len(data):
        written += os.write(descriptor, memoryview(data)[written:])

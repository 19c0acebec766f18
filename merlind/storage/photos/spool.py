"""Photos on disk: staged while they come in, in place once their task is durable, gone when it is over.

A small photo is staged in memory, and written by the thread that makes it durable: making a file can take milliseconds,
and who receives photos must not wait for it. ``incoming/`` holds what else is still being received; a name there means
nothing after a restart. That thread hashes what is in such a file, too: it was a quarter of the reactor's time.
A photo in place is named by its task's number. Knows nothing of HTTP and nothing of SQL.
"""

import ctypes
import errno
import hashlib
import itertools
import os
import platform
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from merlind.core.task import MAX_TASK_ID

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""What a full disk answers."""

READ_ONLY = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
"""What a disk answers that can't be written to."""


_HASHED_AT_ONCE = 1024 * 1024
"""How much of a file is read and hashed at a time, in bytes: the interpreter's lock is waited for after each."""


class NotWritten(OSError):
    """A photo could not be written: it isn't there, and no flush failed."""


class Staged(Protocol):
    """A photo that was received whole, but is not durable yet, and its size in bytes."""

    def sha256(self) -> bytes:
        """Its SHA-256 digest, which may be made when it is first asked for, before ``put``. Raises OSError."""

    @property
    def size(self) -> int: ...

    def put(self, path: str) -> None:
        """Give it its place; what may be there already is replaced, whole. Raises OSError."""

    def drop(self) -> None:
        """Nobody wants it; it may have been put. Raises OSError."""


class Staging(Protocol):
    """A photo on its way in, ``size`` bytes by now. Ends with exactly one of ``finish`` and ``discard``."""

    size: int

    def write(self, data: bytes) -> None:
        """Take the next piece. Raises OSError, such as on a full disk."""

    def finish(self) -> Staged:
        """The photo is whole. Raises OSError; then it isn't, and is to be discarded."""

    def discard(self) -> None:
        """Nobody wants it any more. Raises OSError."""


@dataclass(frozen=True)
class StagedFile:
    """A photo in a file of its own."""

    path: str
    size: int

    def sha256(self) -> bytes:
        return self._sha256

    @cached_property
    def _sha256(self) -> bytes:
        digest = hashlib.sha256()
        with open(self.path, "rb", buffering=0) as file:
            while piece := file.read(_HASHED_AT_ONCE):
                digest.update(piece)
        return digest.digest()

    def put(self, path: str) -> None:
        os.rename(self.path, path)

    def drop(self) -> None:
        remove(self.path)


class StagingFile:
    """Each piece goes to the file as it comes. The file is made with the first byte."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file = -1
        self._made = False
        self.size = 0

    def write(self, data: bytes) -> None:
        if self._file < 0:
            self._file = _make(self._path)
            self._made = True
        self.size += len(data)
        _write(self._file, data)

    def finish(self) -> StagedFile:
        self._close()
        self._made = False
        return StagedFile(self._path, self.size)

    def discard(self) -> None:
        if self._made:
            self._made = False
            try:
                self._close()
            finally:
                remove(self._path)

    def _close(self) -> None:
        if self._file >= 0:
            # Once, even if it fails: by then the descriptor is another file's.
            descriptor, self._file = self._file, -1
            os.close(descriptor)


@dataclass(frozen=True, slots=True)
class StagedBytes:
    """A photo in memory, with the path of the file that it goes through if its place is taken."""

    pieces: tuple[bytes, ...]
    digest: bytes
    size: int
    path: str

    def sha256(self) -> bytes:
        return self.digest

    def put(self, path: str) -> None:
        try:
            self._write_to(path)
        except FileExistsError:
            self._write_to(self.path)
            os.rename(self.path, path)
        except OSError as error:
            raise NotWritten(error.errno, error.strerror) from error

    def _write_to(self, path: str) -> None:
        descriptor = _make(path)
        try:
            _write(descriptor, b"".join(self.pieces))
        finally:
            os.close(descriptor)

    def drop(self) -> None:
        remove(self.path)


class StagingMemory:
    """The pieces are kept until they are all there."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._pieces: list[bytes] = []
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> None:
        self._pieces.append(data)
        self._hash.update(data)
        self.size += len(data)

    def finish(self) -> StagedBytes:
        return StagedBytes(tuple(self._pieces), self._hash.digest(), self.size, self._path)

    def discard(self) -> None:
        self._pieces.clear()


class Spool:
    """The folder of photos, mode 0700, files 0600.

    ``place`` waits for the disk: it belongs into the database's thread. ``sync_all`` flushes the file
    system that a descriptor lies on; None flushes file by file.
    """

    def __init__(self, folder: Path, sync_all: Callable[[int], None] | None = None) -> None:
        # Strings from here on: with each photo, pathlib would take longer than the system call it makes.
        self._folder = str(folder)
        self._incoming = str(folder / "incoming")
        self._sync_all = sync_all
        self._numbers = itertools.count(1)

    def prepare(self) -> None:
        """Make the folders, and sweep what was still coming in when the last run ended. Raises OSError."""
        # One by one: makedirs gives its mode to the last of them alone.
        for folder in (self._folder, self._incoming):
            os.makedirs(folder, mode=0o700, exist_ok=True)
        for leftover in os.scandir(self._incoming):
            os.unlink(leftover)
        for folder in (self._incoming, self._folder, os.path.dirname(self._folder)):
            _fsync_path(folder)

    def stage(self, in_memory: bool = False) -> Staging:
        """A place for one more photo to be received into."""
        path = f"{self._incoming}/{next(self._numbers)}.part"
        return StagingMemory(path) if in_memory else StagingFile(path)

    def path(self, task_id: int) -> str:
        """Where the photo of a task lies."""
        return f"{self._folder}/{task_id}"

    def free_bytes(self) -> int:
        """The room left for us on the spool's file system, in bytes. Raises OSError."""
        room = os.statvfs(self._folder)
        return room.f_bavail * room.f_frsize

    def probe(self) -> None:
        """Write a byte and take it back: raises OSError if the spool can't be written to."""
        staging = self.stage()
        try:
            staging.write(b"\0")
        finally:
            staging.discard()

    def place(self, moves: Sequence[tuple[Staged, int]]) -> None:
        """Put staged photos in place of their tasks, durably: when it returns, they survive a power loss.

        Raises OSError; then none of them may be relied on, and none of the failed flushes be tried again.
        """
        if not moves:
            return
        # Nothing refers to the photos before the commit that follows, so their data may be flushed under their names.
        paths = [self.path(task_id) for _, task_id in moves]
        for (staged, _), path in zip(moves, paths, strict=True):
            staged.put(path)
        if self._sync_all is None or len(moves) <= 2:
            for path in paths:
                _fsync_path(path)
            _fsync_path(self._folder)
            return
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._sync_all(descriptor)
        finally:
            os.close(descriptor)

    def stored(self) -> Iterator[int]:
        """The numbers of the tasks whose photos are in place, read as they are asked for. Raises OSError."""
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if entry.name.isascii() and entry.name.isdigit() and 0 < int(entry.name) <= MAX_TASK_ID:
                    yield int(entry.name)


def remove(path: str) -> None:
    """Unlink a file, if it is there. Raises OSError."""
    with suppress(FileNotFoundError):
        os.unlink(path)


def _make(path: str) -> int:
    """The descriptor of a new file; raises FileExistsError if there is one."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)


def _write(descriptor: int, data: bytes) -> None:
    """Write all of it: the disk may take less than it is given."""
    written = os.write(descriptor, data)
    while written < len(data):
        written += os.write(descriptor, memoryview(data)[written:])


def _fsync_path(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def syncfs(descriptor: int) -> None:
    """Flush the file system that an open descriptor lies on, syncfs(2). Raises OSError."""
    if _libc.syncfs(descriptor) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


_libc = ctypes.CDLL(None, use_errno=True)


def trusted_syncfs(release: str = platform.release()) -> Callable[[int], None] | None:
    """``syncfs`` where it tells of failed writes, else None (syncfs(2): since Linux 5.8)."""
    version = re.match(r"(\d+)\.(\d+)", release)
    if not hasattr(_libc, "syncfs") or version is None:
        return None
    return syncfs if (int(version[1]), int(version[2])) >= (5, 8) else None

"""Backs up a data directory while merlind works in it, and without its help.

The database is copied first, as it is at that moment, and then the photos that its tasks need. merlind may finish such
a task meanwhile, and delete its photo: then that task is copied anew, as it is by then, which needs no photo. Tasks
know nothing of each other, so some may be a little younger than the rest. docs/how-it-works.md tells more.

Blocks.
"""

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import IO

from merlind.core.interfaces import TaskCounts
from merlind.storage.archive import ArchiveReader, ArchiveUnusable, ArchiveWriter
from merlind.storage.photos.flush import fsync_path
from merlind.storage.sqlite import database
from merlind.storage.sqlite.copy import DatabaseCopy, NeededPhoto, take_copy

LOOKS = 5
"""How often a photo is looked for that a task needs and that isn't there. More than once, because a task may have
failed and started anew between two looks."""

Report = Callable[[int, int], object]
"""Is told how many photos are done, of how many."""


class BackupFailed(Exception):
    """There is no backup. The message is one line that says why."""


@dataclass(slots=True)
class Contents:
    """What a backup holds: tasks by state, photos and their bytes, and whose photo is missing or damaged."""

    counts: TaskCounts
    photos: int = 0
    photo_bytes: int = 0
    without_photo: list[int] = field(default_factory=list)


def back_up(original: Path, spool: Path, file: Path, report: Report = lambda done, total: None) -> Contents:
    """Back up a database and the photos in a spool to a file, which is replaced as a whole if it is there.

    It is read again before it takes its name. Raises BackupFailed, DatabaseUnusable and OSError.
    """
    part, copied = (file.with_name(f"{file.name}.part{suffix}") for suffix in ("", ".sqlite"))
    # Not emptied before it is ours.
    with os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b") as output:
        try:
            fcntl.flock(output, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BackupFailed(f"another backup is writing {part}") from None
        try:
            output.truncate()
            with closing(take_copy(original, copied)) as copy:
                contents = _write(output, copy, original, spool, copied, report)
            os.fsync(output.fileno())
            _verify(output, copied, contents)
            part.rename(file)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        finally:
            copied.unlink(missing_ok=True)
    fsync_path(str(file.parent))
    return contents


def _write(
    output: IO[bytes], copy: DatabaseCopy, original: Path, spool: Path, copied: Path, report: Report
) -> Contents:
    photos = _Photos(spool, report)
    with ArchiveWriter(output) as archive:
        archive.add_mark(database.identity(copied))
        photos.add(archive, copy.needed_photos())
        for _ in range(LOOKS):
            if photos.gone:
                photos.add(archive, copy.renew(original, photos.gone))
        contents = Contents(copy.counts(), photos.count, photos.bytes, sorted([*photos.gone, *photos.damaged]))
        copy.close()
        archive.add_database(copied)
    return contents


class _Photos:
    """Adds photos to an archive; ``gone`` are those of the last ``add`` that weren't there."""

    def __init__(self, spool: Path, report: Report) -> None:
        self._spool = spool
        self._report = report
        self.count = 0
        self.bytes = 0
        self.gone: list[int] = []
        self.damaged: list[int] = []

    def add(self, archive: ArchiveWriter, needed: Iterable[NeededPhoto]) -> None:
        needed, self.gone = list(needed), []
        for number, photo in enumerate(needed, 1):
            try:
                with (self._spool / str(photo.task_id)).open("rb") as file:
                    self._add(archive, photo, file)
            except FileNotFoundError:
                self.gone.append(photo.task_id)
            self._report(number, len(needed))

    def _add(self, archive: ArchiveWriter, photo: NeededPhoto, file: BufferedReader) -> None:
        size = os.fstat(file.fileno()).st_size
        if size != photo.size or hashlib.file_digest(file, "sha256").digest() != photo.sha256:
            # merlind wouldn't use it either.
            self.damaged.append(photo.task_id)
            return
        file.seek(0)
        archive.add_photo(photo.task_id, file, size)
        self.count += 1
        self.bytes += size


def _verify(output: IO[bytes], copied: Path, contents: Contents) -> None:
    """Read the archive as a restore does, and compare it with the database."""
    output.seek(0)
    reader = ArchiveReader()
    try:
        reader.read(output)
    except ArchiveUnusable as error:
        raise BackupFailed(f"what was written is not what is there: {error}") from None
    with copied.open("rb") as file:
        whole = reader.database == hashlib.file_digest(file, "sha256").digest()
    with closing(DatabaseCopy(copied)) as copy:
        missing = [one for one in copy.needed_photos() if reader.photos.get(one.task_id) != one.sha256]
        fault = copy.fault()
    if not whole or fault or sorted(one.task_id for one in missing) != contents.without_photo:
        raise BackupFailed(f"what was written is not what is there{f': {fault}' if fault else ''}")

"""Restores a backup into an empty data directory: checked as a whole before anything of it is in its place. Blocks."""

import os
import shutil
from contextlib import closing
from pathlib import Path
from typing import IO

from merlind.storage import archive
from merlind.storage.archive import ArchiveReader, ArchiveUnusable
from merlind.storage.backup import Contents
from merlind.storage.pairing import MARK
from merlind.storage.photos.flush import fsync_path, sync_file_system, trusted_syncfs
from merlind.storage.sqlite import database
from merlind.storage.sqlite.copy import DatabaseCopy

PART = "restore.part"
"""The folder in the data directory in which it is unpacked."""

_NOT_OURS = frozenset({"lock", "lost+found", PART})
"""What an empty data directory may hold: the lock, what a file system makes, what a restore that was killed left."""


class RestoreFailed(Exception):
    """Nothing was restored. The message is one line that says why."""


def check_empty(folder: Path) -> None:
    """See that a folder may be restored into: it is missing or empty. Raises RestoreFailed and OSError."""
    if folder.exists() and (found := sorted(entry.name for entry in folder.iterdir() if entry.name not in _NOT_OURS)):
        raise RestoreFailed(f"{folder} is not empty: it has {found[0]!a}. Restore into a new folder")


def restore(file: Path, folder: Path) -> Contents:
    """Restore a backup into a data directory that is locked, so that merlind starts on it.

    Raises RestoreFailed, ArchiveUnusable, DatabaseUnusable and OSError; then the directory is as empty as before.
    """
    check_empty(folder)
    part = folder / PART
    shutil.rmtree(part, ignore_errors=True)
    try:
        (part / archive.SPOOL).mkdir(mode=0o700, parents=True)
        reader = ArchiveReader()
        with file.open("rb") as opened, closing(_Unpacking(part)) as unpacking:
            reader.read(opened, unpacking.write)
        contents = _check(part, reader)
        _flush(part)
        # No last-commit: that of the lost directory knows of later commits.
        for name in (archive.SPOOL, archive.DATABASE):
            (part / name).rename(folder / name)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    fsync_path(str(folder))
    return contents


class _Unpacking:
    """Writes members of an archive into a folder: one file after the other."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._name = ""
        self._file: IO[bytes] | None = None

    def write(self, name: str, data: bytes) -> None:
        if name != self._name:
            self.close()
            self._file = os.fdopen(os.open(self._folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
            self._name = name
        assert self._file is not None, "a name opened it"
        self._file.write(data)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def _check(part: Path, reader: ArchiveReader) -> Contents:
    """Compare what was unpacked: each photo is its task's, and only those are missing that were when it was taken."""
    path = part / archive.DATABASE
    with closing(DatabaseCopy(path)) as copy:
        if (fault := copy.fault()) is not None:
            raise ArchiveUnusable(f"its database is damaged: {fault}")
        needed = {photo.task_id: photo for photo in copy.needed_photos()}
        counts = copy.counts()
    mark = part / archive.SPOOL / MARK
    if not mark.exists() or mark.read_text("ascii", "replace").strip() != database.identity(path):
        raise ArchiveUnusable("its photos and its database don't belong together")
    for task_id, digest in reader.photos.items():
        if task_id in needed and digest != needed[task_id].sha256:
            raise ArchiveUnusable(f"the photo of task {task_id} is damaged")
    found = [photo for task_id, photo in needed.items() if task_id in reader.photos]
    missing = sorted(set(needed) - set(reader.photos))
    return Contents(counts, len(found), sum(photo.size for photo in found), missing)


def _flush(part: Path) -> None:
    if (sync_all := trusted_syncfs()) is not None:
        sync_file_system(str(part), sync_all)
        return
    for path in (*part.rglob("*"), part):
        fsync_path(str(path))

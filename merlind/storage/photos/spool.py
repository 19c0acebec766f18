"""The folder of photos. A committed one is named by its task's id; ``incoming/`` holds what is still being received.

A name in ``incoming/`` means nothing after a restart. Photos of unknown tasks are set aside in ``lost/``, beside this
folder. Knows no HTTP and no database.
"""

import errno
import itertools
import math
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

from twisted.logger import Logger

from merlind.core.interfaces import PhotoMissing, StagedPhoto
from merlind.core.task import MAX_TASK_ID, Task
from merlind.storage.photos.flush import fsync_path, sync_file_system
from merlind.storage.photos.staging import MAX_IN_MEMORY, SpooledPhoto, remove

_SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""Why a photo that is there may not be opened just now."""

_FLUSH_EACH = 2
"""The most photos of a commit that are flushed file by file; more are flushed with their whole file system."""

_LOST = re.compile(r"[0-9]+\.([0-9]{1,18})(\.part)?")
"""A name in ``lost/``: the task's id, and the service time at which the photo was set aside, in whole seconds."""


class Spool:
    """A PhotoStore (core.interfaces) in a folder: mode 0700, files 0600.

    ``commit`` waits for the disk, so call it off the reactor. ``sync_all`` flushes the file system that a descriptor
    lies on (flush.trusted_syncfs); without it, every file is flushed by itself.
    """

    _log = Logger()

    def __init__(self, folder: Path, sync_all: Callable[[int], None] | None = None) -> None:
        # Strings from here on: for every photo, pathlib would take longer than the system call.
        self._folder = str(folder)
        self._incoming = str(folder / "incoming")
        self._lost = str(folder.with_name("lost"))
        self._taken: frozenset[str] = frozenset()
        self._sync_all = sync_all
        self._numbers = itertools.count(1)

    def prepare(self) -> None:
        """Make the folders, and delete what was still being received when the last run ended.

        What can't be deleted there, such as a folder, isn't ours: it stays. Raises OSError.
        """
        # One by one: makedirs gives its mode to the last folder alone.
        for folder in (self._folder, self._incoming):
            os.makedirs(folder, mode=0o700, exist_ok=True)
        self._taken = frozenset(entry.name for entry in os.scandir(self._incoming) if not self._deleted(entry))
        for folder in (self._incoming, self._folder, os.path.dirname(self._folder)):
            fsync_path(folder)

    def _deleted(self, leftover: "os.DirEntry[str]") -> bool:
        try:
            os.unlink(leftover)
        except (IsADirectoryError, PermissionError) as error:
            self._log.warn("{path} is not merlind's, and stays: {why}", path=leftover.path, why=error.strerror)
            return False
        return True

    def stage(self, in_memory: bool = False) -> SpooledPhoto:
        """Begin to receive a photo: into memory, up to MAX_IN_MEMORY bytes, or into a file from the first byte."""
        names = (f"{number}.part" for number in self._numbers)
        name = next(name for name in names if name not in self._taken)
        return SpooledPhoto(f"{self._incoming}/{name}", MAX_IN_MEMORY if in_memory else 0)

    def open(self, task: Task) -> IO[bytes]:
        """Open a task's photo, unbuffered, for its owner to close.

        Raises PhotoMissing if it isn't there whole, and OSError if there are too many open files, or too little memory.
        """
        try:
            photo = open(self.path(task.id), "rb", buffering=0)  # noqa: SIM115 (returned open)
        except OSError as error:
            if error.errno in _SHORTAGES:
                raise
            raise PhotoMissing(error.strerror) from error
        size = os.fstat(photo.fileno()).st_size
        if size != task.photo.size:
            photo.close()
            raise PhotoMissing(f"{size} bytes of {task.photo.size}")
        return photo

    def path(self, task_id: int) -> str:
        """Return where the photo of a task lies."""
        return f"{self._folder}/{task_id}"

    def stored(self) -> Iterator[int]:
        """Iterate over the ids of the tasks that have a photo here, as it reads the folder. Raises OSError."""
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if entry.name.isascii() and entry.name.isdigit() and 0 < int(entry.name) <= MAX_TASK_ID:
                    yield int(entry.name)

    def free_bytes(self) -> int:
        """Return the room left for us on the spool's file system, in bytes. Raises OSError."""
        room = os.statvfs(self._folder)
        return room.f_bavail * room.f_frsize

    def probe(self) -> None:
        """Write a byte and delete it again. Raises OSError if the spool can't be written to."""
        photo = self.stage()
        try:
            photo.write(b"\0")
        finally:
            photo.discard()

    def commit(self, photos: Sequence[tuple[StagedPhoto, int]]) -> None:
        """Make staged photos those of tasks, durably: when it returns, they survive a power loss.

        Raises OSError; then rely on none of them, and never flush any of them again.
        """
        if not photos:
            return
        # Nothing refers to the photos before the database's commit, so they may be flushed under their final names.
        paths = [self.path(task_id) for _, task_id in photos]
        for (photo, _), path in zip(photos, paths, strict=True):
            assert isinstance(photo, SpooledPhoto), "a spool commits what it staged"
            photo.commit_to(path)
        if self._sync_all is None or len(paths) <= _FLUSH_EACH:
            for path in paths:
                fsync_path(path)
            fsync_path(self._folder)
        else:
            sync_file_system(self._folder, self._sync_all)

    def remove(self, task_id: int) -> None:
        """Delete the photo of a task, if it is there. Raises OSError."""
        remove(self.path(task_id))

    def set_aside(self, task_id: int, now: float) -> int:
        """Move the photo of a task that nobody knows into ``lost/``, at a service time; returns its bytes.

        Raises OSError, FileNotFoundError if there is none.
        """
        path, lost = self.path(task_id), f"{self._lost}/{task_id}.{math.ceil(now)}"
        size = os.stat(path).st_size
        os.makedirs(self._lost, mode=0o700, exist_ok=True)
        try:
            os.rename(path, lost)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            _move_to_another_disk(path, lost)
        return size

    def expire_lost(self, set_aside_by: float) -> int:
        """Delete the photos that were set aside by a service time; returns how many. Raises OSError."""
        try:
            names = os.listdir(self._lost)
        except FileNotFoundError:
            return 0
        expired = [name for name in names if (found := _LOST.fullmatch(name)) and int(found[1]) <= set_aside_by]
        for name in expired:
            os.unlink(f"{self._lost}/{name}")
        return len(expired)


def _move_to_another_disk(path: str, target: str) -> None:
    """Move a file to another file system, such that it is always whole on one of them. Raises OSError."""
    part = f"{target}.part"
    shutil.copyfile(path, part)
    fsync_path(part)
    os.rename(part, target)
    fsync_path(os.path.dirname(target))
    os.unlink(path)

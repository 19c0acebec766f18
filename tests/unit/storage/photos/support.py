"""A spool in a folder of its own."""

import os
from collections.abc import Callable
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from merlind.storage.photos.spool import Spool
from merlind.storage.photos.staging import SpooledPhoto


class SpoolCase(SynchronousTestCase):
    """``synced`` lists what was flushed, once ``record_syncs`` was called."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute() / "spool"
        self.folder.parent.mkdir()
        self.synced: list[str] = []
        self.spool = self.make()

    def make(self, sync_all: Callable[[int], None] | None = None) -> Spool:
        spool = Spool(self.folder, sync_all)
        spool.prepare()
        return spool

    def staged(self, *pieces: bytes, in_memory: bool = False) -> SpooledPhoto:
        """A photo that was received whole, by default in a file."""
        photo = self.spool.stage(in_memory)
        for piece in pieces or (b"photo",):
            photo.write(piece)
        photo.finish()
        return photo

    def committed(self, task_id: int, *pieces: bytes, in_memory: bool = False) -> None:
        """A photo in its place."""
        self.spool.commit([(self.staged(*pieces, in_memory=in_memory), task_id)])

    def files(self) -> list[str]:
        """All files of the spool, by their paths below it."""
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file())

    def content(self, name: object) -> bytes:
        """What is in a file of the spool."""
        return (self.folder / str(name)).read_bytes()

    def record_syncs(self) -> None:
        """List in ``synced`` what each fsync is for, by the path that it has at that time."""
        real = os.fsync

        def fsync(descriptor: int) -> None:
            self.synced.append(os.path.relpath(os.readlink(f"/proc/self/fd/{descriptor}"), self.folder))
            real(descriptor)

        self.patch(os, "fsync", fsync)


def open_descriptors() -> int:
    """How many files this process has open."""
    return len(os.listdir("/proc/self/fd"))

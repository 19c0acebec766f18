"""Flushes: of one path, and of a whole file system where the kernel can be trusted with it."""

import errno
import os

from merlind.storage.photos import flush
from merlind.storage.photos.flush import fsync_path, sync_file_system, syncfs, trusted_syncfs
from tests.unit.storage.photos.support import SpoolCase, open_descriptors
from tests.unit.support import failing


class FlushTests(SpoolCase):
    """One path, or all of them."""

    def test_path(self) -> None:
        """A file and a folder can be flushed, and no descriptor stays open, even if it fails."""
        self.committed(7)
        self.record_syncs()
        before = open_descriptors()
        fsync_path(self.spool.path(7))
        fsync_path(str(self.folder))
        self.assertEqual(self.synced, ["7", "."])
        self.patch(os, "fsync", failing(errno.EIO))
        self.assertRaises(OSError, fsync_path, str(self.folder))
        self.assertEqual(open_descriptors(), before)

    def test_file_system(self) -> None:
        """The function gets a descriptor of the folder, which is closed whatever it does."""
        before = open_descriptors()
        seen: list[str] = []
        folder = str(self.folder)
        sync_file_system(folder, lambda descriptor: seen.append(os.readlink(f"/proc/self/fd/{descriptor}")))
        self.assertRaises(OSError, sync_file_system, folder, failing(errno.EIO))
        self.assertEqual((seen, open_descriptors()), ([folder], before))


class SyncfsTests(SpoolCase):
    """The system call."""

    def test_works(self) -> None:
        """It takes a descriptor of the file system."""
        descriptor = os.open(self.folder, os.O_RDONLY)
        self.addCleanup(os.close, descriptor)
        syncfs(descriptor)

    def test_fails(self) -> None:
        """Its error is raised."""
        self.assertEqual(self.assertRaises(OSError, syncfs, -1).errno, errno.EBADF)

    def test_trusted_where_it_reports_failed_writes(self) -> None:
        """That is since Linux 5.8."""
        for release, trusted in (
            ("5.8.0", True),
            ("5.10.0-21-amd64", True),
            ("6.1", True),
            ("10.0.1", True),
            ("5.7.19", False),
            ("4.20.0", False),
            ("", False),
            ("unknown", False),
        ):
            self.assertEqual(trusted_syncfs(release), syncfs if trusted else None, release)

    def test_not_there(self) -> None:
        """A C library without it has None."""
        self.patch(flush, "_libc", object())
        self.assertIsNone(trusted_syncfs("6.1"))

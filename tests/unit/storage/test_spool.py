"""Photos on disk: real files, and what of them would survive."""

import errno
import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from merlind.core.task import MAX_TASK_ID
from merlind.storage.photos import spool as spool_module
from merlind.storage.photos.spool import NotWritten, Spool, Staged, syncfs, trusted_syncfs
from tests.unit.support import failing, open_files


class SpoolCase(SynchronousTestCase):
    """A spool in a folder of its own."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute() / "spool"
        self.folder.parent.mkdir()
        self.synced: list[str] = []
        self.spool = self.make()

    def make(self, sync_all: Callable[[int], None] | None = None) -> Spool:
        spool = Spool(self.folder, sync_all)
        spool.prepare()
        return spool

    def staged(self, content: bytes = b"photo") -> Staged:
        staging = self.spool.stage()
        staging.write(content)
        return staging.finish()

    def files(self) -> list[str]:
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file())

    def record_syncs(self) -> None:
        """List in ``synced`` what each fsync was for, by the path that it had at that time."""
        real = os.fsync

        def fsync(descriptor: int) -> None:
            self.synced.append(os.path.relpath(os.readlink(f"/proc/self/fd/{descriptor}"), self.folder))
            real(descriptor)

        self.patch(os, "fsync", fsync)

    def set_umask(self, mask: int) -> None:
        self.addCleanup(os.umask, os.umask(mask))


class PrepareTests(SpoolCase):
    """The folders."""

    def test_modes(self) -> None:
        """Nobody else sees into them, however open the umask."""
        self.set_umask(0)
        self.folder = self.folder.with_name("other")
        self.spool = self.make()
        self.spool.place([(self.staged(), 7)])
        self.staged()
        for path, mode in ((".", 0o700), ("incoming", 0o700), ("7", 0o600), ("incoming/2.part", 0o600)):
            self.assertEqual(stat.S_IMODE((self.folder / path).stat().st_mode), mode, path)

    def test_sweep(self) -> None:
        """What was coming in when the last run ended is removed; what is in place stays."""
        self.spool.place([(self.staged(), 7)])
        self.staged()
        self.spool.stage().write(b"half")
        self.assertEqual(self.files(), ["7", "incoming/2.part", "incoming/3.part"])
        self.make()
        self.assertEqual(self.files(), ["7"])

    def test_durable(self) -> None:
        """The folders themselves are flushed, and their parent."""
        self.record_syncs()
        self.make()
        self.assertEqual(sorted(self.synced), [".", "..", "incoming"])

    def test_unusable(self) -> None:
        """A file in their place raises OSError."""
        self.folder = self.folder.with_name("file")
        self.folder.write_bytes(b"")
        self.assertRaises(OSError, self.make)


class StagingTests(SpoolCase):
    """A photo on its way in."""

    def test_pieces(self) -> None:
        """The pieces are one file, and its digest and size are told."""
        staging = self.spool.stage()
        for piece in (b"one", b"", b"two" * 1_000_000, b"\0"):
            staging.write(piece)
        content = b"one" + b"two" * 1_000_000 + b"\0"
        self.assertEqual(staging.size, len(content))
        staged = staging.finish()
        self.assertEqual((staged.sha256(), staged.size), (hashlib.sha256(content).digest(), len(content)))
        self.assertEqual(Path(staged.path).read_bytes(), content)
        self.assertNotIn(str(staged.path), open_files())

    def test_apart(self) -> None:
        """Two at once don't meet."""
        one, two = self.spool.stage(), self.spool.stage()
        one.write(b"1")
        two.write(b"2")
        self.assertEqual([Path(s.finish().path).read_bytes() for s in (one, two)], [b"1", b"2"])

    def test_nothing_came(self) -> None:
        """There is no file until there is a byte."""
        staging = self.spool.stage()
        self.assertEqual(self.files(), [])
        staging.discard()
        self.assertEqual(self.files(), [])
        self.assertEqual(self.spool.stage().finish().size, 0)

    def test_discard(self) -> None:
        """Nothing remains, neither file nor descriptor."""
        staging = self.spool.stage()
        staging.write(b"half")
        path = str(self.folder / self.files()[0])
        self.assertIn(path, open_files())
        staging.discard()
        staging.discard()
        self.assertEqual(self.files(), [])
        self.assertNotIn(path, open_files())

    def test_discard_what_is_gone(self) -> None:
        """It doesn't matter who removed it."""
        staging = self.spool.stage()
        staging.write(b"half")
        (self.folder / self.files()[0]).unlink()
        staging.discard()

    def test_short_writes(self) -> None:
        """The disk may take less than it is given."""
        real, sizes = os.write, []

        def write(descriptor: int, data: Any) -> int:
            sizes.append(len(data))
            return real(descriptor, data[:3])

        self.patch(os, "write", write)
        staged = self.staged(b"12345678")
        self.assertEqual(Path(staged.path).read_bytes(), b"12345678")
        self.assertEqual(sizes, [8, 5, 2])

    def test_full(self) -> None:
        """A full disk raises, at the first byte and later; then it can be discarded."""
        for real in (os.open, os.write):
            staging = self.spool.stage()
            staging.write(b"a") if real is os.write else None
            self.patch(os, real.__name__, failing(errno.ENOSPC))
            self.assertEqual(self.assertRaises(OSError, staging.write, b"b").errno, errno.ENOSPC)
            self.patch(os, real.__name__, real)
            staging.discard()
            self.assertEqual(self.files(), [])

    def test_never_over_another(self) -> None:
        """A file that is there already is not written to."""
        (self.folder / "incoming" / "1.part").write_bytes(b"other")
        self.assertRaises(FileExistsError, self.spool.stage().write, b"b")


class MemoryTests(SpoolCase):
    """A small photo: in memory until it gets its place."""

    def staged_in_memory(self, *pieces: bytes) -> Staged:
        staging = self.spool.stage(in_memory=True)
        for piece in pieces:
            staging.write(piece)
        self.assertEqual(staging.size, sum(map(len, pieces)))
        return staging.finish()

    def test_pieces(self) -> None:
        """There is no file until it is put, and then all of it; its digest and size are told."""
        staged = self.staged_in_memory(b"one", b"", b"two")
        self.assertEqual((staged.sha256(), staged.size), (hashlib.sha256(b"onetwo").digest(), 6))
        self.assertEqual(self.files(), [])
        self.spool.place([(staged, 7)])
        self.assertEqual(self.files(), ["7"])
        self.assertEqual(Path(self.spool.path(7)).read_bytes(), b"onetwo")
        self.assertEqual(stat.S_IMODE(os.stat(self.spool.path(7)).st_mode), 0o600)

    def test_unwanted(self) -> None:
        """What is discarded, or dropped, leaves nothing."""
        staging = self.spool.stage(in_memory=True)
        staging.write(b"half")
        staging.discard()
        self.assertEqual(staging.finish().pieces, ())
        self.staged_in_memory(b"whole").drop()
        self.assertEqual(self.files(), [])

    def test_taken_place(self) -> None:
        """What lies at its place already is replaced as a whole: there is no moment with a half of one."""
        seen = []
        real = os.write

        def write(descriptor: int, data: bytes) -> int:
            seen.append(Path(self.spool.path(7)).read_bytes())
            return real(descriptor, data)

        self.spool.place([(self.staged_in_memory(b"before"), 7)])
        self.patch(os, "write", write)
        self.spool.place([(self.staged_in_memory(b"after"), 7)])
        self.assertEqual(seen, [b"before"])
        self.assertEqual((self.files(), Path(self.spool.path(7)).read_bytes()), (["7"], b"after"))

    def test_short_writes(self) -> None:
        """The disk may take less than it is given."""
        real = os.write
        self.patch(os, "write", lambda descriptor, data: real(descriptor, data[:3]))
        self.spool.place([(self.staged_in_memory(b"1234", b"5678"), 7)])
        self.assertEqual(Path(self.spool.path(7)).read_bytes(), b"12345678")

    def test_not_written(self) -> None:
        """Where it can't be written it says so, and no descriptor stays open."""
        before = len(os.listdir("/proc/self/fd"))
        for name in ("open", "write"):
            real = getattr(os, name)
            self.patch(os, name, failing(errno.EIO))
            error = self.assertRaises(NotWritten, self.staged_in_memory(b"x").put, self.spool.path(8))
            self.assertEqual((error.errno, error.strerror), (errno.EIO, os.strerror(errno.EIO)))
            self.patch(os, name, real)
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)

    def test_half_replaced(self) -> None:
        """What was written beside its place, and never got there, is dropped with it."""
        self.spool.place([(self.staged_in_memory(b"before"), 7)])
        staged = self.staged_in_memory(b"after")
        self.patch(os, "rename", failing(errno.ENOSPC))
        self.assertRaises(OSError, staged.put, self.spool.path(7))
        self.assertEqual(len(self.files()), 2)
        staged.drop()
        self.assertEqual((self.files(), Path(self.spool.path(7)).read_bytes()), (["7"], b"before"))


class PlaceTests(SpoolCase):
    """In place, durably."""

    def test_none(self) -> None:
        """Nothing to place costs no flush."""
        self.record_syncs()
        self.spool.place([])
        self.assertEqual(self.synced, [])

    def test_file_by_file(self) -> None:
        """Each file is flushed, then the folder once."""
        self.record_syncs()
        self.spool.place([(self.staged(b"%d" % n), 10 + n) for n in (1, 2, 3)])
        self.assertEqual(self.synced, ["11", "12", "13", "."])
        self.assertEqual(self.files(), ["11", "12", "13"])
        self.assertEqual([Path(self.spool.path(10 + n)).read_bytes() for n in (1, 2, 3)], [b"1", b"2", b"3"])

    def test_all_at_once(self) -> None:
        """More than two are flushed as one, once all of them have their names; two are not."""
        seen = []

        def sync_all(descriptor: int) -> None:
            seen.append((os.readlink(f"/proc/self/fd/{descriptor}"), self.files()))

        self.spool = self.make(sync_all)
        self.record_syncs()
        self.spool.place([(self.staged(), n) for n in (1, 2)])
        self.assertEqual((seen, self.synced), ([], ["1", "2", "."]))
        self.synced.clear()
        before = len(os.listdir("/proc/self/fd"))
        self.spool.place([(self.staged(), n) for n in (3, 4, 5)])
        self.assertEqual((seen, self.synced), ([(str(self.folder), ["1", "2", "3", "4", "5"])], []))
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)

    def test_failed_flush(self) -> None:
        """A flush that fails raises, is not tried again, and leaves no descriptor open."""
        calls = []

        def fail(descriptor: int) -> None:
            calls.append(descriptor)
            failing(errno.EIO)()

        before = len(os.listdir("/proc/self/fd"))
        one = [(self.staged(), 1)]
        self.patch(os, "fsync", fail)
        self.assertEqual(self.assertRaises(OSError, self.spool.place, one).errno, errno.EIO)
        self.assertEqual((len(calls), self.files()), (1, ["1"]))
        self.spool = Spool(self.folder.with_name("spool"), fail)
        self.assertRaises(OSError, self.spool.place, [(self.staged(), n) for n in (4, 5, 6)])
        self.assertEqual(len(calls), 2)
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)

    def test_staged_file_lost(self) -> None:
        """A staged file that is gone raises."""
        staged = self.staged()
        Path(staged.path).unlink()
        self.assertRaises(FileNotFoundError, self.spool.place, [(staged, 1)])

    def test_stored(self) -> None:
        """Only what is named by a task's number counts."""
        self.spool.place([(self.staged(), n) for n in (1, 77, MAX_TASK_ID)])
        for name in ("0", str(MAX_TASK_ID + 1), "x", "-1", "1.jpg", "٣", "²"):
            (self.folder / name).write_bytes(b"")
        self.assertEqual(sorted(self.spool.stored()), [1, 77, MAX_TASK_ID])


class RoomTests(SpoolCase):
    """Whether there is any."""

    def test_free_bytes(self) -> None:
        """What the file system leaves to us, in bytes."""
        self.patch(os, "statvfs", lambda path: os.statvfs_result((4096, 512, 9, 8, 7, 0, 0, 0, 0, 255)))
        self.assertEqual(self.spool.free_bytes(), 7 * 512)

    def test_probe(self) -> None:
        """It writes, and leaves nothing."""
        written = []
        real = os.write
        self.patch(os, "write", lambda descriptor, data: written.append(data) or real(descriptor, data))
        self.spool.probe()
        self.assertEqual((written, self.files()), ([b"\0"], []))

    def test_failed_probe(self) -> None:
        """A disk that can't be written to raises, and nothing remains."""
        for name, number in (("open", errno.EROFS), ("write", errno.ENOSPC)):
            real = getattr(os, name)
            self.patch(os, name, failing(number))
            self.assertEqual(self.assertRaises(OSError, self.spool.probe).errno, number)
            self.patch(os, name, real)
            self.assertEqual(self.files(), [])


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

    def test_trusted(self) -> None:
        """It is trusted where the kernel tells of failed writes."""
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
        self.patch(spool_module, "_libc", object())
        self.assertIsNone(trusted_syncfs("6.1"))

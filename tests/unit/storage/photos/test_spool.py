"""Photos on disk: real files, and what of them would survive."""

import builtins
import errno
import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.logger import capturedLogs, formatEvent

from merlind.core.interfaces import PhotoMissing
from merlind.core.task import MAX_TASK_ID, Photo
from merlind.storage.photos.spool import Spool
from tests.unit.storage.photos.support import SpoolCase, open_descriptors
from tests.unit.support import failing, make_task


class PrepareTests(SpoolCase):
    """The folders."""

    def test_for_us_alone(self) -> None:
        """Nobody else sees into them, however open the umask."""
        self.addCleanup(os.umask, os.umask(0))
        self.folder = self.folder.with_name("other")
        self.spool = self.make()
        self.committed(7)
        self.staged()
        for path, mode in ((".", 0o700), ("incoming", 0o700), ("7", 0o600), ("incoming/2.part", 0o600)):
            self.assertEqual(stat.S_IMODE((self.folder / path).stat().st_mode), mode, path)

    def test_sweep(self) -> None:
        """What was being received when the last run ended is removed; what is committed stays."""
        self.committed(7)
        self.staged()
        self.spool.stage().write(b"half")
        self.assertEqual(self.files(), ["7", "incoming/2.part", "incoming/3.part"])
        self.make()
        self.assertEqual(self.files(), ["7"])

    def test_what_is_not_ours_stays(self) -> None:
        """What can't be deleted, such as a folder, stays in incoming/ with a line; no upload gets its name (D15)."""
        odd = self.folder / "incoming" / "1.part"
        odd.mkdir()
        (odd / "inside").write_bytes(b"")
        (self.folder / "incoming" / "2.part").write_bytes(b"half")
        with capturedLogs() as logs:
            self.spool = self.make()
        line = f"{odd} is not merlind's, and stays: Is a directory"
        self.assertEqual([formatEvent(event) for event in logs], [line])
        self.assertEqual(self.files(), ["incoming/1.part/inside"])
        self.committed(7)
        self.assertEqual(self.files(), ["7", "incoming/1.part/inside"])
        self.patch(os, "unlink", failing(errno.EPERM))
        self.staged()
        self.make()
        self.assertEqual(self.files(), ["7", "incoming/1.part/inside", "incoming/3.part"])

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


class CommitTests(SpoolCase):
    """In place, durably."""

    def test_nothing_to_commit(self) -> None:
        """It costs no flush."""
        self.record_syncs()
        self.spool.commit([])
        self.assertEqual(self.synced, [])

    def test_file_by_file(self) -> None:
        """Each file is flushed, then the folder once."""
        self.record_syncs()
        self.spool.commit([(self.staged(b"%d" % n), 10 + n) for n in (1, 2, 3)])
        self.assertEqual(self.synced, ["11", "12", "13", "."])
        self.assertEqual(self.files(), ["11", "12", "13"])
        self.assertEqual([self.content(10 + n) for n in (1, 2, 3)], [b"1", b"2", b"3"])

    def test_all_at_once(self) -> None:
        """More than two are flushed with their file system, once all of them have their names; two are not."""
        seen = []

        def sync_all(descriptor: int) -> None:
            seen.append((os.readlink(f"/proc/self/fd/{descriptor}"), self.files()))

        self.spool = self.make(sync_all)
        self.record_syncs()
        self.spool.commit([(self.staged(), n) for n in (1, 2)])
        self.assertEqual((seen, self.synced), ([], ["1", "2", "."]))
        self.synced.clear()
        before = open_descriptors()
        self.spool.commit([(self.staged(), n) for n in (3, 4, 5)])
        self.assertEqual((seen, self.synced), ([(str(self.folder), ["1", "2", "3", "4", "5"])], []))
        self.assertEqual(open_descriptors(), before)

    def test_failed_flush(self) -> None:
        """A flush that fails raises, is not tried again, and leaves no descriptor open."""
        calls = []

        def fail(descriptor: int) -> None:
            calls.append(descriptor)
            failing(errno.EIO)()

        before = open_descriptors()
        photo = self.staged()
        self.patch(os, "fsync", fail)
        self.assertEqual(self.assertRaises(OSError, self.spool.commit, [(photo, 1)]).errno, errno.EIO)
        self.assertEqual((len(calls), self.files()), (1, ["1"]))
        self.spool = Spool(self.folder.with_name("spool"), fail)
        self.assertRaises(OSError, self.spool.commit, [(self.staged(), n) for n in (4, 5, 6)])
        self.assertEqual(len(calls), 2)
        self.assertEqual(open_descriptors(), before)

    def test_staged_file_lost(self) -> None:
        """A staged file that is gone raises."""
        photo = self.staged()
        (self.folder / "incoming/1.part").unlink()
        self.assertRaises(FileNotFoundError, self.spool.commit, [(photo, 1)])

    def test_remove(self) -> None:
        """A photo is removed, whether it is there or not; another error is raised."""
        self.committed(7)
        self.spool.remove(7)
        self.spool.remove(7)
        self.assertEqual(self.files(), [])
        self.patch(os, "unlink", failing(errno.EACCES))
        self.assertRaises(PermissionError, self.spool.remove, 7)

    def test_stored(self) -> None:
        """Only what is named by a task's id counts."""
        self.spool.commit([(self.staged(), n) for n in (1, 77, MAX_TASK_ID)])
        for name in ("0", str(MAX_TASK_ID + 1), "x", "-1", "1.jpg", "٣", "²"):
            (self.folder / name).write_bytes(b"")
        self.assertEqual(sorted(self.spool.stored()), [1, 77, MAX_TASK_ID])


class LostTests(SpoolCase):
    """Photos of unknown tasks."""

    def lost(self) -> list[str]:
        return sorted(os.listdir(self.folder.with_name("lost")))

    def test_set_aside(self) -> None:
        """A photo is moved beside the spool, into a folder for us alone, and its size is told."""
        self.addCleanup(os.umask, os.umask(0))
        self.committed(7, b"photo")
        self.assertEqual(self.spool.set_aside(7, 1.2), 5)
        self.assertEqual((self.files(), self.lost()), ([], ["7.2"]))
        self.assertEqual(stat.S_IMODE(self.folder.with_name("lost").stat().st_mode), 0o700)
        self.assertRaises(FileNotFoundError, self.spool.set_aside, 7, 1.2)

    def test_another_file_system(self) -> None:
        """Where the spool has a disk of its own, the photo is copied, and deleted once the copy is durable."""
        self.committed(7, b"photo")
        real = os.rename

        def rename(old: str, new: str) -> None:
            if os.path.dirname(old) != os.path.dirname(new):
                failing(errno.EXDEV)()
            real(old, new)

        self.patch(os, "rename", rename)
        self.record_syncs()
        real_unlink = os.unlink

        def unlink(path: str) -> None:
            self.synced.append("unlinked")
            real_unlink(path)

        self.patch(os, "unlink", unlink)
        self.spool.set_aside(7, 3.0)
        self.assertEqual((self.files(), self.lost()), ([], ["7.3"]))
        self.assertEqual((self.folder.with_name("lost") / "7.3").read_bytes(), b"photo")
        self.assertEqual(self.synced, ["../lost/7.3.part", "../lost", "unlinked"])

    def test_stays_if_it_cannot_be_moved(self) -> None:
        """Another error is raised, and the photo stays."""
        self.committed(7)
        self.patch(os, "rename", failing(errno.ENOSPC))
        self.assertRaises(OSError, self.spool.set_aside, 7, 3.0)
        self.assertEqual(self.files(), ["7"])

    def test_expire(self) -> None:
        """Those that were set aside by a time are deleted; what is named in another way stays."""
        self.assertEqual(self.spool.expire_lost(1e9), 0)
        for task_id in (1, 2, 3):
            self.committed(task_id)
            self.spool.set_aside(task_id, 10.0 * task_id)
        for name in ("note", "4", "5.x", "6.10.part"):
            (self.folder.with_name("lost") / name).write_bytes(b"")
        self.assertEqual(self.spool.expire_lost(19.9), 2)
        self.assertEqual(self.lost(), ["2.20", "3.30", "4", "5.x", "note"])


class OpenTests(SpoolCase):
    """A task's photo, to be read."""

    task = make_task(7, photo=Photo(b"", 5, "image/jpeg"))

    def missing(self) -> str:
        """Why the photo is missing; no descriptor stays open."""
        before = open_descriptors()
        error = self.assertRaises(PhotoMissing, self.spool.open, self.task)
        self.assertEqual(open_descriptors(), before)
        return str(error)

    def test_content(self) -> None:
        """It reads the photo, without a buffer."""
        self.committed(7, b"photo")
        with self.spool.open(self.task) as photo:
            self.assertEqual(photo.read(99), b"photo")
            self.assertFalse(hasattr(photo, "raw"))

    def test_not_there(self) -> None:
        """A photo that isn't there is missing."""
        self.assertEqual(self.missing(), "No such file or directory")

    def test_of_another_size(self) -> None:
        """So is one that is shorter or longer than it was."""
        self.committed(7, b"photo")
        for size in (0, 4, 6):
            os.truncate(self.spool.path(7), size)
            self.assertEqual(self.missing(), f"{size} bytes of 5")

    def test_unreadable(self) -> None:
        """So is one that can't be read."""
        for number in (errno.EIO, errno.EACCES):
            self.patch(builtins, "open", failing(number))
            self.assertEqual(self.missing(), os.strerror(number))

    def test_shortage(self) -> None:
        """Too many open files say nothing about the photo: the error is raised as it is."""
        self.committed(7, b"photo")
        for number in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
            self.patch(builtins, "open", failing(number))
            self.assertEqual(self.assertRaises(OSError, self.spool.open, self.task).errno, number)

    def test_of_its_own_task(self) -> None:
        """Each task has its own photo."""
        self.committed(7, b"photo")
        self.committed(8, b"other")
        with self.spool.open(replace(self.task, id=8)) as photo:
            self.assertEqual(photo.read(), b"other")


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

        def write(descriptor: int, data: Any) -> int:
            written.append(data)
            return real(descriptor, data)

        self.patch(os, "write", write)
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

    def test_path(self) -> None:
        """A photo is named by its task's id."""
        self.committed(7, b"photo")
        self.assertEqual(Path(self.spool.path(7)).read_bytes(), b"photo")

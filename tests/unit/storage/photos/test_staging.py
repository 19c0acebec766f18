"""A photo on its way in: where it lies while it is received, and what is left of it."""

import builtins
import errno
import hashlib
import os
import stat
from typing import Any

from merlind.storage.photos.staging import MAX_IN_MEMORY, NotWritten
from tests.unit.storage.photos.support import SpoolCase, open_descriptors
from tests.unit.support import failing, open_files, raising


class FileTests(SpoolCase):
    """A photo that is received into a file."""

    def test_pieces_become_one_file(self) -> None:
        """The file holds all pieces in order, and digest and size are those of the whole."""
        photo = self.spool.stage()
        for piece in (b"one", b"", b"two" * 1_000_000, b"\0"):
            photo.write(piece)
        photo.finish()
        content = b"one" + b"two" * 1_000_000 + b"\0"
        self.assertEqual((photo.size, photo.sha256()), (len(content), hashlib.sha256(content).digest()))
        self.assertEqual(self.content("incoming/1.part"), content)
        self.assertNotIn(str(self.folder / "incoming/1.part"), open_files())

    def test_photos_are_kept_apart(self) -> None:
        """Two that are received at once have files of their own."""
        self.staged(b"1")
        self.staged(b"2")
        self.assertEqual([self.content(name) for name in self.files()], [b"1", b"2"])

    def test_no_file_before_the_first_byte(self) -> None:
        """A photo of which nothing came makes no file."""
        photo = self.spool.stage()
        self.assertEqual(self.files(), [])
        photo.discard()
        self.assertEqual(self.files(), [])
        empty = self.spool.stage()
        empty.finish()
        self.assertEqual((empty.size, empty.sha256()), (0, hashlib.sha256().digest()))

    def test_hashed_when_asked_for(self) -> None:
        """Writing and finishing leave the file unread; it is read once, however often the digest is asked for."""
        real = builtins.open
        self.patch(builtins, "open", raising(AssertionError("read too early")))
        photo = self.staged(b"photo")
        self.patch(builtins, "open", real)
        digest = photo.sha256()
        self.patch(builtins, "open", raising(AssertionError("read again")))
        self.assertEqual((photo.sha256(), digest), (digest, hashlib.sha256(b"photo").digest()))

    def test_discard_leaves_nothing(self) -> None:
        """Neither a file nor a descriptor remains, and it may be repeated."""
        photo = self.spool.stage()
        photo.write(b"half")
        path = str(self.folder / self.files()[0])
        self.assertIn(path, open_files())
        photo.discard()
        photo.discard()
        self.assertEqual(self.files(), [])
        self.assertNotIn(path, open_files())

    def test_discard_of_what_is_gone(self) -> None:
        """It does not matter who removed the file."""
        photo = self.spool.stage()
        photo.write(b"half")
        (self.folder / self.files()[0]).unlink()
        photo.discard()

    def test_discard_of_what_is_whole(self) -> None:
        """A finished photo can be discarded, too."""
        self.staged().discard()
        self.assertEqual(self.files(), [])

    def test_discard_after_commit(self) -> None:
        """A committed photo stays."""
        photo = self.staged()
        photo.commit_to(self.spool.path(7))
        photo.discard()
        self.assertEqual(self.files(), ["7"])

    def test_short_writes(self) -> None:
        """The kernel may take less than it is given."""
        real, sizes = os.write, []

        def write(descriptor: int, data: Any) -> int:
            sizes.append(len(data))
            return real(descriptor, data[:3])

        self.patch(os, "write", write)
        self.staged(b"12345678")
        self.assertEqual(self.content("incoming/1.part"), b"12345678")
        self.assertEqual(sizes, [8, 5, 2])

    def test_full_disk(self) -> None:
        """A full disk raises at the first byte or later, and the photo can be discarded."""
        for real in (os.open, os.write):
            photo = self.spool.stage()
            if real is os.write:
                photo.write(b"a")
            self.patch(os, real.__name__, failing(errno.ENOSPC))
            self.assertEqual(self.assertRaises(OSError, photo.write, b"b").errno, errno.ENOSPC)
            self.patch(os, real.__name__, real)
            photo.discard()
            self.assertEqual(self.files(), [])

    def test_never_over_another_file(self) -> None:
        """A file that is there already is not written to."""
        (self.folder / "incoming" / "1.part").write_bytes(b"other")
        self.assertRaises(FileExistsError, self.spool.stage().write, b"b")
        self.assertEqual(self.content("incoming/1.part"), b"other")

    def test_close_that_fails(self) -> None:
        """It raises, and closes no descriptor twice."""
        photo = self.spool.stage()
        photo.write(b"a")
        real, closed = os.close, []

        def close(descriptor: int) -> None:
            closed.append(descriptor)
            real(descriptor)
            raise OSError(errno.EIO, "Input/output error")

        self.patch(os, "close", close)
        self.assertRaises(OSError, photo.finish)
        photo.discard()
        self.assertEqual((len(closed), self.files()), (1, []))


class MemoryTests(SpoolCase):
    """A small photo stays in memory until it is committed."""

    def test_no_file_before_the_commit(self) -> None:
        """Its first file is the one in its place, with all of its pieces, for us alone."""
        photo = self.staged(b"one", b"", b"two", in_memory=True)
        self.assertEqual((photo.size, photo.sha256()), (6, hashlib.sha256(b"onetwo").digest()))
        self.assertEqual(self.files(), [])
        self.spool.commit([(photo, 7)])
        self.assertEqual((self.files(), self.content(7)), (["7"], b"onetwo"))
        self.assertEqual(stat.S_IMODE(os.stat(self.spool.path(7)).st_mode), 0o600)

    def test_discard_leaves_nothing(self) -> None:
        """Neither a half one nor a whole one leaves a trace; a committed one stays."""
        photo = self.spool.stage(in_memory=True)
        photo.write(b"half")
        photo.discard()
        self.staged(b"whole", in_memory=True).discard()
        self.assertEqual(self.files(), [])
        committed = self.staged(b"whole", in_memory=True)
        committed.commit_to(self.spool.path(7))
        committed.discard()
        self.assertEqual(self.files(), ["7"])

    def test_replaces_as_a_whole(self) -> None:
        """Where a file is in its place already, there is no moment with a half of one."""
        seen = []
        real = os.write

        def write(descriptor: int, data: bytes) -> int:
            seen.append(self.content(7))
            return real(descriptor, data)

        self.committed(7, b"before", in_memory=True)
        self.patch(os, "write", write)
        self.committed(7, b"after", in_memory=True)
        self.assertEqual(seen, [b"before"])
        self.assertEqual((self.files(), self.content(7)), (["7"], b"after"))

    def test_short_writes(self) -> None:
        """The kernel may take less than it is given."""
        real = os.write
        self.patch(os, "write", lambda descriptor, data: real(descriptor, data[:3]))
        self.committed(7, b"1234", b"5678", in_memory=True)
        self.assertEqual(self.content(7), b"12345678")

    def test_not_written(self) -> None:
        """An error of writing says that no flush failed, and leaves no descriptor open."""
        before = open_descriptors()
        for name in ("open", "write"):
            patch = self.patch(os, name, failing(errno.EIO))
            error = self.assertRaises(NotWritten, self.staged(b"x", in_memory=True).commit_to, self.spool.path(8))
            self.assertEqual((error.errno, error.strerror), (errno.EIO, os.strerror(errno.EIO)))
            patch.restore()
        self.assertEqual(open_descriptors(), before)

    def test_not_written_in_a_taken_place(self) -> None:
        """So does an error of writing beside a photo that is there, which stays."""
        self.committed(7, b"before")
        photo = self.staged(b"x", in_memory=True)
        patch = self.patch(os, "write", failing(errno.ENOSPC))
        self.assertRaises(NotWritten, photo.commit_to, self.spool.path(7))
        patch.restore()
        photo.discard()
        self.assertEqual((self.files(), self.content(7)), (["7"], b"before"))

    def test_half_replaced(self) -> None:
        """What was written beside its place, and never got there, is discarded with it."""
        self.committed(7, b"before", in_memory=True)
        photo = self.staged(b"after", in_memory=True)
        self.patch(os, "rename", failing(errno.ENOSPC))
        self.assertRaises(OSError, photo.commit_to, self.spool.path(7))
        self.assertEqual(len(self.files()), 2)
        photo.discard()
        self.assertEqual((self.files(), self.content(7)), (["7"], b"before"))


class RollOverTests(SpoolCase):
    """A photo that becomes too large for memory."""

    def test_up_to_the_limit_in_memory(self) -> None:
        """Not a byte less than the limit is kept in memory, and not a byte more."""
        photo = self.spool.stage(in_memory=True)
        photo.write(b"a" * (MAX_IN_MEMORY - 1))
        photo.write(b"b")
        self.assertEqual(self.files(), [])
        photo.write(b"c")
        self.assertEqual(self.files(), ["incoming/1.part"])
        photo.write(b"d")
        photo.finish()
        content = b"a" * (MAX_IN_MEMORY - 1) + b"bcd"
        self.assertEqual((photo.size, photo.sha256()), (len(content), hashlib.sha256(content).digest()))
        self.spool.commit([(photo, 7)])
        self.assertEqual((self.files(), self.content(7)), (["7"], content))

    def test_large_from_the_start(self) -> None:
        """One large piece goes to the file at once."""
        photo = self.staged(b"x" * (MAX_IN_MEMORY + 1), in_memory=True)
        self.assertEqual(len(self.content("incoming/1.part")), photo.size)

    def test_discard_leaves_nothing(self) -> None:
        """Its file goes with it."""
        photo = self.spool.stage(in_memory=True)
        photo.write(b"x" * MAX_IN_MEMORY)
        photo.write(b"y")
        photo.discard()
        self.assertEqual(self.files(), [])

    def test_full_disk(self) -> None:
        """A disk that takes no file, or only a part of it, raises; then it can be discarded."""
        for real in (os.open, os.write):
            before = open_descriptors()
            photo = self.spool.stage(in_memory=True)
            photo.write(b"x" * MAX_IN_MEMORY)
            self.patch(os, real.__name__, failing(errno.ENOSPC))
            self.assertEqual(self.assertRaises(OSError, photo.write, b"y").errno, errno.ENOSPC)
            self.patch(os, real.__name__, real)
            photo.discard()
            self.assertEqual((self.files(), open_descriptors()), ([], before))

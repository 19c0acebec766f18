"""Taking photos in: reservations, limits, submissions, and the counts they change."""

import errno
import os
from typing import Any

from merlind.core.interfaces import StoreBroken, StoreUnavailable
from merlind.core.outcome import Pending, Rejected, Scored
from merlind.core.task import State
from merlind.tasks import intake as intake_module
from merlind.tasks.intake import SMALL_UPLOAD, Limits
from tests.unit.support import JPEG, fail_on, sqlite_error
from tests.unit.tasks.support import MB, NO, TasksCase


class UploadTests(TasksCase):
    """Room for photos."""

    def test_room(self) -> None:
        """An upload has a staging, and counts until it is closed, once."""
        upload = self.core.intake.reserve(MB)
        upload.photo.write(JPEG)
        self.assertEqual(upload.photo.size, len(JPEG))
        self.assertEqual((self.core.intake.active_uploads, self.core.intake.active_bytes), (1, MB))
        upload.close()
        upload.close()
        self.assertEqual((self.core.intake.active_uploads, self.core.intake.active_bytes), (0, 0))

    def test_most_uploads(self) -> None:
        """So many at once, and no more until one is closed."""
        self.make(Limits(10, 0, 2, 100 * MB))
        uploads = [self.core.intake.reserve(MB) for _ in range(2)]
        self.assertEqual(self.full(), "there are too many uploads at once")
        uploads[0].close()
        self.core.intake.reserve(MB)

    def test_most_bytes(self) -> None:
        """So many bytes at once."""
        self.make(Limits(10, 0, 10, 3 * MB))
        uploads = [self.core.intake.reserve(MB) for _ in range(2)]
        self.assertEqual(self.full(MB + 1), "there are too many uploads at once")
        self.core.intake.reserve(MB)
        self.assertEqual(self.full(1), "there are too many uploads at once")
        uploads[0].close()
        self.core.intake.reserve(MB)

    def test_most_tasks(self) -> None:
        """So many unfinished tasks, those being accepted among them; finished ones don't count."""
        self.make(Limits(2, 0, 10, 100 * MB))
        self.finished(photo=b"over")
        self.core.submit(photo=b"a")
        self.core.intake.reserve(MB).close()
        d = self.core.submitting(self.core.submission(photo=b"b"))
        self.assertEqual(self.full(), "there are too many unfinished tasks")
        self.core.now(d)
        self.assertEqual(self.full(), "there are too many unfinished tasks")
        self.upstream.exchanges[0].answer(Scored(0.5))
        self.core.settle()
        self.core.intake.reserve(MB)

    def test_accepting_ends(self) -> None:
        """What could not be accepted counts no longer."""
        self.make(Limits(1, 0, 10, 100 * MB))
        self.core.watch.fault = fail_on("BEGIN", sqlite_error("SQLITE_FULL"))
        d = self.core.submitting(self.core.submission())
        self.core.settle()
        self.failureResultOf(d, StoreUnavailable)
        self.core.intake.reserve(MB)

    def test_small_ones(self) -> None:
        """Small ones are staged in memory, as long as they are not too much together with those being accepted."""
        self.patch(intake_module, "MAX_SMALL_BYTES", 2 * SMALL_UPLOAD)

        accepting = self.core.submitting(self.core.submission(photo=b"x" * SMALL_UPLOAD))
        in_memory: list[bool] = []
        self.patch(self.core.spool, "stage", in_memory.append)
        uploads = [self.core.intake.reserve(size) for size in (SMALL_UPLOAD, 1)]
        self.core.now(accepting)
        uploads[1].close()
        uploads.append(self.core.intake.reserve(1))
        uploads[0].close()
        uploads.append(self.core.intake.reserve(SMALL_UPLOAD + 1))
        self.assertEqual(in_memory, [True, False, True, False])

    def test_disk(self) -> None:
        """The room to leave on the disk is left, with all uploads in hand at their largest."""
        free = 10 * MB
        self.patch(os, "statvfs", lambda path: os.statvfs_result((1, 1, 0, 0, free, 0, 0, 0, 0, 0)))
        self.make(Limits(10, 5 * MB, 10, 100 * MB))
        uploads = [self.core.intake.reserve(2 * MB) for _ in range(2)]
        self.core.intake.reserve(MB).close()
        self.assertEqual(self.full(MB + 1), "the disk is almost full")
        uploads[0].close()
        self.core.intake.reserve(MB + 1)

    def test_disk_and_what_is_accepted(self) -> None:
        """What is being accepted may not be on the disk yet."""
        self.patch(os, "statvfs", lambda path: os.statvfs_result((1, 1, 0, 0, 10 * MB, 0, 0, 0, 0, 0)))
        self.make(Limits(10, 5 * MB, 10, 100 * MB))
        accepting = self.core.submitting(self.core.submission(photo=b"x" * MB))
        self.assertEqual(self.full(4 * MB + 1), "the disk is almost full")
        self.core.now(accepting)
        self.core.intake.reserve(4 * MB + 1)

    def test_disk_unusable(self) -> None:
        """A disk that can't be asked is full."""

        def fail(path: str) -> Any:
            raise OSError(errno.EIO, "Input/output error")

        self.patch(os, "statvfs", fail)
        self.assertEqual(self.full(), "the disk can't be used")
        self.assertEqual(self.core.intake.active_uploads, 0)

    def test_draining(self) -> None:
        """At the end nothing new is taken."""
        self.core.intake.draining = True
        self.assertEqual(self.full(), "the server is stopping")

    def test_broken(self) -> None:
        """Nor with a disk that can't be trusted."""
        self.core.watch.fault = fail_on("COMMIT", sqlite_error("SQLITE_IOERR_FSYNC"))
        d = self.core.submitting(self.core.submission())
        self.core.settle()
        self.failureResultOf(d, StoreBroken)
        self.assertEqual(self.full(), "the server can't keep tasks any more")


class CountTests(TasksCase):
    """The counts."""

    def test_course(self) -> None:
        """They follow each task, and the bytes of the photos in place."""
        seen = []
        self.core.submit(photo=b"abc")
        seen.append((self.counts(), self.core.counts.photo_bytes, self.core.counts.unfinished))
        self.core.submit(photo=b"abc")
        for outcome in (Pending("a"), Rejected(NO)):
            self.upstream.one.answer(outcome)
            self.core.settle()
            seen.append((self.counts(), self.core.counts.photo_bytes, self.core.counts.unfinished))
            self.core.reactor.run_for(2)
        self.core.submit(photo=b"abc")
        seen.append((self.counts(), self.core.counts.photo_bytes, self.core.counts.unfinished))
        self.assertEqual(
            seen, [({"upload": 1}, 3, 1), ({"poll": 1}, 3, 1), ({"failed": 1}, 0, 0), ({"upload": 1}, 3, 1)]
        )

    def test_start(self) -> None:
        """At the start they are read from the store."""
        self.finished(photo=b"a")
        self.core.submit(photo=b"bcd")
        self.core.restart()
        self.core.start()
        self.core.settle()
        self.assertEqual((self.counts(), self.core.counts.photo_bytes), ({"upload": 1, "ready": 1}, 3))

    def test_start_fails(self) -> None:
        """If they can't be read, that is told, and the rest goes on."""
        self.core.submit()
        self.core.restart()
        self.core.watch.fault = fail_on("SELECT state, count", sqlite_error("SQLITE_BUSY"))
        self.core.start()
        self.core.settle()
        self.assertEqual([exchange.task.state for exchange in self.core.upstream.exchanges], [State.UPLOAD])

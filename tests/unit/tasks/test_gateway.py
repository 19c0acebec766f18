"""What merlind does for a client: room, submissions, how they stand, who waits for them."""

import errno
import os
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from merlind.core.interfaces import StoreBroken, StoreUnavailable
from merlind.core.outcome import Pending, Rejected, Scored, TaskError
from merlind.core.task import State, Task
from merlind.storage.photos.spool import StagingMemory
from merlind.tasks import gateway as gateway_module
from merlind.tasks.gateway import SMALL_UPLOAD, Limits, OverCapacity, Status
from tests.unit.support import JPEG, Core, fail_on, sqlite_error

NO = TaskError("upstream_422", "no face")
MB = 2**20


class GatewayCase(SynchronousTestCase):
    """A gateway over a real store and a played upstream."""

    def setUp(self) -> None:
        self.make()

    def make(self, limits: Limits | None = None) -> None:
        self.core = Core(self, limits=limits)
        self.gateway, self.upstream = self.core.gateway, self.core.upstream
        self.gateway.start()
        self.core.settle()

    def finished(self, outcome: Any = Scored(0.5), **submission: Any) -> Task:  # noqa: B008
        """A task that is over."""
        task = self.core.submit(**submission)
        self.upstream.exchanges[-1].answer(outcome)
        self.core.settle()
        return task

    def find(self, task_id: int) -> Status | None:
        status: Status | None = self.core.now(self.gateway.find(task_id))
        return status

    def full(self, size: int = MB) -> str:
        """Why there is no room."""
        return str(self.assertRaises(OverCapacity, self.gateway.open_upload, size))

    def counts(self) -> dict[str, int]:
        """The states that there are tasks in."""
        return {state: count for state, count in self.gateway.counts.items() if count}


class UploadTests(GatewayCase):
    """Room for photos."""

    def test_room(self) -> None:
        """An upload has a staging, and counts until it is closed, once."""
        upload = self.gateway.open_upload(MB)
        upload.staging.write(JPEG)
        self.assertEqual(upload.staging.finish().size, len(JPEG))
        self.assertEqual((self.gateway.uploads, self.gateway.upload_bytes), (1, MB))
        upload.close()
        upload.close()
        self.assertEqual((self.gateway.uploads, self.gateway.upload_bytes), (0, 0))

    def test_most_uploads(self) -> None:
        """So many at once, and no more until one is closed."""
        self.make(Limits(10, 0, 2, 100 * MB))
        uploads = [self.gateway.open_upload(MB) for _ in range(2)]
        self.assertEqual(self.full(), "there are too many uploads at once")
        uploads[0].close()
        self.gateway.open_upload(MB)

    def test_most_bytes(self) -> None:
        """So many bytes at once."""
        self.make(Limits(10, 0, 10, 3 * MB))
        uploads = [self.gateway.open_upload(MB) for _ in range(2)]
        self.assertEqual(self.full(MB + 1), "there are too many uploads at once")
        self.gateway.open_upload(MB)
        self.assertEqual(self.full(1), "there are too many uploads at once")
        uploads[0].close()
        self.gateway.open_upload(MB)

    def test_most_tasks(self) -> None:
        """So many unfinished tasks, those being accepted among them; finished ones don't count."""
        self.make(Limits(2, 0, 10, 100 * MB))
        self.finished(photo=b"over")
        self.core.submit(photo=b"a")
        self.gateway.open_upload(MB).close()
        d = self.gateway.submit(self.core.submission(photo=b"b"))
        self.assertEqual(self.full(), "there are too many unfinished tasks")
        self.core.now(d)
        self.assertEqual(self.full(), "there are too many unfinished tasks")
        self.upstream.exchanges[0].answer(Scored(0.5))
        self.core.settle()
        self.gateway.open_upload(MB)

    def test_accepting_ends(self) -> None:
        """What could not be accepted counts no longer."""
        self.make(Limits(1, 0, 10, 100 * MB))
        self.core.watch.fault = fail_on("BEGIN", sqlite_error("SQLITE_FULL"))
        d = self.gateway.submit(self.core.submission())
        self.core.settle()
        self.failureResultOf(d, StoreUnavailable)
        self.gateway.open_upload(MB)

    def test_small_ones(self) -> None:
        """Small ones are staged in memory, as long as they are not too much together with those being accepted."""
        self.patch(gateway_module, "MAX_SMALL_BYTES", 2 * SMALL_UPLOAD)

        accepting = self.gateway.submit(self.core.submission(photo=b"x" * SMALL_UPLOAD))
        uploads = [self.gateway.open_upload(size) for size in (SMALL_UPLOAD, 1)]
        self.core.now(accepting)
        uploads[1].close()
        uploads.append(self.gateway.open_upload(1))
        uploads[0].close()
        uploads.append(self.gateway.open_upload(SMALL_UPLOAD + 1))
        in_memory = [isinstance(upload.staging, StagingMemory) for upload in uploads]
        self.assertEqual(in_memory, [True, False, True, False])

    def test_disk(self) -> None:
        """The room to leave on the disk is left, with all uploads in hand at their largest."""
        free = 10 * MB
        self.patch(os, "statvfs", lambda path: os.statvfs_result((1, 1, 0, 0, free, 0, 0, 0, 0, 0)))
        self.make(Limits(10, 5 * MB, 10, 100 * MB))
        uploads = [self.gateway.open_upload(2 * MB) for _ in range(2)]
        self.gateway.open_upload(MB).close()
        self.assertEqual(self.full(MB + 1), "the disk is almost full")
        uploads[0].close()
        self.gateway.open_upload(MB + 1)

    def test_disk_and_what_is_accepted(self) -> None:
        """What is being accepted may not be on the disk yet."""
        self.patch(os, "statvfs", lambda path: os.statvfs_result((1, 1, 0, 0, 10 * MB, 0, 0, 0, 0, 0)))
        self.make(Limits(10, 5 * MB, 10, 100 * MB))
        accepting = self.gateway.submit(self.core.submission(photo=b"x" * MB))
        self.assertEqual(self.full(4 * MB + 1), "the disk is almost full")
        self.core.now(accepting)
        self.gateway.open_upload(4 * MB + 1)

    def test_disk_unusable(self) -> None:
        """A disk that can't be asked is full."""

        def fail(path: str) -> Any:
            raise OSError(errno.EIO, "Input/output error")

        self.patch(os, "statvfs", fail)
        self.assertEqual(self.full(), "the disk can't be used")
        self.assertEqual(self.gateway.uploads, 0)

    def test_draining(self) -> None:
        """At the end nothing new is taken."""
        self.gateway.draining = True
        self.assertEqual(self.full(), "the server is stopping")

    def test_broken(self) -> None:
        """Nor with a disk that can't be trusted."""
        self.core.watch.fault = fail_on("COMMIT", sqlite_error("SQLITE_IOERR_FSYNC"))
        d = self.gateway.submit(self.core.submission())
        self.core.settle()
        self.failureResultOf(d, StoreBroken)
        self.assertEqual(self.full(), "the server can't keep tasks any more")


class StatusTests(GatewayCase):
    """How tasks stand."""

    def test_course(self) -> None:
        """Unfinished, then its result; known from memory all the way."""
        task = self.core.submit(user="me")
        for outcome in (Pending("a"), Scored(0.5)):
            self.assertEqual(self.gateway.peek(task.id), Status("me"))
            self.assertFalse(self.find(task.id).finished)
            self.core.reactor.run_for(2)
            self.upstream.one.answer(outcome)
            self.core.settle()
        self.assertEqual(self.gateway.peek(task.id), Status("me", 0.5))
        self.assertTrue(self.find(task.id).finished)
        self.assertEqual(self.core.watch.count("SELECT id, user"), 2)  # the first page, and the accept

    def test_not_before_durable(self) -> None:
        """A result isn't shown before it is committed."""
        task = self.core.submit()
        self.upstream.one.answer(Scored(0.5))
        self.assertEqual(self.gateway.peek(task.id), Status(""))

    def test_failed(self) -> None:
        """With its error."""
        task = self.finished(Rejected(NO))
        self.assertEqual(self.find(task.id), Status("", error=NO))
        self.assertTrue(self.find(task.id).finished)

    def test_unknown(self) -> None:
        """None."""
        self.assertIsNone(self.gateway.peek(5))
        self.assertIsNone(self.find(5))

    def test_from_the_store(self) -> None:
        """After a restart the store is asked, once for what is over."""
        over, unfinished = self.finished(photo=b"a"), self.core.submit(photo=b"b")
        self.core.restart()
        self.gateway = self.core.gateway
        for _ in range(3):
            self.assertEqual(self.find(over.id), Status("", 0.5))
        self.assertEqual(self.core.watch.count("SELECT id, user"), 1)
        self.assertEqual(self.find(unfinished.id), Status(""))
        self.assertIsNone(self.gateway.peek(unfinished.id))
        self.assertEqual(self.find(unfinished.id), Status(""))

    def test_remembers_so_many(self) -> None:
        """The oldest are looked up again."""
        self.patch(gateway_module, "REMEMBERED", 2)
        tasks = [self.finished(photo=b"%d" % n) for n in range(3)]
        self.assertEqual([self.gateway.peek(task.id) for task in tasks], [None, Status("", 0.5), Status("", 0.5)])
        self.assertEqual(self.find(tasks[0].id), Status("", 0.5))
        self.assertIsNone(self.gateway.peek(tasks[1].id))

    def test_tried_again(self) -> None:
        """A failed one that is sent again is unfinished, whatever was remembered."""
        task = self.finished(Rejected(NO))
        self.assertEqual(self.core.submit().id, task.id)
        self.assertEqual(self.gateway.peek(task.id), Status(""))

    def test_store_trouble(self) -> None:
        """When the store can't tell, that is told."""
        self.core.watch.fault = fail_on("SELECT", sqlite_error("SQLITE_BUSY"))
        d = self.gateway.find(1)
        self.core.settle()
        self.failureResultOf(d, StoreUnavailable)


class WatchTests(GatewayCase):
    """Clients that wait."""

    def setUp(self) -> None:
        super().setUp()
        self.woken: list[str] = []
        self.one, self.other = (lambda name=name: self.woken.append(name) for name in ("one", "other"))

    def watched(self) -> Task:
        """A task that two wait for."""
        task = self.core.submit()
        self.gateway.watch(task.id, self.one)
        self.gateway.watch(task.id, self.other)
        self.assertEqual(self.gateway.held, 2)
        return task

    def test_over(self) -> None:
        """All are woken once when it is over, and its result is there; not when it only goes on."""
        task = self.watched()
        self.upstream.one.answer(Pending("a"))
        self.core.reactor.run_for(2)
        self.assertEqual(self.woken, [])
        self.gateway.watch(task.id, lambda: self.woken.append(str(self.gateway.peek(task.id).result)))
        self.upstream.one.answer(Scored(0.5))
        self.core.settle()
        self.assertEqual(sorted(self.woken), ["0.5", "one", "other"])
        self.assertEqual(self.gateway.held, 0)
        self.gateway.release()
        self.assertEqual(len(self.woken), 3)

    def test_unwatch(self) -> None:
        """Who went away is not woken, and may go twice."""
        task = self.watched()
        for _ in range(2):
            self.gateway.unwatch(task.id, self.one)
            self.assertEqual(self.gateway.held, 1)
        self.upstream.one.answer(Scored(0.5))
        self.core.settle()
        self.assertEqual((self.woken, self.gateway.held), (["other"], 0))
        self.gateway.unwatch(task.id, self.other)
        self.assertEqual(self.gateway.held, 0)

    def test_last_one_gone(self) -> None:
        """When the last one is gone nothing of them remains."""
        task = self.watched()
        self.gateway.unwatch(task.id, self.one)
        self.gateway.unwatch(task.id, self.other)
        self.assertEqual((self.gateway.held, self.gateway._watchers), (0, {}))

    def test_unwatch_while_woken(self) -> None:
        """Who wakes may let another one go."""
        task = self.core.submit()

        def wake() -> None:
            self.woken.append("wake")
            self.gateway.unwatch(task.id, self.one)

        self.gateway.watch(task.id, wake)
        self.gateway.watch(task.id, self.one)
        self.upstream.one.answer(Scored(0.5))
        self.core.settle()
        self.assertIn("wake", self.woken)
        self.assertEqual(self.gateway.held, 0)

    def test_erased(self) -> None:
        """An erased task wakes them as well."""
        task = self.watched()
        self.core.now(self.gateway.erase("", task.id))
        self.assertEqual((sorted(self.woken), self.gateway.held), (["one", "other"], 0))

    def test_release(self) -> None:
        """At the end all are let go of."""
        self.watched()
        another = self.core.submit(photo=b"another")
        self.gateway.watch(another.id, lambda: self.woken.append("another"))
        self.gateway.release()
        self.assertEqual(sorted(self.woken), ["another", "one", "other"])
        self.assertEqual(self.gateway.held, 0)


class EraseTests(GatewayCase):
    """What is taken back, and what is forgotten."""

    def test_unfinished(self) -> None:
        """Cancelled, and erased: photo, name, and row; the counts follow."""
        task = self.core.submit(user="me")
        exchange = self.upstream.one
        self.assertTrue(self.core.now(self.gateway.erase("me", task.id)))
        self.assertTrue(exchange.cancelled)
        self.assertIsNone(self.find(task.id))
        self.assertEqual((self.core.files(), self.counts(), self.gateway.photo_bytes), ([], {}, 0))
        self.assertFalse(self.core.now(self.gateway.erase("me", task.id)))

    def test_over(self) -> None:
        """So is one that is over."""
        task = self.finished()
        self.assertTrue(self.core.now(self.gateway.erase("", task.id)))
        self.assertIsNone(self.gateway.peek(task.id))
        self.assertIsNone(self.find(task.id))
        self.assertEqual(self.counts(), {})

    def test_somebody_elses(self) -> None:
        """Another user's is not there to be erased."""
        task = self.core.submit(user="me")
        self.assertFalse(self.core.now(self.gateway.erase("you", task.id)))
        self.assertEqual(self.find(task.id), Status("me"))
        self.assertFalse(self.upstream.one.cancelled)
        self.assertEqual(self.counts(), {"upload": 1})

    def test_not_saved_yet(self) -> None:
        """One whose state isn't saved yet is taken out of the count that it is in."""
        task = self.core.submit()
        d = self.gateway.erase("", task.id)
        self.upstream.one.answer(Pending("a"))
        self.assertEqual(self.counts(), {"poll": 1})
        self.assertTrue(self.core.now(d))
        self.assertEqual(self.counts(), {})

    def test_expire(self) -> None:
        """What was over before a time is forgotten, in memory too, and counted out."""
        tasks = [self.finished(photo=b"%d" % n) for n in range(3)]
        wall = self.core.clock.wall()
        self.assertEqual(self.core.now(self.gateway.expire(wall - 1, 9)), 0)
        self.assertEqual(self.core.now(self.gateway.expire(wall, 2)), 2)
        self.assertEqual([self.find(task.id) is None for task in tasks], [True, True, False])
        self.assertEqual(self.counts(), {"ready": 1})


class CountTests(GatewayCase):
    """The counts."""

    def test_course(self) -> None:
        """They follow each task, and the bytes of the photos in place."""
        seen = []
        self.core.submit(photo=b"abc")
        seen.append((self.counts(), self.gateway.photo_bytes, self.gateway.pending))
        self.core.submit(photo=b"abc")
        for outcome in (Pending("a"), Rejected(NO)):
            self.upstream.one.answer(outcome)
            self.core.settle()
            seen.append((self.counts(), self.gateway.photo_bytes, self.gateway.pending))
            self.core.reactor.run_for(2)
        self.core.submit(photo=b"abc")
        seen.append((self.counts(), self.gateway.photo_bytes, self.gateway.pending))
        self.assertEqual(
            seen, [({"upload": 1}, 3, 1), ({"poll": 1}, 3, 1), ({"failed": 1}, 0, 0), ({"upload": 1}, 3, 1)]
        )

    def test_start(self) -> None:
        """At the start they are read from the store."""
        self.finished(photo=b"a")
        self.core.submit(photo=b"bcd")
        self.core.restart()
        self.core.gateway.start()
        self.core.settle()
        self.gateway = self.core.gateway
        self.assertEqual((self.counts(), self.gateway.photo_bytes), ({"upload": 1, "ready": 1}, 3))

    def test_start_fails(self) -> None:
        """If they can't be read, that is told, and the rest goes on."""
        self.core.submit()
        self.core.restart()
        self.core.watch.fault = fail_on("SELECT state, count", sqlite_error("SQLITE_BUSY"))
        self.core.gateway.start()
        self.core.settle()
        self.assertEqual([exchange.task.state for exchange in self.core.upstream.exchanges], [State.UPLOAD])

"""Accepting photos: reservations, limits, submissions and task counts."""

import errno
import os
from typing import Any

from merlind.core.clients import NO_ADDRESS
from merlind.core.interfaces import StoreBroken, StoreUnavailable
from merlind.core.outcome import Pending, Rejected, Scored
from merlind.core.task import State
from merlind.tasks import intake as intake_module
from merlind.tasks.intake import SMALL_UPLOAD, Limits
from merlind.tasks.refusals import ClientOverLimit
from tests.unit.support import CLIENT, JPEG, fail_on, sqlite_error
from tests.unit.tasks.support import MB, NO, TasksCase

OTHER = "198.51.100.2"
"""Another client."""


class ReservationTests(TasksCase):
    """Reservations for uploads, and the limits that they count against."""

    def test_reservation_counts_until_closed(self) -> None:
        """A reservation has a staged photo, and counts until it is closed; closing it twice does no harm."""
        reservation = self.core.intake.reserve(MB, CLIENT)
        reservation.photo.write(JPEG)
        self.assertEqual(reservation.photo.size, len(JPEG))
        self.assertEqual((self.core.intake.active_uploads, self.core.intake.active_bytes), (1, MB))
        reservation.close()
        reservation.close()
        self.assertEqual((self.core.intake.active_uploads, self.core.intake.active_bytes), (0, 0))

    def test_most_uploads(self) -> None:
        """At the most uploads, no reservation is made until one is closed."""
        self.make(Limits(10, 0, 2, 100 * MB))
        reservations = [self.core.intake.reserve(MB, CLIENT) for _ in range(2)]
        self.assertEqual(self.over_capacity(), "there are too many uploads at once")
        reservations[0].close()
        self.core.intake.reserve(MB, CLIENT)

    def test_most_bytes(self) -> None:
        """At the most bytes, no reservation is made until one is closed."""
        self.make(Limits(10, 0, 10, 3 * MB))
        reservations = [self.core.intake.reserve(MB, CLIENT) for _ in range(2)]
        self.assertEqual(self.over_capacity(MB + 1), "there are too many uploads at once")
        self.core.intake.reserve(MB, CLIENT)
        self.assertEqual(self.over_capacity(1), "there are too many uploads at once")
        reservations[0].close()
        self.core.intake.reserve(MB, CLIENT)

    def test_most_tasks(self) -> None:
        """Unfinished tasks and those being accepted count against the limit of tasks, finished ones don't."""
        self.make(Limits(2, 0, 10, 100 * MB))
        self.finished(photo=b"finished")
        self.core.submit(photo=b"a")
        self.core.intake.reserve(MB, CLIENT).close()
        d = self.core.submitting(self.core.submission(photo=b"b"))
        self.assertEqual(self.over_capacity(), "there are too many unfinished tasks")
        self.core.now(d)
        self.assertEqual(self.over_capacity(), "there are too many unfinished tasks")
        self.upstream.requests[0].respond(Scored(0.5))
        self.core.settle()
        self.core.intake.reserve(MB, CLIENT)

    def test_failed_submission_counts_no_longer(self) -> None:
        """A submission that failed counts no longer."""
        self.make(Limits(1, 0, 10, 100 * MB))
        self.core.watch.fault = fail_on("BEGIN", sqlite_error("SQLITE_FULL"))
        d = self.core.submitting(self.core.submission())
        self.core.settle()
        self.failureResultOf(d, StoreUnavailable)
        self.core.intake.reserve(MB, CLIENT)

    def test_small_photos_in_memory(self) -> None:
        """Small photos are staged in memory, while they and those being accepted fit the limit for it."""
        self.patch(intake_module, "MAX_SMALL_BYTES", 2 * SMALL_UPLOAD)

        accepting = self.core.submitting(self.core.submission(photo=b"x" * SMALL_UPLOAD))
        in_memory: list[bool] = []
        self.patch(self.core.spool, "stage", in_memory.append)
        reservations = [self.core.intake.reserve(size, CLIENT) for size in (SMALL_UPLOAD, 1)]
        self.core.now(accepting)
        reservations[1].close()
        reservations.append(self.core.intake.reserve(1, CLIENT))
        reservations[0].close()
        reservations.append(self.core.intake.reserve(SMALL_UPLOAD + 1, CLIENT))
        self.assertEqual(in_memory, [True, False, True, False])

    def test_disk_reserve(self) -> None:
        """The disk space to leave free stays free, even if every active upload is as large as reserved."""
        free = 10 * MB
        self.patch(os, "statvfs", lambda path: os.statvfs_result((1, 1, 0, 0, free, 0, 0, 0, 0, 0)))
        self.make(Limits(10, 5 * MB, 10, 100 * MB))
        reservations = [self.core.intake.reserve(2 * MB, CLIENT) for _ in range(2)]
        self.core.intake.reserve(MB, CLIENT).close()
        self.assertEqual(self.over_capacity(MB + 1), "the disk is almost full")
        reservations[0].close()
        self.core.intake.reserve(MB + 1, CLIENT)

    def test_disk_reserve_and_submissions(self) -> None:
        """A photo being accepted counts against the free space, since it may not be on the disk yet."""
        self.patch(os, "statvfs", lambda path: os.statvfs_result((1, 1, 0, 0, 10 * MB, 0, 0, 0, 0, 0)))
        self.make(Limits(10, 5 * MB, 10, 100 * MB))
        accepting = self.core.submitting(self.core.submission(photo=b"x" * MB))
        self.assertEqual(self.over_capacity(4 * MB + 1), "the disk is almost full")
        self.core.now(accepting)
        self.core.intake.reserve(4 * MB + 1, CLIENT)

    def test_disk_unusable(self) -> None:
        """While the free space can't be read, no reservation is made."""

        def fail(path: str) -> Any:
            raise OSError(errno.EIO, "Input/output error")

        self.patch(os, "statvfs", fail)
        self.assertEqual(self.over_capacity(), "the disk can't be used")
        self.assertEqual(self.core.intake.active_uploads, 0)

    def test_draining(self) -> None:
        """While merlind stops, no reservation is made."""
        self.core.intake.draining = True
        self.assertEqual(self.over_capacity(), "the server is stopping")

    def test_broken(self) -> None:
        """With a broken store, no reservation is made."""
        self.core.watch.fault = fail_on("COMMIT", sqlite_error("SQLITE_IOERR_FSYNC"))
        d = self.core.submitting(self.core.submission())
        self.core.settle()
        self.failureResultOf(d, StoreBroken)
        self.assertEqual(self.over_capacity(), "the server can't keep tasks any more")


class ClientLimitTests(TasksCase):
    """The limits by client, beside which other clients are served (A7)."""

    def refusal(self, client: str) -> ClientOverLimit:
        """With what a client's reservation is refused."""
        return self.assertRaises(ClientOverLimit, self.core.intake.reserve, MB, client)

    def test_uploads(self) -> None:
        """A client with the most uploads gets no further one until one is closed; others do."""
        self.make(Limits(10, 0, 10, 100 * MB, max_uploads_per_client=2))
        reservations = [self.core.intake.reserve(MB, CLIENT) for _ in range(2)]
        refusal = self.refusal(CLIENT)
        self.assertEqual(str(refusal), "this client has as many active uploads as one may have, 2")
        self.assertEqual((refusal.limit, self.core.refused), ("uploads", [("uploads", "client")]))
        self.core.intake.reserve(MB, OTHER)
        for _ in range(2):
            reservations[0].close()
        self.core.intake.reserve(MB, CLIENT)
        self.refusal(CLIENT)

    def test_all_behind_a_silent_proxy(self) -> None:
        """If the client is this machine itself, the message says that a proxy there may be the reason."""
        self.make(Limits(10, 0, 10, 100 * MB, max_uploads_per_client=1))
        for client in ("127.0.0.1", "::1", NO_ADDRESS):
            self.core.intake.reserve(MB, client)
            self.assertTrue(str(self.refusal(client)).endswith("count as one unless it sends X-Forwarded-For)"))

    def test_tasks(self) -> None:
        """Unfinished tasks and those being accepted count for their client, until they are finished or erased."""
        self.make(max_pending_per_client=2)
        first = self.core.submit(photo=b"a")
        accepting = self.core.submitting(self.core.submission(photo=b"b"))
        self.assertEqual(str(self.refusal(CLIENT)), "this client has as many unfinished tasks as one may have, 2")
        self.assertEqual(self.core.refused, [("tasks", "client")])
        second = self.core.now(accepting)
        self.refusal(CLIENT)
        self.core.submit(photo=b"c", client=OTHER)
        self.upstream.requests[0].respond(Pending("a"))
        self.core.settle()
        self.refusal(CLIENT)
        self.core.now(self.core.erasing(first.id))
        self.core.intake.reserve(MB, CLIENT).close()
        first = self.core.submit(photo=b"a")
        self.refusal(CLIENT)
        (request,) = (request for request in self.upstream.requests if request.task.id == second.id)
        request.respond(Scored(0.5))
        self.core.settle()
        self.core.intake.reserve(MB, CLIENT)

    def test_joining_adds_nothing(self) -> None:
        """An equal submission adds nothing to what its client has: the task is the first one's."""
        self.make(max_pending_per_client=2)
        self.core.submit()
        for client in (CLIENT, CLIENT, OTHER):
            self.core.submit(client=client)
        self.core.submit(photo=b"b", client=OTHER)
        for client in (CLIENT, OTHER):
            self.core.intake.reserve(MB, client)
        self.assertEqual(self.core.counts.by_client.clients, 2)

    def test_failed_task_sent_again(self) -> None:
        """A failed task that is sent again counts for who sent it again."""
        self.make(max_pending_per_client=1)
        self.finished(Rejected(NO))
        self.core.submit(client=OTHER)
        self.core.intake.reserve(MB, CLIENT)
        self.refusal(OTHER)

    def test_failed_submission(self) -> None:
        """A submission that could not be stored counts no longer."""
        self.make(max_pending_per_client=1)
        self.core.watch.fault = fail_on("BEGIN", sqlite_error("SQLITE_FULL"))
        d = self.core.submitting(self.core.submission())
        self.core.settle()
        self.failureResultOf(d, StoreUnavailable)
        self.core.intake.reserve(MB, CLIENT)

    def test_after_a_start(self) -> None:
        """Tasks from before a start count for nobody."""
        self.make(max_pending_per_client=1)
        self.core.submit()
        self.core.restart()
        self.core.start()
        self.core.settle()
        self.core.intake.reserve(MB, CLIENT)
        self.core.upstream.one.respond(Scored(0.5))
        self.core.settle()

    def test_nothing_is_kept(self) -> None:
        """Of a client that has nothing, nothing is kept."""
        self.make(Limits(10, 0, 10, 100 * MB, max_uploads_per_client=2), max_pending_per_client=2)
        for n in range(20):
            self.core.intake.reserve(MB, f"192.0.2.{n}").close()
            task = self.core.submit(client=f"192.0.2.{n}")
            if n % 2:
                self.upstream.one.respond(Rejected(NO))
            else:
                self.core.now(self.core.erasing(task.id))
            self.core.settle()
        counts, uploads = self.core.counts, self.core.intake._uploads_by_client
        self.assertEqual((counts.by_client.clients, counts._clients, uploads.clients), (0, {}, 0))

    def test_server_refusals_are_counted(self) -> None:
        """What the server is too full for is counted too, as its own."""
        self.make(Limits(10, 0, 1, 100 * MB))
        self.core.intake.reserve(MB, CLIENT)
        self.over_capacity()
        self.core.intake.draining = True
        self.over_capacity()
        self.assertEqual(self.core.refused, [("uploads", "server"), ("stopping", "server")])


class CountTests(TasksCase):
    """The task counts."""

    def test_counts_follow_a_task(self) -> None:
        """The counts follow each transition, and include the bytes of committed photos."""
        seen = []
        self.core.submit(photo=b"abc")
        seen.append((self.counts(), self.core.counts.photo_bytes, self.core.counts.unfinished))
        self.core.submit(photo=b"abc")
        for outcome in (Pending("a"), Rejected(NO)):
            self.upstream.one.respond(outcome)
            self.core.settle()
            seen.append((self.counts(), self.core.counts.photo_bytes, self.core.counts.unfinished))
            self.core.reactor.run_for(2)
        self.core.submit(photo=b"abc")
        seen.append((self.counts(), self.core.counts.photo_bytes, self.core.counts.unfinished))
        self.assertEqual(
            seen, [({"upload": 1}, 3, 1), ({"poll": 1}, 3, 1), ({"failed": 1}, 0, 0), ({"upload": 1}, 3, 1)]
        )

    def test_loaded_at_the_start(self) -> None:
        """At the start the counts are read from the store."""
        self.finished(photo=b"a")
        self.core.submit(photo=b"bcd")
        self.core.restart()
        self.core.start()
        self.core.settle()
        self.assertEqual((self.counts(), self.core.counts.photo_bytes), ({"upload": 1, "ready": 1}, 3))

    def test_not_readable_at_the_start(self) -> None:
        """If the counts can't be read, tasks run all the same."""
        self.core.submit()
        self.core.restart()
        self.core.watch.fault = fail_on("SELECT state, count", sqlite_error("SQLITE_BUSY"))
        self.core.start()
        self.core.settle()
        self.assertEqual([request.task.state for request in self.core.upstream.requests], [State.UPLOAD])

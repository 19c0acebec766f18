"""Results expire, and photos are deleted with their tasks."""

import errno
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from merlind.core.outcome import Rejected, Scored, TaskError
from merlind.core.task import Task, miss_deadline
from merlind.tasks import retention as retention_module
from merlind.tasks.retention import LONGEST_PAUSE, Retention
from tests.unit.support import JPEG, Core, fail_on, raising, sqlite_error

DAY = 86400.0


class RetentionCase(SynchronousTestCase):
    """A retention over a real store."""

    def setUp(self) -> None:
        self.core = Core(self)
        self.core.upstream.script = lambda request: (0.0, Scored(0.5))
        self.core.start()
        self.core.settle()

    def make(self, seconds: float = 30 * DAY, keep_failed: float = DAY) -> Retention:
        core = self.core
        self.retention = Retention(core.reactor, core.clock, core.store, core.spool, core.results, seconds, keep_failed)
        return self.retention

    def start(self, seconds: float = 30 * DAY, photos: Iterable[int] | None = ()) -> None:
        """Start the sweeps, with ``photos`` as what the spool lists; None for what is really in it."""
        retention = self.make(seconds)
        if photos is not None:
            self.patch(self.core.spool, "stored", lambda: iter(photos))
        retention.start()
        self.core.settle()
        if photos is None:
            self.core.reactor.run_for(1)

    def finished(self, count: int) -> list[Task]:
        """Submit tasks that finish at once."""
        tasks = [self.core.submit(photo=b"%d" % n) for n in range(count)]
        self.core.reactor.settle()
        return tasks

    def serve(self, seconds: float) -> None:
        """Let service time pass, without a timer."""
        self.core.reactor.rightNow += seconds

    def there(self, tasks: list[Task]) -> list[bool]:
        return [self.core.stored(task.id) is not None for task in tasks]


class ExpiryTests(RetentionCase):
    """Expiring results."""

    def test_results_expire(self) -> None:
        """A result is kept for the retention, and deleted soon after."""
        self.start(1000.0)
        first = self.finished(1)
        self.core.reactor.run_for(500)
        second = [self.core.submit(photo=b"second")]
        self.core.reactor.run_for(499)
        self.assertEqual(self.there(first), [True])
        self.core.reactor.run_for(101)
        self.assertEqual((self.there(first), self.there(second)), ([False], [True]))
        self.core.reactor.run_for(500)
        self.assertEqual(self.there(second), [False])
        self.assertEqual(self.core.counts.by_state["ready"], 0)

    def test_wall_clock(self) -> None:
        """A wall clock that is wrong, at a start or in the middle, deletes nothing, ahead or behind (D13)."""
        tasks = self.finished(2)
        for step in (400 * DAY, -800 * DAY, 400 * DAY):
            self.core.epoch += step
            self.core.restart()
            self.start(1000.0)
            self.core.reactor.run_for(101)
            self.core.epoch += step
            self.core.reactor.run_for(101)
            self.core.epoch -= step
            self.assertEqual(self.there(tasks), [True, True])
            self.retention.stop()
        self.start(1000.0)
        self.core.reactor.run_for(500)
        self.assertEqual(self.there(tasks), [False, False])

    def test_time_switched_off(self) -> None:
        """Only the time in which merlind runs counts: a long time switched off deletes nothing."""
        tasks = self.finished(1)
        self.serve(600.0)
        self.core.now(self.core.store.record_time())
        self.serve(50 * DAY)  # of which the next run knows nothing
        self.core.restart()
        self.start(1000.0)
        self.assertEqual(self.there(tasks), [True])
        self.core.reactor.run_for(500)
        self.assertEqual(self.there(tasks), [False])

    def test_unfinished_stay(self) -> None:
        """An unfinished task doesn't expire, however old it is."""
        self.core.upstream.script = lambda request: None
        task = self.core.submit()
        self.core.epoch += 1000 * DAY
        self.serve(1000 * DAY)
        self.start()
        self.assertEqual(self.there([task]), [True])

    def test_nothing_remains(self) -> None:
        """A sweep logs how many results it deleted, and afterwards their names are in no file."""
        self.core.submit(name="Rumpelstilzchen")
        self.core.settle()
        self.serve(31 * DAY)
        self.assertNotEqual(self.core.remains(b"Rumpelstilzchen"), [])
        with capturedLogs() as logs:
            self.start()
        self.assertEqual(self.core.remains(b"Rumpelstilzchen"), [])
        self.assertEqual([event["count"] for event in logs if "count" in event], [1])

    def test_nothing_to_do(self) -> None:
        """A sweep that finds nothing compacts nothing, and logs nothing."""
        with capturedLogs() as logs:
            self.start(100.0)
            self.core.reactor.run_for(100)
        self.assertEqual(self.core.watch.count("PRAGMA wal_checkpoint"), 0)
        self.assertEqual([event for event in logs if event.get("log_namespace", "").startswith("merlind.ret")], [])

    def test_in_pages(self) -> None:
        """Results are deleted page by page, and the write-ahead log is compacted once."""
        self.patch(retention_module, "EXPIRE_PAGE", 3)
        tasks = self.finished(8)
        self.serve(31 * DAY)
        self.start()
        self.assertEqual(self.there(tasks), [False] * 8)
        pages = [sql for sql in self.core.watch.statements if "ORDER BY kept_since" in sql]
        self.assertEqual(len(pages), 3)
        self.assertEqual(self.core.watch.count("PRAGMA wal_checkpoint(TRUNCATE)"), 1)

    def test_up_to_a_time(self) -> None:
        """Results older than the retention leave the store, the result cache and the counts; younger ones stay."""
        first = self.finished(2)
        self.core.reactor.run_for(100)
        (last,) = self.finished(3)[2:]
        self.serve(1000.0 - 50.0)
        self.start(1000.0)
        self.assertEqual(self.there([*first, last]), [False, False, True])
        self.assertEqual([self.core.results.peek(task.id) is None for task in (*first, last)], [True, True, False])
        self.assertEqual(self.core.counts.by_state["ready"], 1)

    def test_pauses(self) -> None:
        """Sweeps are a tenth of the retention apart, at least a second and at most an hour."""
        for seconds, pause in ((0.0, 1.0), (5.0, 1.0), (1000.0, 100.0), (30 * DAY, LONGEST_PAUSE)):
            self.start(seconds)
            (call,) = self.core.reactor.getDelayedCalls()
            self.assertEqual(call.getTime() - self.core.reactor.seconds(), pause)
            self.retention.stop()
            self.assertEqual(self.core.reactor.getDelayedCalls(), [])

    def test_store_unavailable(self) -> None:
        """A sweep that finds the store unavailable says so, and the next one catches up."""
        tasks = self.finished(1)
        self.serve(31 * DAY)
        self.core.watch.fault = fail_on("BEGIN", sqlite_error("SQLITE_FULL", "full"))
        with capturedLogs() as logs:
            self.start(photos=[1])
        self.assertEqual([event["why"] for event in logs if "why" in event], ["full (SQLITE_FULL)"] * 2)
        self.core.watch.fault = lambda sql: None
        self.core.reactor.run_for(LONGEST_PAUSE)
        self.assertEqual(self.there(tasks), [False])

    def test_compaction_fails(self) -> None:
        """A failed compaction doesn't end the sweeps."""
        self.finished(1)
        self.serve(31 * DAY)
        self.core.watch.fault = fail_on("PRAGMA wal_checkpoint", sqlite_error("SQLITE_BUSY", "locked"))
        self.start()
        self.assertEqual(len(self.core.reactor.getDelayedCalls()), 1)


class StopTests(RetentionCase):
    """Stopping."""

    def test_stopped(self) -> None:
        """After a stop no timer remains; stopping twice does no harm."""
        self.start()
        self.retention.stop()
        self.retention.stop()
        self.assertEqual(self.core.reactor.getDelayedCalls(), [])

    def test_in_mid_sweep(self) -> None:
        """A stop lets the page in flight end, and begins no other."""
        self.patch(retention_module, "EXPIRE_PAGE", 1)
        self.patch(retention_module, "PHOTO_PAGE", 1)
        tasks = self.finished(3)
        self.serve(31 * DAY)
        self.patch(self.core.spool, "stored", lambda: iter([101, 102, 103]))
        self.make().start()
        self.retention.stop()
        self.core.settle()
        self.assertEqual(sum(self.there(tasks)), 2)
        self.assertEqual(self.core.reactor.getDelayedCalls(), [])
        self.assertEqual(self.core.watch.count("SELECT id, finished IS NULL OR kept_until"), 1)


class PhotoTests(RetentionCase):
    """Photos that no unfinished task needs."""

    def lost(self) -> list[str]:
        folder = self.core.path / "lost"
        return sorted(os.listdir(folder)) if folder.exists() else []

    def test_swept(self) -> None:
        """At the start, photos of finished tasks are deleted, and those of unfinished ones stay."""
        self.core.upstream.script = lambda request: None
        task = self.core.submit()
        finished = self.core.accept(photo=b"finished")
        self.core.now(self.core.store.save(miss_deadline(finished, 1.0)))
        Path(self.core.spool.path(finished.id)).write_bytes(b"orphan")
        with capturedLogs() as logs:
            self.start(photos=None)
        self.assertEqual((self.core.files(), self.lost()), ([str(task.id)], []))
        self.assertEqual([event for event in logs if "photos" in event], [])

    def test_in_pages(self) -> None:
        """Photos of unknown tasks are set aside page by page, each page in a transaction of its own."""
        self.patch(retention_module, "PHOTO_PAGE", 2)
        for task_id in range(71, 76):
            Path(self.core.spool.path(task_id)).write_bytes(b"orphan")
        before = self.core.watch.count("BEGIN")
        self.start(photos=None)
        self.assertEqual((self.core.files(), len(self.lost())), ([], 5))
        self.assertTrue(self.core.watch.count("BEGIN") - before >= 3)

    def test_unknown(self) -> None:
        """Photos that the database doesn't know are moved to lost/, whole, and one line says so (D12)."""
        known = self.core.submit()
        for task_id in (77, 78):
            Path(self.core.spool.path(task_id)).write_bytes(b"%d" % task_id)
        self.serve(41.5)
        with capturedLogs() as logs:
            self.start(photos=None)
        self.assertEqual(self.lost(), ["77.42", "78.42"])
        self.assertEqual([(self.core.path / "lost" / name).read_bytes() for name in self.lost()], [b"77", b"78"])
        (event,) = [event for event in logs if "photos" in event]
        line = formatEvent(event)
        self.assertTrue(line.startswith("2 photos (4 bytes) belong to no task in the database: moved to lost/"), line)
        self.assertNotIn("\n", line)
        self.assertNotIn(str(known.id), self.core.files())  # it is ready

    def test_unknown_are_kept(self) -> None:
        """Lost photos are kept for the retention, whatever the wall clock says, and deleted then, with a line."""
        Path(self.core.spool.path(77)).write_bytes(b"lost")
        self.start(1000.0, photos=None)
        (self.core.path / "lost" / "of the operator's").write_bytes(b"")
        self.core.epoch += 400 * DAY
        self.core.reactor.run_for(990)
        self.assertEqual(len(self.lost()), 2)
        with capturedLogs() as logs:
            self.core.reactor.run_for(200)
        self.assertEqual(self.lost(), ["of the operator's"])
        lines = [formatEvent(event) for event in logs if "count" in event]
        self.assertEqual(lines, ["1 lost photos deleted, whose tasks were unknown for the retention"])

    def test_cannot_be_set_aside(self) -> None:
        """A photo of an unknown task that can't be moved stays where it is, and a line says why."""
        Path(self.core.spool.path(77)).write_bytes(b"lost")
        (self.core.path / "lost").write_bytes(b"in the way")
        with capturedLogs() as logs:
            self.start(photos=None)
        self.assertEqual(self.core.files(), ["77"])
        self.assertIn("a photo of no task stays in the spool: File exists", [formatEvent(event) for event in logs])

    def test_new_ones_stay(self) -> None:
        """A photo accepted after the start isn't deleted, even if the sweep lists it."""
        self.core.upstream.script = lambda request: None
        task = self.core.submit()
        self.start(photos=[task.id])
        self.assertEqual(self.core.files(), [str(task.id)])

    def test_not_listed(self) -> None:
        """A spool that can't be listed ends the sweep of photos, and nothing else."""
        self.patch(os, "scandir", raising(OSError(errno.EIO, "Input/output error")))
        tasks = self.finished(1)
        self.start(1.0, None)
        self.core.reactor.run_for(3)
        self.assertEqual(self.there(tasks), [False])

    def test_deleted_with_its_task(self) -> None:
        """However a task ends, its photo's bytes are in no file afterwards."""
        marker = JPEG + b" one of a kind"

        def end(outcome: Any) -> None:
            self.core.upstream.script = lambda request: outcome

        for number, outcome in enumerate((Scored(0.5), Rejected(TaskError("x", "y")), None)):
            end(outcome)
            task = self.core.submit(name=str(number), photo=marker)
            self.core.settle()
            if outcome is None:
                self.assertEqual(self.core.remains(marker), [f"spool/{task.id}"])
                self.core.now(self.core.erasing(task.id))
            self.assertEqual(self.core.remains(marker), [])

    def test_same_photo_of_another(self) -> None:
        """The same photo under another name belongs to another task, and stays."""
        self.core.upstream.script = lambda request: None
        first, second = self.core.submit("Anna"), self.core.submit("Otto")
        self.assertEqual(replace(first, id=0, name="").photo, second.photo)
        self.core.upstream.requests[0].respond(Scored(0.5))
        self.core.settle()
        self.assertEqual(self.core.files(), [str(second.id)])

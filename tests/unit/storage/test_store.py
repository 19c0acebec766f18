"""The queues of the store and its group commit, over an engine that the test plays: no database, no photos."""

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from merlind.core.interfaces import Moment, StoreBroken, StoreUnavailable, Submission, TaskStore
from merlind.core.listing import NEWEST, TaskFilter
from merlind.core.pause import Pause
from merlind.storage import store as store_module
from merlind.storage.engine import Engine
from merlind.storage.operations import (
    Accept,
    Check,
    CheckFiles,
    Count,
    CountFailures,
    Delete,
    DeleteKept,
    Expire,
    ExpireLost,
    Get,
    ListTasks,
    OldestUnfinished,
    Operation,
    RecordTime,
    Retry,
    Save,
    SavePause,
    SweepPhotos,
    Unfinished,
)
from merlind.storage.store import MAX_BATCH, Store
from tests.unit.support import make_task


class FakeEngine:
    """An engine that does nothing before the test calls ``finish`` or ``fail``; ``batches`` lists what it was asked."""

    def __init__(self) -> None:
        self.batches: list[Sequence[Operation]] = []
        self.times: list[Moment] = []
        self.checkpoints: list[Deferred[None]] = []
        self.compactions: list[Deferred[None]] = []
        self._running: Deferred[list[Any]] | None = None

    def run(self, batch: Sequence[Operation], now: Moment) -> "Deferred[list[Any]]":
        assert self._running is None, "the store has to wait for a batch before it runs the next one"
        self.batches.append(batch)
        self.times.append(now)
        self._running = Deferred()
        return self._running

    def checkpoint(self) -> "Deferred[None]":
        self.checkpoints.append(Deferred())
        return self.checkpoints[-1]

    def compact(self) -> "Deferred[None]":
        self.compactions.append(Deferred())
        return self.compactions[-1]

    def close(self) -> None:
        raise AssertionError("the store's owner closes the engine")

    @property
    def idle(self) -> bool:
        """Whether no batch is running."""
        return self._running is None

    def _end(self) -> "Deferred[list[Any]]":
        assert self._running is not None, "no batch is running"
        running, self._running = self._running, None
        return running

    def finish(self, *results: Any) -> None:
        """End the batch with these results; without any, each operation is its own result."""
        batch = self.batches[-1]
        self._end().callback(list(results or batch))

    def finish_all(self) -> None:
        """End one batch after the other, until none is left."""
        while not self.idle:
            self.finish()

    def fail(self, error: Exception) -> None:
        """Fail the whole batch."""
        self._end().errback(error)


class Photo:
    """A staged photo that knows whether it was discarded."""

    size = 0

    def __init__(self, error: OSError | None = None) -> None:
        self.discarded = 0
        self._error = error

    def discard(self) -> None:
        self.discarded += 1
        if self._error is not None:
            raise self._error

    def sha256(self) -> bytes:
        raise AssertionError("the store doesn't look at photos")

    def write(self, data: bytes) -> None:
        raise AssertionError("the store doesn't write photos")

    def finish(self) -> None:
        raise AssertionError("whoever received a photo finishes it")


def submission(photo: Photo | None = None) -> Submission:
    return Submission("", "Anna", photo or Photo(), "image/jpeg")


class StoreCase(SynchronousTestCase):
    """A store over a fake engine."""

    def setUp(self) -> None:
        self.engine = FakeEngine()
        engine: Engine = self.engine
        self.time = 5.0
        self.broken: list[str] = []
        self.store = Store(engine, lambda: Moment(self.time, self.time, 0.0), self.broken.append)
        self.results: list[Any] = []

    def hold(self) -> None:
        """Let a batch be in flight, which the test has to end."""
        self.store.count().addErrback(lambda _: None)

    def note(self, d: "Deferred[Any]") -> "Deferred[Any]":
        """Add the result to ``results`` when it is there."""
        return d.addBoth(self.results.append)


class OperationTests(StoreCase):
    """Each method asks the engine for its operation."""

    def test_every_operation(self) -> None:
        """With what it was given, and fires with what the engine says."""
        task, one = make_task(), submission()
        store: TaskStore = self.store
        asked: list[tuple[Deferred[Any], Operation]] = [
            (store.accept(one), Accept(one)),
            (store.save(task), Save(task)),
            (store.delete(3, "me"), Delete(3, "me")),
            (store.get(4), Get(4)),
            (store.unfinished((1.5, 2), 3), Unfinished((1.5, 2), 3)),
            (store.count(), Count()),
            (store.oldest_unfinished(), OldestUnfinished()),
            (store.expire(1.5, 3), Expire(1.5, 3)),
            (store.expire_lost(2.5), ExpireLost(2.5)),
            (store.sweep_photos([1, 2]), SweepPhotos([1, 2])),
            (store.check(), Check()),
            (store.check_files(), CheckFiles()),
            (store.record_time(), RecordTime()),
            (store.list_tasks(TaskFilter(), NEWEST, 3), ListTasks(TaskFilter(), NEWEST, 3)),
            (store.count_failures(5.0, 3), CountFailures(5.0, 3)),
            (store.retry([1, 2]), Retry([1, 2])),
            (store.save_pause(Pause(1.0)), SavePause(Pause(1.0))),
            (store.delete_kept(1.0, 2.0, 3), DeleteKept(1.0, 2.0, 3)),
        ]
        self.engine.finish_all()
        for d, operation in asked:
            self.assertEqual(self.successResultOf(d), operation)

    def test_time_of_a_batch(self) -> None:
        """A batch is told the time at which it begins."""
        self.hold()
        self.hold()
        self.time = 6.0
        self.engine.finish_all()
        self.assertEqual(self.engine.times, [Moment(5.0, 5.0, 0.0), Moment(6.0, 6.0, 0.0)])

    def test_compact(self) -> None:
        """It is for the engine, and waits for nothing here."""
        self.hold()
        compacted = self.store.compact()
        self.assertNoResult(compacted)
        self.engine.compactions[0].callback(None)
        self.assertIsNone(self.successResultOf(compacted))

    def test_kinds(self) -> None:
        """Which operations write, and which come first."""
        writes: tuple[type[Operation], ...] = (Delete, Expire, SweepPhotos, Check, RecordTime)
        others: tuple[type[Operation], ...] = (Get, Unfinished, Count, OldestUnfinished, ExpireLost, CheckFiles)
        self.assertTrue(Save.writes and Accept.writes and all(kind.writes for kind in writes))
        self.assertFalse(any(kind.writes for kind in others))
        self.assertTrue(Save.rank < Accept.rank < Delete.rank)
        self.assertEqual({kind.rank for kind in writes + others}, {Delete.rank})


class BatchTests(StoreCase):
    """What waits shares a batch."""

    def test_all_that_waits(self) -> None:
        """The first goes alone, and all that comes meanwhile goes next."""
        self.store.check()
        for number in range(5):
            self.store.delete(number, "")
        self.engine.finish_all()
        self.assertEqual(self.engine.batches, [[Check()], [Delete(number, "") for number in range(5)]])

    def test_at_most_so_many(self) -> None:
        """No batch has more than MAX_BATCH operations; the rest follows in the next one."""
        self.hold()
        for number in range(MAX_BATCH + 1):
            self.store.delete(number, "")
        self.engine.finish_all()
        self.assertEqual([len(batch) for batch in self.engine.batches], [1, MAX_BATCH, 1])
        self.assertEqual(self.engine.batches[2], [Delete(MAX_BATCH, "")])

    def test_order_within_a_batch(self) -> None:
        """Saves, then submissions, then the rest; those of a rank as they came, and results in that order."""
        self.hold()
        task, one = make_task(), submission()
        for d in (
            self.store.delete(1, ""),
            self.store.accept(one),
            self.store.count(),
            self.store.save(task),
            self.store.delete(2, ""),
            self.store.accept(one),
        ):
            self.note(d)
        self.engine.finish_all()
        order = [Save(task), Accept(one), Accept(one), Delete(1, ""), Count(), Delete(2, "")]
        self.assertEqual((self.engine.batches[1], self.results), (order, order))

    def test_lookups_alternate_with_the_rest(self) -> None:
        """A lookup waits for at most the batch in flight, and the rest for at most one batch of lookups."""
        tasks = [make_task(number) for number in range(3)]

        def look_up_again(_: Any) -> None:
            if len(self.engine.batches) < 7:
                self.store.get(len(self.engine.batches)).addCallback(look_up_again)

        self.store.save(tasks[0])
        self.store.save(tasks[1])
        self.store.get(1).addCallback(look_up_again)
        self.engine.finish()
        self.store.save(tasks[2])
        self.engine.finish_all()
        kinds = [{type(operation) for operation in batch} for batch in self.engine.batches]
        self.assertEqual(kinds[:3], [{Save}, {Get}, {Save}])
        self.assertEqual(self.engine.batches[2], [Save(tasks[1]), Save(tasks[2])])
        self.assertEqual(kinds[3:], [{Get}] * (len(kinds) - 3))

    def test_lookups_share_a_batch(self) -> None:
        """Those that wait are asked together."""
        self.hold()
        for number in range(3):
            self.store.get(number)
        self.engine.finish_all()
        self.assertEqual(self.engine.batches[1], [Get(0), Get(1), Get(2)])

    def test_the_next_batch_starts_first(self) -> None:
        """The engine has the next batch before anybody is told the results of the last one."""
        seen: list[int] = []
        for _ in range(2):
            self.store.check().addCallback(lambda _: seen.append(len(self.engine.batches)))
        self.engine.finish_all()
        self.assertEqual(seen, [2, 2])

    def test_asked_from_a_result(self) -> None:
        """A callback may ask for the next operation."""
        d = self.store.check().addCallback(lambda _: self.store.count())
        self.engine.finish_all()
        self.assertEqual(self.successResultOf(d), Count())


class DrainedTests(StoreCase):
    """Whether anything is left to do."""

    def test_nothing_to_do(self) -> None:
        """It fires at once."""
        self.successResultOf(self.store.drained())

    def test_all_done(self) -> None:
        """It fires when no operation is waiting or in flight, even if one was asked for later."""
        self.store.check()
        drained = [self.store.drained(), self.store.drained()]
        self.store.get(1)
        self.engine.finish()
        for d in drained:
            self.assertNoResult(d)
        self.engine.finish()
        for d in drained:
            self.successResultOf(d)


class FailureTests(StoreCase):
    """Operations that fail."""

    def test_each_its_own_result(self) -> None:
        """Some of a batch may fail, and others not; the error of the last write is remembered."""
        self.hold()
        check, count, delete = self.store.check(), self.store.count(), self.store.delete(1, "")
        self.engine.finish()
        full = Failure(StoreUnavailable("full"))
        self.engine.finish(full, "counted", full)
        self.assertEqual(self.successResultOf(count), "counted")
        for d in (check, delete):
            self.failureResultOf(d, StoreUnavailable)
        self.assertEqual(self.store.last_error, "full")

    def test_last_error(self) -> None:
        """It is about writes alone, and goes with the next one that succeeds."""
        for ask, error, last_error in (
            (self.store.check, StoreUnavailable("full"), "full"),
            (self.store.count, None, "full"),
            (self.store.count, StoreUnavailable("locked"), "full"),
            (self.store.check, None, None),
        ):
            request: Callable[[], Deferred[Any]] = ask
            request().addErrback(lambda failure: failure.trap(StoreUnavailable) and None)
            self.engine.finish(*([Failure(error)] if error else []))
            self.assertEqual(self.store.last_error, last_error)

    def test_whole_batch(self) -> None:
        """If the engine fails, so does every operation of the batch, and the next one is tried."""
        self.hold()
        doomed = [self.store.check(), self.store.count()]
        self.engine.finish()
        self.engine.fail(ZeroDivisionError())
        for d in doomed:
            self.failureResultOf(d, ZeroDivisionError)
        check = self.store.check()
        self.engine.finish()
        self.successResultOf(check)
        self.assertFalse(self.store.broken)

    def test_photo_of_a_failed_submission(self) -> None:
        """It is discarded; one that can't be is left, and the reason of the failure stays; an accepted one is not."""
        photos = [Photo(), Photo(OSError(13, "Permission denied")), Photo()]
        for photo, result in zip(photos, (StoreUnavailable("full"), StoreUnavailable("full"), None), strict=True):
            d = self.store.accept(submission(photo))
            self.engine.finish(*([Failure(result)] if result else []))
            if result is not None:
                self.assertEqual(self.failureResultOf(d, StoreUnavailable).getErrorMessage(), "full")
        self.assertEqual([photo.discarded for photo in photos], [1, 1, 0])


class BrokenTests(StoreCase):
    """An engine that can't be trusted any more."""

    def assert_broken(self, reason: str = "gone") -> None:
        """It was told once; whatever is asked for fails, and the engine hears nothing of it."""
        photo = Photo()
        asked = len(self.engine.batches), len(self.engine.checkpoints), len(self.engine.compactions)
        for d in (
            self.store.accept(submission(photo)),
            self.store.save(make_task()),
            self.store.get(1),
            self.store.count(),
            self.store.compact(),
        ):
            self.assertEqual(self.failureResultOf(d, StoreBroken).getErrorMessage(), reason)
        self.assertEqual((self.store.broken, self.broken, photo.discarded), (True, [reason], 1))
        self.assertEqual((len(self.engine.batches), len(self.engine.checkpoints), len(self.engine.compactions)), asked)
        self.successResultOf(self.store.drained())

    def test_all_that_waits_fails(self) -> None:
        """In both queues; the batch in flight has its own results, and waiting photos are discarded."""
        photo = Photo()
        first = self.store.check()
        waiting = [self.store.accept(submission(photo)), self.store.get(1)]
        self.engine.finish(Failure(StoreBroken("gone")))
        for d in (first, *waiting):
            self.failureResultOf(d, StoreBroken)
        self.assertEqual(photo.discarded, 1)
        self.assert_broken()

    def test_one_of_a_batch(self) -> None:
        """One result is enough; the others of the batch are told what became of them."""
        self.hold()
        check, count = self.store.check(), self.store.count()
        self.engine.finish()
        self.engine.finish(Failure(StoreBroken("gone")), "counted")
        self.failureResultOf(check, StoreBroken)
        self.assertEqual(self.successResultOf(count), "counted")
        self.assert_broken()

    def test_whole_batch(self) -> None:
        """So it is if the engine fails altogether."""
        d = self.store.get(1)
        self.engine.fail(StoreBroken("gone"))
        self.failureResultOf(d, StoreBroken)
        self.assert_broken()

    def test_told_once(self) -> None:
        """However many find out."""
        self.hold()
        doomed = [self.store.check() for _ in range(3)]
        compacted = self.store.compact()
        self.engine.finish()
        self.engine.finish(*(Failure(StoreBroken(why)) for why in ("gone", "worse", "worse")))
        self.engine.compactions[0].errback(StoreBroken("worst"))
        for d in (*doomed, compacted):
            self.failureResultOf(d, StoreBroken)
        self.assert_broken()

    def test_compaction(self) -> None:
        """A compaction breaks it as well; an error that passes doesn't."""
        compacted = self.store.compact()
        self.engine.compactions[0].errback(StoreUnavailable("locked"))
        self.failureResultOf(compacted, StoreUnavailable)
        self.assertFalse(self.store.broken)
        compacted = self.store.compact()
        self.engine.compactions[1].errback(StoreBroken("gone"))
        self.failureResultOf(compacted, StoreBroken)
        self.assert_broken()


class CheckpointTests(StoreCase):
    """The engine is asked for a checkpoint after so many operations that write."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(store_module, "CHECKPOINT_EVERY", 3)

    def write(self, count: int) -> None:
        """So many operations that write, one by one."""
        for _ in range(count):
            self.store.check()
            self.engine.finish()

    def test_after_so_many_writes(self) -> None:
        """Reads don't count, nor does a batch count as one."""
        self.write(2)
        self.store.count()
        self.engine.finish()
        self.assertEqual(len(self.engine.checkpoints), 0)
        self.write(1)
        self.assertEqual(len(self.engine.checkpoints), 1)
        self.hold()
        for _ in range(3):
            self.store.check()
        self.engine.finish_all()
        self.assertEqual(len(self.engine.checkpoints), 2)

    def test_before_the_next_batch(self) -> None:
        """It goes to the engine before the batch that waits."""
        seen: list[int] = []
        self.write(2)
        self.store.check()

        def checkpoint() -> "Deferred[None]":
            seen.append(len(self.engine.batches))
            return Deferred()

        self.patch(self.engine, "checkpoint", checkpoint)
        self.store.count()
        self.engine.finish_all()
        self.assertEqual((seen, len(self.engine.batches)), ([3], 4))

    def test_failed(self) -> None:
        """It is tried again after as many writes."""
        self.write(3)
        self.engine.checkpoints[0].errback(StoreUnavailable("locked"))
        self.write(2)
        self.assertEqual(len(self.engine.checkpoints), 1)
        self.write(1)
        self.assertEqual(len(self.engine.checkpoints), 2)
        self.assertFalse(self.store.broken)

    def test_compaction_counts(self) -> None:
        """After a compaction, the count begins anew."""
        self.write(2)
        self.store.compact()
        self.engine.compactions[0].callback(None)
        self.write(2)
        self.assertEqual(len(self.engine.checkpoints), 0)

    def test_broken(self) -> None:
        """A checkpoint can break the store."""
        self.write(3)
        waiting = self.store.count()
        self.engine.checkpoints[0].errback(StoreBroken("gone"))
        self.assertEqual((self.store.broken, self.broken), (True, ["gone"]))
        self.engine.finish()
        self.successResultOf(waiting)
        self.failureResultOf(self.store.count(), StoreBroken)

    def test_none_when_broken(self) -> None:
        """A store that broke asks for none."""
        self.write(2)
        d = self.store.check()
        self.engine.finish(Failure(StoreBroken("gone")))
        self.failureResultOf(d, StoreBroken)
        self.assertEqual(len(self.engine.checkpoints), 0)

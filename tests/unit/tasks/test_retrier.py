"""Failed tasks start anew because an operator says so."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from merlind.core.interfaces import StoreUnavailable
from merlind.core.listing import TaskFilter
from merlind.core.outcome import Rejected, Scored, TaskError, TransientError
from merlind.core.task import State, Task
from merlind.tasks import retrier as retrier_module
from merlind.tasks.retrier import PORTION, PORTION_PAUSE, Retried, Retrier
from tests.unit.support import Core, fail_on, sqlite_error

ALL = TaskFilter()
GIVE_UP_AFTER = 100.0


class RetrierCase(SynchronousTestCase):
    """A merlind whose upstream is down when tasks are given up, and scores them afterwards."""

    def setUp(self) -> None:
        self.core = Core(self, give_up_after=GIVE_UP_AFTER, keep_failed=86400.0)
        self.core.start()
        self.retrier = self.make()

    def make(self, max_pending: int = 100_000) -> Retrier:
        core = self.core
        self.retrier = Retrier(core.reactor, core.store, core.counts, core.results, core.scheduler, max_pending)
        return self.retrier

    def give_up(self, count: int, code: str = "gave_up") -> list[Task]:
        """Tasks that were given up; another code than gave_up is that of a rejection."""
        rejection = Rejected(TaskError(code, "no face"))
        outcome = TransientError("http 503") if code == "gave_up" else rejection
        self.core.upstream.script = lambda request: (0.0, outcome)
        tasks = [self.core.submit(f"{code} {self.core.reactor.seconds()} {number}") for number in range(count)]
        self.core.reactor.run_for(GIVE_UP_AFTER + 1)
        self.core.upstream.script = lambda request: (5.0, Scored(0.5))
        self.assertEqual(self.states(tasks), {State.FAILED})
        return tasks

    def states(self, tasks: list[Task]) -> set[State]:
        return {self.core.stored(task.id).state for task in tasks}

    def begin(self, attempt: Any) -> "Deferred[Retried]":
        return Deferred.fromCoroutine(attempt)

    def done(self, attempt: Any) -> Retried:
        """What came of it, before anything that it started is scored."""
        retried = self.begin(attempt)
        self.core.reactor.run_for(0.5)
        result: Retried = self.successResultOf(retried)
        return result


class RetryTests(RetrierCase):
    """What starts anew, and what doesn't."""

    def test_scored_in_the_end(self) -> None:
        """A task that is retried is uploaded again, with its photo, and scored; whoever waits for it is told."""
        (task,) = self.give_up(1)
        self.assertEqual(self.done(self.retrier.retry([task.id])), Retried(1, True))
        waiter = self.core.results.wait(task.id, "192.0.2.1")
        self.assertEqual(self.core.results.peek(task.id).error, None)  # type: ignore[union-attr]
        self.core.reactor.run_for(6.0)
        self.successResultOf(waiter)
        self.assertEqual((self.states([task]), self.core.files()), ({State.READY}, []))
        self.assertEqual((self.core.counts.by_state["failed"], self.core.counts.photo_bytes), (0, 0))

    def test_full_patience(self) -> None:
        """It has as much time as a new one."""
        (task,) = self.give_up(1)
        self.core.upstream.script = lambda request: (0.0, TransientError("http 503"))
        self.done(self.retrier.retry([task.id]))
        self.core.reactor.run_for(GIVE_UP_AFTER - 1)
        self.assertEqual(self.states([task]), {State.UPLOAD})
        self.core.reactor.run_for(2)
        self.assertEqual((self.states([task]), len(self.core.files())), ({State.FAILED}, 1))

    def test_by_filter(self) -> None:
        """All that match and whose photo is kept; not those that were rejected."""
        old, rejected = self.give_up(3), self.give_up(2, "upstream_422")
        since = self.core.clock.wall()
        new = self.give_up(2)
        self.assertEqual(self.done(self.retrier.retry_matching(TaskFilter(code="upstream_422"))), Retried(0, True))
        self.assertEqual(self.done(self.retrier.retry_matching(TaskFilter(since=since))), Retried(2, True))
        self.assertEqual((self.states(new), self.states(old)), ({State.UPLOAD}, {State.FAILED}))
        self.assertEqual(self.done(self.retrier.retry_matching(ALL)), Retried(3, True))
        self.assertEqual((self.states(old), self.states(rejected)), ({State.UPLOAD}, {State.FAILED}))

    def test_twice(self) -> None:
        """Asked twice at once, or twice by one request, each starts once."""
        tasks = self.give_up(2)
        ids = [task.id for task in tasks]
        twice = self.begin(self.retrier.retry([*ids, *ids]))
        self.assertEqual(self.done(self.retrier.retry_matching(ALL)).count + self.successResultOf(twice).count, 2)
        self.assertEqual(self.core.counts.by_state[State.UPLOAD], 2)

    def test_erased_at_once(self) -> None:
        """One that is erased as it is retried is gone, and its photo and its request with it."""
        (task,) = self.give_up(1)
        retrying, erasing = self.begin(self.retrier.retry([task.id])), self.core.erasing(task.id)
        self.core.reactor.run_for(2.0)
        self.assertEqual((self.successResultOf(retrying).count, self.successResultOf(erasing)), (1, True))
        self.assertEqual((self.core.stored(task.id), self.core.files(), self.core.queue.get(task.id)), (None, [], None))
        self.assertEqual(sum(self.core.counts.by_state.values()), 0)

    def test_killed(self) -> None:
        """What was retried goes on after a kill."""
        tasks = self.give_up(3)
        self.done(self.retrier.retry_matching(ALL))
        self.core.restart()
        self.core.upstream.script = lambda request: (5.0, Scored(0.5))
        self.core.start()
        self.core.reactor.run_for(6.0)
        self.assertEqual((self.states(tasks), self.core.files()), ({State.READY}, []))

    def test_disk_full(self) -> None:
        """What can't be stored isn't retried."""
        (task,) = self.give_up(1)
        self.core.watch.fault = fail_on("BEGIN", sqlite_error("SQLITE_FULL", "full"))
        retrying = self.begin(self.retrier.retry([task.id]))
        for _ in range(5):
            self.core.settle()
        self.failureResultOf(retrying, StoreUnavailable)
        self.assertEqual((self.states([task]), self.core.counts.by_state["failed"]), ({State.FAILED}, 1))


class PortionTests(RetrierCase):
    """Many of them."""

    def test_in_portions(self) -> None:
        """Between two portions the reactor gets around, so that others are served; each task is retried once."""
        tasks = self.give_up(3 * PORTION + 7)
        started: list[int] = []
        on_transition = self.core.results.on_transition
        turns: list[int] = []

        def count(before: Task | None, after: Task) -> None:
            started.append(after.id)
            on_transition(before, after)

        self.patch(self.core.results, "on_transition", count)
        self.core.now(Deferred.fromCoroutine(self.core.pauser.pause(None)))
        retrying = self.begin(self.retrier.retry_matching(ALL))
        while not retrying.called:
            before = len(started)
            self.core.reactor.run_for(0.6 * PORTION_PAUSE)
            turns.append(len(started) - before)
        self.assertEqual(self.successResultOf(retrying), Retried(len(tasks), True))
        self.assertEqual((max(turns), sum(turns)), (PORTION, len(tasks)))
        self.assertEqual(sorted(started), sorted(task.id for task in tasks))

    def test_no_more_than_there_may_be(self) -> None:
        """It ends where there are as many unfinished tasks as there may be, and says that these weren't all."""
        self.patch(retrier_module, "PORTION", 3)
        tasks = self.give_up(10)
        self.make(max_pending=8)
        self.core.now(Deferred.fromCoroutine(self.core.pauser.pause(None)))
        self.core.submit("another")
        for attempt in (self.retrier.retry_matching(ALL), self.retrier.retry([task.id for task in tasks])):
            retried = self.done(attempt)
            self.assertEqual((self.core.counts.unfinished, retried.complete), (8, False))
        self.assertEqual(retried.count, 0)

    def test_stopped(self) -> None:
        """A stop lets the portion in flight end, and begins no other."""
        self.give_up(PORTION + 5)
        self.core.now(Deferred.fromCoroutine(self.core.pauser.pause(None)))
        retrying = self.begin(self.retrier.retry_matching(ALL))
        self.core.settle()
        self.retrier.stop()
        for _ in range(5):
            self.core.settle()
        self.assertEqual(self.successResultOf(retrying), Retried(PORTION, False))

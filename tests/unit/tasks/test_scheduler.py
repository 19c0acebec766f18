"""Every unfinished task to its end: who is due, how many at once, and that none is forgotten."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import defer
from twisted.python.monkey import MonkeyPatcher
from twisted.trial.unittest import SynchronousTestCase

from merlind.core.breaker import THRESHOLD, BreakerState
from merlind.core.interfaces import PhotoMissing
from merlind.core.outcome import HandleExpired, Outcome, Pending, Rejected, Scored, TaskError, TransientError
from merlind.core.task import State, Task
from merlind.tasks import scheduler as scheduler_module
from merlind.tasks.queue import TICK
from merlind.tasks.scheduler import LOAD_PAUSE
from merlind.tasks.worker import SAVE_RETRY
from tests.unit.support import EPOCH, Core, Exchange, fail_on, raising, sqlite_error

NO = TaskError("upstream_422", "no face")
FULL = sqlite_error("SQLITE_FULL", "full")


def always(outcome: Outcome, seconds: float = 0.0) -> Callable[[Exchange], tuple[float, Outcome]]:
    """An upstream that always says the same, after so many seconds."""
    return lambda exchange: (seconds, outcome)


class SchedulerCase(SynchronousTestCase):
    """A scheduler over a real store and a played upstream."""

    def make(self, start: bool = True, **settings: Any) -> Core:
        self.core = Core(self, **settings)
        self.renew()
        if start:
            self.start()
        return self.core

    def renew(self) -> None:
        self.upstream, self.scheduler, self.breaker = self.core.upstream, self.core.scheduler, self.core.breaker

    def start(self) -> None:
        self.core.start()
        self.core.settle()

    def restart(self) -> None:
        self.core.restart()
        self.renew()

    def run_for(self, seconds: float) -> None:
        self.core.reactor.run_for(seconds)

    def submit(self, count: int) -> list[Task]:
        return [self.core.submit(photo=b"%d" % n) for n in range(count)]

    def accept(self, count: int) -> list[Task]:
        """Tasks that lie in the store before it starts."""
        return [self.core.accept(photo=b"%d" % n) for n in range(count)]

    def forget_and(self, outcome: Any) -> Callable[[Exchange], Any]:
        """A script for the upstream: the task is erased before its outcome comes."""

        def script(exchange: Exchange) -> Any:
            self.scheduler.forget(exchange.task.id)
            return outcome

        return script

    def in_flight(self) -> list[int]:
        """The numbers of the tasks that an exchange is under way for."""
        return [exchange.task.id for exchange in self.upstream.exchanges]

    def ended(self) -> dict[int, Task]:
        """The tasks that were told to be over, each once."""
        over = [after for _, after in self.core.transitions if after.finished]
        self.assertEqual(len({task.id for task in over}), len(over), "a task ended twice")
        return {task.id: task for task in over}

    def assert_idle(self) -> None:
        """Nothing is under way, nothing planned."""
        self.assertEqual(self.core.reactor.getDelayedCalls(), [])
        self.assertEqual((self.upstream.exchanges, self.core.worker.in_flight, self.core.queue.ready), ([], 0, 0))


class CourseTests(SchedulerCase):
    """The course of one task."""

    def test_brief(self) -> None:
        """Upload, wait, ask again every couple of seconds, done: recorded, told, and its photo gone."""
        self.make()
        task = self.core.submit()
        self.assertEqual((self.upstream.one.kind, self.upstream.one.task), ("upload", task))
        self.assertEqual(self.core.queue.get(task.id), task)
        self.upstream.one.answer(Pending("a"))
        self.core.settle()
        self.assertEqual(self.core.stored(task.id).retry_id, "a")
        for retry_id, outcome in (("a", Pending(None)), ("a", Pending("b")), ("b", Scored(0.83))):
            self.run_for(1.99)
            self.assertEqual(self.upstream.exchanges, [])
            self.run_for(0.01)
            self.assertEqual((self.upstream.one.kind, self.upstream.one.task.retry_id), ("poll", retry_id))
            self.upstream.one.answer(outcome)
            self.core.settle()
            if outcome == Pending("b"):
                self.assertEqual(self.core.stored(task.id).retry_id, "b")
        stored = self.core.stored(task.id)
        self.assertEqual((stored.state, stored.result, stored.finished_at), (State.READY, 0.83, EPOCH + 6))
        self.assertEqual(self.core.files(), [])
        self.assertEqual(
            [(before.state, after.state) for before, after in self.core.transitions],
            [(State.UPLOAD, State.POLL), (State.POLL, State.READY)],
        )
        self.assertEqual(self.core.transitions[-1][1], stored)
        self.assertIsNone(self.core.queue.get(task.id))
        self.assert_idle()

    def test_told_once_durable(self) -> None:
        """The end is told when it is committed, and not before."""
        self.make()
        task = self.core.submit()
        self.upstream.one.answer(Scored(0.5))
        self.assertEqual(self.core.transitions, [])
        self.assertIsNotNone(self.core.queue.get(task.id))
        self.core.settle()
        self.assertEqual(list(self.ended()), [task.id])

    def test_refused(self) -> None:
        """A refusal is the end of the one task, with what was said."""
        self.make()
        task = self.core.submit()
        self.upstream.one.answer(Rejected(NO))
        self.core.settle()
        self.assertEqual(self.core.stored(task.id).error, NO)
        self.assertEqual(self.core.files(), [])
        self.assert_idle()

    def test_forgotten(self) -> None:
        """When the upstream has forgotten it, the photo is uploaded again, after a pause."""
        self.make()
        task = self.core.submit()
        self.upstream.one.answer(Pending("a"))
        self.run_for(2)
        self.upstream.one.answer(HandleExpired())
        self.core.settle()
        self.assertEqual(self.core.stored(task.id).state, State.UPLOAD)
        self.assertEqual(self.core.files(), [str(task.id)])
        self.run_for(1.99)
        self.assertEqual(self.upstream.exchanges, [])
        self.run_for(0.01)
        self.assertEqual(self.upstream.one.kind, "upload")

    def test_trouble(self) -> None:
        """Trouble makes the pauses longer, a wait makes them short again; a pause that was asked for is kept."""
        self.make(concurrency=1000)
        self.core.submit()
        began = []
        for outcome in (
            TransientError("x"),
            TransientError("x"),
            TransientError("x", 100.0),
            Pending("a"),
            TransientError("x"),
            Pending(None),
            Scored(1),
        ):
            began.append(self.upstream.one.began)
            self.upstream.one.answer(outcome)
            self.run_for(200) if isinstance(outcome, Scored) else self.run_until_asked()
        self.assertEqual(began, [0, 2, 6, 106, 108, 110, 112])
        self.assertEqual(self.ended()[1].result, 1)

    def run_until_asked(self) -> None:
        for _ in range(2000):
            if self.upstream.exchanges:
                return
            self.run_for(0.25)
        self.fail("it was never asked again")

    def test_photo_lost(self) -> None:
        """A photo that is lost is the end of its task, with that reason, and no trouble of the upstream's."""
        self.make()
        task = self.core.submit()
        self.upstream.one.lose_photo()
        self.core.settle()
        self.assertEqual(self.core.stored(task.id).error.code, "photo_lost")
        self.assertEqual(self.breaker.state, BreakerState.CLOSED)
        self.assert_idle()

    def test_photo_lost_and_deleted(self) -> None:
        """If it was deleted meanwhile, nothing comes of it."""
        self.make(start=False)
        self.upstream.script = self.forget_and(PhotoMissing("gone"))
        self.start()
        self.core.submit()
        self.assertEqual(self.core.transitions, [])

    def test_unforeseen(self) -> None:
        """A bug in an exchange, as it begins or later, is told; the task goes on as after any trouble."""
        self.make()
        for later in (False, True):
            with MonkeyPatcher((self.upstream, "send", upload_later if later else upload_raising)):
                task = self.core.submit(photo=b"%d" % later)
            self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
            self.run_for(2)
            self.assertEqual(
                (self.upstream.one.task.id, self.upstream.one.task.last_error), (task.id, "unexpected error")
            )
            self.upstream.one.answer(Scored(0.5))
            self.core.settle()
            self.assertEqual(self.core.stored(task.id).result, 0.5)

    def test_deleted(self) -> None:
        """A task deleted in mid-exchange is let go of, and the exchange cancelled; nothing comes back."""
        self.make()
        task = self.core.submit()
        exchange = self.upstream.one
        self.assertTrue(self.core.now(self.core.erasing(task.id)))
        self.assertTrue(exchange.cancelled)
        self.assertIsNone(self.core.queue.get(task.id))
        self.assertIsNone(self.core.stored(task.id))
        self.assertEqual(self.core.files(), [])
        self.run_for(100)
        self.assertEqual(len(self.upstream.begun), 1)
        self.assert_idle()

    def test_deleted_and_answered(self) -> None:
        """An answer for one that was deleted before it could be cancelled is not looked at, but for the breaker."""
        self.make(start=False)
        self.upstream.script = self.forget_and(Scored(0.5))
        self.start()
        self.run_for(1)
        self.core.submit()
        self.assertEqual((self.core.transitions, self.core.worker.last_progress), ([], 1.0))
        self.assert_idle()

    def test_bug_of_ours(self) -> None:
        """An error in what is told of a task is logged, and the exchange is over all the same."""
        self.make()
        self.core.submit()
        self.patch(self.core.results, "on_transition", raising(ZeroDivisionError()))
        self.upstream.one.answer(Pending("a"))
        self.assertEqual(self.core.worker.in_flight, 0)
        self.assertNotEqual(self.flushLoggedErrors(), [])

    def test_deleted_while_waiting(self) -> None:
        """One deleted between two polls isn't asked for again, nor one that isn't known."""
        self.make()
        task = self.core.submit()
        self.upstream.one.answer(Pending("a"))
        self.core.settle()
        self.core.now(self.core.erasing(task.id))
        self.scheduler.forget(99)
        self.run_for(100)
        self.assertEqual(len(self.upstream.begun), 1)
        self.assert_idle()

    def test_deleted_while_its_end_is_saved(self) -> None:
        """One deleted after its last answer, before that is saved, is gone without having been over."""
        self.make()
        task = self.core.submit()
        deleted = self.core.erasing(task.id)
        self.upstream.one.answer(Scored(0.5))
        self.assertTrue(self.core.now(deleted))
        self.assertIsNone(self.core.stored(task.id))
        self.assertEqual(self.ended(), {})
        self.assertEqual(sum(self.core.counts.by_state.values()), 0)
        self.assert_idle()

    def test_failed_and_sent_again(self) -> None:
        """A task that failed begins anew when it is sent again."""
        self.make()
        task = self.core.submit()
        self.upstream.one.answer(Rejected(NO))
        self.core.settle()
        self.assertEqual(self.core.submit().id, task.id)
        self.upstream.one.answer(Scored(0.5))
        self.core.settle()
        self.assertEqual(self.core.stored(task.id).result, 0.5)

    def test_no_longer_ours(self) -> None:
        """A task that the store says is not ours any more is dropped, whether it goes on or is finished."""
        for outcome in (Pending("a"), Scored(0.5)):
            self.make()
            task = self.core.submit()
            self.patch(self.core.store, "save", lambda task: defer.succeed(False))
            self.upstream.one.answer(outcome)
            self.core.settle()
            self.assertIsNone(self.core.queue.get(task.id))
            self.assertEqual(self.ended(), {})
            self.run_for(100)
            self.assertEqual(len(self.upstream.begun), 1)

    def test_added_twice(self) -> None:
        """A task that is known already is not added again."""
        self.make()
        task = self.core.submit()
        self.scheduler.add(task)
        self.upstream.one.answer(Scored(0.5))
        self.run_for(100)
        self.assertEqual(len(self.upstream.begun), 1)

    def test_counters(self) -> None:
        """The counts follow."""
        self.make()
        self.core.submit()
        seen = [dict(self.core.counts.by_state)]
        for outcome in (Pending("a"), Scored(0.5)):
            self.run_for(2)
            self.upstream.one.answer(outcome)
            self.core.settle()
            seen.append(dict(self.core.counts.by_state))
        self.assertEqual([{k: v for k, v in s.items() if v} for s in seen], [{"upload": 1}, {"poll": 1}, {"ready": 1}])
        self.assertEqual(self.core.counts.photo_bytes, 0)


async def upload_raising(task: Task) -> Outcome:
    raise ZeroDivisionError


async def upload_later(task: Task) -> Outcome:
    outcome: Outcome = await defer.fail(ZeroDivisionError())
    return outcome


class TurnTests(SchedulerCase):
    """Who is next."""

    def test_due_order(self) -> None:
        """What is due first goes first."""
        self.make(start=False, concurrency=1)
        tasks = self.accept(4)
        for task, due in zip(tasks, (3.0, 1.0, 4.0, 2.0), strict=True):
            self.core.now(self.core.store.save(replace(task, due=due)))
        self.upstream.script = always(Scored(0.5), 10.0)
        self.start()
        self.run_for(100)
        self.assertEqual([exchange.task.id for exchange in self.upstream.begun], [2, 4, 1, 3])
        self.assertEqual([exchange.began for exchange in self.upstream.begun], [1, 11, 21, 31])

    def test_not_before_due(self) -> None:
        """Nothing goes before it is due, but for what shares a tick."""
        self.make(start=False)
        for task, due in zip(self.accept(3), (5.0, 5.0 + TICK / 2, 5.0 + 3 * TICK), strict=True):
            self.core.now(self.core.store.save(replace(task, due=due)))
        self.upstream.script = always(Scored(0.5))
        self.start()
        self.run_for(20)
        self.assertEqual([exchange.began for exchange in self.upstream.begun], [5.0, 5.0, 5.0 + 3 * TICK])

    def test_concurrency(self) -> None:
        """No more at once than allowed; as one ends, the next begins."""
        self.make(concurrency=3)
        self.submit(10)
        self.assertEqual((self.in_flight(), self.core.worker.in_flight, self.core.queue.ready), ([1, 2, 3], 3, 7))
        self.upstream.exchanges[1].answer(Scored(0.5))
        self.core.settle()
        self.assertEqual(self.in_flight(), [1, 3, 4])
        self.upstream.script = always(Scored(0.5), 0.1)
        for exchange in list(self.upstream.exchanges):
            exchange.answer(Scored(0.5))
        self.run_for(1)
        self.assertEqual(len(self.ended()), 10)
        self.assertEqual(self.upstream.most_at_once, 3)
        self.assert_idle()

    def test_take_turns(self) -> None:
        """Uploads and polls take turns, whichever there are more of."""
        self.make(start=False, concurrency=1)
        for task in self.accept(8)[:3]:
            self.core.now(self.core.store.save(replace(task, state=State.POLL, retry_id="a")))
        self.upstream.script = always(Scored(0.5), 1.0)
        self.start()
        self.run_for(20)
        kinds = self.upstream.kinds()
        self.assertEqual(sorted(kinds[:6:2] + kinds[1:6:2]), ["poll"] * 3 + ["upload"] * 3)
        self.assertTrue(all(one != other for one, other in pairwise(kinds[:6])), kinds)
        self.assertEqual(kinds[6:], ["upload"] * 2)

    def test_at_once(self) -> None:
        """Exchanges that end at once do not recurse."""
        self.make(start=False, concurrency=1)
        self.accept(1500)
        self.upstream.script = lambda exchange: Scored(0.5)
        self.start()
        self.run_for(1)
        self.assertEqual(len(self.ended()), 1500)
        self.assert_idle()

    def test_one_timer(self) -> None:
        """However many wait, there is one timer."""
        self.make()
        self.submit(20)
        for exchange in list(self.upstream.exchanges):
            exchange.answer(Pending("a"))
            self.run_for(0.0625)
        self.assertEqual(len(self.core.reactor.getDelayedCalls()), 1)

    def test_wall_clock_steps(self) -> None:
        """A step of the wall clock, two days on or back, makes no storm and no stall, and nobody is given up."""
        self.make(give_up_after=1000.0)
        self.core.submit()
        for step in (172800.0, -345600.0):
            self.upstream.one.answer(Pending("a"))
            self.core.epoch += step
            self.run_for(1.75)
            self.assertEqual(self.upstream.exchanges, [])
            self.run_for(0.25)
            self.assertEqual(self.upstream.one.kind, "poll")


class PatienceTests(SchedulerCase):
    """When a task is given up."""

    def assert_given_up(self, at: float, reason: str) -> None:
        """It is unfinished until then, and no longer."""
        self.run_for(at - self.core.reactor.seconds() - 0.25)
        self.assertEqual(self.ended(), {})
        self.run_for(0.25)
        (task,) = self.ended().values()
        self.assertEqual(task.error, TaskError("gave_up", f"no score in time; last: {reason}"))
        self.assertNotIn(str(task.id), self.core.files())

    def test_waits_for_ever(self) -> None:
        """One that is told to wait for ever."""
        self.make(start=False, give_up_after=101.0)
        self.upstream.script = always(Pending("a"))
        self.start()
        self.core.submit()
        self.assert_given_up(101, "still waiting for a score")
        self.assert_idle()

    def test_trouble(self) -> None:
        """One that has nothing but trouble, the breaker open at last."""
        self.make(start=False, give_up_after=1000.0, concurrency=2)
        self.upstream.script = always(TransientError("http 503"))
        self.start()
        self.core.submit()
        self.assert_given_up(1000, "http 503")
        self.assertEqual(self.breaker.state, BreakerState.OPEN)
        self.run_for(4000)
        self.assert_idle()

    def test_behind_the_breaker(self) -> None:
        """One that waits for its turn while the breaker is open, for longer than it has."""
        self.make(give_up_after=100.0, concurrency=1)
        first, _ = self.submit(2)
        self.upstream.one.answer(TransientError("http 503", retry_after=3600.0))
        self.core.settle()
        self.core.now(self.core.erasing(first.id))
        self.assertEqual((self.breaker.state, self.breaker.probe_at), (BreakerState.OPEN, 3600.0))
        self.assert_given_up(100, "never reached the upstream")

    def test_behind_others(self) -> None:
        """One that waits for its turn behind a slow exchange."""
        self.make(give_up_after=100.0, concurrency=1)
        self.submit(2)
        self.assert_given_up(100, "never reached the upstream")
        self.assertEqual(self.in_flight(), [1])

    def test_each_in_its_time(self) -> None:
        """Those that wait for their turn are given up one by one; the deleted are passed over."""
        self.make(give_up_after=100.0, concurrency=1)
        for n in range(4):
            self.core.submit(photo=b"%d" % n)
            self.run_for(10)
        self.core.now(self.core.erasing(2))
        seen = []
        for _ in range(9):
            self.run_for(10)
            seen.append(sorted(self.ended()))
        self.assertEqual(seen, [[]] * 7 + [[3], [3, 4]])

    def test_in_an_exchange(self) -> None:
        """One that is in an exchange then has its answer to the end; only if it is none, it is given up."""
        self.make(give_up_after=100.0)
        self.submit(2)
        self.run_for(110)
        first, second = self.upstream.exchanges
        first.answer(Pending("a"))
        second.answer(Scored(0.5))
        self.core.settle()
        self.assertEqual([task.state for task in self.ended().values()], [State.READY, State.FAILED])

    def test_off_time_does_not_count(self) -> None:
        """The time for which merlind was off doesn't count."""
        self.make(give_up_after=100.0)
        self.submit(1)
        self.run_for(50)
        self.core.accept(photo=b"so that the service time is stored")
        self.core.reactor.advance(10_000)
        self.restart()
        self.start()
        self.core.epoch += 100_000
        self.assertEqual(self.in_flight(), [1, 2])
        self.assertEqual(self.ended(), {})


class BreakerTests(SchedulerCase):
    """A bad upstream."""

    def test_opens_and_probes(self) -> None:
        """After troubles in a row one probe at a time goes through, with pauses; then it opens gradually."""
        self.make(concurrency=8)
        self.submit(20)
        for exchange in self.upstream.exchanges[:THRESHOLD]:
            exchange.answer(TransientError("http 503"))
        self.core.settle()
        self.assertEqual((len(self.upstream.exchanges), self.breaker.state), (8 - THRESHOLD, BreakerState.OPEN))
        for exchange in list(self.upstream.exchanges):
            exchange.answer(TransientError("http 503"))
        for pause in (2, 4):
            self.run_for(pause - 0.25)
            self.assertEqual(self.upstream.exchanges, [])
            self.run_for(0.25 + TICK)
            self.upstream.one.answer(TransientError("http 503") if pause == 2 else Scored(0.5))
        for at_once in (1, 2, 3):
            self.core.settle()
            self.assertEqual(len(self.upstream.exchanges), at_once)
            self.upstream.exchanges[0].answer(Scored(0.5))
        self.upstream.script = always(Scored(0.5), 0.1)
        for exchange in list(self.upstream.exchanges):
            exchange.answer(Scored(0.5))
        self.run_for(100)
        self.assertEqual(len(self.ended()), 20)
        self.assert_idle()

    def test_hour_of_outage(self) -> None:
        """An hour of outage under load, then back: no herd at any moment, and all tasks finish."""
        self.make(start=False, concurrency=8, jitter=Random(7).random)
        outage = (60.0, 3660.0)
        per_second: Counter[int] = Counter()

        def script(exchange: Exchange) -> tuple[float, Outcome]:
            now = self.core.reactor.seconds()
            self.assertTrue(len(self.upstream.exchanges) <= max(self.breaker.limit, 1))
            per_second[int(now)] += 1
            if outage[0] <= now < outage[1]:
                return (0.05, TransientError("connection lost"))
            return (0.05, Pending("a") if exchange.kind == "upload" else Scored(0.5))

        self.upstream.script = script
        self.start()
        for n in range(300):
            self.core.reactor.callLater(n * 10.0 + 1, self.core.submitting, self.core.submission(photo=b"%d" % n))
        self.run_for(3660)
        during = [count for second, count in per_second.items() if outage[0] + 10 <= second < outage[1]]
        self.assertTrue(sum(during) < 200, "a hot loop in the outage")
        self.assertEqual(self.breaker.state, BreakerState.OPEN)
        self.assertTrue(len(self.ended()) < 10)
        self.run_for(600)
        self.assertEqual(len(self.ended()), 300)
        self.assertEqual({task.state for task in self.ended().values()}, {State.READY})
        self.assertEqual(self.breaker.state, BreakerState.CLOSED)
        self.assert_idle()

    def test_misconfigured(self) -> None:
        """That our side is set up wrongly is said until the upstream answers well; the task is kept."""
        self.make()
        task = self.core.submit()
        self.upstream.one.answer(TransientError("http 401", misconfigured=True))
        self.assertEqual(self.core.worker.misconfigured, "http 401")
        self.run_for(2)
        self.upstream.one.answer(TransientError("http 503"))
        self.assertEqual(self.core.worker.misconfigured, "http 401")
        self.run_for(4)
        self.upstream.one.answer(Pending("a"))
        self.assertIsNone(self.core.worker.misconfigured)
        self.core.settle()
        self.assertEqual(self.core.stored(task.id).state, State.POLL)

    def test_last_progress(self) -> None:
        """The time of the last good exchange is kept, refusals among them."""
        self.make()
        self.run_for(3)
        self.assertEqual(self.core.worker.last_progress, 0.0)
        for outcome, last in ((TransientError("x"), 0.0), (Rejected(NO), 7.0)):
            self.core.submit() if not self.upstream.exchanges else None
            self.upstream.one.answer(outcome)
            self.run_for(4)
            self.assertEqual(self.core.worker.last_progress, 0.0 if last == 0.0 else self.upstream.begun[-1].began + 2)


class DiskTests(SchedulerCase):
    """A store that can't just now."""

    def test_end_not_saved(self) -> None:
        """A result that the disk doesn't take is kept, and saved when it can be; until then it isn't told."""
        self.make()
        task = self.core.submit()
        self.core.watch.fault = fail_on("BEGIN", FULL)
        self.upstream.one.answer(Scored(0.5))
        self.run_for(SAVE_RETRY * 3 + 1)
        self.assertEqual(self.ended(), {})
        self.core.watch.fault = lambda sql: None
        self.assertEqual(self.core.stored(task.id).state, State.UPLOAD)
        self.run_for(SAVE_RETRY)
        self.assertEqual(self.ended()[task.id].result, 0.5)
        self.assertEqual(self.core.stored(task.id).result, 0.5)
        self.assertEqual(len(self.upstream.begun), 1)
        self.assert_idle()

    def test_end_not_saved_and_deleted(self) -> None:
        """If it is deleted before it could be saved, that is all."""
        self.make()
        task = self.core.submit()
        self.core.watch.fault = fail_on("BEGIN", FULL)
        self.upstream.one.answer(Scored(0.5))
        self.core.settle()
        self.core.watch.fault = lambda sql: None
        self.core.now(self.core.erasing(task.id))
        self.run_for(SAVE_RETRY)
        self.assertEqual(self.ended(), {})
        self.assert_idle()

    def test_place_not_saved(self) -> None:
        """So with the retry_id: polls go on meanwhile, and what is saved in the end is where the task is then."""
        self.make()
        task = self.core.submit()
        self.core.watch.fault = fail_on("BEGIN", FULL)
        self.upstream.one.answer(Pending("a"))
        self.run_for(2)
        self.upstream.one.answer(Pending("b"))
        self.run_for(2)
        self.upstream.one.answer(Pending(None))
        self.core.watch.fault = lambda sql: None
        self.run_for(SAVE_RETRY)
        self.assertEqual(self.core.stored(task.id).retry_id, "b")

    def test_place_not_saved_and_over(self) -> None:
        """A task that is over by then is not made unfinished again."""
        self.make()
        task = self.core.submit()
        self.core.watch.fault = fail_on("BEGIN", FULL)
        self.upstream.one.answer(Pending("a"))
        self.run_for(2)
        self.core.watch.fault = lambda sql: None
        self.upstream.one.answer(Scored(0.5))
        self.run_for(SAVE_RETRY * 2)
        self.assertEqual(self.core.stored(task.id).state, State.READY)
        self.assert_idle()

    def test_page_not_read(self) -> None:
        """Tasks that can't be read at the start are read later."""
        self.make(start=False)
        self.accept(3)
        self.core.watch.fault = fail_on("SELECT", FULL)
        self.start()
        self.assertEqual(self.upstream.exchanges, [])
        self.core.watch.fault = lambda sql: None
        self.run_for(SAVE_RETRY)
        self.assertEqual(self.in_flight(), [1, 2, 3])

    def test_broken(self) -> None:
        """With a broken store nothing is tried again, and nothing raises."""
        broken = sqlite_error("SQLITE_IOERR_FSYNC")
        for start, outcome in (("BEGIN", Scored(0.5)), ("BEGIN", Pending("a"))):
            self.make()
            self.core.submit()
            self.core.watch.fault = fail_on(start, broken)
            self.upstream.one.answer(outcome)
            self.core.settle()
            self.assertEqual(len(self.core.broken), 1)
            self.assertEqual(self.ended(), {})
        self.make(start=False)
        self.accept(1)
        self.core.watch.fault = fail_on("SELECT", broken)
        self.start()
        self.assertEqual(len(self.core.broken), 1)
        self.assert_idle()


class StopTests(SchedulerCase):
    """The end, and the next start."""

    def test_nothing_under_way(self) -> None:
        """It stops at once, and no timer remains."""
        self.make()
        self.submit(3)
        for exchange in list(self.upstream.exchanges):
            exchange.answer(Pending("a"))
        self.core.settle()
        self.successResultOf(self.scheduler.stop(4.0))
        self.assert_idle()

    def test_grace(self) -> None:
        """Exchanges under way get their time, and what they end with is saved; nothing more begins."""
        self.make(concurrency=2)
        self.submit(4)
        d = self.scheduler.stop(4.0)
        self.run_for(3)
        first, second = self.upstream.exchanges
        first.answer(Pending("a"))
        self.assertNoResult(d)
        second.answer(Scored(0.5))
        self.successResultOf(d)
        self.core.settle()
        self.assertEqual([self.core.stored(n).state for n in (1, 2)], [State.POLL, State.READY])
        self.assertEqual(len(self.upstream.begun), 2)
        self.assertEqual(self.core.reactor.getDelayedCalls(), [])

    def test_abandoned(self) -> None:
        """After that they are cancelled, and left to the next start."""
        self.make()
        self.submit(2)
        d = self.scheduler.stop(4.0)
        self.run_for(3.75)
        self.assertNoResult(d)
        self.run_for(0.25)
        self.successResultOf(d)
        self.assertTrue(all(exchange.cancelled for exchange in self.upstream.begun))
        self.assertEqual(self.core.reactor.getDelayedCalls(), [])
        self.restart()
        self.start()
        self.assertEqual(self.in_flight(), [1, 2])

    def test_saves_given_up(self) -> None:
        """Saves that wait for the disk are given up; then the next start asks the upstream again."""
        self.make()
        self.submit(2)
        self.core.watch.fault = fail_on("BEGIN", FULL)
        outcomes: tuple[Outcome, ...] = (Scored(0.5), Pending("a"))
        for exchange, outcome in zip(list(self.upstream.exchanges), outcomes, strict=True):
            exchange.answer(outcome)
        self.core.settle()
        saving = self.scheduler.stop(4.0)
        self.successResultOf(saving)
        self.assert_idle()

    def test_save_fails_after_the_stop(self) -> None:
        """Nor is a timer set for one that fails then."""
        self.make()
        self.submit(1)
        self.core.watch.fault = fail_on("BEGIN", FULL)
        d = self.scheduler.stop(4.0)
        self.upstream.one.answer(Scored(0.5))
        self.core.settle()
        self.successResultOf(d)
        self.assert_idle()

    def test_start_goes_on(self) -> None:
        """A new start goes on where each task was: no second upload of what has its retry_id."""
        self.make()
        self.submit(2)
        self.upstream.exchanges[0].answer(Pending("a"))
        self.core.settle()
        self.restart()
        self.start()
        self.run_for(2)
        self.assertEqual(sorted((e.kind, e.task.id) for e in self.upstream.exchanges), [("poll", 1), ("upload", 2)])

    def test_taken_on_before_the_start(self) -> None:
        """A task that came before the start is begun with it, and once."""
        self.make(start=False)
        self.submit(1)
        self.run_for(1)
        self.assertEqual(self.in_flight(), [])
        self.start()
        self.run_for(1)
        self.assertEqual(self.in_flight(), [1])


class WindowTests(SchedulerCase):
    """More tasks than are kept in memory."""

    def in_memory(self) -> int:
        return len(self.core.queue._tasks)

    def test_loaded_with_pauses(self) -> None:
        """What is unfinished at a start is loaded a page at a time, with pauses in which clients are answered."""
        self.patch(scheduler_module, "LOAD_PAGE", 2)
        self.make(start=False, concurrency=1)
        self.accept(5)
        self.start()
        for loaded in (2, 4, 5):
            self.assertEqual(sum(self.core.queue.get(task_id) is not None for task_id in range(1, 6)), loaded)
            self.run_for(LOAD_PAUSE)

    def test_all_finish(self) -> None:
        """500 tasks through a window of 10: all finish, none twice, and never many more than 10 in memory."""
        self.make(start=False, window=10, concurrency=4)
        self.accept(500)
        most = 0

        def script(exchange: Exchange) -> tuple[float, Outcome]:
            nonlocal most
            most = max(most, self.in_memory())
            return (0.05, Pending("a") if exchange.kind == "upload" else Scored(0.5))

        self.upstream.script = script
        self.start()
        self.run_for(600)
        self.assertEqual(len(self.ended()), 500)
        self.assertEqual(Counter(self.upstream.kinds()), {"upload": 500, "poll": 500})
        self.assertTrue(most <= 10, most)
        self.assertEqual(self.core.files(), [])
        self.assert_idle()

    def test_added_to_a_full_one(self) -> None:
        """New tasks that find it full wait in the store, and have their turn."""
        self.make(window=4, concurrency=2)
        self.submit(30)
        self.assertEqual(self.in_memory(), 4)
        self.upstream.script = always(Scored(0.5), 0.1)
        for exchange in list(self.upstream.exchanges):
            exchange.answer(Scored(0.5))
        self.run_for(60)
        self.assertEqual(len(self.ended()), 30)
        self.assertEqual(len(self.upstream.begun), 30)
        self.assert_idle()

    def test_due_before_the_horizon(self) -> None:
        """A new task that is due before those in memory is not left behind them."""
        self.make(start=False, window=4)
        for task in self.accept(8):
            self.core.now(self.core.store.save(replace(task, due=1000.0 + task.id)))
        self.start()
        self.assertEqual((self.in_memory(), self.upstream.exchanges), (4, []))
        self.core.submit(photo=b"new")
        self.assertEqual(self.in_flight(), [9])

    def test_evicted(self) -> None:
        """A task due behind the horizon is left to the store, durably, and comes back when it is due."""
        self.make(start=False, window=2, concurrency=8)
        tasks = self.accept(6)
        self.start()
        self.submit_between()
        for exchange in list(self.upstream.exchanges):
            exchange.answer(Pending("a", retry_after=50.0))
        self.core.settle()
        self.assertTrue(self.in_memory() <= 3)
        self.upstream.script = lambda exchange: (0.1, Pending("a") if exchange.kind == "upload" else Scored(0.5))
        for exchange in list(self.upstream.exchanges):
            exchange.answer(Scored(0.5))
        self.run_for(200)
        self.assertEqual(set(self.ended()), {task.id for task in tasks} | {7})
        self.assert_idle()

    def submit_between(self) -> None:
        """A task that is due before the horizon makes one too many."""
        (connection,) = self.core.pool.connections.values()
        task = self.core.accept(photo=b"between")
        connection.execute("UPDATE task SET due = -1, since = -1 WHERE id = 7")
        self.scheduler.add(replace(task, due=-1.0, since=-1.0))
        self.core.settle()

    def test_evicted_on_a_full_disk(self) -> None:
        """One that can't be saved stays in memory, and goes on."""
        self.make(start=False, window=2, concurrency=8)
        self.accept(6)
        self.start()
        self.submit_between()
        self.core.watch.fault = fail_on("BEGIN", FULL)
        for exchange in list(self.upstream.exchanges):
            exchange.answer(Pending("a"))
        self.core.settle()
        self.assertEqual(self.in_memory(), 3)
        self.run_for(2)
        self.assertEqual(sorted(exchange.kind for exchange in self.upstream.exchanges), ["poll"] * 3)
        self.core.watch.fault = lambda sql: None

    def test_evicted_and_deleted(self) -> None:
        """One that is deleted while it is saved is gone."""
        for fault in (None, FULL):
            self.make(start=False, window=2, concurrency=8)
            self.accept(6)
            self.start()
            self.submit_between()
            self.core.watch.fault = fail_on("BEGIN", fault) if fault else lambda sql: None
            for exchange in list(self.upstream.exchanges):
                exchange.answer(Pending("a", retry_after=50.0))
            for task_id in (1, 2, 7):
                self.scheduler.forget(task_id)
            self.core.settle()
            self.assertEqual([self.core.queue.get(task_id) for task_id in (1, 2, 7)], [None] * 3)
            self.core.watch.fault = lambda sql: None

    def test_evicted_too_late(self) -> None:
        """One that the horizon has passed by while it was saved stays in memory: the store won't bring it again."""
        self.make(start=False, window=4)
        for task in self.accept(8):
            self.core.now(self.core.store.save(replace(task, due=1000.0 + task.id)))
        self.start()
        self.core.submit(photo=b"new")
        exchange = self.upstream.one
        more = [self.core.accept(photo=b"more %d" % n) for n in range(3)]
        for task_id in (1, 2, 3):
            self.scheduler.forget(task_id)
        for task in more:
            self.scheduler.add(task)
        exchange.answer(Pending("a", retry_after=1005.5))
        self.core.settle()
        self.assertEqual(self.core.stored(9).due, 1005.5)
        self.run_for(1006)
        self.assertIn(("poll", 9), [(exchange.kind, exchange.task.id) for exchange in self.upstream.exchanges])

    def test_all_in_memory_deleted(self) -> None:
        """When those in memory are deleted, the next ones have their turn."""
        self.make(start=False, window=2)
        tasks = self.accept(6)
        self.start()
        self.assertEqual(self.in_flight(), [1, 2])
        for task in tasks[:2]:
            self.core.now(self.core.erasing(task.id))
        self.core.settle()
        self.assertEqual(self.in_flight(), [3, 4])

    def test_tiny(self) -> None:
        """Even a window of one goes through them all."""
        self.make(start=False, window=1)
        self.accept(5)
        self.upstream.script = lambda exchange: (0.1, Pending("a") if exchange.kind == "upload" else Scored(0.5))
        self.start()
        self.run_for(60)
        self.assertEqual(len(self.ended()), 5)


class AnyCourseTests(SchedulerCase):
    """Whatever happens, every task ends exactly once, and none is forgotten."""

    @settings(max_examples=40, deadline=None, derandomize=True, database=None, report_multiple_bugs=False)
    @given(
        seed=st.integers(0, 2**32),
        window=st.integers(1, 12),
        concurrency=st.integers(1, 6),
        full_disk=st.booleans(),
        restarts=st.booleans(),
    )
    def test_any(self, seed: int, window: int, concurrency: int, full_disk: bool, restarts: bool) -> None:
        """Random answers, additions, deletions, full disks and kills; in the end all is done."""
        random = Random(seed)
        self.make(start=False, window=window, concurrency=concurrency, give_up_after=4000.0, jitter=random.random)
        alive: set[int] = set()
        begun: Counter[int] = Counter()
        calm = False

        def script(exchange: Exchange) -> tuple[float, Outcome] | Exception:
            self.assertTrue(len(self.upstream.exchanges) <= max(1, self.breaker.limit))
            self.assertEqual(exchange.kind == "poll", exchange.task.state is State.POLL)
            self.assertEqual(
                len({e.task.id for e in self.upstream.exchanges}), len(self.upstream.exchanges), "twice at once"
            )
            latency = random.choice((0.0, 0.01, 0.5, 3.0))
            if calm:
                return latency, Pending("z") if exchange.kind == "upload" else Scored(1.0)
            return random.choice(
                (
                    (latency, Scored(random.random())),
                    (latency, Rejected(NO)),
                    (latency, Pending(random.choice("abc"), random.choice((0.0, 0.0, 20.0)))),
                    (latency, Pending("d")),
                    (latency, Pending("d")),
                    (latency, HandleExpired() if exchange.kind == "poll" else TransientError("http 503")),
                    (latency, TransientError("http 503", random.choice((0.0, 0.0, 9.0)))),
                    (30.0, TransientError("timed out")),
                    PhotoMissing("gone"),
                )
            )

        def submit() -> None:
            photo = b"%d" % random.randrange(60)
            d = self.core.submitting(self.core.submission(photo=photo))
            d.addCallbacks(lambda task: alive.add(task.id), ignore)

        def delete() -> None:
            if alive:
                task_id = random.choice(sorted(alive))

                def gone(was_there: bool) -> None:
                    if was_there:
                        alive.discard(task_id)

                self.core.erasing(task_id).addCallbacks(gone, ignore)

        def begin() -> None:
            """Start what was just built, with the script, and count what begins."""
            self.upstream.script = script
            add = self.scheduler.add

            def counted(task: Task) -> None:
                begun[task.id] += 1
                add(task)

            self.scheduler.add = counted  # type: ignore[method-assign]
            self.start()

        begin()
        for _ in range(80):
            action = random.random()
            if action < 0.55:
                for _ in range(random.choice((1, 1, 4))):
                    submit()
            elif action < 0.65:
                delete()
            elif action < 0.7 and full_disk:
                self.core.watch.fault = fail_on("BEGIN", FULL)
            elif action < 0.75:
                self.core.watch.fault = lambda sql: None
            elif action < 0.78 and restarts:
                self.core.settle()
                self.restart()
                begin()
            self.run_for(random.choice((0.0, 0.0, 0.1, 2.0, 30.0)))
        calm = True
        self.core.watch.fault = lambda sql: None
        self.run_for(4200)
        census = self.core.now(self.core.store.count())
        self.assertEqual(census.by_state[State.UPLOAD] + census.by_state[State.POLL], 0, "a task was forgotten")
        self.assertEqual(census.photo_bytes, 0)
        self.assertEqual(self.core.files(), [])
        counts, live = census.by_state, self.core.counts
        self.assertEqual((live.unfinished, live.photo_bytes), (0, 0))
        self.assertEqual([live.by_state[s] for s in ("ready", "failed")], [counts[s] for s in ("ready", "failed")])
        if not full_disk:
            self.assertEqual(live.by_state, counts)
        for task_id in alive:
            self.assertTrue(self.core.stored(task_id).finished)
        self.assert_idle()
        self.assertEqual(self.core.queue._tasks, {})
        # A failed task begins anew when it is sent again: each has as many ends as beginnings, or one less if erased.
        ends = Counter(after.id for _, after in self.core.transitions if after.finished)
        self.assertEqual(ends - begun, Counter())
        self.assertEqual({task_id: ends[task_id] for task_id in alive}, {task_id: begun[task_id] for task_id in alive})
        self.assertEqual(self.flushLoggedErrors(), [])


def ignore(failure: Any) -> None:
    """For operations that a full disk doesn't take."""

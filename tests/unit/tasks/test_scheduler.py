"""Running tasks to completion: order, deadlines, a failing upstream or disk, stops, restarts and the window.

Codes such as (D7) are rows of docs/battery.md.
"""

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

from merlind.core.interfaces import PhotoMissing
from merlind.core.limiter import LimiterState
from merlind.core.outcome import (
    Fault,
    HandleExpired,
    Outcome,
    Pending,
    Rejected,
    Scored,
    Source,
    TaskError,
    TransientError,
)
from merlind.core.task import Repeat, State, Task
from merlind.tasks import scheduler as scheduler_module
from merlind.tasks.queue import TICK
from merlind.tasks.scheduler import LOAD_PAUSE
from merlind.tasks.worker import SAVE_RETRY
from tests.unit.support import EPOCH, Core, UpstreamRequest, fail_on, raising, sqlite_error

NO = TaskError("upstream_422", "no face")
FULL = sqlite_error("SQLITE_FULL", "full")


def always(outcome: Outcome, seconds: float = 0.0) -> Callable[[UpstreamRequest], tuple[float, Outcome]]:
    """Return a script: every request gets ``outcome``, after so many seconds."""
    return lambda request: (seconds, outcome)


class SchedulerCase(SynchronousTestCase):
    """A scheduler over a real store and a fake upstream."""

    def make(self, start: bool = True, **settings: Any) -> Core:
        self.core = Core(self, **settings)
        self.renew()
        if start:
            self.start()
        return self.core

    def renew(self) -> None:
        self.upstream, self.scheduler, self.limiter = self.core.upstream, self.core.scheduler, self.core.limiter

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
        """Store tasks before the scheduler starts."""
        return [self.core.accept(photo=b"%d" % n) for n in range(count)]

    def forget_before(self, outcome: Any) -> Callable[[UpstreamRequest], Any]:
        """Return a script: the scheduler forgets the task before its outcome comes."""

        def script(request: UpstreamRequest) -> Any:
            self.scheduler.forget(request.task.id)
            return outcome

        return script

    def in_flight(self) -> list[int]:
        """Return the ids of the tasks with a request in flight."""
        return [request.task.id for request in self.upstream.requests]

    def finished(self) -> dict[int, Task]:
        """Return the tasks reported as finished, by id; each may be reported once."""
        finished = [after for _, after in self.core.transitions if after.finished]
        self.assertEqual(len({task.id for task in finished}), len(finished), "a task finished twice")
        return {task.id: task for task in finished}

    def assert_idle(self) -> None:
        """Assert that no request is in flight, no task is ready and no timer is set."""
        self.assertEqual(self.core.reactor.getDelayedCalls(), [])
        self.assertEqual((self.upstream.requests, self.core.worker.in_flight, self.core.queue.ready), ([], 0, 0))


class OneTaskTests(SchedulerCase):
    """One task, from its upload to its end."""

    def test_upload_polls_result(self) -> None:
        """A task is uploaded, polled at the interval and saved with its result; its photo is deleted."""
        self.make()
        task = self.core.submit()
        self.assertEqual((self.upstream.one.kind, self.upstream.one.task), ("upload", task))
        self.assertEqual(self.core.queue.get(task.id), task)
        self.upstream.one.respond(Pending("a"))
        self.core.settle()
        self.assertEqual(self.core.stored(task.id).retry_id, "a")
        for retry_id, outcome in (("a", Pending(None)), ("a", Pending("b")), ("b", Scored(0.83))):
            self.run_for(1.99)
            self.assertEqual(self.upstream.requests, [])
            self.run_for(0.01)
            self.assertEqual((self.upstream.one.kind, self.upstream.one.task.retry_id), ("poll", retry_id))
            self.upstream.one.respond(outcome)
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

    def test_reported_once_durable(self) -> None:
        """A finished task is reported when it is committed, and not before."""
        self.make()
        task = self.core.submit()
        self.upstream.one.respond(Scored(0.5))
        self.assertEqual(self.core.transitions, [])
        self.assertIsNotNone(self.core.queue.get(task.id))
        self.core.settle()
        self.assertEqual(list(self.finished()), [task.id])

    def test_rejected(self) -> None:
        """A rejection fails the task with the upstream's reason, and its photo is deleted."""
        self.make()
        task = self.core.submit()
        self.upstream.one.respond(Rejected(NO))
        self.core.settle()
        self.assertEqual(self.core.stored(task.id).error, NO)
        self.assertEqual(self.core.files(), [])
        self.assert_idle()

    def test_handle_expired(self) -> None:
        """A retry_id that the upstream doesn't know is asked for again; then the photo is uploaded again (U14)."""
        self.make()
        task = self.core.submit()
        self.upstream.one.respond(Pending("a"))
        for pause in (2, 2, 4, 8, 16):
            self.run_for(pause - 0.01)
            self.assertEqual(self.upstream.requests, [])
            self.run_for(0.01)
            self.assertEqual((self.upstream.one.kind, self.upstream.one.task.retry_id), ("poll", "a"))
            self.assertEqual(self.core.stored(task.id).state, State.POLL)
            self.upstream.one.respond(HandleExpired())
            self.core.settle()
        stored = self.core.stored(task.id)
        self.assertEqual((stored.state, stored.uploads, stored.reuploads), (State.UPLOAD, 1, 1))
        self.assertEqual(self.core.files(), [str(task.id)])
        self.run_for(3.99)
        self.assertEqual(self.upstream.requests, [])
        self.run_for(0.01)
        self.assertEqual(self.upstream.one.kind, "upload")

    def test_handle_expires_again_and_again(self) -> None:
        """A photo is uploaded five more times at most; a new start goes on counting; then its task fails (U14)."""
        self.make(start=False)
        self.script_expiring()
        self.start()
        task = self.core.submit()
        self.run_for(40)
        self.assertEqual(self.core.stored(task.id).reuploads, 1)
        self.restart()
        self.script_expiring()
        self.start()
        self.run_for(2000)
        self.assertEqual(self.core.stored(task.id).error.code, "handle_expired")
        self.assertEqual(self.upstream.kinds().count("upload"), 4)
        self.assertEqual(self.core.worker.repeated_uploads[Repeat.HANDLE_EXPIRED], 4)
        self.assertEqual(self.core.files(), [])
        self.assertEqual((self.core.queue.reuploads, self.core.queue.suspects), (0, 0))
        self.assert_idle()

    def script_expiring(self) -> None:
        """Let the upstream take each photo, and not know it when it is polled for."""
        self.upstream.script = lambda request: Pending("a") if request.kind == "upload" else HandleExpired()

    def test_repeated_uploads(self) -> None:
        """A photo that is sent again is counted, with the reason; one that never went out isn't (U19)."""
        self.make(concurrency=1000)
        self.core.submit()
        refused = TransientError("no connection", sent=False)
        for outcome in (refused, TransientError("cut"), refused, TransientError("cut")):
            self.upstream.one.respond(outcome)
            self.run_until_request()
        self.assertEqual([*self.core.worker.repeated_uploads.values()], [0, 1, 0])
        self.restart()
        self.core.reactor.advance(1)
        self.start()
        self.assertEqual(self.upstream.one.kind, "upload")
        self.upstream.one.respond(Scored(0.5))
        self.assertEqual(self.core.worker.repeated_uploads[Repeat.RESTART], 1)
        self.core.settle()
        self.core.submit(photo=b"new")
        self.upstream.one.respond(Scored(0.5))
        self.assertEqual(sum(self.core.worker.repeated_uploads.values()), 1)

    def test_too_many_attempts(self) -> None:
        """A task that keeps failing while others succeed is set apart, and fails after --max-attempts (U15).

        What counts against it is stored each time, so that a new start goes on counting.
        """
        self.make(start=False, max_attempts=3)
        bad = TransientError("http 500")
        self.upstream.script = lambda request: bad if request.task.name == "bad" else Scored(0.5)
        self.start()
        task, seen = self.core.submit("bad"), set()
        for n in range(200):
            self.core.submit(photo=b"%d" % n)
            self.run_for(0.5)
            stored = self.core.stored(task.id)
            seen.add((stored.blamed, self.core.queue.suspects))
        self.assertEqual(seen, {(0, 0), (1, 1), (2, 1), (3, 0)})
        self.assertEqual(self.core.stored(task.id).error.code, "too_many_attempts")
        self.assertEqual(len(self.finished()), 201)
        self.assertEqual(self.core.queue.suspects, 0)
        self.assert_idle()

    def test_transient_errors(self) -> None:
        """Transient errors lengthen the pauses, a pending response resets them, and a Retry-After is kept."""
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
            self.upstream.one.respond(outcome)
            self.run_for(200) if isinstance(outcome, Scored) else self.run_until_request()
        self.assertEqual(began, [0, 2, 6, 106, 108, 110, 112])
        self.assertEqual(self.finished()[1].result, 1)

    def run_until_request(self) -> None:
        for _ in range(2000):
            if self.upstream.requests:
                return
            self.run_for(0.25)
        self.fail("no further request was made")

    def test_photo_missing(self) -> None:
        """A missing photo fails its task (photo_lost), and isn't blamed on the upstream."""
        self.make()
        task = self.core.submit()
        self.upstream.one.lose_photo()
        self.core.settle()
        self.assertEqual(self.core.stored(task.id).error.code, "photo_lost")
        self.assertEqual(self.limiter.state, LimiterState.FULL)
        self.assert_idle()

    def test_photo_missing_and_erased(self) -> None:
        """A missing photo of a task that was erased meanwhile changes nothing."""
        self.make(start=False)
        self.upstream.script = self.forget_before(PhotoMissing("gone"))
        self.start()
        self.core.submit()
        self.assertEqual(self.core.transitions, [])

    def test_unexpected_error(self) -> None:
        """A bug in a request, at once or later, is logged; the task goes on as after a transient error."""
        self.make()
        for later in (False, True):
            with MonkeyPatcher((self.upstream, "send", upload_later if later else upload_raising)):
                task = self.core.submit(photo=b"%d" % later)
            self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
            self.run_for(2)
            self.assertEqual(
                (self.upstream.one.task.id, self.upstream.one.task.last_error), (task.id, "unexpected error")
            )
            self.upstream.one.respond(Scored(0.5))
            self.core.settle()
            self.assertEqual(self.core.stored(task.id).result, 0.5)

    def test_erased_in_flight(self) -> None:
        """Erasing a task cancels its request, and no other request is made for it."""
        self.make()
        task = self.core.submit()
        request = self.upstream.one
        self.assertTrue(self.core.now(self.core.erasing(task.id)))
        self.assertTrue(request.cancelled)
        self.assertIsNone(self.core.queue.get(task.id))
        self.assertIsNone(self.core.stored(task.id))
        self.assertEqual(self.core.files(), [])
        self.run_for(100)
        self.assertEqual(len(self.upstream.begun), 1)
        self.assert_idle()

    def test_erased_before_the_response(self) -> None:
        """The response for a task that was erased counts as progress, and changes nothing else."""
        self.make(start=False)
        self.upstream.script = self.forget_before(Scored(0.5))
        self.start()
        self.run_for(1)
        self.core.submit()
        self.assertEqual((self.core.transitions, self.limiter.last_success(State.UPLOAD)), ([], 1.0))
        self.assert_idle()

    def test_bug_in_on_transition(self) -> None:
        """An error in on_transition is logged, and the request counts as ended all the same."""
        self.make()
        self.core.submit()
        self.patch(self.core.results, "on_transition", raising(ZeroDivisionError()))
        self.upstream.one.respond(Pending("a"))
        self.assertEqual(self.core.worker.in_flight, 0)
        self.assertNotEqual(self.flushLoggedErrors(), [])

    def test_erased_between_polls(self) -> None:
        """A task erased between two polls isn't polled again; forgetting an unknown id does nothing."""
        self.make()
        task = self.core.submit()
        self.upstream.one.respond(Pending("a"))
        self.core.settle()
        self.core.now(self.core.erasing(task.id))
        self.scheduler.forget(99)
        self.run_for(100)
        self.assertEqual(len(self.upstream.begun), 1)
        self.assert_idle()

    def test_erased_while_its_result_is_saved(self) -> None:
        """A task erased before its result is committed is never reported as finished."""
        self.make()
        task = self.core.submit()
        deleted = self.core.erasing(task.id)
        self.upstream.one.respond(Scored(0.5))
        self.assertTrue(self.core.now(deleted))
        self.assertIsNone(self.core.stored(task.id))
        self.assertEqual(self.finished(), {})
        self.assertEqual(sum(self.core.counts.by_state.values()), 0)
        self.assert_idle()

    def test_failed_task_sent_again(self) -> None:
        """A failed task that is submitted again runs again, under the same id."""
        self.make()
        task = self.core.submit()
        self.upstream.one.respond(Rejected(NO))
        self.core.settle()
        self.assertEqual(self.core.submit().id, task.id)
        self.upstream.one.respond(Scored(0.5))
        self.core.settle()
        self.assertEqual(self.core.stored(task.id).result, 0.5)

    def test_deleted_from_the_store(self) -> None:
        """A task that the store finds deleted when it saves it is dropped, whether finished or not."""
        for outcome in (Pending("a"), Scored(0.5)):
            self.make()
            task = self.core.submit()
            self.patch(self.core.store, "save", lambda task: defer.succeed(False))
            self.upstream.one.respond(outcome)
            self.core.settle()
            self.assertIsNone(self.core.queue.get(task.id))
            self.assertEqual(self.finished(), {})
            self.run_for(100)
            self.assertEqual(len(self.upstream.begun), 1)

    def test_added_twice(self) -> None:
        """Adding a task that is in memory already does nothing."""
        self.make()
        task = self.core.submit()
        self.scheduler.add(task)
        self.upstream.one.respond(Scored(0.5))
        self.run_for(100)
        self.assertEqual(len(self.upstream.begun), 1)

    def test_counts(self) -> None:
        """The task counts follow each transition, and a finished task has no photo bytes."""
        self.make()
        self.core.submit()
        seen = [dict(self.core.counts.by_state)]
        for outcome in (Pending("a"), Scored(0.5)):
            self.run_for(2)
            self.upstream.one.respond(outcome)
            self.core.settle()
            seen.append(dict(self.core.counts.by_state))
        self.assertEqual([{k: v for k, v in s.items() if v} for s in seen], [{"upload": 1}, {"poll": 1}, {"ready": 1}])
        self.assertEqual(self.core.counts.photo_bytes, 0)


async def upload_raising(task: Task) -> Outcome:
    raise ZeroDivisionError


async def upload_later(task: Task) -> Outcome:
    outcome: Outcome = await defer.fail(ZeroDivisionError())
    return outcome


class OrderTests(SchedulerCase):
    """Which task is next, and how many requests are in flight."""

    def test_due_order(self) -> None:
        """The task that is due first is sent first."""
        self.make(start=False, concurrency=1)
        tasks = self.accept(4)
        for task, due in zip(tasks, (3.0, 1.0, 4.0, 2.0), strict=True):
            self.core.now(self.core.store.save(replace(task, due=due)))
        self.upstream.script = always(Scored(0.5), 10.0)
        self.start()
        self.run_for(100)
        self.assertEqual([request.task.id for request in self.upstream.begun], [2, 4, 1, 3])
        self.assertEqual([request.began for request in self.upstream.begun], [1, 11, 21, 31])

    def test_not_before_due(self) -> None:
        """No task is sent before it is due, except for one due within the same tick."""
        self.make(start=False)
        for task, due in zip(self.accept(3), (5.0, 5.0 + TICK / 2, 5.0 + 3 * TICK), strict=True):
            self.core.now(self.core.store.save(replace(task, due=due)))
        self.upstream.script = always(Scored(0.5))
        self.start()
        self.run_for(20)
        self.assertEqual([request.began for request in self.upstream.begun], [5.0, 5.0, 5.0 + 3 * TICK])

    def test_concurrency(self) -> None:
        """No more requests are in flight than allowed; when one ends, the next begins."""
        self.make(concurrency=3)
        self.submit(10)
        self.assertEqual((self.in_flight(), self.core.worker.in_flight, self.core.queue.ready), ([1, 2, 3], 3, 7))
        self.upstream.requests[1].respond(Scored(0.5))
        self.core.settle()
        self.assertEqual(self.in_flight(), [1, 3, 4])
        self.upstream.script = always(Scored(0.5), 0.1)
        for request in list(self.upstream.requests):
            request.respond(Scored(0.5))
        self.run_for(1)
        self.assertEqual(len(self.finished()), 10)
        self.assertEqual(self.upstream.most_at_once, 3)
        self.assert_idle()

    def test_uploads_and_polls_alternate(self) -> None:
        """Uploads and polls alternate, whichever there are more of."""
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

    def test_no_recursion(self) -> None:
        """Requests that end at once don't recurse."""
        self.make(start=False, concurrency=1)
        self.accept(1500)
        self.upstream.script = lambda request: Scored(0.5)
        self.start()
        self.run_for(1)
        self.assertEqual(len(self.finished()), 1500)
        self.assert_idle()

    def test_one_timer(self) -> None:
        """However many tasks wait, there is one timer."""
        self.make()
        self.submit(20)
        for request in list(self.upstream.requests):
            request.respond(Pending("a"))
            self.run_for(0.0625)
        self.assertEqual(len(self.core.reactor.getDelayedCalls()), 1)

    def test_wall_clock_steps(self) -> None:
        """Steps of the wall clock by days cause no storm of polls, no stall and no failed task (D7)."""
        self.make(give_up_after=1000.0)
        self.core.submit()
        for step in (172800.0, -345600.0):
            self.upstream.one.respond(Pending("a"))
            self.core.epoch += step
            self.run_for(1.75)
            self.assertEqual(self.upstream.requests, [])
            self.run_for(0.25)
            self.assertEqual(self.upstream.one.kind, "poll")


class DeadlineTests(SchedulerCase):
    """Tasks that reach their deadline."""

    def assert_gives_up(self, at: float, reason: str, source: Source = Source.UPSTREAM) -> None:
        """Assert that the one task fails at this time and not before, and that its photo is deleted."""
        self.run_for(at - self.core.reactor.seconds() - 0.25)
        self.assertEqual(self.finished(), {})
        self.run_for(0.25)
        (task,) = self.finished().values()
        self.assertEqual(task.error, TaskError("gave_up", f"no score in time; last: {reason}", source))
        self.assertNotIn(str(task.id), self.core.files())

    def test_pending_for_ever(self) -> None:
        """A task that is pending for ever fails at its deadline (U8)."""
        self.make(start=False, give_up_after=101.0)
        self.upstream.script = always(Pending("a"))
        self.start()
        self.core.submit()
        self.assert_gives_up(101, "still waiting for a score")
        self.assert_idle()

    def test_only_transient_errors(self) -> None:
        """A task that meets nothing but transient errors fails at its deadline. Alone, it makes no outage."""
        self.make(start=False, give_up_after=1000.0, concurrency=2)
        self.upstream.script = always(TransientError("http 503"))
        self.start()
        self.core.submit()
        self.assert_gives_up(1000, "http 503")
        self.assertEqual(self.limiter.state, LimiterState.FULL)
        self.run_for(4000)
        self.assert_idle()

    def test_in_an_outage(self) -> None:
        """A task that waits for its probe in an outage fails at its deadline."""
        self.make(give_up_after=50.0, concurrency=1)
        self.submit(6)
        for _ in range(5):
            request = self.upstream.one
            request.respond(TransientError("http 503", 3600.0, Fault.UNAVAILABLE))
            self.core.settle()
            self.core.now(self.core.erasing(request.task.id))
        assert self.limiter.outage is not None
        self.assertEqual((self.limiter.state, self.limiter.outage.probe_at), (LimiterState.OUTAGE, 60.0))
        self.assert_gives_up(50, "never reached the upstream")

    def test_misconfigured_all_along(self) -> None:
        """A task that fails at its deadline because our settings are wrong blames merlind."""
        self.make(start=False, give_up_after=50.0)
        self.upstream.script = always(TransientError("http 401", fault=Fault.MISCONFIGURED))
        self.start()
        task = self.core.submit()
        self.assert_gives_up(50, "http 401", Source.MERLIND)
        self.assertEqual(self.core.stored(task.id).error.source, Source.MERLIND)

    def test_behind_a_slow_request(self) -> None:
        """A task that waits for another one's slow request fails at its deadline."""
        self.make(give_up_after=100.0, concurrency=1)
        self.submit(2)
        self.assert_gives_up(100, "never reached the upstream")
        self.assertEqual(self.in_flight(), [1])

    def test_each_at_its_own_deadline(self) -> None:
        """Waiting tasks fail one by one, each at its own deadline; an erased one isn't reported."""
        self.make(give_up_after=100.0, concurrency=1)
        for n in range(4):
            self.core.submit(photo=b"%d" % n)
            self.run_for(10)
        self.core.now(self.core.erasing(2))
        seen = []
        for _ in range(9):
            self.run_for(10)
            seen.append(sorted(self.finished()))
        self.assertEqual(seen, [[]] * 7 + [[3], [3, 4]])

    def test_request_in_flight_at_the_deadline(self) -> None:
        """A request in flight at the deadline may still bring the score; the task fails only if it doesn't."""
        self.make(give_up_after=100.0)
        self.submit(2)
        self.run_for(110)
        first, second = self.upstream.requests
        first.respond(Pending("a"))
        second.respond(Scored(0.5))
        self.core.settle()
        self.assertEqual([task.state for task in self.finished().values()], [State.READY, State.FAILED])

    def test_off_time_does_not_count(self) -> None:
        """The time for which merlind was off doesn't count towards the deadline."""
        self.make(give_up_after=100.0)
        self.submit(1)
        self.run_for(50)
        self.core.accept(photo=b"so that the service time is stored")
        self.core.reactor.advance(10_000)
        self.restart()
        self.start()
        self.core.epoch += 100_000
        self.assertEqual(self.in_flight(), [1, 2])
        self.assertEqual(self.finished(), {})


class OutageTests(SchedulerCase):
    """A failing upstream."""

    def test_probes_and_opens(self) -> None:
        """Failures of all leave one probe at a time, after pauses; then each success allows one request more."""
        self.make(concurrency=8)
        self.submit(20)
        error = TransientError("http 503", fault=Fault.UNAVAILABLE)
        for request in list(self.upstream.requests):
            request.respond(error)
        self.core.settle()
        self.assertEqual((self.upstream.requests, self.limiter.state), ([], LimiterState.OUTAGE))
        probes = []
        for pause in (0.5, 0.75, 1.125):
            self.run_for(pause - 0.03)
            self.assertEqual(self.upstream.requests, [])
            self.run_for(0.03 + TICK)
            probes.append(self.upstream.one.task.id)
            self.upstream.one.respond(error if pause < 1 else Scored(0.5))
        self.assertEqual(probes, [20, 9, 19])
        for at_once in (1, 2, 3):
            self.core.settle()
            self.assertEqual(len(self.upstream.requests), at_once)
            self.upstream.requests[0].respond(Scored(0.5))
        self.upstream.script = always(Scored(0.5), 0.1)
        for request in list(self.upstream.requests):
            request.respond(Scored(0.5))
        self.run_for(100)
        self.assertEqual(len(self.finished()), 20)
        self.assert_idle()

    def test_hour_of_outage(self) -> None:
        """An hour of outage under load makes no hot loop and no herd, and then all tasks finish (U12)."""
        self.make(start=False, concurrency=8, jitter=Random(7).random)
        outage = (60.0, 3660.0)
        per_second: Counter[int] = Counter()

        def script(request: UpstreamRequest) -> tuple[float, Outcome]:
            now = self.core.reactor.seconds()
            self.assertTrue(len(self.upstream.requests) <= max(self.limiter.limit, 1))
            per_second[int(now)] += 1
            if outage[0] <= now < outage[1]:
                return (0.05, TransientError("connection lost", fault=Fault.UNAVAILABLE))
            return (0.05, Pending("a") if request.kind == "upload" else Scored(0.5))

        self.upstream.script = script
        self.start()
        for n in range(300):
            self.core.reactor.callLater(n * 10.0 + 1, self.core.submitting, self.core.submission(photo=b"%d" % n))
        self.run_for(3660)
        during = [count for second, count in per_second.items() if outage[0] + 10 <= second < outage[1]]
        self.assertTrue(sum(during) < 200, "a hot loop in the outage")
        self.assertEqual(self.limiter.state, LimiterState.OUTAGE)
        self.assertTrue(len(self.finished()) < 10)
        self.run_for(600)
        self.assertEqual(len(self.finished()), 300)
        self.assertEqual({task.state for task in self.finished().values()}, {State.READY})
        self.assertEqual(self.limiter.state, LimiterState.FULL)
        self.assert_idle()

    def test_misconfigured(self) -> None:
        """A misconfiguration is reported until the upstream responds well; the task is kept."""
        self.make()
        task = self.core.submit()
        self.upstream.one.respond(TransientError("http 401", fault=Fault.MISCONFIGURED))
        self.assertEqual(self.core.limiter.misconfigured, "http 401")
        self.run_for(2)
        self.upstream.one.respond(TransientError("http 503"))
        self.assertEqual(self.core.limiter.misconfigured, "http 401")
        self.run_for(4)
        self.upstream.one.respond(Pending("a"))
        self.assertIsNone(self.core.limiter.misconfigured)
        self.core.settle()
        self.assertEqual(self.core.stored(task.id).state, State.POLL)

    def test_newcomer_is_probed_soon(self) -> None:
        """In an outage a new task needn't wait for the long pause: those that failed may have themselves to blame."""
        self.make(start=False, concurrency=8)
        down = TransientError("http 503", fault=Fault.UNAVAILABLE)
        self.upstream.script = lambda request: down if request.task.name == "bad" else Scored(0.5)
        self.start()
        for n in range(20):
            self.core.submit("bad", photo=b"%d" % n)
        self.run_for(600)
        self.assertEqual(self.limiter.state, LimiterState.OUTAGE)
        self.core.submit("Anna")
        self.run_for(5 + TICK)
        self.assertEqual([task.name for task in self.finished().values()], ["Anna"])


class DiskTests(SchedulerCase):
    """A store that is unavailable or broken."""

    def test_result_not_saved(self) -> None:
        """A result that can't be saved is kept and saved later, and isn't reported before."""
        self.make()
        task = self.core.submit()
        self.core.watch.fault = fail_on("BEGIN", FULL)
        self.upstream.one.respond(Scored(0.5))
        self.run_for(SAVE_RETRY * 3 + 1)
        self.assertEqual(self.finished(), {})
        self.core.watch.fault = lambda sql: None
        self.assertEqual(self.core.stored(task.id).state, State.UPLOAD)
        self.run_for(SAVE_RETRY)
        self.assertEqual(self.finished()[task.id].result, 0.5)
        self.assertEqual(self.core.stored(task.id).result, 0.5)
        self.assertEqual(len(self.upstream.begun), 1)
        self.assert_idle()

    def test_result_not_saved_and_erased(self) -> None:
        """A task erased before its result could be saved is never reported as finished."""
        self.make()
        task = self.core.submit()
        self.core.watch.fault = fail_on("BEGIN", FULL)
        self.upstream.one.respond(Scored(0.5))
        self.core.settle()
        self.core.watch.fault = lambda sql: None
        self.core.now(self.core.erasing(task.id))
        self.run_for(SAVE_RETRY)
        self.assertEqual(self.finished(), {})
        self.assert_idle()

    def test_retry_id_not_saved(self) -> None:
        """While a retry_id can't be saved polls go on; later the newest state is saved."""
        self.make()
        task = self.core.submit()
        self.core.watch.fault = fail_on("BEGIN", FULL)
        self.upstream.one.respond(Pending("a"))
        self.run_for(2)
        self.upstream.one.respond(Pending("b"))
        self.run_for(2)
        self.upstream.one.respond(Pending(None))
        self.core.watch.fault = lambda sql: None
        self.run_for(SAVE_RETRY)
        self.assertEqual(self.core.stored(task.id).retry_id, "b")

    def test_retry_id_not_saved_and_finished(self) -> None:
        """A save that is repeated later doesn't make a finished task unfinished again."""
        self.make()
        task = self.core.submit()
        self.core.watch.fault = fail_on("BEGIN", FULL)
        self.upstream.one.respond(Pending("a"))
        self.run_for(2)
        self.core.watch.fault = lambda sql: None
        self.upstream.one.respond(Scored(0.5))
        self.run_for(SAVE_RETRY * 2)
        self.assertEqual(self.core.stored(task.id).state, State.READY)
        self.assert_idle()

    def test_page_not_read(self) -> None:
        """Tasks that can't be loaded at the start are loaded later."""
        self.make(start=False)
        self.accept(3)
        self.core.watch.fault = fail_on("SELECT", FULL)
        self.start()
        self.assertEqual(self.upstream.requests, [])
        self.core.watch.fault = lambda sql: None
        self.run_for(SAVE_RETRY)
        self.assertEqual(self.in_flight(), [1, 2, 3])

    def test_broken(self) -> None:
        """With a broken store nothing is retried or reported as finished, and nothing raises."""
        broken = sqlite_error("SQLITE_IOERR_FSYNC")
        for start, outcome in (("BEGIN", Scored(0.5)), ("BEGIN", Pending("a"))):
            self.make()
            self.core.submit()
            self.core.watch.fault = fail_on(start, broken)
            self.upstream.one.respond(outcome)
            self.core.settle()
            self.assertEqual(len(self.core.broken), 1)
            self.assertEqual(self.finished(), {})
        self.make(start=False)
        self.accept(1)
        self.core.watch.fault = fail_on("SELECT", broken)
        self.start()
        self.assertEqual(len(self.core.broken), 1)
        self.assert_idle()


class StopTests(SchedulerCase):
    """Stopping, and the next start."""

    def test_nothing_in_flight(self) -> None:
        """With nothing in flight it stops at once, and no timer remains."""
        self.make()
        self.submit(3)
        for request in list(self.upstream.requests):
            request.respond(Pending("a"))
        self.core.settle()
        self.successResultOf(self.scheduler.stop(4.0))
        self.assert_idle()

    def test_grace(self) -> None:
        """Requests in flight get the grace period, and their outcomes are saved; no other begins."""
        self.make(concurrency=2)
        self.submit(4)
        d = self.scheduler.stop(4.0)
        self.run_for(3)
        first, second = self.upstream.requests
        first.respond(Pending("a"))
        self.assertNoResult(d)
        second.respond(Scored(0.5))
        self.successResultOf(d)
        self.core.settle()
        self.assertEqual([self.core.stored(n).state for n in (1, 2)], [State.POLL, State.READY])
        self.assertEqual(len(self.upstream.begun), 2)
        self.assertEqual(self.core.reactor.getDelayedCalls(), [])

    def test_cancelled_after_the_grace(self) -> None:
        """After the grace period requests are cancelled; the next start repeats them."""
        self.make()
        self.submit(2)
        d = self.scheduler.stop(4.0)
        self.run_for(3.75)
        self.assertNoResult(d)
        self.run_for(0.25)
        self.successResultOf(d)
        self.assertTrue(all(request.cancelled for request in self.upstream.begun))
        self.assertEqual(self.core.reactor.getDelayedCalls(), [])
        self.restart()
        self.start()
        self.assertEqual(self.in_flight(), [1, 2])

    def test_saves_abandoned(self) -> None:
        """A stop doesn't wait for saves that wait for the disk, and leaves no timer for them."""
        self.make()
        self.submit(2)
        self.core.watch.fault = fail_on("BEGIN", FULL)
        outcomes: tuple[Outcome, ...] = (Scored(0.5), Pending("a"))
        for request, outcome in zip(list(self.upstream.requests), outcomes, strict=True):
            request.respond(outcome)
        self.core.settle()
        saving = self.scheduler.stop(4.0)
        self.successResultOf(saving)
        self.assert_idle()

    def test_save_fails_after_the_stop(self) -> None:
        """A save that fails after the stop sets no timer."""
        self.make()
        self.submit(1)
        self.core.watch.fault = fail_on("BEGIN", FULL)
        d = self.scheduler.stop(4.0)
        self.upstream.one.respond(Scored(0.5))
        self.core.settle()
        self.successResultOf(d)
        self.assert_idle()

    def test_restart_continues(self) -> None:
        """A restart continues each task where it was: one with a retry_id isn't uploaded again."""
        self.make()
        self.submit(2)
        self.upstream.requests[0].respond(Pending("a"))
        self.core.settle()
        self.restart()
        self.start()
        self.run_for(2)
        self.assertEqual(sorted((e.kind, e.task.id) for e in self.upstream.requests), [("poll", 1), ("upload", 2)])

    def test_added_before_the_start(self) -> None:
        """A task that was added before the start is sent after it, once."""
        self.make(start=False)
        self.submit(1)
        self.run_for(1)
        self.assertEqual(self.in_flight(), [])
        self.start()
        self.run_for(1)
        self.assertEqual(self.in_flight(), [1])


class WindowTests(SchedulerCase):
    """More unfinished tasks than are kept in memory."""

    def in_memory(self) -> int:
        return len(self.core.queue._tasks)

    def test_loaded_with_pauses(self) -> None:
        """Unfinished tasks are loaded page by page, with pauses in which clients are served."""
        self.patch(scheduler_module, "LOAD_PAGE", 2)
        self.make(start=False, concurrency=1)
        self.accept(5)
        self.start()
        for loaded in (2, 4, 5):
            self.assertEqual(sum(self.core.queue.get(task_id) is not None for task_id in range(1, 6)), loaded)
            self.run_for(LOAD_PAUSE)

    def test_all_finish(self) -> None:
        """500 tasks through a window of 10: all finish, each once, and never more than 10 are in memory."""
        self.make(start=False, window=10, concurrency=4)
        self.accept(500)
        most = 0

        def script(request: UpstreamRequest) -> tuple[float, Outcome]:
            nonlocal most
            most = max(most, self.in_memory())
            return (0.05, Pending("a") if request.kind == "upload" else Scored(0.5))

        self.upstream.script = script
        self.start()
        self.run_for(600)
        self.assertEqual(len(self.finished()), 500)
        self.assertEqual(Counter(self.upstream.kinds()), {"upload": 500, "poll": 500})
        self.assertTrue(most <= 10, most)
        self.assertEqual(self.core.files(), [])
        self.assert_idle()

    def test_added_to_a_full_window(self) -> None:
        """New tasks that find memory full wait in the store, and finish too."""
        self.make(window=4, concurrency=2)
        self.submit(30)
        self.assertEqual(self.in_memory(), 4)
        self.upstream.script = always(Scored(0.5), 0.1)
        for request in list(self.upstream.requests):
            request.respond(Scored(0.5))
        self.run_for(60)
        self.assertEqual(len(self.finished()), 30)
        self.assertEqual(len(self.upstream.begun), 30)
        self.assert_idle()

    def test_due_before_the_horizon(self) -> None:
        """A new task due before those in memory is sent before them."""
        self.make(start=False, window=4)
        for task in self.accept(8):
            self.core.now(self.core.store.save(replace(task, due=1000.0 + task.id)))
        self.start()
        self.assertEqual((self.in_memory(), self.upstream.requests), (4, []))
        self.core.submit(photo=b"new")
        self.assertEqual(self.in_flight(), [9])

    def test_evicted(self) -> None:
        """A task due beyond the horizon is saved and evicted; it is loaded again when it is due."""
        self.make(start=False, window=2, concurrency=8)
        tasks = self.accept(6)
        self.start()
        self.submit_between()
        for request in list(self.upstream.requests):
            request.respond(Pending("a", retry_after=50.0))
        self.core.settle()
        self.assertTrue(self.in_memory() <= 3)
        self.upstream.script = lambda request: (0.1, Pending("a") if request.kind == "upload" else Scored(0.5))
        for request in list(self.upstream.requests):
            request.respond(Scored(0.5))
        self.run_for(200)
        self.assertEqual(set(self.finished()), {task.id for task in tasks} | {7})
        self.assert_idle()

    def submit_between(self) -> None:
        """Add a task due before the horizon, one more than the window has room for."""
        (connection,) = self.core.pool.connections.values()
        task = self.core.accept(photo=b"between")
        connection.execute("UPDATE task SET due = -1, since = -1 WHERE id = 7")
        self.scheduler.add(replace(task, due=-1.0, since=-1.0))
        self.core.settle()

    def test_full_disk_prevents_eviction(self) -> None:
        """A task that can't be saved stays in memory, and is polled in time."""
        self.make(start=False, window=2, concurrency=8)
        self.accept(6)
        self.start()
        self.submit_between()
        self.core.watch.fault = fail_on("BEGIN", FULL)
        for request in list(self.upstream.requests):
            request.respond(Pending("a"))
        self.core.settle()
        self.assertEqual(self.in_memory(), 3)
        self.run_for(2)
        self.assertEqual(sorted(request.kind for request in self.upstream.requests), ["poll"] * 3)
        self.core.watch.fault = lambda sql: None

    def test_erased_while_evicted(self) -> None:
        """A task erased while it is saved for eviction is gone, whether the save succeeds or not."""
        for fault in (None, FULL):
            self.make(start=False, window=2, concurrency=8)
            self.accept(6)
            self.start()
            self.submit_between()
            self.core.watch.fault = fail_on("BEGIN", fault) if fault else lambda sql: None
            for request in list(self.upstream.requests):
                request.respond(Pending("a", retry_after=50.0))
            for task_id in (1, 2, 7):
                self.scheduler.forget(task_id)
            self.core.settle()
            self.assertEqual([self.core.queue.get(task_id) for task_id in (1, 2, 7)], [None] * 3)
            self.core.watch.fault = lambda sql: None

    def test_horizon_passes_the_task(self) -> None:
        """A task that the horizon passes while it is saved stays in memory: the store wouldn't load it again."""
        self.make(start=False, window=4)
        for task in self.accept(8):
            self.core.now(self.core.store.save(replace(task, due=1000.0 + task.id)))
        self.start()
        self.core.submit(photo=b"new")
        request = self.upstream.one
        more = [self.core.accept(photo=b"more %d" % n) for n in range(3)]
        for task_id in (1, 2, 3):
            self.scheduler.forget(task_id)
        for task in more:
            self.scheduler.add(task)
        request.respond(Pending("a", retry_after=1005.5))
        self.core.settle()
        self.assertEqual(self.core.stored(9).due, 1005.5)
        self.run_for(1006)
        self.assertIn(("poll", 9), [(request.kind, request.task.id) for request in self.upstream.requests])

    def test_all_in_memory_erased(self) -> None:
        """When all tasks in memory are erased, the next ones are loaded and sent."""
        self.make(start=False, window=2)
        tasks = self.accept(6)
        self.start()
        self.assertEqual(self.in_flight(), [1, 2])
        for task in tasks[:2]:
            self.core.now(self.core.erasing(task.id))
        self.core.settle()
        self.assertEqual(self.in_flight(), [3, 4])

    def test_window_of_one(self) -> None:
        """Even through a window of one, all tasks finish."""
        self.make(start=False, window=1)
        self.accept(5)
        self.upstream.script = lambda request: (0.1, Pending("a") if request.kind == "upload" else Scored(0.5))
        self.start()
        self.run_for(60)
        self.assertEqual(len(self.finished()), 5)


class RandomEventsTests(SchedulerCase):
    """Whatever happens, every task finishes exactly once, and none is lost."""

    @settings(max_examples=40, deadline=None, derandomize=True, database=None, report_multiple_bugs=False)
    @given(
        seed=st.integers(0, 2**32),
        window=st.integers(1, 12),
        concurrency=st.integers(1, 6),
        full_disk=st.booleans(),
        restarts=st.booleans(),
    )
    def test_random_events(self, seed: int, window: int, concurrency: int, full_disk: bool, restarts: bool) -> None:
        """After random outcomes, submissions, erasures, full disks and kills, all tasks are finished."""
        random = Random(seed)
        self.make(start=False, window=window, concurrency=concurrency, give_up_after=4000.0, jitter=random.random)
        alive: set[int] = set()
        added: Counter[int] = Counter()
        calm = False

        def script(request: UpstreamRequest) -> tuple[float, Outcome] | Exception:
            self.assertTrue(len(self.upstream.requests) <= max(1, self.limiter.limit))
            self.assertEqual(request.kind == "poll", request.task.state is State.POLL)
            self.assertEqual(
                len({e.task.id for e in self.upstream.requests}), len(self.upstream.requests), "twice at once"
            )
            latency = random.choice((0.0, 0.01, 0.5, 3.0))
            if calm:
                return latency, Pending("z") if request.kind == "upload" else Scored(1.0)
            return random.choice(
                (
                    (latency, Scored(random.random())),
                    (latency, Rejected(NO)),
                    (latency, Pending(random.choice("abc"), random.choice((0.0, 0.0, 20.0)))),
                    (latency, Pending("d")),
                    (latency, Pending("d")),
                    (latency, HandleExpired() if request.kind == "poll" else TransientError("http 503")),
                    (latency, TransientError("http 503", random.choice((0.0, 0.0, 9.0)))),
                    (30.0, TransientError("timed out")),
                    PhotoMissing("gone"),
                )
            )

        def submit() -> None:
            photo = b"%d" % random.randrange(60)
            d = self.core.submitting(self.core.submission(photo=photo))
            d.addCallbacks(lambda task: alive.add(task.id), ignore)

        def erase() -> None:
            if alive:
                task_id = random.choice(sorted(alive))

                def gone(was_there: bool) -> None:
                    if was_there:
                        alive.discard(task_id)

                self.core.erasing(task_id).addCallbacks(gone, ignore)

        def begin() -> None:
            """Start what was just built, with the script, and count the tasks added to the scheduler."""
            self.upstream.script = script
            add = self.scheduler.add

            def counted(task: Task) -> None:
                added[task.id] += 1
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
                erase()
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
        stored = self.core.now(self.core.store.count())
        self.assertEqual(stored.by_state[State.UPLOAD] + stored.by_state[State.POLL], 0, "a task was lost")
        self.assertEqual(stored.photo_bytes, 0)
        self.assertEqual(self.core.files(), [])
        counts, live = stored.by_state, self.core.counts
        self.assertEqual((live.unfinished, live.photo_bytes), (0, 0))
        self.assertEqual([live.by_state[s] for s in ("ready", "failed")], [counts[s] for s in ("ready", "failed")])
        if not full_disk:
            self.assertEqual(live.by_state, counts)
        for task_id in alive:
            self.assertTrue(self.core.stored(task_id).finished)
        self.assert_idle()
        self.assertEqual(self.core.queue._tasks, {})
        # Submitting a failed task adds it again: each finishes as often as it was added, or once less if it was erased.
        finished = Counter(after.id for _, after in self.core.transitions if after.finished)
        self.assertEqual(finished - added, Counter())
        self.assertEqual(
            {task_id: finished[task_id] for task_id in alive}, {task_id: added[task_id] for task_id in alive}
        )
        self.assertEqual(self.flushLoggedErrors(), [])


def ignore(failure: Any) -> None:
    """Ignore the failure of an operation that found the disk full."""

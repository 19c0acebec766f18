"""Pauses of the requests to the upstream."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from merlind.core.interfaces import StoreUnavailable
from merlind.core.outcome import Pending, Scored, TransientError
from merlind.core.pause import Pause
from merlind.core.task import State
from merlind.storage.sqlite import database
from tests.unit.support import Core, fail_on, sqlite_error

FULL = sqlite_error("SQLITE_FULL", "full")


class PauserCase(SynchronousTestCase):
    """A merlind that gives up after 100 s, and an upstream that the test plays."""

    def setUp(self) -> None:
        self.core = Core(self, give_up_after=100.0)
        self.core.start()
        self.core.settle()

    def restart(self) -> None:
        """A kill and a new start; the upstream is the same."""
        script = self.core.upstream.script
        self.core.restart()
        self.core.upstream.script = script
        self.core.start()
        self.core.settle()

    def pausing(self, seconds: float | None = None) -> "Deferred[None]":
        return Deferred.fromCoroutine(self.core.pauser.pause(seconds))

    def pause(self, seconds: float | None = None) -> None:
        self.core.now(self.pausing(seconds))

    def resuming(self) -> "Deferred[None]":
        return Deferred.fromCoroutine(self.core.pauser.resume())

    def resume(self) -> None:
        self.core.now(self.resuming())

    def run_for(self, seconds: float) -> None:
        self.core.reactor.run_for(seconds)

    def kinds(self) -> list[str]:
        return self.core.upstream.kinds()

    def stored(self) -> Pause:
        """The pause that the next start would find."""
        return database.pause(self.core.path / "tasks.sqlite")


class PausedTests(PauserCase):
    """What happens, and what doesn't, in a pause."""

    def test_no_new_requests(self) -> None:
        """In a pause photos are accepted and nothing is sent; afterwards all of them are."""
        self.pause()
        tasks = [self.core.submit(str(number)) for number in range(3)]
        self.run_for(50.0)
        self.assertEqual(self.kinds(), [])
        self.resume()
        self.core.settle()
        self.assertEqual({request.task.id for request in self.core.upstream.requests}, {task.id for task in tasks})

    def test_requests_in_flight_end(self) -> None:
        """A request in flight ends as it would have; what it asks for next waits."""
        scored, waiting = self.core.submit("Anna"), self.core.submit("Otto")
        self.core.settle()
        self.pause()
        self.core.upstream.requests[0].respond(Scored(0.5))
        self.core.upstream.one.respond(Pending("id-1"))
        self.run_for(50.0)
        states = [self.core.stored(task.id).state for task in (scored, waiting)]
        self.assertEqual((states, self.kinds()), ([State.READY, State.POLL], ["upload", "upload"]))
        self.resume()
        self.run_for(2.1)
        self.assertEqual(self.kinds(), ["upload", "upload", "poll"])

    def test_costs_no_patience(self) -> None:
        """However long it is, no task fails in it; each has as much time left as before."""
        self.core.upstream.script = lambda request: (0.0, TransientError("http 503"))
        task = self.core.submit()
        self.run_for(90.0)
        self.pause()
        requests = len(self.kinds())
        self.run_for(1e6)
        self.assertEqual((self.core.stored(task.id).state, len(self.kinds())), (State.UPLOAD, requests))
        self.resume()
        self.run_for(9.0)
        self.assertEqual(self.core.stored(task.id).state, State.UPLOAD)
        self.run_for(2.0)
        self.assertEqual(self.core.stored(task.id).error.code, "gave_up")

    def test_resume_without_a_pause(self) -> None:
        """It does nothing, and writes nothing."""
        commits = self.core.watch.count("COMMIT")
        self.resume()
        self.assertEqual(self.core.watch.count("COMMIT"), commits)

    def test_says_so(self) -> None:
        """There is a line for people that says until when; none without a pause."""
        self.assertIsNone(self.core.pauser.describe())
        self.pause(90.0)
        self.assertEqual(
            self.core.pauser.describe(), "paused: no requests to the upstream until 2027-01-15 08:01:30 UTC, in 90 s"
        )
        self.pause()
        self.assertIn("until somebody resumes them", str(self.core.pauser.describe()))
        self.resume()
        self.assertIsNone(self.core.pauser.describe())


class EndTests(PauserCase):
    """A pause that ends by itself."""

    def setUp(self) -> None:
        super().setUp()
        self.core.upstream.script = lambda request: (0.0, Scored(0.5))

    def test_ends(self) -> None:
        """It ends after the time that was asked for, whatever the wall clock does meanwhile."""
        for step in (0.0, 1e6, -2e6):
            self.pause(60.0)
            task = self.core.submit(str(step))
            self.core.epoch += step
            self.run_for(59.0)
            self.assertEqual(self.core.stored(task.id).state, State.UPLOAD)
            self.run_for(2.0)
            self.assertEqual(self.core.stored(task.id).state, State.READY)
            self.assertFalse(self.stored().paused)

    def test_changed(self) -> None:
        """Another end counts from when it was asked for."""
        self.pause(10.0)
        self.run_for(5.0)
        self.pause(60.0)
        self.run_for(59.0)
        self.assertTrue(self.core.pauser.current.paused)
        self.pause()
        self.run_for(1e6)
        self.assertTrue(self.core.pauser.current.paused)

    def test_resumed_before(self) -> None:
        """Resumed before its end, it has no end any more; a stop leaves no timer either."""
        self.pause(60.0)
        self.resume()
        self.assertEqual(self.core.reactor.getDelayedCalls(), [])
        self.pause(60.0)
        self.core.pauser.stop()
        self.assertEqual(self.core.reactor.getDelayedCalls(), [])

    def test_end_that_cannot_be_stored(self) -> None:
        """On a full disk it ends all the same, and a line says that a new start doesn't know; that ends it as well."""
        self.pause(60.0)
        task = self.core.submit()
        self.core.watch.fault = fail_on("BEGIN", FULL)
        with capturedLogs() as logs:
            self.run_for(61.0)
        self.assertFalse(self.core.pauser.current.paused)
        self.assertIn("full (SQLITE_FULL)", [event.get("why") for event in logs])
        self.assertTrue(self.stored().paused)
        self.core.watch.fault = lambda sql: None
        self.restart()
        self.run_for(1.0)
        self.assertEqual((self.core.stored(task.id).state, self.stored().paused), (State.READY, False))


class RestartTests(PauserCase):
    """A pause survives a kill."""

    def test_survives(self) -> None:
        """The next run is paused, too, and its tasks have as much time left as before the pause."""
        self.core.upstream.script = lambda request: (0.0, TransientError("http 503"))
        task = self.core.submit()
        self.run_for(90.0)
        self.pause()
        self.run_for(1000.0)
        self.restart()
        self.run_for(1000.0)
        self.assertEqual((self.kinds(), self.core.stored(task.id).state), ([], State.UPLOAD))
        self.resume()
        self.restart()
        self.run_for(9.0)
        self.assertEqual(self.core.stored(task.id).state, State.UPLOAD)
        self.run_for(2.0)
        self.assertEqual(self.core.stored(task.id).error.code, "gave_up")

    def test_end_survives(self) -> None:
        """It ends by the wall clock in the next run, and time switched off counts."""
        self.pause(600.0)
        self.core.epoch += 400.0
        self.restart()
        self.run_for(199.0)
        self.assertTrue(self.core.pauser.current.paused)
        self.run_for(2.0)
        self.assertFalse(self.core.pauser.current.paused)

    def test_over_while_switched_off(self) -> None:
        """One whose time was over meanwhile ends with the start."""
        self.pause(600.0)
        self.core.epoch += 1e6
        self.restart()
        self.run_for(0.1)
        self.assertFalse(self.core.pauser.current.paused)

    def test_sum_survives(self) -> None:
        """After a restart, task time goes on where it was, for all pauses that there were."""
        for _ in range(3):
            self.pause()
            self.run_for(50.0)
            self.resume()
            self.run_for(10.0)
        before = self.core.task_clock.now()
        self.core.now(self.core.store.record_time())
        self.restart()
        self.assertEqual(self.core.task_clock.now(), before)
        self.assertAlmostEqual(before, 30.0)


class FailureTests(PauserCase):
    """The disk is full."""

    def test_pause(self) -> None:
        """A pause that can't be stored is none, and work goes on."""
        self.core.watch.fault = fail_on("BEGIN", FULL)
        pausing = self.pausing()
        self.assertTrue(self.core.pauser.current.paused)
        self.core.settle()
        self.failureResultOf(pausing, StoreUnavailable)
        self.core.watch.fault = lambda sql: None
        self.assertFalse(self.core.pauser.current.paused)
        self.core.submit()
        self.core.settle()
        self.assertEqual(self.kinds(), ["upload"])

    def test_another_end(self) -> None:
        """If another end can't be stored, it stays at the one before."""
        self.pause(60.0)
        self.core.watch.fault = fail_on("BEGIN", FULL)
        self.fail_to(self.pausing(None))
        self.core.watch.fault = lambda sql: None
        self.run_for(61.0)
        self.assertFalse(self.core.pauser.current.paused)

    def test_resume(self) -> None:
        """If it can't be stored that it is resumed, the pause goes on."""
        self.pause()
        self.core.watch.fault = fail_on("BEGIN", FULL)
        self.fail_to(self.resuming())
        self.assertTrue(self.core.pauser.current.paused)

    def fail_to(self, attempt: "Deferred[Any]") -> None:
        self.core.settle()
        self.failureResultOf(attempt, StoreUnavailable)

    def test_paused_while_resuming(self) -> None:
        """Of a pause that is asked for while another is being ended, both memory and disk know."""
        self.pause(10.0)
        self.core.store.count()  # busy
        resuming, pausing = self.resuming(), self.pausing(60.0)
        self.core.settle()
        self.successResultOf(resuming)
        self.successResultOf(pausing)
        self.assertEqual((self.core.pauser.current.seconds, self.stored().seconds), (60.0, 60.0))
        self.assertTrue(self.core.pauser.current.paused)

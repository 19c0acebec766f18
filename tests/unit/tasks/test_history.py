"""What the last hour hears of tasks and of requests to the upstream."""

from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from merlind.core.hour import Minute
from merlind.core.outcome import Pending, Rejected, Scored, TaskError, TransientError
from merlind.tasks.history import History
from tests.unit.support import EPOCH, Core, make_task


class HistoryTests(SynchronousTestCase):
    """The last hour of a merlind that does its work."""

    def setUp(self) -> None:
        self.core = Core(self)
        self.core.start()
        self.core.settle()
        self.history = self.core.history

    def now(self) -> Minute:
        return self.history.minutes()[-1][1]

    def submit(self, name: str, outcome: Any) -> None:
        self.core.upstream.script = lambda request: outcome
        self.core.submit(name)
        self.core.reactor.run_for(10.0)

    def assert_waited(self, seconds: float) -> None:
        """The one score of this minute took so long, as exactly as percentiles are."""
        waits = self.now().waits
        self.assertEqual(waits.count, 1)
        self.assertLess(abs((waits.percentile(0.5) or 0.0) / seconds - 1), 0.05)

    def test_outcomes(self) -> None:
        """Tasks count when they are finished, scored or failed; how long a score took is from acceptance on."""
        self.submit("Ready", (3.0, Scored(0.5)))
        self.submit("Rejected", (3.0, Rejected(TaskError("upstream_422", "no face"))))
        self.submit("Poll", Pending("id", 1000.0))
        minute = self.now()
        self.assertEqual((minute.scored, minute.failed, minute.unfinished), (1, 1, 1))
        self.assert_waited(3.0)

    def test_pauses_do_not_count(self) -> None:
        """A pause makes no score late."""
        self.core.upstream.script = lambda request: Pending("id", 5.0)
        self.core.submit("Paused")
        self.core.reactor.run_for(1.0)
        self.core.now(Deferred.fromCoroutine(self.core.pauser.pause(None)))
        self.core.reactor.run_for(1000.0)
        self.core.upstream.script = lambda request: Scored(0.5)
        self.core.now(Deferred.fromCoroutine(self.core.pauser.resume()))
        self.core.reactor.run_for(10.0)
        self.assert_waited(5.0)

    def test_erased_and_expired(self) -> None:
        """A task that is erased isn't unfinished any more, and neither scored nor failed; nor is one that expires."""
        task = make_task()
        done = replace(task, finished_at=EPOCH, result=0.5)
        history = History(self.core.clock, self.core.task_clock)
        history.on_change(None, task, 1)
        history.on_change(task, None, 0)
        history.on_change(done, None, 0)
        minute = history.minutes()[-1][1]
        self.assertEqual((minute.scored, minute.failed, minute.unfinished), (0, 0, 0))

    def test_after_a_start(self) -> None:
        """What the store has from before is unfinished as soon as it is counted."""
        self.submit("Waits", TransientError("http 503"))
        self.core.restart()
        self.core.start()
        self.core.settle()
        self.assertEqual(self.core.history.minutes()[-1][1].unfinished, 1)

    def test_requests(self) -> None:
        """Requests count with how long they took, but for those that merlind itself ended."""
        for outcome in ("scored", "transient_error", "cancelled", "photo_missing"):
            self.history.on_request("upload", outcome, 2.0)
        self.assertEqual(self.now().requests.count, 2)

    def test_wall_clock_times(self) -> None:
        """Each minute has the time of day at which it began, by the wall clock as it is now."""
        self.core.reactor.run_for(120.0)
        began = [began for began, _ in self.history.minutes()]
        self.assertEqual(began, [EPOCH, EPOCH + 60.0, EPOCH + 120.0])

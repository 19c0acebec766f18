"""The stand-in's jobs."""

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from merlind.merlinface.jobs import JobDone, Jobs, JobWaiting
from tests.unit.merlinface.support import numbered, numbered_ids


class JobsTests(SynchronousTestCase):
    """When a job is finished, and how long it is kept."""

    def jobs(self, delay: float, waits: int, most: int = 10) -> tuple[Clock, Jobs[float]]:
        clock = Clock()
        return clock, Jobs(clock, delay, waits, numbered_ids(), most)

    def test_finished_at_once_is_not_kept(self) -> None:
        """Without delay and waits, a job is finished at once, and not kept."""
        _, jobs = self.jobs(0, 0)
        self.assertEqual(jobs.start(succeed(0.5)), JobDone(0.5))
        self.assertIsNone(jobs.poll(numbered(1)))

    def test_waits_as_often_as_set(self) -> None:
        """A job waits as often as its setting says; its start counts as the first time."""
        _, jobs = self.jobs(0, 3)
        waiting = JobWaiting(numbered(1))
        self.assertEqual(
            [jobs.start(succeed(0.5)), *(jobs.poll(numbered(1)) for _ in range(3))],
            [waiting, waiting, waiting, JobDone(0.5)],
        )

    def test_not_finished_before_the_delay(self) -> None:
        """A job doesn't finish before its delay has passed."""
        clock, jobs = self.jobs(3, 0)
        self.assertEqual(jobs.start(succeed(0.5)), JobWaiting(numbered(1)))
        clock.advance(2.75)
        self.assertEqual(jobs.poll(numbered(1)), JobWaiting(numbered(1)))
        clock.advance(0.25)
        self.assertEqual(jobs.poll(numbered(1)), JobDone(0.5))

    def test_delay_and_waits_both_count(self) -> None:
        """A job whose delay has passed still waits as often as its setting says."""
        clock, jobs = self.jobs(3, 2)
        jobs.start(succeed(0.5))
        clock.advance(60)
        self.assertEqual(jobs.poll(numbered(1)), JobWaiting(numbered(1)))
        self.assertEqual(jobs.poll(numbered(1)), JobDone(0.5))

    def test_finished_jobs_stay(self) -> None:
        """A finished job stays, and reports the same score."""
        clock, jobs = self.jobs(0, 1)
        jobs.start(succeed(0.5))
        for _ in range(3):
            self.assertEqual(jobs.poll(numbered(1)), JobDone(0.5))
            clock.advance(3600)

    def test_waits_for_its_result(self) -> None:
        """A job whose result isn't there yet waits for it, however long that takes."""
        clock, jobs = self.jobs(0, 0)
        result: Deferred[float] = Deferred()
        self.assertEqual(jobs.start(result), JobWaiting(numbered(1)))
        clock.advance(3600)
        self.assertEqual(jobs.poll(numbered(1)), JobWaiting(numbered(1)))

        result.callback(0.5)

        self.assertEqual(jobs.poll(numbered(1)), JobDone(0.5))

    def test_forgotten(self) -> None:
        """A job that is forgotten is unknown from then on."""
        _, jobs = self.jobs(0, 1)
        jobs.start(succeed(0.5))
        jobs.forget(numbered(1))
        jobs.forget(numbered(2))
        self.assertIsNone(jobs.poll(numbered(1)))

    def test_unknown(self) -> None:
        """A retry_id that was never given out is unknown."""
        _, jobs = self.jobs(0, 1)
        self.assertIsNone(jobs.poll(numbered(1)))

    def test_drops_the_oldest(self) -> None:
        """Past the most jobs, the oldest is dropped."""
        _, jobs = self.jobs(0, 1, most=2)
        for number in range(3):
            jobs.start(succeed(number / 10))
        self.assertEqual([jobs.poll(numbered(number)) for number in (1, 2, 3)], [None, JobDone(0.1), JobDone(0.2)])

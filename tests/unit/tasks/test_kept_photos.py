"""Photos of tasks that were given up are kept for a while, and no longer."""

import os
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from merlind.core.outcome import Rejected, Scored, TaskError, TransientError
from merlind.core.task import State, Task
from merlind.tasks.retention import LONGEST_PAUSE, Retention
from tests.unit.support import JPEG, Core, FakeUpstream

DAY = 86400.0
GIVE_UP_AFTER = 100.0


class KeptPhotosTests(SynchronousTestCase):
    """A merlind whose upstream is down, gives up after GIVE_UP_AFTER, and keeps photos for a day."""

    def setUp(self) -> None:
        self.core = Core(self, give_up_after=GIVE_UP_AFTER, keep_failed=DAY)
        self.start()

    def start(self, keep_failed: float = DAY) -> None:
        core = self.core
        self.upstream_down(core.upstream)
        core.start()
        self.retention = Retention(
            core.reactor, core.clock, core.store, core.spool, core.results, 30 * DAY, keep_failed
        )
        self.retention.start()
        core.reactor.run_for(1.0)

    def upstream_down(self, upstream: FakeUpstream) -> None:
        upstream.script = lambda request: (0.0, TransientError("http 503"))

    def give_up(self, name: str = "Anna") -> Task:
        """A task that was given up."""
        task = self.core.submit(name)
        self.core.reactor.run_for(GIVE_UP_AFTER + 1)
        stored: Task = self.core.stored(task.id)
        assert stored.error is not None
        self.assertEqual((stored.state, stored.error.code), (State.FAILED, "gave_up"))
        return stored

    def restart(self, **settings: Any) -> None:
        """A kill and a new start."""
        self.core.restart()
        self.start(**settings)

    def counted(self) -> tuple[int, int]:
        """How many tasks failed, and the bytes of all photos."""
        return self.core.counts.by_state["failed"], self.core.counts.photo_bytes

    def test_kept_for_a_time(self) -> None:
        """The photo of a task that was given up is kept for that time, and its task for longer."""
        task = self.give_up()
        self.assertEqual((self.core.files(), self.counted()), ([str(task.id)], (1, len(JPEG))))
        self.core.reactor.run_for(DAY - 10)
        self.assertEqual(self.core.files(), [str(task.id)])
        self.core.reactor.run_for(LONGEST_PAUSE + 10)
        self.assertEqual((self.core.files(), self.counted()), ([], (1, 0)))
        self.assertEqual(self.core.stored(task.id).error, task.error)

    def test_rejected(self) -> None:
        """The photo of a task that the upstream rejected goes at once."""
        self.core.upstream.script = lambda request: (0.0, Rejected(TaskError("upstream_422", "no face")))
        self.core.submit()
        self.core.reactor.run_for(1.0)
        self.assertEqual((self.core.files(), self.counted()), ([], (1, 0)))

    def test_over_a_restart(self) -> None:
        """After a kill the photo is where it was, counted once, and goes at its time; none is set aside."""
        task = self.give_up()
        for _ in range(2):
            self.restart()
            self.assertEqual((self.core.files(), self.counted()), ([str(task.id)], (1, len(JPEG))))
        self.core.reactor.run_for(DAY + LONGEST_PAUSE)
        self.assertEqual((self.core.files(), self.counted()), ([], (1, 0)))
        self.assertFalse((self.core.path / "lost").exists())

    def test_wall_clock(self) -> None:
        """A wall clock that is wrong deletes no photo before its time."""
        task = self.give_up()
        self.core.epoch += 400 * DAY
        self.restart()
        self.core.reactor.run_for(LONGEST_PAUSE)
        self.assertEqual(self.core.files(), [str(task.id)])

    def test_kept_for_a_shorter_time(self) -> None:
        """A start that keeps photos for a shorter time, or not at all, deletes those that are kept for longer."""
        self.give_up()
        self.restart(keep_failed=0.0)
        self.assertEqual((self.core.files(), self.counted()), ([], (1, 0)))

    def test_many(self) -> None:
        """However many are due at once, all go."""
        for number in range(600):
            self.core.submit(str(number))
        self.core.reactor.run_for(GIVE_UP_AFTER + 1)
        self.assertEqual(len(self.core.files()), 600)
        self.core.reactor.run_for(DAY + LONGEST_PAUSE)
        self.assertEqual((self.core.files(), self.counted()), ([], (600, 0)))

    def test_sent_again(self) -> None:
        """The same submission starts the task anew, with one photo; once it is scored, none is left."""
        task = self.give_up()
        self.core.upstream.script = lambda request: (1.0, Scored(0.5))
        again = self.core.submit()
        self.assertEqual((again.id, again.state, again.kept_until), (task.id, State.UPLOAD, None))
        self.assertEqual((self.core.files(), self.counted()), ([str(task.id)], (0, len(JPEG))))
        self.core.reactor.run_for(2.0)
        self.assertEqual((self.core.files(), self.counted()), ([], (0, 0)))

    def test_sent_again_and_killed(self) -> None:
        """A kill before it is recorded that the task was sent again changes nothing, and the photo stays."""
        task = self.give_up()
        self.core.submitting(self.core.submission())
        self.restart()
        self.assertEqual((self.core.stored(task.id), self.core.files()), (task, [str(task.id)]))

    def test_erased(self) -> None:
        """Erasing takes the photo along, at once, from the disk and from the count."""
        task = self.give_up()
        self.assertTrue(self.core.now(self.core.erasing(task.id)))
        self.assertEqual((self.core.remains(JPEG), self.counted()), ([], (0, 0)))

    def test_photo_that_a_kill_left(self) -> None:
        """A photo whose time was over, and which a kill left behind, is deleted by the next start."""
        task = self.give_up()
        patch = self.patch(os, "unlink", lambda path: None)  # a kill just before it, as far as files go
        self.core.reactor.run_for(DAY + LONGEST_PAUSE)
        self.assertEqual((self.core.files(), self.core.stored(task.id).kept_until), ([str(task.id)], None))
        patch.restore()
        self.restart()
        self.assertEqual(self.core.files(), [])

"""A pause: how long it lasts, and what it does to task time."""

from twisted.trial.unittest import SynchronousTestCase

from merlind.core.pause import Pause, begin, end

WALL = 1e9


class PauseTests(SynchronousTestCase):
    """Pauses as values."""

    def test_task_time_stands_still(self) -> None:
        """In a pause, task time stands still; after it, it goes on from there, without all the pauses."""
        first = begin(Pause(), 100.0, WALL, None)
        self.assertEqual([first.task_time(now) for now in (100.0, 150.0, 1e6)], [100.0] * 3)
        after = end(first, 150.0)
        self.assertEqual([after.task_time(now) for now in (150.0, 160.0)], [100.0, 110.0])
        second = end(begin(after, 160.0, WALL, 5.0), 165.0)
        self.assertEqual(second.task_time(165.0), 110.0)
        self.assertEqual([pause.paused for pause in (Pause(), first, after, second)], [False, True, False, False])

    def test_end_is_changed(self) -> None:
        """To pause again in a pause changes when it ends, and nothing else."""
        first = begin(Pause(7.0), 100.0, WALL, 60.0)
        self.assertEqual(begin(first, 130.0, WALL + 30, 60.0), Pause(7.0, 100.0, WALL + 90, 60.0))
        self.assertEqual(begin(first, 130.0, WALL + 30, None), Pause(7.0, 100.0))

    def test_nothing_to_end(self) -> None:
        """To resume without a pause changes nothing."""
        self.assertEqual(end(Pause(7.0), 100.0), Pause(7.0))

    def test_left(self) -> None:
        """It ends by the wall clock, but doesn't last longer than was asked for, however wrong that is."""
        pause = begin(Pause(), 0.0, WALL, 60.0)
        for wall, left in ((WALL, 60.0), (WALL + 45, 15.0), (WALL + 60, 0.0), (WALL + 1e6, 0.0), (WALL - 1e6, 60.0)):
            self.assertEqual(pause.left(wall), left)
        self.assertIsNone(begin(Pause(), 0.0, WALL, None).left(WALL + 1e9))

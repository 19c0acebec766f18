"""What owners take back."""

from merlind.core.outcome import Pending
from merlind.tasks.results import Status
from tests.unit.tasks.support import TasksCase


class EraseTests(TasksCase):
    """What is taken back, and what is forgotten."""

    def test_unfinished(self) -> None:
        """Cancelled, and erased: photo, name, and row; the counts follow."""
        task = self.core.submit(user="me")
        exchange = self.upstream.one
        self.assertTrue(self.core.now(self.core.erasing(task.id, "me")))
        self.assertTrue(exchange.cancelled)
        self.assertIsNone(self.find(task.id))
        self.assertEqual((self.core.files(), self.counts(), self.core.counts.photo_bytes), ([], {}, 0))
        self.assertFalse(self.core.now(self.core.erasing(task.id, "me")))

    def test_over(self) -> None:
        """So is one that is over."""
        task = self.finished()
        self.assertTrue(self.core.now(self.core.erasing(task.id)))
        self.assertIsNone(self.core.results.peek(task.id))
        self.assertIsNone(self.find(task.id))
        self.assertEqual(self.counts(), {})

    def test_somebody_elses(self) -> None:
        """Another user's is not there to be erased."""
        task = self.core.submit(user="me")
        self.assertFalse(self.core.now(self.core.erasing(task.id, "you")))
        self.assertEqual(self.find(task.id), Status("me"))
        self.assertFalse(self.upstream.one.cancelled)
        self.assertEqual(self.counts(), {"upload": 1})

    def test_not_saved_yet(self) -> None:
        """One whose state isn't saved yet is taken out of the count that it is in."""
        task = self.core.submit()
        d = self.core.erasing(task.id)
        self.upstream.one.answer(Pending("a"))
        self.assertEqual(self.counts(), {"poll": 1})
        self.assertTrue(self.core.now(d))
        self.assertEqual(self.counts(), {})

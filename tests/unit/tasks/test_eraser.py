"""Erasing tasks for their owners."""

from merlind.core.outcome import Pending
from merlind.tasks.results import Status
from tests.unit.tasks.support import TasksCase


class EraseTests(TasksCase):
    """What erasing a task deletes, and whose tasks it can erase."""

    def test_unfinished(self) -> None:
        """Erasing an unfinished task cancels its request, deletes photo and row, and updates the counts."""
        task = self.core.submit(user="me")
        request = self.upstream.one
        self.assertTrue(self.core.now(self.core.erasing(task.id, "me")))
        self.assertTrue(request.cancelled)
        self.assertIsNone(self.find(task.id))
        self.assertEqual((self.core.files(), self.counts(), self.core.counts.photo_bytes), ([], {}, 0))
        self.assertFalse(self.core.now(self.core.erasing(task.id, "me")))

    def test_finished(self) -> None:
        """A finished task is erased too, from the result cache as well."""
        task = self.finished()
        self.assertTrue(self.core.now(self.core.erasing(task.id)))
        self.assertIsNone(self.core.results.peek(task.id))
        self.assertIsNone(self.find(task.id))
        self.assertEqual(self.counts(), {})

    def test_somebody_elses(self) -> None:
        """Another user's task can't be erased."""
        task = self.core.submit(user="me")
        self.assertFalse(self.core.now(self.core.erasing(task.id, "you")))
        self.assertEqual(self.find(task.id), Status("me"))
        self.assertFalse(self.upstream.one.cancelled)
        self.assertEqual(self.counts(), {"upload": 1})

    def test_unknown_number_costs_no_flush(self) -> None:
        """For a number that was made up, erased already or another user's, nothing is written (D19)."""
        task, erased = self.core.submit("Anna", user="me"), self.core.submit("Otto", user="me")
        self.core.now(self.core.erasing(erased.id, "me"))
        before = list(self.core.watch.statements)
        for task_id, user in ((12345, "me"), (erased.id, "me"), (task.id, "you")):
            self.assertFalse(self.core.now(self.core.erasing(task_id, user)))
        done = self.core.watch.statements[len(before) :]
        self.assertEqual([sql for sql in done if not sql.startswith("SELECT")], [])

    def test_erased_twice_at_once(self) -> None:
        """Of two that erase a task at the same time, one finds it."""
        task = self.core.submit()
        both = [self.core.erasing(task.id), self.core.erasing(task.id)]
        self.assertEqual([self.core.now(d) for d in both], [True, False])
        self.assertEqual(self.counts(), {})

    def test_not_saved_yet(self) -> None:
        """A task whose new state isn't saved yet is subtracted from the count of that state."""
        task = self.core.submit()
        d = self.core.erasing(task.id)
        self.upstream.one.respond(Pending("a"))
        self.assertEqual(self.counts(), {"poll": 1})
        self.assertTrue(self.core.now(d))
        self.assertEqual(self.counts(), {})

"""Lists of tasks: by which index SQLite finds a page."""

from dataclasses import replace

from merlind.core.listing import NEWEST, Position, TaskFilter
from merlind.core.task import State
from merlind.storage.sqlite import statements
from merlind.storage.sqlite.listing import count_failures, list_tasks
from tests.unit.storage.sqlite.test_statements import StatementCase, numbered


class PlanTests(StatementCase):
    """No page needs to look at all tasks, or to sort more than the unfinished ones."""

    def test_indexes(self) -> None:
        """Each filter has its index; but for unfinished tasks that has the order, too."""
        self.insert(3)
        for wanted, index, order in (
            (TaskFilter(), "task_received (received<?)", True),
            (TaskFilter(since=1.0), "task_received (received>? AND received<?)", True),
            (TaskFilter(State.READY), "task_received (received<?)", True),
            (TaskFilter(State.FAILED), "task_failed (received<?)", True),
            (TaskFilter(code="gave_up", since=1.0), "task_failed (received>? AND received<?)", True),
            (TaskFilter(retryable=True), "task_failed (received<?)", True),
            (TaskFilter(State.UPLOAD), "task_due", False),
        ):
            self.executed.clear()
            list_tasks(self.cursor, wanted, Position(5.0, 1), 2)
            plan = self.plan()
            self.assertIn(f"USING INDEX {index}", plan, wanted)
            self.assertEqual("TEMP B-TREE" not in plan, order, wanted)

    def test_failures(self) -> None:
        """Failures are counted by their index, the newest first without sorting."""
        self.insert(3)
        self.executed.clear()
        count_failures(self.cursor, 1.0, 2)
        plan = self.plan()
        self.assertIn("USING INDEX task_failed (received>?)", plan)
        self.assertEqual(plan.count("FOR ORDER BY"), 1, "only the codes are sorted")

    def test_nothing_can_match(self) -> None:
        """What no task can be is not looked for."""
        self.insert(3)
        self.assertEqual(list_tasks(self.cursor, TaskFilter(State.READY, "gave_up"), NEWEST, 9), [])
        self.assertEqual(self.executed, [])

    def test_many(self) -> None:
        """Tasks of one moment are told apart by their numbers, however many they are."""
        tasks = [numbered(number, received=5.0) for number in range(1, 101)]
        for some in statements.portions(tasks):
            statements.insert(self.cursor, some)
        page = list_tasks(self.cursor, TaskFilter(), Position(5.0, 61), 2)
        self.assertEqual(page, [tasks[59], replace(tasks[58])])

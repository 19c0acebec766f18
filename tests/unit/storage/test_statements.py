"""Tasks as rows, many at a time, in a real database."""

import sqlite3
from dataclasses import replace
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from merlind.core.task import Photo, Task
from merlind.storage.sqlite import database
from merlind.storage.sqlite import statements as rows
from merlind.storage.sqlite.statements import MOST
from tests.unit.support import EPOCH, make_task

MANY = 2 * MOST + 3
"""More than two statements take."""


def numbered(number: int, **changes: object) -> Task:
    """A task that is like no other."""
    return make_task(number, name=f"Anna {number}", photo=Photo(b"%032d" % number, number, "image/png"), **changes)


class RowsTests(SynchronousTestCase):
    """What is written is read, whatever the number of statements."""

    def setUp(self) -> None:
        path = Path(self.mktemp())
        database.prepare(path)
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.addCleanup(self.connection.close)
        self.cursor = self.connection.cursor()
        self.statements: list[str] = []
        self.connection.set_trace_callback(self.statements.append)

    def insert(self, count: int) -> list[Task]:
        tasks = [numbered(number) for number in range(1, count + 1)]
        for some in rows.portions(tasks):
            rows.insert(self.cursor, some)
        self.statements.clear()
        return tasks

    def test_by_ids(self) -> None:
        """Those that there are, by their numbers."""
        tasks = self.insert(MANY)
        self.assertEqual(rows.by_ids(self.cursor, [3, 999, MANY]), {3: tasks[2], MANY: tasks[-1]})

    def test_portions(self) -> None:
        """As many as a statement takes, the rest, and nothing of nothing."""
        self.assertEqual([len(some) for some in rows.portions(range(MANY))], [MOST, MOST, 3])
        self.assertEqual(list(rows.portions([])), [])

    def test_insert_all_or_none(self) -> None:
        """If one of the numbers is taken, none of the tasks is added."""
        self.insert(1)
        self.assertRaises(sqlite3.IntegrityError, rows.insert, self.cursor, [numbered(2), make_task(1)])
        self.assertIsNone(rows.by_id(self.cursor, 2))

    def test_update(self) -> None:
        """Each gets what is its own; the last counts; what isn't there isn't made; what can't change doesn't."""
        tasks = self.insert(MANY)
        changed = [replace(task, attempts=task.id, last_error=f"{task.id}") for task in tasks[1:]]
        other = replace(changed[0], name="x", user="x", photo=tasks[0].photo, attempts=77)
        rows.update(self.cursor, [*changed, numbered(999), other])
        self.assertEqual(len(self.statements), 3)
        self.assertEqual(rows.by_id(self.cursor, 1), tasks[0])
        self.assertEqual(rows.by_id(self.cursor, 2), replace(changed[0], attempts=77))
        self.assertEqual(rows.by_ids(self.cursor, list(range(3, 999))), {task.id: task for task in changed[1:]})
        self.assertIsNone(rows.by_id(self.cursor, 999))

    def test_exact(self) -> None:
        """Numbers are kept to their last bit."""
        (task,) = self.insert(1)
        exact = replace(task, since=0.1 + 0.2, due=EPOCH + 1e-6, attempts=2**40)
        rows.update(self.cursor, [exact])
        self.assertEqual(rows.by_id(self.cursor, 1), exact)

    def test_same_as(self) -> None:
        """A task is the same if the photo, the user and the name are, and found by an index."""
        tasks = self.insert(MANY)
        wanted = [(task.photo.sha256, task.user, task.name) for task in tasks]
        strange = [(sha256, user, name + "x") for sha256, user, name in wanted]
        found = rows.dedup_key(self.cursor, [*wanted, *strange, (wanted[0][0], wanted[0][1], wanted[1][2])])
        self.assertEqual(found, dict(zip(wanted, tasks, strict=True)))
        plan = str(self.connection.execute(f"EXPLAIN QUERY PLAN {self.statements[0]}").fetchall())
        self.assertIn("USING INDEX task_same (sha256=? AND user=? AND name=?)", plan)

    def test_update_by_number(self) -> None:
        """No update goes through all tasks."""
        (task,) = self.insert(1)
        rows.update(self.cursor, [task])
        plan = str(self.connection.execute(f"EXPLAIN QUERY PLAN {self.statements[0]}").fetchall())
        self.assertIn("SEARCH task USING INTEGER PRIMARY KEY", plan)
        self.assertNotIn("SCAN task", plan)

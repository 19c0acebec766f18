"""Tasks as rows, many at a time, in a real database."""

import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from merlind.core.task import Photo, State, Task
from merlind.storage.sqlite import database, statements
from merlind.storage.sqlite.statements import MAX_ROWS
from tests.unit.support import EPOCH, make_task

MANY = 2 * MAX_ROWS + 3
"""More than two statements take."""


def numbered(number: int, **changes: Any) -> Task:
    """A task that is like no other."""
    return make_task(number, name=f"Anna {number}", photo=Photo(b"%032d" % number, number, "image/png"), **changes)


class StatementCase(SynchronousTestCase):
    """A connection whose statements are listed in ``executed``."""

    def setUp(self) -> None:
        path = Path(self.mktemp())
        database.prepare(path)
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.addCleanup(self.connection.close)
        self.cursor = self.connection.cursor()
        self.executed: list[str] = []
        self.connection.set_trace_callback(self.executed.append)

    def insert(self, count: int) -> list[Task]:
        tasks = [numbered(number) for number in range(1, count + 1)]
        for some in statements.portions(tasks):
            statements.insert(self.cursor, some)
        self.executed.clear()
        return tasks

    def get(self, task_id: int) -> Task | None:
        return statements.get(self.cursor, [task_id]).get(task_id)

    def plan(self) -> str:
        """How SQLite does the first statement that was executed."""
        return str(self.connection.execute(f"EXPLAIN QUERY PLAN {self.executed[0]}").fetchall())


class WriteTests(StatementCase):
    """What is written is read, whatever the number of statements."""

    def test_portions(self) -> None:
        """As many as a statement takes, then the rest, and nothing of nothing."""
        self.assertEqual([len(some) for some in statements.portions(range(MANY))], [MAX_ROWS, MAX_ROWS, 3])
        self.assertEqual(list(statements.portions([])), [])

    def test_insert_all_or_none(self) -> None:
        """If one of the ids is taken, none of the tasks is added."""
        self.insert(1)
        self.assertRaises(sqlite3.IntegrityError, statements.insert, self.cursor, [numbered(2), make_task(1)])
        self.assertIsNone(self.get(2))

    def test_update(self) -> None:
        """Each gets its own values; the last counts; no task is made; what can't change doesn't."""
        tasks = self.insert(MANY)
        changed = [replace(task, attempts=task.id, last_error=f"{task.id}") for task in tasks[1:]]
        other = replace(changed[0], name="x", user="x", photo=tasks[0].photo, attempts=77)
        statements.update(self.cursor, [*changed, numbered(999), other], 0.0)
        self.assertEqual(self.get(1), tasks[0])
        self.assertEqual(self.get(2), replace(changed[0], attempts=77))
        found = statements.get(self.cursor, list(range(3, 999)))
        self.assertEqual(found, {task.id: task for task in changed[1:]})
        self.assertIsNone(self.get(999))

    def test_update_returns_the_unknown(self) -> None:
        """Tasks that aren't there are told, in whichever of the statements they are; it costs a query only then."""
        tasks = self.insert(MANY)
        self.assertEqual(statements.update(self.cursor, tasks, 0.0), set())
        self.assertEqual([sql.split()[0] for sql in self.executed], ["UPDATE"] * 3)
        statements.delete(self.cursor, [2, MANY])
        self.executed.clear()
        self.assertEqual(statements.update(self.cursor, [*tasks, numbered(999)], 0.0), {2, MANY, 999})
        self.assertEqual(statements.update(self.cursor, [], 0.0), set())
        self.assertEqual([sql.split()[0] for sql in self.executed], ["UPDATE", "SELECT", "UPDATE", "UPDATE", "SELECT"])

    def kept_since(self, task_id: int) -> float | None:
        return self.connection.execute("SELECT kept_since FROM task WHERE id = ?", (task_id,)).fetchone()[0]

    def test_kept_since_it_finished(self) -> None:
        """The service time at which a task finishes is recorded once, and forgotten if it starts anew."""
        task, other = self.insert(2)
        ready = replace(task, state=State.READY, result=0.5, finished_at=EPOCH)
        for state, now, kept_since in ((task, 5.0, None), (ready, 6.0, 6.0), (ready, 7.0, 6.0), (task, 8.0, None)):
            statements.update(self.cursor, [state, other], now)
            self.assertEqual((self.kept_since(1), self.kept_since(2)), (kept_since, None))
        self.assertEqual(self.get(1), task)

    def test_update_by_id(self) -> None:
        """No update reads all tasks."""
        (task,) = self.insert(1)
        statements.update(self.cursor, [task], 0.0)
        self.assertIn("SEARCH task USING INTEGER PRIMARY KEY", self.plan())
        self.assertNotIn("SCAN task", self.plan())

    def test_exact(self) -> None:
        """Numbers are kept to their last bit."""
        (task,) = self.insert(1)
        exact = replace(task, since=0.1 + 0.2, due=EPOCH + 1e-6, attempts=2**40)
        statements.update(self.cursor, [exact], 0.0)
        self.assertEqual(self.get(1), exact)

    def test_delete(self) -> None:
        """Many are deleted by their ids in one statement; none cost none."""
        tasks = self.insert(MANY)
        statements.delete(self.cursor, [task.id for task in tasks[1:]] + [999])
        self.assertEqual(len(self.executed), 1)
        self.assertIn("SEARCH task USING INTEGER PRIMARY KEY", self.plan())
        self.assertEqual([self.get(1), self.get(2), self.get(MANY)], [tasks[0], None, None])
        self.executed.clear()
        statements.delete(self.cursor, [])
        self.assertEqual(self.executed, [])


class ReadTests(StatementCase):
    """What is looked for is found, by an index."""

    def test_get(self) -> None:
        """Those that there are, by their ids."""
        tasks = self.insert(MANY)
        self.assertEqual(statements.get(self.cursor, [3, 999, MANY]), {3: tasks[2], MANY: tasks[-1]})
        self.assertIn("SEARCH task USING INTEGER PRIMARY KEY", self.plan())

    def test_find(self) -> None:
        """A task is found by photo, user and name together."""
        tasks = self.insert(MANY)
        keys = [(task.photo.sha256, task.user, task.name) for task in tasks]
        strange = [(sha256, user, name + "x") for sha256, user, name in keys]
        found = statements.find(self.cursor, [*keys, *strange, (keys[0][0], keys[0][1], keys[1][2])])
        self.assertEqual(found, dict(zip(keys, tasks, strict=True)))
        self.assertIn("USING INDEX task_same (sha256=? AND user=? AND name=?)", self.plan())

    def test_expired(self) -> None:
        """Finished tasks come in the order in which they finished, by an index, whatever their wall-clock time."""
        tasks = [
            replace(task, state=State.READY, result=0.5, finished_at=EPOCH - task.id * 1e6) for task in self.insert(4)
        ]
        for task in tasks[:3]:
            statements.update(self.cursor, [task], 10.0 * task.id)
        self.executed.clear()
        self.assertEqual(statements.list_expired(self.cursor, 20.0, 9), tasks[:2])
        self.assertEqual(statements.list_expired(self.cursor, 30.0, 1), tasks[:1])
        self.assertIn("USING INDEX task_kept (kept_since<?)", self.plan())

    def test_kept_photos(self) -> None:
        """Tasks whose photo was kept until then, or for so long, come by an index that has no other tasks."""
        tasks = [
            replace(task, state=State.FAILED, finished_at=EPOCH, kept_until=kept_until)
            for task, kept_until in zip(self.insert(4), (30.0, 20.0, None, 10.0), strict=True)
        ]
        statements.update(self.cursor, tasks, 5.0)
        self.executed.clear()
        for now, keep, found in ((9.0, 100.0, []), (20.0, 100.0, [3, 1]), (9.0, 4.0, [3, 1, 0]), (9.0, 4.1, [])):
            listed = statements.list_kept_photos(self.cursor, now, keep, 9)
            self.assertEqual(listed, [tasks[n] for n in found], (now, keep))
        self.assertEqual(statements.list_kept_photos(self.cursor, 99.0, 100.0, 1), [tasks[3]])
        self.assertIn("SEARCH task USING INDEX task_photo_kept", self.plan())

    def test_have_photos(self) -> None:
        """Of these ids, those whose task is there, and whether its photo is kept; no other task is read."""
        tasks = self.insert(4)
        kept = replace(tasks[3], state=State.FAILED, finished_at=1.0, kept_until=9.0)
        statements.update(self.cursor, [replace(tasks[1], state=State.READY, result=0.5, finished_at=1.0), kept], 0.0)
        self.executed.clear()
        self.assertEqual(statements.have_photos(self.cursor, [1, 2, 3, 4, 999]), {1: True, 2: False, 3: True, 4: True})
        self.assertIn("SEARCH task USING INTEGER PRIMARY KEY", self.plan())

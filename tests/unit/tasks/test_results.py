"""How tasks stand, and who waits for them."""

from twisted.internet.defer import CancelledError, Deferred

from merlind.core.interfaces import StoreUnavailable
from merlind.core.outcome import Pending, Rejected, Scored
from merlind.core.task import Task
from merlind.tasks import results as results_module
from merlind.tasks.results import Status
from tests.unit.support import fail_on, sqlite_error
from tests.unit.tasks.support import NO, TasksCase


class StatusTests(TasksCase):
    """How tasks stand."""

    def test_course(self) -> None:
        """Unfinished, then its result; known from memory all the way."""
        task = self.core.submit(user="me")
        for outcome in (Pending("a"), Scored(0.5)):
            self.assertEqual(self.core.results.peek(task.id), Status("me"))
            self.assertFalse(self.find(task.id).finished)
            self.core.reactor.run_for(2)
            self.upstream.one.answer(outcome)
            self.core.settle()
        self.assertEqual(self.core.results.peek(task.id), Status("me", 0.5))
        self.assertTrue(self.find(task.id).finished)
        self.assertEqual(self.core.watch.count("SELECT id, user"), 2)  # the first page, and the accept

    def test_not_before_durable(self) -> None:
        """A result isn't shown before it is committed."""
        task = self.core.submit()
        self.upstream.one.answer(Scored(0.5))
        self.assertEqual(self.core.results.peek(task.id), Status(""))

    def test_failed(self) -> None:
        """With its error."""
        task = self.finished(Rejected(NO))
        self.assertEqual(self.find(task.id), Status("", error=NO))
        self.assertTrue(self.find(task.id).finished)

    def test_unknown(self) -> None:
        """None."""
        self.assertIsNone(self.core.results.peek(5))
        self.assertIsNone(self.find(5))

    def test_from_the_store(self) -> None:
        """After a restart the store is asked, once for what is over."""
        over, unfinished = self.finished(photo=b"a"), self.core.submit(photo=b"b")
        self.core.restart()
        for _ in range(3):
            self.assertEqual(self.find(over.id), Status("", 0.5))
        self.assertEqual(self.core.watch.count("SELECT id, user"), 1)
        self.assertEqual(self.find(unfinished.id), Status(""))
        self.assertIsNone(self.core.results.peek(unfinished.id))
        self.assertEqual(self.find(unfinished.id), Status(""))

    def test_remembers_so_many(self) -> None:
        """The oldest are looked up again."""
        self.patch(results_module, "MAX_CACHED", 2)
        tasks = [self.finished(photo=b"%d" % n) for n in range(3)]
        self.assertEqual([self.core.results.peek(task.id) for task in tasks], [None, Status("", 0.5), Status("", 0.5)])
        self.assertEqual(self.find(tasks[0].id), Status("", 0.5))
        self.assertIsNone(self.core.results.peek(tasks[1].id))

    def test_tried_again(self) -> None:
        """A failed one that is sent again is unfinished, whatever was remembered."""
        task = self.finished(Rejected(NO))
        self.assertEqual(self.core.submit().id, task.id)
        self.assertEqual(self.core.results.peek(task.id), Status(""))

    def test_store_trouble(self) -> None:
        """When the store can't tell, that is told."""
        self.core.watch.fault = fail_on("SELECT", sqlite_error("SQLITE_BUSY"))
        d = self.core.results.find(1)
        self.core.settle()
        self.failureResultOf(d, StoreUnavailable)


class WaitTests(TasksCase):
    """Clients that wait for a task to finish."""

    def setUp(self) -> None:
        super().setUp()
        self.woken: list[str] = []

    def wait(self, task: Task, name: str) -> "Deferred[None]":
        """A waiter that leaves its name in ``woken``."""
        waiter = self.core.results.wait(task.id)
        waiter.addCallbacks(lambda _: self.woken.append(name), lambda failure: failure.trap(CancelledError))
        return waiter

    def waited(self) -> "tuple[Task, Deferred[None], Deferred[None]]":
        """A task that two wait for."""
        task = self.core.submit()
        waiters = self.wait(task, "one"), self.wait(task, "other")
        self.assertEqual(self.core.results.waiting, 2)
        return task, *waiters

    def test_finished(self) -> None:
        """All are woken once when it is finished, and its result is there; not when it only goes on."""
        task, _, _ = self.waited()
        self.upstream.one.answer(Pending("a"))
        self.core.reactor.run_for(2)
        self.assertEqual(self.woken, [])
        last = self.core.results.wait(task.id)
        last.addCallback(lambda _: self.woken.append(str(self.find(task.id).result)))
        self.upstream.one.answer(Scored(0.5))
        self.core.settle()
        self.assertEqual(sorted(self.woken), ["0.5", "one", "other"])
        self.assertEqual(self.core.results.waiting, 0)
        self.core.results.release()
        self.assertEqual(len(self.woken), 3)

    def test_cancelled(self) -> None:
        """Who went away is not woken, and may go twice."""
        _, one, other = self.waited()
        for _ in range(2):
            one.cancel()
            self.assertEqual(self.core.results.waiting, 1)
        self.upstream.one.answer(Scored(0.5))
        self.core.settle()
        self.assertEqual((self.woken, self.core.results.waiting), (["other"], 0))
        other.cancel()
        self.assertEqual(self.core.results.waiting, 0)

    def test_last_one_gone(self) -> None:
        """When the last one is gone nothing of them remains."""
        _, one, other = self.waited()
        one.cancel()
        other.cancel()
        self.assertEqual((self.core.results.waiting, self.core.results._waiters), (0, {}))

    def test_cancelled_while_woken(self) -> None:
        """Who wakes may let another one go."""
        task = self.core.submit()
        waiters: list[Deferred[None]] = []

        def wake(name: str) -> None:
            self.woken.append(name)
            for waiter in waiters:
                waiter.cancel()

        for name in ("one", "other"):
            waiters.append(self.core.results.wait(task.id))
            waiters[-1].addCallbacks(lambda _, name: wake(name), lambda f: f.trap(CancelledError), (name,))
        self.upstream.one.answer(Scored(0.5))
        self.core.settle()
        self.assertEqual(len(self.woken), 1)
        self.assertEqual(self.core.results.waiting, 0)

    def test_erased(self) -> None:
        """An erased task wakes them as well."""
        task, _, _ = self.waited()
        self.core.now(self.core.erasing(task.id))
        self.assertEqual((sorted(self.woken), self.core.results.waiting), (["one", "other"], 0))

    def test_release(self) -> None:
        """At the end all are let go, and nobody begins to wait."""
        self.waited()
        another = self.core.submit(photo=b"another")
        self.wait(another, "another")
        self.core.results.release()
        self.assertEqual(sorted(self.woken), ["another", "one", "other"])
        self.wait(another, "late")
        self.assertEqual((self.woken[-1], self.core.results.waiting), ("late", 0))

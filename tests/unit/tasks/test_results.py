"""The status of tasks, and the waiters for their results."""

from twisted.internet.defer import CancelledError, Deferred

from merlind.core.interfaces import StoreUnavailable
from merlind.core.outcome import Pending, Rejected, Scored
from merlind.core.task import Task
from merlind.tasks import results as results_module
from merlind.tasks.refusals import ClientOverLimit
from merlind.tasks.results import WAKE_PORTION, Status
from tests.unit.support import CLIENT, fail_on, sqlite_error
from tests.unit.tasks.support import NO, TasksCase


class StatusTests(TasksCase):
    """Looking up the status of a task."""

    def test_from_memory(self) -> None:
        """The status is in memory from the submission to the result, without a query."""
        task = self.core.submit(user="me")
        for outcome in (Pending("a"), Scored(0.5)):
            self.assertEqual(self.core.results.peek(task.id), Status("me"))
            self.assertFalse(self.find(task.id).finished)
            self.core.reactor.run_for(2)
            self.upstream.one.respond(outcome)
            self.core.settle()
        self.assertEqual(self.core.results.peek(task.id), Status("me", 0.5))
        self.assertTrue(self.find(task.id).finished)
        self.assertEqual(self.core.watch.count("SELECT id, user"), 2)  # the first page, and the accept

    def test_not_before_durable(self) -> None:
        """A result isn't shown before it is committed."""
        task = self.core.submit()
        self.upstream.one.respond(Scored(0.5))
        self.assertEqual(self.core.results.peek(task.id), Status(""))

    def test_failed(self) -> None:
        """A failed task has its error."""
        task = self.finished(Rejected(NO))
        self.assertEqual(self.find(task.id), Status("", error=NO))
        self.assertTrue(self.find(task.id).finished)

    def test_unknown(self) -> None:
        """An unknown id has no status."""
        self.assertIsNone(self.core.results.peek(5))
        self.assertIsNone(self.find(5))

    def test_from_the_store(self) -> None:
        """After a restart the status is read from the store, and that of a finished task only once."""
        finished, unfinished = self.finished(photo=b"a"), self.core.submit(photo=b"b")
        self.core.restart()
        for _ in range(3):
            self.assertEqual(self.find(finished.id), Status("", 0.5))
        self.assertEqual(self.core.watch.count("SELECT id, user"), 1)
        self.assertEqual(self.find(unfinished.id), Status(""))
        self.assertIsNone(self.core.results.peek(unfinished.id))
        self.assertEqual(self.find(unfinished.id), Status(""))

    def test_result_cache_is_bounded(self) -> None:
        """The result cache drops its oldest entry, which is then read from the store."""
        self.patch(results_module, "MAX_CACHED", 2)
        tasks = [self.finished(photo=b"%d" % n) for n in range(3)]
        self.assertEqual([self.core.results.peek(task.id) for task in tasks], [None, Status("", 0.5), Status("", 0.5)])
        self.assertEqual(self.find(tasks[0].id), Status("", 0.5))
        self.assertIsNone(self.core.results.peek(tasks[1].id))

    def test_failed_task_sent_again(self) -> None:
        """A failed task that is submitted again is unfinished, whatever the result cache has."""
        task = self.finished(Rejected(NO))
        self.assertEqual(self.core.submit().id, task.id)
        self.assertEqual(self.core.results.peek(task.id), Status(""))

    def test_store_unavailable(self) -> None:
        """A failed query raises StoreUnavailable."""
        self.core.watch.fault = fail_on("SELECT", sqlite_error("SQLITE_BUSY"))
        d = self.core.results.find(1)
        self.core.settle()
        self.failureResultOf(d, StoreUnavailable)


class WaitTests(TasksCase):
    """Waiting for a task to finish."""

    def setUp(self) -> None:
        super().setUp()
        self.woken: list[str] = []

    def wait(self, task: Task, name: str) -> "Deferred[None]":
        """Return a waiter that adds its name to ``woken``."""
        waiter = self.core.results.wait(task.id, CLIENT)
        waiter.addCallbacks(lambda _: self.woken.append(name), lambda failure: failure.trap(CancelledError))
        return waiter

    def waited(self) -> "tuple[Task, Deferred[None], Deferred[None]]":
        """Return a task with two waiters."""
        task = self.core.submit()
        waiters = self.wait(task, "one"), self.wait(task, "other")
        self.assertEqual(self.core.results.waiting, 2)
        return task, *waiters

    def test_finished(self) -> None:
        """All waiters wake once, when the task is finished and its result can be read, and not before."""
        task, _, _ = self.waited()
        self.upstream.one.respond(Pending("a"))
        self.core.reactor.run_for(2)
        self.assertEqual(self.woken, [])
        last = self.core.results.wait(task.id, CLIENT)
        last.addCallback(lambda _: self.woken.append(str(self.find(task.id).result)))
        self.upstream.one.respond(Scored(0.5))
        self.core.settle()
        self.assertEqual(sorted(self.woken), ["0.5", "one", "other"])
        self.assertEqual(self.core.results.waiting, 0)
        self.core.results.release()
        self.core.settle()
        self.assertEqual(len(self.woken), 3)

    def test_cancelled(self) -> None:
        """A cancelled waiter isn't woken; cancelling it twice does no harm."""
        _, one, other = self.waited()
        for _ in range(2):
            one.cancel()
            self.assertEqual(self.core.results.waiting, 1)
        self.upstream.one.respond(Scored(0.5))
        self.core.settle()
        self.assertEqual((self.woken, self.core.results.waiting), (["other"], 0))
        other.cancel()
        self.assertEqual(self.core.results.waiting, 0)

    def test_last_waiter_cancelled(self) -> None:
        """When the last waiter is cancelled, nothing is kept for its task."""
        _, one, other = self.waited()
        one.cancel()
        other.cancel()
        self.assertEqual((self.core.results.waiting, self.core.results._waiters), (0, {}))

    def test_cancelled_while_woken(self) -> None:
        """A waiter that wakes may cancel the others."""
        task = self.core.submit()
        waiters: list[Deferred[None]] = []

        def wake(name: str) -> None:
            self.woken.append(name)
            for waiter in waiters:
                waiter.cancel()

        for name in ("one", "other"):
            waiters.append(self.core.results.wait(task.id, CLIENT))
            waiters[-1].addCallbacks(lambda _, name: wake(name), lambda f: f.trap(CancelledError), (name,))
        self.upstream.one.respond(Scored(0.5))
        self.core.settle()
        self.assertEqual(len(self.woken), 1)
        self.assertEqual(self.core.results.waiting, 0)

    def test_erased(self) -> None:
        """Erasing a task wakes its waiters."""
        task, _, _ = self.waited()
        self.core.now(self.core.erasing(task.id))
        self.assertEqual((sorted(self.woken), self.core.results.waiting), (["one", "other"], 0))

    def test_release(self) -> None:
        """At shutdown all waiters wake, and later ones don't wait."""
        self.waited()
        another = self.core.submit(photo=b"another")
        self.wait(another, "another")
        self.core.results.release()
        self.core.settle()
        self.assertEqual(sorted(self.woken), ["another", "one", "other"])
        self.wait(another, "late")
        self.assertEqual((self.woken[-1], self.core.results.waiting), ("late", 0))


class PortionTests(TasksCase):
    """Many waiters are woken in portions, so that others are served meanwhile (A8)."""

    def setUp(self) -> None:
        super().setUp()
        self.events: list[int | str] = []

    def wait(self, task: Task, count: int) -> "list[Deferred[None]]":
        """Waiters that add their number to the events."""
        waiters = [self.core.results.wait(task.id, CLIENT) for _ in range(count)]
        for number, waiter in enumerate(waiters):
            waiter.addCallbacks(lambda _, n: self.events.append(n), lambda f: f.trap(CancelledError), (number,))
        return waiters

    def look_on(self) -> None:
        """Add an event in each turn of the reactor, until all waiters are woken."""
        self.events.append("other work")
        if self.core.results.waiting:
            self.core.reactor.callLater(0, self.look_on)

    def portions(self) -> list[int]:
        """How many waiters were woken in each turn."""
        turns = "".join("w" if isinstance(event, int) else "|" for event in self.events).split("|")
        return [len(turn) for turn in turns if turn]

    def test_in_portions(self) -> None:
        """5,000 waiters wake in their order, a portion in each turn, and other work runs in between."""
        task = self.core.submit()
        self.wait(task, 5000)
        self.core.reactor.callLater(0, self.look_on)
        self.upstream.one.respond(Scored(0.5))
        self.core.settle()
        self.assertEqual([event for event in self.events if event != "other work"], list(range(5000)))
        self.assertEqual(self.portions(), [WAKE_PORTION] * (5000 // WAKE_PORTION))

    def test_many_tasks_at_once(self) -> None:
        """The waiters of tasks that finish together share the portions: a turn has no more of them for that."""
        tasks = [self.core.submit(photo=b"%d" % n) for n in range(20)]
        for task in tasks:
            self.wait(task, WAKE_PORTION)
        self.core.reactor.callLater(0, self.look_on)
        for request in list(self.upstream.requests):
            request.respond(Scored(0.5))
        self.core.settle()
        self.assertEqual(len(self.events) - self.events.count("other work"), 20 * WAKE_PORTION)
        self.assertLessEqual(max(self.portions()), WAKE_PORTION)

    def test_cancelled_before_its_turn(self) -> None:
        """A waiter whose client goes away before its portion isn't woken, and counts once."""
        task = self.core.submit()
        waiters = self.wait(task, WAKE_PORTION + 2)
        waiters[0].addCallback(lambda _: waiters[-1].cancel())
        self.upstream.one.respond(Scored(0.5))
        self.core.settle()
        self.assertEqual((self.events, self.core.results.waiting), (list(range(WAKE_PORTION + 1)), 0))

    def test_release(self) -> None:
        """At shutdown all waiters of all tasks wake, in portions, without time passing."""
        for n in range(3):
            self.wait(self.core.submit(photo=b"%d" % n), 1000)
        before = self.core.reactor.seconds()
        self.core.reactor.callLater(0, self.look_on)
        self.core.results.release()
        self.core.settle()
        self.assertEqual((self.core.results.waiting, self.core.reactor.seconds()), (0, before))
        self.assertEqual(self.portions(), [WAKE_PORTION] * (3000 // WAKE_PORTION))


class LimitTests(TasksCase):
    """The limit on the long polls of one client (A7)."""

    def test_limit(self) -> None:
        """A client with the most waiters can't have another until one has ended, in any way; others can."""
        self.make(max_long_polls_per_client=2)
        task = self.core.submit()
        first, _ = (self.core.results.wait(task.id, CLIENT) for _ in range(2))
        refusal = self.assertRaises(ClientOverLimit, self.core.results.wait, task.id, CLIENT)
        self.assertEqual(str(refusal), "this client has as many long polls as one may have, 2")
        self.assertEqual(self.core.refused, [("long_polls", "client")])
        self.core.results.wait(task.id, "198.51.100.2")
        first.addErrback(lambda failure: failure.trap(CancelledError))
        first.cancel()
        self.core.results.wait(task.id, CLIENT)
        self.assertRaises(ClientOverLimit, self.core.results.wait, task.id, CLIENT)
        self.upstream.one.respond(Scored(0.5))
        self.core.settle()
        self.assertEqual((self.core.results.waiting, self.core.results._by_client.clients), (0, 0))

    def test_while_stopping(self) -> None:
        """While merlind stops nobody waits, so nobody is refused."""
        self.make(max_long_polls_per_client=1)
        task = self.core.submit()
        self.core.results.release()
        for _ in range(3):
            self.successResultOf(self.core.results.wait(task.id, CLIENT))

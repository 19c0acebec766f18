"""After a start, the newest results come into memory page by page."""

from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from merlind import gateway as gateway_module
from merlind import recall as recall_module
from merlind.gateway import Status
from merlind.recall import PAUSE, Recall
from merlind.task import Done, Refused, Task, TaskError
from tests.unit.support import Core, fail_on, sqlite_error

ERROR = TaskError("refused", "no face")


class RecallCase(SynchronousTestCase):
    """A start with results in the database."""

    def setUp(self) -> None:
        self.patch(recall_module, "_PAGE", 3)
        self.core = Core(self)
        self.core.upstream.script = lambda exchange: (0.0, Done(0.5))
        self.core.gateway.start()
        self.core.settle()

    def over(self, count: int, apart: float = 1.0) -> list[Task]:
        """Tasks that were over one after the other."""
        tasks = []
        for number in range(count):
            tasks.append(self.core.submit(photo=b"%d" % number))
            self.core.reactor.run_for(apart)
        return tasks

    def start(self) -> Recall:
        self.core.restart()
        self.core.gateway.start()
        self.core.settle()
        recall = Recall(self.core.reactor, self.core.gateway, self.core.store)
        recall.start()
        return recall

    def known(self, tasks: list[Task]) -> list[bool]:
        return [self.core.gateway.peek(task.id) is not None for task in tasks]


class RecallTests(RecallCase):
    """What is loaded, and when."""

    def test_page_by_page(self) -> None:
        """The newest first, with a pause before each page; then no more is asked."""
        tasks = self.over(7)
        self.start()
        self.assertEqual(self.known(tasks), [False] * 7)
        for known in (3, 6, 7):
            self.core.reactor.run_for(PAUSE)
            self.assertEqual(self.known(tasks), [False] * (7 - known) + [True] * known)
        del self.core.watch.statements[:]
        self.core.reactor.run_for(10)
        self.assertEqual(self.core.watch.statements, [])

    def test_at_the_same_moment(self) -> None:
        """Those that were over at the same moment, in different ways, all come."""
        self.core.upstream.script = lambda exchange: (0.0, Done(0.5) if exchange.task.id % 2 else Refused(ERROR))
        tasks = self.over(8, apart=0.0)
        self.core.reactor.settle()
        self.start()
        self.core.reactor.run_for(1)
        self.assertEqual(self.known(tasks), [True] * 8)
        self.assertEqual(self.core.gateway.peek(tasks[0].id), Status("", 0.5))
        self.assertEqual(self.core.gateway.peek(tasks[1].id), Status("", None, ERROR))

    def test_no_more_than_may_be(self) -> None:
        """What finishes meanwhile has its place; the old ones get what is left."""
        self.patch(gateway_module, "REMEMBERED", 5)
        tasks = self.over(9)
        self.start()
        self.core.upstream.script = lambda exchange: (0.0, Done(0.75))
        new = self.core.submit(photo=b"new")
        self.core.reactor.run_for(10)
        self.assertEqual(self.known([*tasks, new]), [False] * 5 + [True] * 5)

    def test_what_is_known_stays(self) -> None:
        """What happened to a task since the start isn't overwritten, and what was erased doesn't come back."""
        erased, forgotten = self.over(2)
        self.start()
        self.assertTrue(self.core.now(self.core.gateway.erase("", erased.id)))
        self.core.now(self.core.gateway.find(forgotten.id))
        status = self.core.gateway.peek(forgotten.id)
        self.core.reactor.run_for(10)
        self.assertIs(self.core.gateway.peek(forgotten.id), status)
        self.assertEqual(self.known([erased]), [False])

    def test_stopped(self) -> None:
        """It stops between two pages, and within one."""
        tasks = self.over(7)
        recall = self.start()
        self.core.reactor.run_for(PAUSE)
        recall.stop()
        self.assertEqual(self.core.reactor.getDelayedCalls(), [])
        recall = self.start()
        self.core.reactor.advance(PAUSE)
        recall.stop()
        self.core.reactor.run_for(10)
        self.assertEqual(self.known(tasks), [False] * 4 + [True] * 3)

    def test_trouble(self) -> None:
        """A database that can't be read ends it; questions go to the database as without it."""
        tasks = self.over(4)
        self.start()
        self.core.watch.fault = fail_on("SELECT finished, state", sqlite_error("SQLITE_READONLY_RECOVERY"))
        with capturedLogs() as logged:
            self.core.reactor.run_for(10)
        messages = [event["log_format"] for event in logged]
        self.assertEqual(messages.count("loading results failed: {why}"), 1)
        self.assertEqual(self.known(tasks), [False] * 4)

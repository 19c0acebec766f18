"""Files of the store that go while merlind runs."""

from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from merlind.core.interfaces import StoreUnavailable
from merlind.tasks.watch import WATCH_INTERVAL, Watch
from tests.unit.support import Core, raising


class WatchTests(SynchronousTestCase):
    """A watch over a real store."""

    def setUp(self) -> None:
        self.core = Core(self)
        self.core.submit()
        self.watch = Watch(self.core.reactor, self.core.store)
        self.watch.start()

    def test_idle(self) -> None:
        """A database that is deleted while nothing is asked for is noticed within the interval (D12)."""
        self.core.reactor.run_for(10 * WATCH_INTERVAL)
        self.assertEqual(self.core.broken, [])
        (self.core.path / "tasks.sqlite").unlink()
        self.core.reactor.run_for(WATCH_INTERVAL)
        (reason,) = self.core.broken
        self.assertIn("tasks.sqlite was deleted or renamed while merlind was running", reason)

    def test_costs_no_flush(self) -> None:
        """A look begins no transaction."""
        before = self.core.watch.count("BEGIN")
        self.core.reactor.run_for(10 * WATCH_INTERVAL)
        self.assertEqual(self.core.watch.count("BEGIN"), before)

    def test_error_that_passes(self) -> None:
        """An error that says nothing about the files is logged, and the next look comes."""
        self.patch(self.core.store, "check_files", raising(StoreUnavailable("Permission denied")))
        with capturedLogs() as logs:
            self.core.reactor.run_for(2 * WATCH_INTERVAL)
        line = "the files of the store can't be looked at: Permission denied"
        self.assertEqual([formatEvent(event) for event in logs], [line] * 2)

    def test_stop(self) -> None:
        """After a stop nobody looks."""
        self.watch.stop()
        (self.core.path / "tasks.sqlite").unlink()
        self.core.reactor.run_for(10 * WATCH_INTERVAL)
        self.assertEqual(self.core.broken, [])

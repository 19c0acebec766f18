"""What an address of the page asks for."""

from typing import Any
from urllib.parse import parse_qsl

from twisted.trial.unittest import SynchronousTestCase

from merlind.admin.page.view import Done, View, read_done, read_view
from merlind.core.listing import Failures, Position, TaskFilter
from merlind.core.task import State
from merlind.web.response import HTTPError

FAILURES = [Failures("gave_up", 5, 3), Failures("upstream_422", 9, 0), Failures("handle_expired", 2, 2)]


class ViewTests(SynchronousTestCase):
    """Which tasks to show."""

    def test_round_trip(self) -> None:
        """What a view's own address asks for is that view."""
        for view in (
            View(),
            View(State.FAILED),
            View(code="gave_up", age=3600),
            View(State.POLL, None, 1, False, Position(1.5, 77)),
            View(State.FAILED, "gave_up", 60, True, Position(1.8e9, 2)),
        ):
            found = dict(parse_qsl(view.link().partition("?")[2]))
            self.assertEqual(read_view(found), view)
            self.assertEqual(view.filtered, view.first_page != View(), view)
        self.assertEqual(View().link(), "./")

    def test_filter(self) -> None:
        """An age becomes the time since which tasks were received."""
        self.assertEqual(View().wanted(1000.0), TaskFilter())
        self.assertEqual(
            View(State.FAILED, "gave_up", 60, True).wanted(1000.0), TaskFilter(State.FAILED, "gave_up", 940.0, True)
        )
        self.assertEqual(View(age=5000).wanted(1000.0).since, 0.0)

    def test_what_can_be_retried(self) -> None:
        """Of failed tasks alone it is known how many can be; of other views none are offered."""
        for view, count in (
            (View(State.FAILED), 5),
            (View(retryable=True), 5),
            (View(State.FAILED, "gave_up"), 3),
            (View(code="upstream_422"), 0),
            (View(), 0),
            (View(State.READY), 0),
        ):
            self.assertEqual(view.retryable_of(FAILURES), count, view)

    def test_done(self) -> None:
        """An address tells what was done before; its numbers alone, so that nobody can make it say anything else."""
        for done in (Done("paused"), Done("resumed"), Done("retried", 37), Done("retried", 5, False)):
            link = View(State.FAILED).link(done)
            found = dict(parse_qsl(link.partition("?")[2]))
            self.assertEqual((read_done(found), found["state"]), (done, "failed"))
        self.assertIsNone(read_done({}))

    def test_wrong(self) -> None:
        """What makes no sense is refused, each with what it should be."""
        wrong: list[dict[str, Any]] = [
            {"state": "lost"},
            {"code": "no face"},
            {"age": "1 h"},
            {"age": "0"},
            {"age": "1.5"},
            {"age": "1e300"},
            {"retryable": "yes"},
            {"cursor": "x"},
        ]
        for found in wrong:
            self.assertEqual(self.assertRaises(HTTPError, read_view, found).response.code, 400, found)
        for found in ({"did": "deleted"}, {"did": "retried", "count": "many"}, {"did": "retried", "complete": "x"}):
            self.assertEqual(self.assertRaises(HTTPError, read_done, found).response.code, 400, found)

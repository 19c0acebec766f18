"""What operators ask for of the list of tasks."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from merlind.core.listing import NEWEST, Position, TaskFilter, position_of, read_position
from merlind.core.task import MAX_TASK_ID, State
from tests.unit.core.test_task import checked
from tests.unit.support import make_task


class PositionTests(SynchronousTestCase):
    """Positions as clients send them back."""

    @checked
    @given(st.floats(0, 1e11), st.integers(1, MAX_TASK_ID))
    def test_read_as_written(self, received: float, task_id: int) -> None:
        """What was written is read again, to the last digit."""
        position = position_of(make_task(task_id, received=received))
        self.assertEqual(read_position(str(position)), position)

    def test_nothing_else(self) -> None:
        """Whatever else is sent is refused."""
        for text in (
            "",
            "5",
            "_5",
            "5_",
            "1.5_x",
            "-1_5",
            "inf_5",
            "nan_5",
            "1e9e9_5",
            "0x1_5",
            "1..5_6",
            "1_5\n",
            "1_5_6",
            "9" * 40 + "_1",
        ):
            self.assertRaises(ValueError, read_position, text)

    def test_newest(self) -> None:
        """All tasks come behind the first position."""
        self.assertGreater((NEWEST.received, NEWEST.task_id), (1e300, MAX_TASK_ID - 1))
        self.assertEqual(Position(0.0, 5), position_of(make_task(5)))


class FilterTests(SynchronousTestCase):
    """What a filter implies."""

    def test_only_failed_ones_have_codes(self) -> None:
        """A code, or that it can be retried, means that the task failed; with another state, nothing matches."""
        for wanted, state, nothing in (
            (TaskFilter(), None, False),
            (TaskFilter(since=5.0), None, False),
            (TaskFilter(State.POLL), State.POLL, False),
            (TaskFilter(code="gave_up"), State.FAILED, False),
            (TaskFilter(retryable=True), State.FAILED, False),
            (TaskFilter(State.FAILED, "gave_up", retryable=True), State.FAILED, False),
            (TaskFilter(State.READY, "gave_up"), State.READY, True),
            (TaskFilter(State.UPLOAD, retryable=True), State.UPLOAD, True),
        ):
            self.assertEqual((wanted.only_state, wanted.matches_nothing), (state, nothing), wanted)

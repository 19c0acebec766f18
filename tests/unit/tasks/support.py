"""What the tests of intake, results and eraser share."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from merlind.core.outcome import Scored, TaskError
from merlind.core.task import Task
from merlind.tasks.intake import Limits, OverCapacity
from tests.unit.support import Core

NO = TaskError("upstream_422", "no face")
MB = 2**20


class TasksCase(SynchronousTestCase):
    """A gateway over a real store and a played upstream."""

    def setUp(self) -> None:
        self.make()

    def make(self, limits: Limits | None = None) -> None:
        self.core = Core(self, limits=limits)
        self.upstream = self.core.upstream
        self.core.start()
        self.core.settle()

    def finished(self, outcome: Any = Scored(0.5), **submission: Any) -> Task:  # noqa: B008
        """A task that is over."""
        task = self.core.submit(**submission)
        self.upstream.exchanges[-1].answer(outcome)
        self.core.settle()
        return task

    def find(self, task_id: int) -> Any:
        """Its status, or None."""
        return self.core.now(self.core.results.find(task_id))

    def full(self, size: int = MB) -> str:
        """Why there is no room."""
        return str(self.assertRaises(OverCapacity, self.core.intake.reserve, size))

    def counts(self) -> dict[str, int]:
        """The states that there are tasks in."""
        return {state: count for state, count in self.core.counts.by_state.items() if count}

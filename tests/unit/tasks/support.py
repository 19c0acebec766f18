"""Shared by the tests of intake, results and eraser."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from merlind.core.outcome import Scored, TaskError
from merlind.core.task import Task
from merlind.tasks.intake import Limits
from merlind.tasks.refusals import OverCapacity
from tests.unit.support import CLIENT, Core

NO = TaskError("upstream_422", "no face")
MB = 2**20


class TasksCase(SynchronousTestCase):
    """Intake, results and eraser over a real store and a fake upstream."""

    def setUp(self) -> None:
        self.make()

    def make(self, limits: Limits | None = None, **more: Any) -> None:
        self.core = Core(self, limits=limits, **more)
        self.upstream = self.core.upstream
        self.core.start()
        self.core.settle()

    def finished(self, outcome: Any = Scored(0.5), **submission: Any) -> Task:  # noqa: B008
        """Submit a task, and finish it with ``outcome``."""
        task = self.core.submit(**submission)
        self.upstream.requests[-1].respond(outcome)
        self.core.settle()
        return task

    def find(self, task_id: int) -> Any:
        """Return a task's status, or None."""
        return self.core.now(self.core.results.find(task_id))

    def over_capacity(self, size: int = MB) -> str:
        """Return the message with which a reservation is refused."""
        return str(self.assertRaises(OverCapacity, self.core.intake.reserve, size, CLIENT))

    def counts(self) -> dict[str, int]:
        """Return the states that have tasks, with their counts."""
        return {state: count for state, count in self.core.counts.by_state.items() if count}

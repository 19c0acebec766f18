"""Finished tasks: counted, timed and logged."""

from dataclasses import replace
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from merlind.core.outcome import Rejected, Scored, TaskError
from merlind.core.pause import Pause
from merlind.core.task import State, Task
from merlind.daemon.clock import ServiceClock, TaskClock
from merlind.daemon.metrics import Metrics
from merlind.tasks.finished import FinishedTasks
from tests.unit.support import Reactor, make_task
from tests.unit.tasks.support import NO, TasksCase
from tests.unit.web.support import LogLines


class FinishedTests(TasksCase):
    """The log's lines."""

    def test_ready(self) -> None:
        """A score's line says how long it took, and not what it is."""
        lines = LogLines.of(self).lines
        task = self.core.submit()
        self.core.reactor.run_for(1.5)
        self.upstream.requests[-1].respond(Scored(0.9876))
        self.core.settle()
        self.assertEqual(lines[-1], f"task {task.id}: ready after 1.5 s")

    def test_failed(self) -> None:
        """A failed task's line has its code and the reason, without the name."""
        lines = LogLines.of(self).lines
        error = TaskError("upstream_422", "no face; the name Anna is not known")
        task = self.finished(Rejected(error), name="Anna")
        self.assertEqual(
            lines[-1], f"task {task.id}: failed after 0.0 s, upstream_422: no face; the name [name] is not known"
        )


class CountedTests(SynchronousTestCase):
    """The metrics."""

    def setUp(self) -> None:
        self.reactor = Reactor()
        self.metrics = Metrics()
        self.told: list[tuple[Task, Task]] = []
        clock = TaskClock(ServiceClock(self.reactor, 10.0), Pause())
        clock.now()
        self.finished = FinishedTasks(self.tell, clock, self.metrics)
        self.reactor.run_for(3.5)

    def tell(self, before: Task, after: Task) -> None:
        self.told.append((before, after))

    def change(self, **changes: Any) -> None:
        """Report a change of a task that was accepted 3.5 s ago."""
        before = make_task(since=10.0)
        after = replace(before, **changes)
        self.finished.on_transition(before, after)
        self.assertEqual(self.told, [(before, after)])

    def samples(self) -> set[str]:
        """What is counted so far, by name, without the buckets."""
        lines = self.metrics.exposition().decode().splitlines()
        return {line for line in lines if line.startswith(("merlind_tasks_f", "merlind_time_to_score_seconds_sum"))}

    def test_ready(self) -> None:
        """A score counts, with its time since the photo was accepted."""
        self.change(state=State.READY, result=0.5, finished_at=1.0)
        self.assertEqual(
            self.samples(),
            {
                'merlind_tasks_finished_total{code="",state="ready"} 1.0',
                "merlind_time_to_score_seconds_sum 3.5",
            },
        )

    def test_failed(self) -> None:
        """A failure counts by its code; how long it took is no time to a score."""
        self.change(state=State.FAILED, error=NO, finished_at=1.0)
        self.assertEqual(
            self.samples(),
            {
                'merlind_tasks_finished_total{code="",state="ready"} 0.0',
                'merlind_tasks_finished_total{code="upstream_422",state="failed"} 1.0',
                "merlind_time_to_score_seconds_sum 0.0",
            },
        )

    def test_unfinished(self) -> None:
        """A task that goes on counts for nothing."""
        self.change(state=State.POLL, retry_id="5")
        none = {'merlind_tasks_finished_total{code="",state="ready"} 0.0', "merlind_time_to_score_seconds_sum 0.0"}
        self.assertEqual(self.samples(), none)

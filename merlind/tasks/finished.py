"""Counts the tasks that finish, and how long their scores took."""

from collections.abc import Callable

from merlind.core.interfaces import TaskTime
from merlind.core.task import Task
from merlind.daemon.metrics import Metrics


class FinishedTasks:
    """Tells ``then`` of each change of a task's state, and the metrics of those that finished."""

    def __init__(self, then: Callable[[Task, Task], None], clock: TaskTime, metrics: Metrics) -> None:
        self._then = then
        self._clock = clock
        self._metrics = metrics

    def on_transition(self, before: Task, after: Task) -> None:
        """Take note of a task that is in another state; a finished one must be durable by now."""
        if after.error is not None:
            self._metrics.failed(after.error.code)
        elif after.finished:
            self._metrics.scored(self._clock.now() - after.since)
        self._then(before, after)

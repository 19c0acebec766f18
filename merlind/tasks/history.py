"""Keeps what the last hour was like in memory, as it is told of tasks and of requests to the upstream."""

from merlind.core.hour import LastHour, Minute
from merlind.core.interfaces import ServiceTime, TaskTime
from merlind.core.task import Task

_NOT_SENT = frozenset({"cancelled", "photo_missing"})
"""The outcomes of requests that say nothing about how fast the upstream is: merlind itself ended them."""


class History:
    """The last hour by service time; how long a score took is in task time, since pauses are no fault of anybody's."""

    def __init__(self, service: ServiceTime, tasks: TaskTime) -> None:
        self._service = service
        self._tasks = tasks
        self._hour = LastHour()

    def on_change(self, before: Task | None, after: Task | None, unfinished: int) -> None:
        """Take note of a task that became ``after`` (None is none), and of how many are unfinished by now."""
        now = self._service.now()
        self._hour.set_unfinished(now, unfinished)
        if before is None or before.finished or after is None or not after.finished:
            return
        if after.error is None:
            self._hour.scored(now, self._tasks.now() - after.since)
        else:
            self._hour.failed(now)

    def on_request(self, kind: str, outcome: str, seconds: float) -> None:
        """Take note of a request to the upstream that ended after ``seconds``."""
        if outcome not in _NOT_SENT:
            self._hour.requested(self._service.now(), seconds)

    def minutes(self) -> list[tuple[float, Minute]]:
        """Return the minutes, the oldest first, each with the wall-clock time at which it began (epoch)."""
        now = self._service.now()
        began_at = self._service.wall() - now
        return [(began_at + began, minute) for began, minute in self._hour.minutes(now)]

"""Which unfinished task is next: those in memory, in the order in which they are due. Pure: callers pass the time in.

Memory holds up to ``window`` tasks, those due first; the rest stays in the store. A cursor, the horizon, separates
the two: a task that isn't in memory lies in the store behind the horizon, so loading on from there forgets none.
"""

import math
from collections import deque
from collections.abc import Sequence
from heapq import heappop, heappush

from merlind.core.interfaces import Cursor
from merlind.core.task import Policy, State, Task

WINDOW = 20_000
"""How many unfinished tasks are kept in memory; those due later wait in the store."""

TICK = 0.005
"""Tasks due within this many seconds of each other are handled together."""

_EVERYTHING: Cursor = (math.inf, 0)
_NOTHING: Cursor = (-math.inf, 0)


class TaskQueue:
    """The unfinished tasks in memory. A task is first due (by time), then ready (waits for a free request)."""

    def __init__(self, policy: Policy, window: int = WINDOW) -> None:
        self._policy = policy
        self._window = window
        self._tasks: dict[int, Task] = {}
        self._due: list[Cursor] = []
        self._ready: dict[State, deque[int]] = {State.UPLOAD: deque(), State.POLL: deque()}
        self._turn = State.UPLOAD
        self._first_deadline = math.inf
        self._horizon = _NOTHING

    # The tasks in memory.

    def get(self, task_id: int) -> Task | None:
        """Return a task, or None if it isn't in memory."""
        return self._tasks.get(task_id)

    def is_current(self, task: Task) -> bool:
        """Whether this very state of the task is the one in memory: it was neither changed nor removed."""
        return self._tasks.get(task.id) is task

    def add(self, task: Task) -> None:
        """Take on a new task, or leave it to the store if it lies behind the horizon and memory is full."""
        if task.id in self._tasks:
            return
        if len(self._tasks) >= self._window:
            if (task.due, task.id) > self._horizon:
                return
            if self._horizon == _EVERYTHING:
                self._horizon = (task.due, task.id - 1)
                return
        self.schedule(task)

    def schedule(self, task: Task) -> None:
        """Put a task in memory, to become ready when it is due."""
        self._tasks[task.id] = task
        heappush(self._due, (task.due, task.id))

    def hold(self, task: Task) -> None:
        """Put a task in memory without a time: it is being saved."""
        self._tasks[task.id] = task

    def remove(self, task_id: int) -> bool:
        """Drop a task from memory; returns whether it was there."""
        return self._tasks.pop(task_id, None) is not None

    def must_evict(self, task: Task) -> bool:
        """Whether memory is over its window and the task lies behind the horizon: save it, and remove it."""
        return len(self._tasks) > self._window and self.is_behind_horizon(task)

    def is_behind_horizon(self, task: Task) -> bool:
        """Whether a later page would load the task again."""
        return (task.due, task.id) > self._horizon

    # Their turn.

    @property
    def ready(self) -> int:
        """How many tasks are due and wait for a free request."""
        return sum(map(len, self._ready.values()))

    def next_time(self) -> float:
        """Return the service time at which ``collect`` has something to do next: infinity if never."""
        first = self._due[0][0] if self._due else math.inf
        return min(first, self._first_deadline) if self.ready else first

    def collect(self, now: float) -> list[Task]:
        """Make the due tasks ready, and return those whose deadline has passed."""
        late: list[Task] = []
        while self._due and self._due[0][0] <= now + TICK:
            due, task_id = heappop(self._due)
            task = self._tasks.get(task_id)
            if task is None or task.due != due or task.finished:
                continue
            if self._is_late(task, now):
                late.append(task)
            else:
                self._ready[task.state].append(task_id)
                self._first_deadline = min(self._first_deadline, self._policy.deadline(task))
        if now + TICK >= self._first_deadline:
            late += self._collect_late_ready(now)
        return late

    def _is_late(self, task: Task, now: float) -> bool:
        return now + TICK >= self._policy.deadline(task)

    def _collect_late_ready(self, now: float) -> list[Task]:
        late: list[Task] = []
        self._first_deadline = math.inf
        for task_id in [*self._ready[State.UPLOAD], *self._ready[State.POLL]]:
            task = self._tasks.get(task_id)
            if task is None or task.finished:
                continue
            if self._is_late(task, now):
                late.append(task)
            else:
                self._first_deadline = min(self._first_deadline, self._policy.deadline(task))
        return late

    def take(self) -> Task | None:
        """Take the next ready task, or None. Uploads and polls alternate, so that neither starves."""
        while self.ready:
            self._turn = State.POLL if self._turn is State.UPLOAD else State.UPLOAD
            queue = self._ready[self._turn]
            if queue:
                task = self._tasks.get(queue.popleft())
                if task is not None and not task.finished:
                    return task
        return None

    # The window.

    def room(self) -> int:
        """Return how many tasks to load from behind the horizon; 0 while memory is half full, or the store has none."""
        room = self._window - len(self._tasks)
        return 0 if self._horizon == _EVERYTHING or room < max(1, self._window // 2) else room

    @property
    def horizon(self) -> Cursor:
        """Where the next page begins."""
        return self._horizon

    def load(self, page: Sequence[Task], is_last: bool) -> None:
        """Take on a page of tasks that the store has behind the horizon."""
        self._horizon = _EVERYTHING if is_last else (page[-1].due, page[-1].id)
        for task in page:
            if task.id not in self._tasks:
                self.schedule(task)

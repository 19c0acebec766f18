"""Which unfinished task is next: those in memory, in the order in which they are due. Pure: callers pass the time in.

Memory holds up to ``window`` tasks, those due first; the rest stays in the store. A cursor, the horizon, separates
the two: a task that isn't in memory lies in the store behind the horizon, so loading on from there forgets none.
"""

import math
from collections.abc import Iterator, Sequence
from heapq import heappop, heappush
from itertools import count

from merlind.core.interfaces import Cursor
from merlind.core.limiter import Lane, Limiter, Pick
from merlind.core.task import Policy, State, Task
from merlind.tasks.ready import ReadyTasks

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
        self._ready = {
            lane: {kind: ReadyTasks(self.is_current) for kind in (State.UPLOAD, State.POLL)} for lane in Lane
        }
        self._numbers = count()
        self._last_kind = dict.fromkeys(Lane, State.UPLOAD)
        self._first_deadline = math.inf
        self._horizon = _NOTHING
        self.suspects = 0
        """How many of the tasks in memory are suspects (Task.suspect)."""
        self.reuploads = 0
        """How many of the tasks in memory were uploaded again because their retry_id had expired."""

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
        self.hold(task)
        heappush(self._due, (task.due, task.id))

    def hold(self, task: Task) -> None:
        """Put a task in memory without a time: it is being saved."""
        self.remove(task.id)
        self._tasks[task.id] = task
        self._tally(task, 1)

    def remove(self, task_id: int) -> bool:
        """Drop a task from memory; returns whether it was there."""
        task = self._tasks.pop(task_id, None)
        if task is None:
            return False
        self._tally(task, -1)
        return True

    def _tally(self, task: Task, sign: int) -> None:
        self.suspects += sign * task.suspect
        self.reuploads += sign * (task.reuploads > 0)

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
        return self.ready_in(Lane.MAIN) + self.ready_in(Lane.SUSPECTS)

    def ready_in(self, lane: Lane) -> int:
        """How many of them are in a lane."""
        tasks = self._ready[lane]
        return tasks[State.UPLOAD].size + tasks[State.POLL].size

    def next_time(self) -> float:
        """Return the task time at which ``collect`` has something to do next: infinity if never."""
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
                lane = Lane.SUSPECTS if task.suspect else Lane.MAIN
                self._ready[lane][task.state].add(task, next(self._numbers))
                self._first_deadline = min(self._first_deadline, self._policy.deadline(task))
        if now + TICK >= self._first_deadline:
            late += self._collect_late_ready(now)
        return late

    def _is_late(self, task: Task, now: float) -> bool:
        return now + TICK >= self._policy.deadline(task)

    def _collect_late_ready(self, now: float) -> list[Task]:
        late: list[Task] = []
        self._first_deadline = math.inf
        for task in self._all_ready():
            if self._is_late(task, now):
                late.append(task)
            else:
                self._first_deadline = min(self._first_deadline, self._policy.deadline(task))
        return late

    def _all_ready(self) -> Iterator[Task]:
        for lane in self._ready.values():
            for tasks in lane.values():
                yield from tasks

    def take_allowed(self, limiter: Limiter, now: float) -> Task | None:
        """Take the next ready task for which the limiter allows a request, or None."""
        while (lane := limiter.next_lane(now, self.ready_in(Lane.MAIN), self.ready_in(Lane.SUSPECTS))) is not None:
            task = self.take(lane, limiter.pick, limiter.last_probe)
            if task is not None:
                return task
        return None

    def take(self, lane: Lane, pick: Pick, last_probe: int | None = None) -> Task | None:
        """Take the next ready task of a lane, or None. Uploads and polls alternate, so that neither starves.

        A probe is the least tried of all, and another task than ``last_probe`` if there is one.
        """
        kinds = [State.POLL, State.UPLOAD] if self._last_kind[lane] is State.UPLOAD else [State.UPLOAD, State.POLL]
        task = self._choose([self._ready[lane][kind] for kind in kinds], lane, pick, last_probe)
        if task is not None:
            self._last_kind[lane] = task.state
        return task

    def _choose(self, kinds: list[ReadyTasks], lane: Lane, pick: Pick, last_probe: int | None) -> Task | None:
        first, second = kinds
        if pick is Pick.PROBE:
            first, second = sorted(kinds, key=lambda tasks: tasks.least_tries(last_probe))
            return first.take_least_tried(last_probe) or first.take_least_tried() or second.take_least_tried()
        if pick is Pick.NEWCOMER:
            first, second = sorted(kinds, key=lambda tasks: tasks.least_tries(last_probe))
            return first.take_newest() or second.take_newest()
        if pick is Pick.FAIR or lane is Lane.SUSPECTS:
            return first.take_least_tried() or second.take_least_tried()
        return first.take_first() or second.take_first()

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

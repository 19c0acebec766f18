"""Tasks that wait for a free request, sorted by how often they were tried. Pure.

However many wait, to add or to take one costs the same on average.
"""

from collections import deque
from collections.abc import Callable, Iterator

from merlind.core.task import Task

MAX_TRIES = 15
"""Tasks that failed so often, or more often, count as equally often tried."""

CLEAN_UP = 128
"""The least number of tasks among which those that are no longer current are looked for."""


class ReadyTasks:
    """Tasks in the order in which they became ready, and by how often they were tried since their last good response.

    ``is_current`` says whether a task is still in this state; one that isn't is passed over.
    """

    def __init__(self, is_current: Callable[[Task], bool]) -> None:
        self._is_current = is_current
        self._by_tries: list[deque[tuple[int, Task]]] = [deque() for _ in range(MAX_TRIES + 1)]
        self._clean_up_at = [CLEAN_UP] * len(self._by_tries)
        self._newest = False
        self.size = 0
        """How many there are, with those that are no longer current and haven't been passed over yet."""

    def __iter__(self) -> Iterator[Task]:
        for tasks in self._by_tries:
            yield from (task for _, task in tasks if self._is_current(task))

    def add(self, task: Task, number: int) -> None:
        """Add a task; each that is added has a greater ``number`` than those before."""
        tries = min(task.attempts, MAX_TRIES)
        self._by_tries[tries].append((number, task))
        self.size += 1
        if len(self._by_tries[tries]) >= self._clean_up_at[tries]:
            self._clean_up(tries)

    def _clean_up(self, tries: int) -> None:
        """Drop what isn't current from the middle, too; next when there are twice as many, so that it costs little."""
        tasks = self._by_tries[tries]
        current = deque(entry for entry in tasks if self._is_current(entry[1]))
        self.size -= len(tasks) - len(current)
        self._by_tries[tries] = current
        self._clean_up_at[tries] = max(CLEAN_UP, 2 * len(current))

    def least_tries(self, avoid: int | None) -> int:
        """Return how often the least tried, but for ``avoid``, was tried; more than MAX_TRIES if there is none."""
        for tries, tasks in enumerate(self._by_tries):
            if tasks:
                self._pass_over(tasks)
            if len(tasks) > 1 or (tasks and tasks[0][1].id != avoid):
                return tries
        return MAX_TRIES + 1

    def take_first(self) -> Task | None:
        """Take the task that has been ready for longest, or None."""
        waiting = []
        for tasks in filter(None, self._by_tries):
            self._pass_over(tasks)
            if tasks:
                waiting.append(tasks)
        return self._take(min(waiting, key=lambda tasks: tasks[0][0]), newest=False) if waiting else None

    def take_newest(self) -> Task | None:
        """Take the newest of the least tried, or None."""
        self._newest = False
        return self.take_least_tried()

    def take_least_tried(self, avoid: int | None = None) -> Task | None:
        """Take the newest and the oldest of the least tried by turns; None if there is none but the id ``avoid``."""
        self._newest = not self._newest
        for tasks in filter(None, self._by_tries):
            self._pass_over(tasks)
            if tasks and tasks[-1 if self._newest else 0][1].id == avoid:
                task = self._take_beside(tasks)
            else:
                task = self._take(tasks, self._newest) if tasks else None
            if task is not None:
                return task
        return None

    def _take_beside(self, tasks: deque[tuple[int, Task]]) -> Task | None:
        """Take the one next to the newest or the oldest."""
        aside = tasks.pop() if self._newest else tasks.popleft()
        self._pass_over(tasks)
        task = self._take(tasks, self._newest) if tasks else None
        if self._newest:
            tasks.append(aside)
        else:
            tasks.appendleft(aside)
        return task

    def _take(self, tasks: deque[tuple[int, Task]], newest: bool) -> Task:
        self.size -= 1
        return (tasks.pop() if newest else tasks.popleft())[1]

    def _pass_over(self, tasks: deque[tuple[int, Task]]) -> None:
        """Drop what isn't current from both ends."""
        while tasks and not self._is_current(tasks[0][1]):
            tasks.popleft()
            self.size -= 1
        while tasks and not self._is_current(tasks[-1][1]):
            tasks.pop()
            self.size -= 1

"""How many tasks there are, kept up to date in memory."""

from merlind.core.interfaces import TaskCounts
from merlind.core.task import State, Task


class LiveCounts:
    """Tasks by state and the bytes of their photos: counted once by the store, then changed with each task."""

    def __init__(self) -> None:
        self.by_state = {str(state): 0 for state in State}
        self.photo_bytes = 0

    @property
    def unfinished(self) -> int:
        """How many tasks are not finished."""
        return self.by_state[State.UPLOAD] + self.by_state[State.POLL]

    def load(self, counts: TaskCounts) -> None:
        """Begin with what the store counted after a start. Tasks accepted before it counted are among them."""
        self.by_state.update(counts.by_state)
        self.photo_bytes = counts.photo_bytes

    def change(self, before: Task | None, after: Task | None) -> None:
        """Count a task that became ``after``; None is a task that doesn't exist (yet, or any more)."""
        for task, sign in ((before, -1), (after, 1)):
            if task is not None:
                self.by_state[task.state] += sign
                if not task.finished:
                    self.photo_bytes += sign * task.photo.size

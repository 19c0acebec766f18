"""How many tasks there are, and of which clients, kept up to date in memory."""

from collections.abc import Callable

from merlind.core.client_limit import ClientLimit
from merlind.core.interfaces import TaskCounts
from merlind.core.task import State, Task


def _tell_nobody(before: Task | None, after: Task | None, unfinished: int) -> None:
    """Do nothing."""


class LiveCounts:
    """Tasks by state and the bytes of the photos that are kept: counted once by the store, then changed with each task.

    A client may have ``most_per_client`` unfinished tasks, 0 for any number. The clients of tasks from before a start
    are unknown: those tasks count for nobody. ``on_change(before, after, unfinished)`` is called after each change with
    how many tasks are unfinished then; both tasks are None when the store has counted.
    """

    def __init__(
        self,
        most_per_client: int = 0,
        on_change: Callable[[Task | None, Task | None, int], None] = _tell_nobody,
    ) -> None:
        self.by_state = {str(state): 0 for state in State}
        self.photo_bytes = 0
        self.by_client = ClientLimit(most_per_client)
        """Each client's unfinished tasks, and its submissions that are being committed."""
        self._clients: dict[int, str] = {}
        self._on_change = on_change

    @property
    def unfinished(self) -> int:
        """How many tasks are not finished."""
        return self.by_state[State.UPLOAD] + self.by_state[State.POLL]

    def load(self, counts: TaskCounts) -> None:
        """Begin with what the store counted after a start. Tasks accepted before it counted are among them."""
        self.by_state.update(counts.by_state)
        self.photo_bytes = counts.photo_bytes
        self._on_change(None, None, self.unfinished)

    def belongs(self, task_id: int, client: str) -> None:
        """Count an unfinished task for a client, in the place of the submission that it comes from."""
        if self.by_client.most:
            self._clients[task_id] = client

    def change(self, before: Task | None, after: Task | None) -> None:
        """Count a task that became ``after``; None is a task that doesn't exist (yet, or any more)."""
        if before is not None and (after is None or after.finished):
            client = self._clients.pop(before.id, None)
            if client is not None:
                self.by_client.leave(client)
        for task, sign in ((before, -1), (after, 1)):
            if task is not None:
                self.by_state[task.state] += sign
                if task.has_photo:
                    self.photo_bytes += sign * task.photo.size
        self._on_change(before, after, self.unfinished)

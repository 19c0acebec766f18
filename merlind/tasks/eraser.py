"""Erases a task when its owner asks for it."""

from twisted.logger import Logger

from merlind.core.interfaces import TaskStore
from merlind.tasks.queue import TaskQueue
from merlind.tasks.results import Results
from merlind.tasks.scheduler import Scheduler


class Eraser:
    """Cancels tasks, and erases photo, name and result."""

    _log = Logger()

    def __init__(self, store: TaskStore, queue: TaskQueue, results: Results, scheduler: Scheduler) -> None:
        self._store = store
        self._queue = queue
        self._results = results
        self._scheduler = scheduler

    async def erase(self, user: str, task_id: int) -> bool:
        """Erase a user's task, in mid-request too; returns whether there was one.

        Raises StoreUnavailable or StoreBroken.
        """
        # To erase is a transaction, which costs a flush: nobody gets one for a number that was made up.
        status = await self._results.find(task_id)
        if status is None or status.user != user:
            return False
        task = await self._store.delete(task_id, user)
        if task is None:
            return False
        # The queue may know a later state than the store, and it is the one that was counted.
        known = self._queue.get(task_id)
        self._scheduler.forget(task_id)
        self._results.forget(task if known is None or known.finished else known)
        self._log.info("task {task}: erased", task=task_id)
        return True

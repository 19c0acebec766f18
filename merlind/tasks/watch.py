"""Notices soon when somebody deletes or replaces the files that tasks are stored in."""

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from merlind.core.interfaces import StoreBroken, StoreUnavailable, TaskStore
from merlind.tasks.pauses import Pauses, run

WATCH_INTERVAL = 5.0
"""Seconds between two looks: it costs some system calls, and no flush."""


class Watch:
    """Has the store check its files, also while nothing is stored: it breaks where one is gone, and merlind ends."""

    _log = Logger()

    def __init__(self, reactor: IReactorTime, store: TaskStore) -> None:
        self._store = store
        self._pauses = Pauses(reactor)

    def start(self) -> None:
        """Look from time to time."""
        run(self._watch(), self._log)

    def stop(self) -> None:
        """Look no more."""
        self._pauses.stop()

    async def _watch(self) -> None:
        while True:
            await self._pauses.wait(WATCH_INTERVAL)
            try:
                await self._store.check_files()
            except StoreUnavailable as error:
                self._log.warn("the files of the store can't be looked at: {why}", why=str(error))
            except StoreBroken:
                return  # whoever asked the store to say so ends the process

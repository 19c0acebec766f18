"""Pauses in coroutines, which end when merlind stops."""

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater


class Pauses:
    """The pauses of one component's coroutines: its ``stop`` ends them all."""

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor = reactor
        self._pending: set[Deferred[None]] = set()
        self._stopped = False

    async def wait(self, seconds: float) -> None:
        """Wait. Raises CancelledError if merlind stops meanwhile, or is stopping already."""
        if self._stopped:
            raise CancelledError
        pause: Deferred[None] = deferLater(self._reactor, seconds)
        self._pending.add(pause)
        try:
            await pause
        finally:
            self._pending.discard(pause)

    def stop(self) -> None:
        """End all pauses, and let none begin."""
        self._stopped = True
        for pause in list(self._pending):
            pause.cancel()

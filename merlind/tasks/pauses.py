"""Coroutines that run on their own, and their pauses, which end when merlind stops."""

from collections.abc import Coroutine
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure


def run(work: Coroutine[Any, Any, None], log: Logger) -> None:
    """Run a coroutine on its own; log the error that ends it, unless it was cancelled."""

    def ended(failure: Failure) -> None:
        if not failure.check(CancelledError):
            log.failure("unexpected error", failure=failure)

    Deferred.fromCoroutine(work).addErrback(ended)


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

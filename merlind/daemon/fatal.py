"""Ends the process when it can't go on, so that a supervisor can start it anew.

Twisted logs what goes wrong in a callback, and goes on. After a MemoryError that won't do: it may have cut short any
piece of code, and merlind would live on, accept connections and never respond. An end loses nothing acknowledged.
"""

from collections.abc import Callable
from typing import Any

from twisted.logger import ILogObserver, LogEvent, Logger
from twisted.python.failure import Failure
from zope.interface import implementer

_RESERVE = 2**21
"""Bytes that are given back before the end, which needs some memory itself."""

_OUT_OF_MEMORY = "out of memory"

_MOST_CAUSES = 10
"""How many causes of an error are looked at."""


@implementer(ILogObserver)
class FatalErrors:
    """A log observer that ends the process at a MemoryError, and at an error that was caused by one.

    ``end`` is called with the reason, and must not return. ``write`` is the log's own observer, or None: this one ends
    the process before the event would get there.
    """

    def __init__(self, end: Callable[[str], object], write: ILogObserver | None) -> None:
        self._end = end
        self._write = write
        self._reserve = bytearray(_RESERVE)

    def __call__(self, event: LogEvent) -> None:
        failure = event.get("log_failure") or event.get("failure")  # the latter is twisted.python.log's
        if failure is not None and _is_out_of_memory(failure.value):
            self._reserve = bytearray()
            try:
                if self._write is not None:
                    self._write(event)
            finally:
                self._end(_OUT_OF_MEMORY)

    def guard_loop(self, reactor: Any) -> None:
        """End the process also if an error comes out of one turn of the reactor's main loop.

        The errors of callbacks are logged and done with by then: this one is of logging, or of the loop itself.
        """
        for name in ("runUntilCurrent", "doIteration"):
            if hasattr(reactor, name):
                setattr(reactor, name, self._guarded(getattr(reactor, name)))

    def _guarded(self, call: Callable[..., object]) -> Callable[..., object]:
        def turn(*arguments: object) -> object:
            try:
                return call(*arguments)
            except BaseException as error:
                self._reserve = bytearray()
                try:
                    if self._write is not None:
                        Logger("merlind.daemon.fatal", observer=self._write).failure("the main loop failed")
                finally:
                    self._end(_OUT_OF_MEMORY if _is_out_of_memory(error) else "the main loop failed")
                raise

        return turn


def _is_out_of_memory(error: BaseException | None) -> bool:
    for _ in range(_MOST_CAUSES):
        if error is None or isinstance(error, MemoryError):
            break
        # gatherResults wraps an error in one of its own.
        inner = getattr(error, "subFailure", None)
        error = inner.value if isinstance(inner, Failure) else error.__cause__ or error.__context__
    return isinstance(error, MemoryError)

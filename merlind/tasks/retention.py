"""Ends what is kept: results past their retention, and photos that outlived their task."""

from collections.abc import Iterator
from itertools import islice

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from merlind.core.interfaces import StoreBroken, StoreUnavailable
from merlind.daemon.clock import ServiceClock
from merlind.storage.store import Store
from merlind.tasks.gateway import Gateway

LONGEST_PAUSE = 3600.0
"""The most seconds between two sweeps."""

_PAGE = 1000


class Retention:
    """Forgets finished tasks ``retention`` seconds after they were over: a sweep at start, and then by callLater."""

    _log = Logger()

    def __init__(
        self, reactor: IReactorTime, clock: ServiceClock, gateway: Gateway, store: Store, retention: float
    ) -> None:
        self._reactor = reactor
        self._clock = clock
        self._gateway = gateway
        self._store = store
        self._retention = retention
        self._pause = min(max(retention / 10, 1.0), LONGEST_PAUSE)
        self._timer: IDelayedCall | None = None
        self._running = False
        self._swept = 0

    def start(self, photos: Iterator[int]) -> None:
        """Begin; ``photos`` are the numbers of the tasks whose photos are in the spool."""
        self._running = True
        self._sweep_photos(photos)
        self._sweep()

    def stop(self) -> None:
        """No more sweeps."""
        self._running = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _sweep_photos(self, photos: Iterator[int]) -> None:
        if not self._running:
            return
        try:
            page = list(islice(photos, _PAGE))
        except OSError as error:
            self._log.warn("the spool can't be swept: {why}", why=error.strerror)
            return
        # One that came since the start was put there by a transaction that is over before the store looks for its task.
        if page:
            self._store.sweep_photos(page).addCallbacks(lambda _: self._sweep_photos(photos), self._failed)

    def _sweep(self) -> None:
        self._timer = None
        before = self._clock.wall() - self._retention
        self._gateway.expire(before, _PAGE).addCallbacks(self._expired, self._failed).addBoth(self._next)

    def _expired(self, gone: int) -> bool:
        self._swept += gone
        return gone == _PAGE

    def _next(self, more: bool | None) -> None:
        if not self._running:
            return
        if more:
            self._sweep()
            return
        if self._swept:
            self._log.info("{count} finished tasks forgotten", count=self._swept)
            self._swept = 0
            self._store.compact().addErrback(self._failed)
        self._timer = self._reactor.callLater(self._pause, self._sweep)

    def _failed(self, failure: Failure) -> None:
        failure.trap(StoreUnavailable, StoreBroken)
        self._log.warn("a sweep failed: {why}", why=failure.getErrorMessage())

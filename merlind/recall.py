"""Loads the newest results into memory after a start, so that a question for one of them needs no database."""

import math

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from merlind.gateway import Gateway
from merlind.rows import Ended
from merlind.store import Store, StoreBroken, StoreUnavailable

PAUSE = 0.02
"""Seconds between two pages, and before the first: what is unfinished, and who asks, come first."""

_PAGE = 500


class Recall:
    """Goes through the finished tasks from the newest on, until memory holds as many as it may."""

    _log = Logger()

    def __init__(self, reactor: IReactorTime, gateway: Gateway, store: Store) -> None:
        self._reactor = reactor
        self._gateway = gateway
        self._store = store
        self._timer: IDelayedCall | None = None
        self._running = False

    def start(self) -> None:
        """Begin."""
        self._running = True
        self._go_on((math.inf, "", 0))

    def stop(self) -> None:
        """Load no more."""
        self._running = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _go_on(self, place: tuple[float, str, int]) -> None:
        self._timer = self._reactor.callLater(PAUSE, self._load, place)

    def _load(self, place: tuple[float, str, int]) -> None:
        self._timer = None
        self._store.newest(place, _PAGE).addCallbacks(self._loaded, self._failed)

    def _loaded(self, page: list[Ended]) -> None:
        if self._gateway.recall(page) and len(page) == _PAGE and self._running:
            self._go_on(page[-1].place)

    def _failed(self, failure: Failure) -> None:
        failure.trap(StoreUnavailable, StoreBroken)
        self._log.warn("loading results failed: {why}", why=failure.getErrorMessage())

"""Builds the parts of merlind, starts them, and stops them in order."""

import random
import secrets
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

from twisted.application.service import Service
from twisted.enterprise.adbapi import ConnectionPool
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IDelayedCall, IListeningPort, IProtocolFactory
from twisted.internet.task import deferLater
from twisted.logger import ILogObserver, Logger
from twisted.web.resource import IResource
from twisted.web.server import Site

from merlind.core.breaker import Breaker, BreakerState
from merlind.core.interfaces import StoreBroken, StoreUnavailable
from merlind.core.task import MAX_TASK_ID, Policy, State
from merlind.daemon.clock import ServiceClock
from merlind.daemon.datadir import DataDir
from merlind.daemon.listen import listen
from merlind.daemon.log import LineLog
from merlind.daemon.metrics import Metrics
from merlind.settings import EMBEDDED, Settings
from merlind.storage.photos.spool import Spool, trusted_syncfs
from merlind.storage.sqlite import database
from merlind.storage.store import Store
from merlind.tasks.gateway import Gateway, Limits
from merlind.tasks.retention import Retention
from merlind.tasks.scheduler import Scheduler
from merlind.upstream.agent import KeepAliveAgent
from merlind.upstream.client import MerlinfaceClient
from merlind.web.entry import EntryPoint
from merlind.web.late import LateResource
from merlind.web.server.site import EdgeSite
from merlind.web.status import StatusResponses

GO_ON_AFTER = 0.05
"""Seconds after the start until the tasks are counted and gone on with: who has waited for the start comes first."""

LOAD_AFTER = 0.25
"""Seconds after which the router and treq are loaded, for the same reason."""

STALL = 300.0
"""Seconds without a good exchange, while tasks are due, after which merlind is not ready."""

STOP_GRACE = 4.0
"""Seconds that requests in hand and exchanges under way are given at the end."""


class MerlindService(Service):
    """The whole of merlind.

    ``data_dir`` is locked, and its database prepared. ``die`` is called with a line that says why, after a fault of the
    disk: it ends the process as a failure, in a moment and without a stop in order, which would write to that disk.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        data_dir: DataDir,
        die: Callable[[str], None],
        make_pool_of: Callable[..., ConnectionPool] = ConnectionPool,
    ) -> None:
        self._reactor = reactor
        self._settings = settings
        self._data_dir = data_dir
        self._die = die
        self._ports: list[IListeningPort] = []
        self.log_observer: LineLog | None = None
        self.clock = ServiceClock(reactor, database.service_time(data_dir.database))
        self.metrics = Metrics()
        self.spool = Spool(data_dir.spool, trusted_syncfs())
        self.spool.prepare()
        self.pool = make_pool_of(
            "sqlite3",
            str(data_dir.database),
            check_same_thread=False,
            isolation_level=None,
            cp_min=1,
            cp_max=1,
            cp_openfun=database.configure,
            cp_reactor=reactor,
        )
        self.store = Store(self.pool, self.spool, self.clock, partial(next, _random_task_ids()), self._broken)
        limits = Limits(settings.max_pending, settings.min_free_bytes, settings.max_uploads, settings.max_upload_bytes)
        self.gateway = Gateway(self.store, self.spool, limits)
        self.retention = Retention(reactor, self.clock, self.gateway, self.store, settings.retention)
        status = StatusResponses(self.gateway, settings.poll_interval)
        self._router = LateResource(lambda: _make_routes(reactor, self.gateway, self.metrics, status))
        entry = EntryPoint(self.gateway, status, settings.max_photo_bytes, self._router)
        self.site = EdgeSite(
            reactor,
            entry,
            self.metrics,
            settings.max_connections,
            settings.min_rate,
        )
        admin = LateResource(lambda: _make_admin(self.metrics, self.readiness, self._refresh_oldest))
        self._admin_site = _QuietSite(admin, reactor=reactor, timeout=60)
        self._starting: list[IDelayedCall] = []
        self._gone_on = False
        self._oldest: float | None = None
        self._define_gauges()

    def setServiceParent(self, parent: Any) -> None:
        if self.log_observer is not None:
            parent.setComponent(ILogObserver, self.log_observer)
        super().setServiceParent(parent)

    # Starting.

    def privilegedStartService(self) -> None:
        """Take the ports. Raises SystemExit with a clear line if one can't be had."""
        settings = self._settings
        url = settings.upstream
        if url == EMBEDDED:
            site = _make_stand_in(self._reactor)
            address: Any = self._listen("tcp:0:interface=127.0.0.1", site).getHost()
            url = f"http://127.0.0.1:{address.port}/api/"
        self._agent = KeepAliveAgent(self._reactor, url)
        client = self._client = MerlinfaceClient(
            self._reactor,
            self.clock,
            self._agent,
            url,
            self.spool,
            self.metrics,
            settings.upstream_timeout,
        )
        jitter = random.SystemRandom().random
        self.gateway.scheduler = self.scheduler = Scheduler(
            self._reactor,
            self.clock,
            self.store,
            client,
            Policy(settings.poll_interval, settings.give_up_after, jitter),
            Breaker(settings.upstream_concurrency, settings.poll_interval, jitter),
            self.gateway.moved,
        )
        self._public_ports = [self._listen(description, self.site) for description in settings.listen]
        if settings.admin is not None:
            self._listen(settings.admin, self._admin_site)
        super().privilegedStartService()

    def _listen(self, description: str, factory: IProtocolFactory) -> IListeningPort:
        try:
            port = listen(self._reactor, description, factory)
        except Exception as error:
            # An endpoint fails with whatever its own parts do.
            why = error.socketError if isinstance(error, CannotListenError) else error
            raise SystemExit(f"merlind: cannot listen on {description}: {why}") from None
        self._ports.append(port)
        return port

    def startService(self) -> None:
        super().startService()
        if self._settings.upstream == EMBEDDED:
            self._log.warn("the upstream is the embedded stand-in: its scores mean nothing")
        self._starting = [
            self._reactor.callLater(GO_ON_AFTER, self._go_on),
            self._reactor.callLater(LOAD_AFTER, self._load),
        ]

    def _go_on(self) -> None:
        if self._gone_on:
            return
        self._gone_on = True
        self.gateway.start()
        self.retention.start(self.spool.stored())

    def _load(self) -> None:
        self._router.load()
        self._client.load()

    # Stopping.

    def stopService(self) -> "Deferred[None]":
        """The public port, then the requests in hand, then the exchanges, then the database."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self._log.info("stopping")
        self.gateway.draining = True
        self._gone_on = True  # if it isn't so yet, it is too late
        for call in self._starting:
            if call.active():
                call.cancel()
        self.retention.stop()
        await _stop_listening(self._public_ports)
        self.gateway.release()
        requests = self.site.drain().addTimeout(STOP_GRACE, self._reactor, onTimeoutCancel=_anyway)
        await gatherResults([requests, self.scheduler.stop(STOP_GRACE)])
        # A TLS peer that says no goodbye must not hold the rest up.
        await self._agent.close().addTimeout(1.0, self._reactor, onTimeoutCancel=_anyway)
        await self.store.drained()
        with suppress(StoreUnavailable, StoreBroken):
            await self.store.compact()
        # Whatever an answer's end set in motion has its turn before the thread is joined.
        await deferLater(self._reactor, 0)
        self.pool.close()
        await _stop_listening([port for port in self._ports if port not in self._public_ports])
        self._data_dir.release()
        self._log.info("stopped")

    def _broken(self, why: str) -> None:
        self._log.critical("{why}; nothing more is taken, and merlind ends", why=why)
        self.gateway.draining = True
        self.gateway.release()
        self.site.drain()
        for port in self._public_ports:
            port.stopListening()
        self._die(why)

    # Telling how it is.

    async def readiness(self) -> list[str]:
        """Why merlind is not ready, if it isn't: can it write, does it make progress?"""
        gateway, scheduler, settings = self.gateway, self.scheduler, self._settings
        self._go_on()  # what is told is behind the counts in the store's queue
        reasons = []
        if gateway.draining:
            reasons.append("stopping")
        try:
            await self.store.check()
            if self.spool.free_bytes() < settings.min_free_bytes:
                reasons.append("storage: the disk is almost full")
        except (StoreUnavailable, StoreBroken, OSError) as error:
            reasons.append(f"storage: {error}")
        if gateway.pending >= settings.max_pending:
            reasons.append("tasks: there are too many unfinished ones")
        if scheduler.misconfigured is not None:
            reasons.append(f"upstream: set up wrongly? it says {scheduler.misconfigured}")
        silence = self.clock.now() - scheduler.last_progress
        if scheduler.waiting and silence > STALL:
            reasons.append(f"upstream: no good answer for {silence:.0f} s")
        return reasons

    async def _refresh_oldest(self) -> None:
        self._go_on()
        try:
            since = await self.store.oldest_unfinished()
        except (StoreUnavailable, StoreBroken):
            return
        self._oldest = since

    def _breaker_is(self, state: BreakerState) -> float:
        return float(self.scheduler.breaker.state is state)

    def _define_gauges(self) -> None:
        metrics, gateway = self.metrics, self.gateway
        metrics.gauges(
            "merlind_tasks",
            "Tasks by state.",
            "state",
            {state.value: partial(gateway.counts.__getitem__, state) for state in State},
        )
        metrics.gauges(
            "merlind_breaker_state",
            "The circuit breaker before the upstream: 1 for the state it is in.",
            "state",
            {state.value: partial(self._breaker_is, state) for state in BreakerState},
        )
        for name, text, read in (
            (
                "merlind_oldest_unfinished_seconds",
                "Age of the oldest unfinished task, in seconds of service time.",
                lambda: 0.0 if self._oldest is None else self.clock.now() - self._oldest,
            ),
            ("merlind_spool_bytes", "Size of the photos in the spool.", lambda: gateway.photo_bytes),
            ("merlind_connections", "Open connections on the public listener.", lambda: self.site.connections),
            ("merlind_active_uploads", "Uploads in hand.", lambda: gateway.uploads),
            ("merlind_long_polls", "Clients that wait for their task to be over.", lambda: gateway.held),
            ("merlind_upstream_in_flight", "Exchanges under way.", lambda: self.scheduler.in_flight),
            ("merlind_tasks_due", "Tasks that wait for their turn at the upstream.", lambda: self.scheduler.waiting),
            ("merlind_timers", "Timers that are set.", lambda: len(self._reactor.getDelayedCalls())),
        ):
            metrics.gauge(name, text, read)


class _QuietSite(Site):
    """A site without an access log."""

    noisy = False

    def startFactory(self) -> None:
        """No log file."""

    def stopFactory(self) -> None:
        """Nothing to close."""


# What the router is part of is imported when it is made: that takes a third of the start, and no status needs it.


def _make_routes(*parts: Any) -> IResource:
    from merlind.web.api import Routes

    return Routes(*parts).app.resource()


def _make_admin(*parts: Any) -> IResource:
    from merlind.admin.api import Admin

    return Admin(*parts).app.resource()


def _make_stand_in(reactor: Any) -> Site:
    from merlind.merlinface.api import StandInSettings, make_site

    return make_site(reactor, StandInSettings())


async def _stop_listening(ports: Iterable[IListeningPort]) -> None:
    for port in ports:
        await maybeDeferred(port.stopListening)


def _anyway(result: object, timeout: float) -> None:
    """For a timeout after which one goes on."""


def _random_task_ids() -> Iterator[int]:
    """Numbers of tasks that can't be guessed, drawn many at a time: each draw gives up the interpreter's lock."""
    while True:
        for (drawn,) in struct.iter_unpack("=Q", secrets.token_bytes(512)):
            if number := drawn & MAX_TASK_ID:
                yield number

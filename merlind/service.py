"""Starts and stops merlind, in order."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any

from twisted.application.service import Service
from twisted.enterprise.adbapi import ConnectionPool
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.internet.task import deferLater
from twisted.logger import ILogObserver, Logger
from twisted.python.failure import Failure

from merlind import __version__
from merlind.build import Parts, build
from merlind.core.interfaces import StoreBroken, StoreUnavailable
from merlind.daemon.datadir import DataDir
from merlind.daemon.endpoints import listen, where
from merlind.daemon.log import LineLog
from merlind.daemon.systemd import Heartbeat, Systemd
from merlind.merlinface.embedded import Embedded
from merlind.settings import Settings
from merlind.storage.sqlite.database import DatabaseUnusable
from merlind.web.auth.checkers import AuthUnusable

STOP_GRACE = 4.0
"""Seconds that the clients' requests and those to the upstream are given to end when merlind stops."""

CLOSE_GRACE = 1.0
"""Seconds that idle connections to the upstream are given to close."""


class MerlindService(Service):
    """The whole of merlind: ``parts`` are built when it starts.

    ``data_dir`` is locked, and its database prepared. ``die`` is called with the reason after a failure of the disk: it
    ends the process soon, without stopping in order, because that would write to the disk.
    """

    _log = Logger()
    parts: Parts

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        data_dir: DataDir,
        die: Callable[[str], None],
        make_pool: Callable[..., ConnectionPool] = ConnectionPool,
    ) -> None:
        self._reactor = reactor
        self._settings = settings
        self._data_dir = data_dir
        self._die = die
        self._make_pool = make_pool
        self._public_ports: list[IListeningPort] = []
        self._other_ports: list[IListeningPort] = []
        self._embedded: Embedded | None = None
        self.log_observer: LineLog | None = None
        self.systemd = Systemd({})

    def setServiceParent(self, parent: Any) -> None:
        if self.log_observer is not None:
            parent.setComponent(ILogObserver, self.log_observer)
        super().setServiceParent(parent)

    # Starting.

    def privilegedStartService(self) -> None:
        """Build the parts and open the ports. Raises SystemExit with one clear line if that can't be done."""
        url = self._settings.upstream
        if self._settings.embedded:
            try:
                self._embedded = Embedded(self._reactor, self._settings.embedded_scorer, self._settings.names)
            except ValueError as error:
                raise SystemExit(f"merlind: --upstream {url}: {error}") from None
            port = self._listen_aside("tcp:0:interface=127.0.0.1", self._embedded.site)
            url = f"http://127.0.0.1:{getattr(port.getHost(), 'port', 0)}/api/"
        try:
            with self._data_dir.user.acting():
                self.parts = build(self._reactor, self._settings, self._data_dir, url, self._broken, self._make_pool)
        except (DatabaseUnusable, AuthUnusable) as error:
            raise SystemExit(f"merlind: {error}") from None
        except OSError as error:
            path = error.filename or self._data_dir.path
            raise SystemExit(f"merlind: {path} can't be used: {error.strerror}") from None
        if (log := self.log_observer) is not None:
            text = "Lines of the log that were dropped, because nobody read it or it could not be written."
            self.parts.metrics.count("merlind_log_lines_dropped", text, lambda: log.dropped)
        self._public_ports = [
            listen(self._reactor, description, self.parts.site) for description in self._settings.listen
        ]
        admin = (
            None if self._settings.admin is None else self._listen_aside(self._settings.admin, self.parts.admin_site)
        )
        self._log_start(admin)
        super().privilegedStartService()

    def _listen_aside(self, description: str, factory: IProtocolFactory) -> IListeningPort:
        """Open a port that closes last."""
        port = listen(self._reactor, description, factory)
        self._other_ports.append(port)
        return port

    def _log_start(self, admin: IListeningPort | None) -> None:
        """Say in one line where merlind listens, who scores, and where its data lie."""
        settings = self._settings
        ports = zip(settings.listen, self._public_ports, strict=True)
        # The query of a URL may hold a key.
        upstream = (
            f"the embedded {self._embedded.name} scorer" if self._embedded else settings.upstream.partition("?")[0]
        )
        self._log.info(
            "merlind {version} serves at {listen}, for operators at {admin}; photos go to {upstream}; "
            "data are in {data}",
            version=__version__,
            listen=" and ".join(where(description, port.getHost()) for description, port in ports),
            admin="no address" if admin is None else where(settings.admin or "", admin.getHost()),
            upstream=upstream,
            data=str(self._data_dir.path),
        )

    def startService(self) -> None:
        """Count the tasks, and go on with those that are unfinished. Clients are served meanwhile."""
        super().startService()
        if self._embedded is not None:
            self._embedded.start()
        self.parts.store.count().addCallbacks(self.parts.counts.load, self._not_counted)
        self.parts.scheduler.start()
        self.parts.pauser.start()
        self.parts.retention.start()
        self._heartbeat = Heartbeat(self._reactor, self.systemd, partial(self.parts.store.get, 0))
        self._heartbeat.start()
        self._reactor.callWhenRunning(self.systemd.ready)
        self.parts.watch.start()

    def _not_counted(self, failure: Failure) -> None:
        failure.trap(StoreUnavailable, StoreBroken)
        self._log.error("counting the tasks failed: {why}", why=failure.getErrorMessage())

    # Stopping.

    def stopService(self) -> "Deferred[None]":
        """Stop the public ports, then the requests, then the database; fires when all is closed."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self._log.info("stopping")
        self.systemd.stopping("stopping")
        self._heartbeat.stop()
        parts = self.parts
        parts.intake.draining = True
        parts.retention.stop()
        parts.watch.stop()
        parts.pauser.stop()
        parts.retrier.stop()
        await _stop_listening(self._public_ports)
        parts.results.release()
        clients = parts.site.drain().addTimeout(STOP_GRACE, self._reactor, onTimeoutCancel=_anyway)
        await gatherResults([clients, parts.scheduler.stop(STOP_GRACE)])
        await parts.agent.close().addTimeout(CLOSE_GRACE, self._reactor, onTimeoutCancel=_anyway)
        if self._embedded is not None:
            await self._embedded.stop()
        await parts.store.drained()
        for upkeep in (parts.store.record_time, parts.store.compact):
            with suppress(StoreUnavailable, StoreBroken):
                await upkeep()
        # Callbacks of the last operations run before the database's thread is joined, which blocks.
        await deferLater(self._reactor, 0)
        parts.engine.close()
        await _stop_listening(self._other_ports)
        self._data_dir.release()
        self._log.info("stopped")

    def _broken(self, why: str) -> None:
        self._log.critical("{why}; refusing new uploads and shutting down", why=why)
        self.systemd.stopping(why)
        self.parts.intake.draining = True
        self.parts.results.release()
        self.parts.site.drain()
        for port in self._public_ports:
            port.stopListening()
        self._die(why)


async def _stop_listening(ports: Iterable[IListeningPort]) -> None:
    for port in ports:
        await maybeDeferred(port.stopListening)


def _anyway(result: object, timeout: float) -> None:
    """Continue after a time-out."""

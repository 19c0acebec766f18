"""All of merlind, built as in production, on a reactor without time or network and a database without a thread."""

import errno
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from unittest.mock import Mock

from twisted.application.service import Application, IService
from twisted.enterprise.adbapi import ConnectionPool
from twisted.internet.address import IPv4Address
from twisted.internet.error import CannotListenError, ConnectionRefusedError
from twisted.logger import ILogObserver, LogEvent
from twisted.test import iosim
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from merlind.admin.health import STALL
from merlind.build import Parts
from merlind.core.clients import read_network
from merlind.core.limiter import LimiterState
from merlind.core.outcome import Fault, Outcome, Pending, Rejected, TaskError, TransientError
from merlind.core.task import MAX_TASK_ID
from merlind.daemon.datadir import DataDir
from merlind.daemon.endpoints import BACKLOG
from merlind.daemon.systemd import Systemd
from merlind.service import STOP_GRACE, MerlindService
from merlind.settings import Settings
from merlind.storage.photos.spool import Spool
from merlind.storage.sqlite import database
from merlind.tasks.watch import WATCH_INTERVAL
from merlind.web.server.phase import LINGER_TIMEOUT
from tests.unit.support import JPEG, FakeThreadPool, Reactor, Watch, Wire, fail_on, make_pool, make_task, sqlite_error
from tests.unit.web.support import Client, LogLines, Reply, fired, form, get, message, post

SETTINGS = Settings(
    listen=["tcp:8000"],
    admin="tcp:8001:interface=127.0.0.1",
    admin_host=[],
    auth=[],
    upstream="http://upstream:12345/api/",
    names=[],
    data_dir=Path("unused"),
    poll_interval=2.0,
    upstream_timeout=30.0,
    upstream_concurrency=4,
    give_up_after=3600.0,
    max_attempts=100,
    retention=86400.0,
    keep_failed=3600.0,
    max_photo_bytes=10_000,
    max_pending=3,
    max_connections=10,
    max_uploads=5,
    max_upload_bytes=1_000_000,
    max_connections_per_client=0,
    max_uploads_per_client=0,
    max_pending_per_client=0,
    max_long_polls_per_client=0,
    client_rate=None,
    cors_origin=[],
    trusted_proxy=[],
    min_rate=1024,
    upload_timeout=600.0,
    min_free_bytes=0,
)


class Port:
    """A listening port, which records when it is closed."""

    def __init__(self, reactor: "ServiceReactor", number: int) -> None:
        self._reactor = reactor
        self.number = number

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", self.number)

    def stopListening(self) -> None:
        self._reactor.events.append(f"port {self.number} closed")


class ServiceReactor(Reactor):
    """A reactor that connects clients to the ports it listens on, and records in ``events`` what is closed, in order.

    ``taken`` has the ports that can't be listened on, with the error.
    """

    def __init__(self) -> None:
        super().__init__()
        self.events: list[str] = []
        self.taken: dict[int, Exception] = {}
        self.pumps: list[iosim.IOPump] = []
        self._sites: dict[int, Any] = {}
        self._connected = 0

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        if port in self.taken:
            raise self.taken[port]
        super().listenTCP(port, factory, backlog, interface)
        number = port or 50000
        self._sites[number] = factory
        return Port(self, number)

    def turn(self) -> None:
        """Let everything happen that needs no time to pass, between clients and servers too."""
        for _ in range(10):
            self.settle()
            for _, port, factory, *_ in self.tcpClients[self._connected :]:
                if port in self._sites:
                    self._connected += 1
                    server, client = self._sites[port].buildProtocol(None), factory.buildProtocol(None)
                    ends = iosim.FakeTransport(server, isServer=True), iosim.FakeTransport(client, isServer=False)
                    self.pumps.append(iosim.connect(server, ends[0], client, ends[1]))
            for pump in self.pumps:
                pump.flush()


@implementer(ILogObserver)
class Observer:
    """A log observer that ignores all events."""

    def __call__(self, event: LogEvent) -> None:
        """Ignore the event."""


class ServiceCase(SynchronousTestCase):
    """A service that is not yet started."""

    settings = SETTINGS

    def setUp(self) -> None:
        self.reactor = ServiceReactor()
        self.watch = Watch()
        self.died: list[str] = []
        self.folder = Path(self.mktemp()).absolute()
        self.clients: list[Client] = []
        self.service = self.make()

    def make(self, **changes: Any) -> MerlindService:
        data_dir = DataDir(self.folder)
        data_dir.acquire()
        self.addCleanup(data_dir.release)
        database.prepare(data_dir.database)
        settings = replace(self.settings, **changes)
        return MerlindService(self.reactor, settings, data_dir, self.died.append, self.make_pool)

    def make_pool(self, *args: Any, **kwargs: Any) -> ConnectionPool:
        """Make the database's pool; the reactor's ``events`` record when it is closed."""
        self.pool = make_pool(*args, watch=self.watch, **kwargs)
        close = self.pool.close

        def report_and_close() -> None:
            self.reactor.events.append("pool closed")
            close()

        self.patch(self.pool, "close", report_and_close)
        return self.pool

    @property
    def parts(self) -> Parts:
        """The parts of the started service."""
        return self.service.parts

    def remake(self, **changes: Any) -> MerlindService:
        """Replace the service, which is not started yet, by one with other settings."""
        self.service._data_dir.release()
        self.service = self.make(**changes)
        return self.service

    def start(self, **changes: Any) -> MerlindService:
        if changes:
            self.remake(**changes)
        self.service.privilegedStartService()
        self.service.startService()
        self.turn()
        # Close the photos being sent, even if the test doesn't wait for the service to stop.
        self.addCleanup(self.reactor.run_for, 0.1)
        self.addCleanup(self.parts.scheduler.stop, 0)
        return self.service

    def stop(self) -> list[Any]:
        """Stop the service; return a list that gets what stopService fires with. Closed clients leave."""
        stopped = fired(self.service.stopService())
        self.turn()
        return stopped

    def learn(self, outcome: Outcome, *task_ids: int) -> None:
        """Let the limiter learn that this came of uploads."""
        for task in map(make_task, task_ids):
            self.parts.scheduler.limiter.learn(task, task, outcome, 0.0, self.parts.clock.now())

    def turn(self) -> None:
        for _ in range(5):
            self.reactor.turn()
            for client in self.clients:
                if client.closed:
                    client.leave(clean=True)

    def run_for(self, seconds: float) -> None:
        """Let time pass; closed clients leave."""
        end = self.reactor.seconds() + seconds
        while self.reactor.seconds() < end:
            self.reactor.run_for(min(0.5, end - self.reactor.seconds()))
            self.turn()

    def connect(self, site: Any = None, peer: str = "192.0.2.1") -> Client:
        client = Client(site or self.parts.site, self.reactor.turn, peer=peer)
        self.clients.append(client)
        return client

    def ask(self, data: bytes) -> Reply:
        client = self.connect().send(data)
        reply = client.reply()
        client.leave()
        return reply

    def ask_admin(self, path: str, method: str = "GET") -> Reply:
        client = self.connect(self.parts.admin_site).send(message(method, path))
        self.turn()
        reply = client.reply()
        client.leave()
        return reply

    def metric(self, name: str) -> float:
        """Return a metric's value, as the metrics page has it."""
        lines = self.ask_admin("/metrics").body.decode("ascii").splitlines()
        return float(next(line for line in lines if line.startswith(name + " ")).rpartition(" ")[2])

    def assert_stopped(self) -> None:
        """Assert that no timer, no database thread and no lock is left."""
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertTrue(cast(FakeThreadPool, self.pool.threadpool).stopped)
        other = DataDir(self.folder)
        other.acquire()
        other.release()


class StartTests(ServiceCase):
    """Starting."""

    def test_is_a_service(self) -> None:
        """The service is one that twistd can run."""
        self.assertTrue(verifyObject(IService, self.service))

    def test_listens(self) -> None:
        """It listens on every --listen endpoint, with a longer backlog than Twisted's, and on the admin endpoint."""
        service = self.remake(listen=["tcp:8000", "tcp:8080:interface=127.0.0.1", "tcp:9:backlog=7", "unix:/sock"])
        service.privilegedStartService()
        self.assertEqual(
            [(port, backlog, interface) for port, _, backlog, interface in self.reactor.tcpServers],
            [(8000, BACKLOG, ""), (8080, BACKLOG, "127.0.0.1"), (9, 7, ""), (8001, BACKLOG, "127.0.0.1")],
        )
        self.assertEqual([path for path, *_ in self.reactor.unixServers], ["/sock"])
        sites = [factory for _, factory, _, _ in self.reactor.tcpServers]
        self.assertEqual([site is self.parts.site for site in sites], [True, True, True, False])
        self.assertFalse(service.running)
        service.startService()
        self.turn()
        self.stop()

    def test_sites_are_quiet(self) -> None:
        """The sites log nothing when they start and stop."""
        self.start()
        lines = LogLines.of(self).lines
        for site in (self.parts.site, self.parts.admin_site):
            site.doStart()
            site.doStop()
        self.assertEqual(lines, [])

    def test_told(self) -> None:
        """One line says where it serves, who scores, without what may be secret in a URL, and where the data lie."""
        lines = LogLines.of(self).lines
        self.start(upstream="https://upstream:12345/api/?key=secret")
        (line,) = lines
        self.assertRegex(line, r"^merlind \d+\.\d+\.\d+ serves at http://127\.0\.0\.1:8000/, ")
        self.assertIn(", for operators at http://127.0.0.1:8001/; ", line)
        self.assertIn("; photos go to https://upstream:12345/api/; ", line)
        self.assertTrue(line.endswith(f"; data are in {self.folder}"), line)
        self.stop()

    def test_told_of_the_embedded_scorer(self) -> None:
        """The line names the embedded scorer, and no address of an admin listener that is turned off."""
        lines = LogLines.of(self).lines
        self.start(upstream="embedded:stand-in", admin=None)
        self.assertIn(", for operators at no address; photos go to the embedded stand-in scorer; ", "".join(lines))
        self.stop()

    def test_no_admin(self) -> None:
        """The admin listener can be turned off."""
        self.start(admin=None)
        self.assertEqual([port for port, *_ in self.reactor.tcpServers], [8000])
        self.stop()

    def test_admin_pages_are_not_public(self) -> None:
        """The admin port alone serves metrics and health, and the public port alone serves tasks."""
        self.start()
        for path in ("/metrics", "/health/live", "/health/ready"):
            self.assertEqual((self.ask(message("GET", path)).code, self.ask_admin(path).code), (404, 200))
        data = self.connect(self.parts.admin_site).send(get(1)).transport.value()
        self.assertTrue(data.startswith(b"HTTP/1.1 400 "), data)

    def test_port_in_use(self) -> None:
        """A port in use ends the start, with one line that names the endpoint and the reason."""
        self.reactor.taken[8000] = CannotListenError("", 8000, OSError(98, "Address already in use"))
        error = self.assertRaises(SystemExit, self.service.privilegedStartService)
        self.assertEqual(error.code, "merlind: cannot listen on tcp:8000: [Errno 98] Address already in use")

    def test_admin_port_in_use(self) -> None:
        """So does an admin port that can't be used, whatever the reason."""
        self.reactor.taken[8001] = PermissionError(13, "Permission denied")
        error = self.assertRaises(SystemExit, self.service.privilegedStartService)
        self.assertEqual(
            error.code,
            "merlind: cannot listen on tcp:8001:interface=127.0.0.1: [Errno 13] Permission denied",
        )

    def test_log_observer(self) -> None:
        """The application gets the service's log observer, if it has one."""
        application = Application("merlind")
        self.service.setServiceParent(application)
        self.assertIsNone(application.getComponent(ILogObserver))
        observer: Any = Observer()
        other = self.remake()
        other.log_observer = observer
        application = Application("merlind")
        other.setServiceParent(application)
        self.assertIs(application.getComponent(ILogObserver), observer)
        services: Any = IService(application)
        self.assertIn(other, list(services))

    def test_restart_continues(self) -> None:
        """A restart continues unfinished tasks, deletes orphaned photos, and keeps the service time."""
        self.start()
        task = self.ask(post()).json["task"]
        self.run_for(100)
        self.ask(post(form("Bo")))
        spool = self.folder / "spool"
        (spool / "12345").write_bytes(b"left behind")
        (spool / "incoming" / "1.part").write_bytes(b"half")
        self.stop()
        self.run_for(STOP_GRACE + 1)
        self.assert_stopped()
        self.reactor = ServiceReactor()
        self.service = self.make()
        self.start()
        self.assertGreaterEqual(self.parts.clock.now(), 100)
        self.assertEqual(len(list(spool.iterdir())), 3)
        self.assertFalse((spool / "12345").exists())
        self.assertEqual(list((spool / "incoming").iterdir()), [])
        self.assertEqual(self.ask(get(task)).code, 202)
        self.assertIsNotNone(self.parts.queue.get(task))
        self.assertEqual(self.metric('merlind_tasks{state="upload"}'), 2)
        self.stop()

    def test_metrics_at_once(self) -> None:
        """Metrics and readiness include the stored tasks, however early after the start they are requested."""
        self.start()
        self.ask(post())
        for path in ("/metrics", "/health/ready"):
            self.stop()
            self.run_for(STOP_GRACE + 1)
            self.assert_stopped()
            self.reactor = ServiceReactor()
            self.service = self.make()
            self.service.privilegedStartService()
            self.service.startService()
            text = self.ask_admin(path).body.decode("ascii")
            self.assertEqual(self.parts.counts.unfinished, 1)
            if path == "/metrics":
                self.assertIn('merlind_tasks{state="upload"} 1.0', text)
        self.stop()
        self.run_for(STOP_GRACE + 1)

    def test_stopped_at_once(self) -> None:
        """A stop before any task is loaded ends at once."""
        self.service.privilegedStartService()
        self.service.startService()
        self.assertEqual(self.stop(), [None])
        self.assert_stopped()

    def test_task_ids(self) -> None:
        """Task ids are drawn from all integers that a browser can hold, and are not consecutive."""
        self.start()
        numbers = [self.ask(post(form(name))).json["task"] for name in "ABC"]
        self.assertEqual(len(set(numbers)), 3)
        self.assertTrue(all(0 < number <= MAX_TASK_ID for number in numbers))
        self.assertGreater(max(numbers) - min(numbers), 3)
        self.stop()


class ServiceManager(Systemd):
    """A service manager that records what it is told."""

    def __init__(self, seconds: float | None) -> None:
        super().__init__({})
        self._seconds = seconds
        self.told: list[str] = []

    def watchdog(self) -> float | None:
        return self._seconds

    def _send(self, *lines: str) -> None:
        self.told.append(" ".join(lines))


class SystemdTests(ServiceCase):
    """What systemd is told."""

    def manage(self, seconds: float | None = None) -> list[str]:
        """Start the service under a service manager; return what it is told."""
        manager = self.service.systemd = ServiceManager(seconds)
        self.start()
        return manager.told

    def test_ready_and_stopping(self) -> None:
        """It is told that merlind is ready once the reactor runs and can serve, and that it stops."""
        told = self.manage()
        self.assertEqual(told, [])
        self.reactor.run()
        self.assertEqual(told, ["READY=1 STATUS=serving"])
        self.stop()
        self.assertEqual(told[1:], ["STOPPING=1 STATUS=stopping"])
        self.assert_stopped()

    def test_signs_of_life(self) -> None:
        """The watchdog gets them as long as the database answers, and none after the stop."""
        told = self.manage(10.0)
        self.run_for(20)
        self.assertEqual(told, ["WATCHDOG=1"] * 5)
        self.stop()
        self.assert_stopped()

    def test_failed_disk(self) -> None:
        """After a failure of the disk it is told why merlind ends, and gets no more signs of life."""
        told = self.manage(10.0)
        del told[:]
        self.watch.fault = fail_on("COMMIT", sqlite_error("SQLITE_IOERR_FSYNC"))
        self.ask(post())
        self.run_for(20)
        self.assertEqual(told, [f"STOPPING=1 STATUS={self.died[0]}"])
        self.stop()


class LogLossTests(ServiceCase):
    """Lines of the log that were dropped."""

    def test_metric(self) -> None:
        """The metrics count them, if the log is ours."""
        self.start()
        self.assertNotIn(b"merlind_log_lines", self.ask_admin("/metrics").body)
        self.stop()
        self.service = self.make()
        log: Any = Mock(dropped=7)
        self.service.log_observer = log
        self.start()
        self.assertEqual(self.metric("merlind_log_lines_dropped_total"), 7)
        self.stop()


class EmbeddedTests(ServiceCase):
    """The stand-in inside the process."""

    settings = replace(SETTINGS, upstream="embedded:stand-in")

    def test_from_photo_to_score(self) -> None:
        """A photo is scored over the stand-in's own port, and deleted from the disk."""
        lines = LogLines.of(self).lines
        self.start()
        self.assertIn("the upstream is the embedded stand-in: its scores mean nothing", lines)
        (stand_in, *_), *_ = self.reactor.tcpServers
        self.assertEqual((stand_in, self.reactor.tcpServers[0][3]), (0, "127.0.0.1"))
        task = self.ask(post()).json["task"]
        self.assertEqual(self.ask(get(task)).code, 202)
        self.run_for(10)
        reply = self.ask(get(task))
        self.assertEqual((reply.code, reply.json["status"]), (200, "ready"))
        self.assertEqual([path.name for path in (self.folder / "spool").iterdir()], ["incoming"])
        self.assertEqual(self.ask(post()).json["result"], reply.json["result"])
        self.assertEqual(self.metric('merlind_upstream_requests_total{kind="upload",outcome="pending"}'), 1)
        self.assertEqual(self.ask_admin("/health/ready").json, {"status": "ready", "reasons": []})
        stopped = self.stop()
        self.run_for(2)
        self.assertEqual(stopped, [None])
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_long_poll_from_photo_to_score(self) -> None:
        """A long poll gets the score as soon as it is there."""
        self.start()
        client = self.connect().send(post(Prefer="wait=30"))
        self.run_for(10)
        self.assertEqual((client.reply().code, client.reply().json["status"]), (200, "ready"))
        self.stop()


class StopTests(ServiceCase):
    """Stopping."""

    def test_idle(self) -> None:
        """With nothing in flight it stops at once: the public port closes first, the lock is released last."""
        lines = LogLines.of(self).lines
        self.start()
        idle = self.connect().send(get(5))
        stopped = self.stop()
        self.assertEqual(stopped, [None])
        self.assertTrue(idle.closed)
        self.assertEqual(self.reactor.events, ["port 8000 closed", "pool closed", "port 8001 closed"])
        self.assertEqual((lines[1], lines[-1]), ("GET 404 0 ms", "stopped"))
        self.assertIn("stopping", lines)
        self.assert_stopped()

    def test_service_time_is_recorded(self) -> None:
        """A stop records the service time, however long nothing was written: the next run goes on from there."""
        self.start()
        self.run_for(100)
        self.stop()
        self.assert_stopped()
        self.assertEqual(database.service_time(self.folder / "tasks.sqlite"), 100.0)

    def test_requests_in_flight(self) -> None:
        """An upload in flight is completed and kept, a long poll gets its response, and new uploads are refused."""
        self.start()
        task = self.ask(post(form("Bo"))).json["task"]
        waiting = self.connect().send(get(task, Prefer="wait=60"))
        upload, late = self.connect().send(post()[:-10]), self.connect().send(b"POST")
        stopped = self.stop()
        self.assertEqual((waiting.reply().code, waiting.gone), (202, True))
        upload.send(post()[-10:])
        late.send(post()[4:])
        self.turn()
        self.assertEqual((upload.reply().code, upload.gone), (202, True))
        self.assertEqual(late.reply().json["detail"], "the server is stopping")
        self.assertEqual(stopped, [])
        self.run_for(STOP_GRACE + LINGER_TIMEOUT)
        self.assertEqual(stopped, [None])
        self.assert_stopped()
        with closing(sqlite3.connect(self.folder / "tasks.sqlite")) as connection:
            found = connection.execute("SELECT id, state FROM task ORDER BY name").fetchall()
        self.assertEqual(found, [(upload.reply().json["task"], "upload"), (task, "upload")])

    def test_long_poll_while_stopping(self) -> None:
        """A long poll that would begin during the stop gets the present status at once."""
        self.start()
        data = post(Prefer="wait=60")
        client = self.connect().send(data[:-10])
        self.stop()
        client.send(data[-10:])
        self.assertEqual(client.reply().code, 202)
        self.turn()
        self.run_for(STOP_GRACE)
        self.assert_stopped()

    def test_bounded(self) -> None:
        """An upload that never ends and an upstream that never responds delay the stop by the grace period only."""
        self.start()
        wire = Wire(self.reactor)
        self.ask(post(form("Bo")))
        wire.connect(bufferSize=0)
        client = self.connect().send(post()[:-10])
        self.turn()
        self.assertEqual(self.parts.scheduler.worker.in_flight, 1)
        stopped = self.stop()
        self.run_for(STOP_GRACE - 0.5)
        self.assertEqual((stopped, self.parts.scheduler.worker.in_flight), ([], 1))
        self.run_for(1.5)
        self.assertEqual((stopped, self.parts.scheduler.worker.in_flight), ([None], 0))
        client.leave()
        self.assert_stopped()

    def test_upstream_responds_in_time(self) -> None:
        """A response of the upstream that arrives during the stop is saved."""
        self.start()
        task = self.ask(post()).json["task"]
        wire = Wire(self.reactor)
        wire.connect()
        self.turn()
        stopped = self.stop()
        self.assertEqual(stopped, [])
        wire.receive(b"HTTP/1.1 200 OK\r\nContent-Length: 33\r\n\r\n" + b'{"status":"ready","result":0.25} ')
        self.turn()
        wire.lose(ConnectionRefusedError())
        self.turn()
        self.assertEqual(stopped, [None])
        self.assert_stopped()
        with closing(sqlite3.connect(self.folder / "tasks.sqlite")) as connection:
            self.assertEqual(connection.execute("SELECT id, result FROM task").fetchall(), [(task, 0.25)])

    def test_erased_names_are_in_no_file(self) -> None:
        """A stop compacts the database's log, so that an erased name is in no file."""
        self.start()
        task = self.ask(post(form("Secretname"))).json["task"]
        self.assertEqual(self.ask(get(task, "DELETE")).code, 204)
        self.stop()
        self.run_for(STOP_GRACE)
        self.assert_stopped()
        self.assertEqual(self.watch.statements[-1], "PRAGMA wal_checkpoint(TRUNCATE)")
        for path in self.folder.rglob("*"):
            if path.is_file():
                self.assertNotIn(b"Secretname", path.read_bytes(), path)

    def test_compaction_fails(self) -> None:
        """A database that can't be compacted doesn't prevent the stop."""
        self.start()
        self.watch.fault = fail_on("PRAGMA wal_checkpoint", sqlite_error("SQLITE_BUSY"))
        self.assertEqual(self.stop(), [None])
        self.assert_stopped()


class FaultTests(ServiceCase):
    """A broken disk."""

    def test_lost_database_shuts_down(self) -> None:
        """A database or a lock that is deleted while nothing happens ends the process, with the reason (D12)."""
        for name in ("tasks.sqlite", "tasks.sqlite-wal", "lock"):
            with self.subTest(name):
                self.setUp()
                self.start()
                self.ask(post())
                (self.folder / name).unlink()
                self.run_for(WATCH_INTERVAL)
                self.assertEqual(self.died, [f"{self.folder / name} was deleted or renamed while merlind was running"])
                self.assertIn("port 8000 closed", self.reactor.events)

    def test_no_photo_is_taken_without_a_database(self) -> None:
        """From the moment on in which the database is gone, no photo gets a number (D12)."""
        self.start()
        self.ask(post())
        (self.folder / "tasks.sqlite").unlink()
        self.assertEqual(self.ask(post(form("Bo"))).code, 503)
        self.assertEqual(len(self.died), 1)

    def test_broken_store_shuts_down(self) -> None:
        """New uploads are refused, long polls get a response, and the shutdown is requested once, with the reason."""
        lines = LogLines.of(self).lines
        self.start()
        task = self.ask(post(form("Bo"))).json["task"]
        waiting, idle = self.connect().send(get(task, Prefer="wait=60")), self.connect().send(get(5))
        self.watch.fault = fail_on("COMMIT", sqlite_error("SQLITE_IOERR_FSYNC"))
        reply = self.ask(post())
        self.assertEqual((reply.code, reply.json["code"]), (503, "storage"))
        why = "the database failed: injected (SQLITE_IOERR_FSYNC)"
        self.assertEqual(self.died, [why])
        self.assertIn(f"{why}; refusing new uploads and shutting down", lines)
        self.assertEqual((waiting.reply().code, idle.closed), (202, True))
        self.assertEqual(self.reactor.events, ["port 8000 closed"])
        self.assertEqual(self.ask(post(form("Cy"))).code, 503)
        self.assertEqual(self.died, [why])
        reply = self.ask_admin("/health/ready")
        self.assertEqual((reply.code, reply.json["reasons"]), (503, ["stopping", f"storage: {why}"]))
        self.assertEqual(self.ask_admin("/health/live").code, 200)
        self.assertEqual(self.metric("merlind_oldest_unfinished_seconds"), 0)
        self.stop()
        self.run_for(STOP_GRACE + 1)
        self.assert_stopped()


class ReadinessTests(ServiceCase):
    """Readiness, and the reasons against it."""

    def setUp(self) -> None:
        super().setUp()
        self.start()

    def tearDown(self) -> None:
        self.watch.fault = lambda sql: None
        self.stop()
        self.run_for(STOP_GRACE + 1)
        self.assert_stopped()

    def reasons(self) -> list[str]:
        """Return the reasons that the readiness page lists; its status code must match them."""
        reply = self.ask_admin("/health/ready")
        reasons: list[str] = reply.json["reasons"]
        self.assertEqual(reply.code, 503 if reasons else 200)
        return reasons

    def test_ready(self) -> None:
        """A running service is ready."""
        self.assertEqual(self.reasons(), [])

    def test_stopping(self) -> None:
        """It isn't ready while it stops."""
        self.parts.intake.draining = True
        self.assertEqual(self.reasons(), ["stopping"])

    def test_database(self) -> None:
        """It isn't ready while the database can't be written to."""
        self.watch.fault = fail_on("BEGIN", sqlite_error("SQLITE_READONLY", "attempt to write a readonly database"))
        self.assertEqual(self.reasons(), ["storage: attempt to write a readonly database (SQLITE_READONLY)"])

    def test_spool(self) -> None:
        """It isn't ready while the spool can't be written to."""

        def probe(spool: Spool) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        self.patch(Spool, "probe", probe)
        self.assertEqual(self.reasons(), ["storage: No space left on device"])

    def test_disk_room(self) -> None:
        """It isn't ready while the disk is almost full."""
        self.patch(Spool, "free_bytes", lambda spool: -1)
        self.assertEqual(self.reasons(), ["storage: the disk is almost full"])

    def test_too_many_tasks(self) -> None:
        """It isn't ready at the most unfinished tasks."""
        for name in "ABC":
            self.assertEqual(self.reasons(), [])
            self.ask(post(form(name)))
        self.assertEqual(self.reasons(), ["tasks: there are too many unfinished ones"])

    def test_misconfigured(self) -> None:
        """It isn't ready while the upstream rejects our requests."""
        wire = Wire(self.reactor)
        self.ask(post())
        wire.connect()
        wire.receive(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
        self.turn()
        wire.lose(ConnectionRefusedError())
        self.assertEqual(self.reasons(), ["upstream: it rejects our requests (http 401): check --upstream"])

    def test_outage(self) -> None:
        """It is ready in an outage of the upstream, which keeps it from taking no photo and passes by itself."""
        self.learn(TransientError("http 503", fault=Fault.UNAVAILABLE), 1, 2, 3, 4, 5)
        self.assertEqual(self.parts.scheduler.limiter.state, LimiterState.OUTAGE)
        self.assertEqual(self.reasons(), [])


class ProgressTests(ServiceCase):
    """Whether tasks get on, and why not."""

    settings = replace(SETTINGS, max_pending=100)

    def setUp(self) -> None:
        super().setUp()
        self.start()

    def tearDown(self) -> None:
        self.stop()
        self.run_for(STOP_GRACE + 1)
        self.assert_stopped()

    def working(self) -> tuple[list[str], list[str]]:
        """Return the reasons and the notes that the page lists; its status code must match the reasons."""
        reply = self.ask_admin("/health/working")
        reasons: list[str] = reply.json["reasons"]
        self.assertEqual(reply.code, 503 if reasons else 200)
        return reasons, reply.json["notes"]

    def test_working(self) -> None:
        """A service that has nothing to do works."""
        self.assertEqual(self.working(), ([], []))

    def test_outage(self) -> None:
        """In an outage it says what the last request met, and when the next one is."""
        self.learn(TransientError("http 503", 45.0, Fault.UNAVAILABLE), 1, 2, 3, 4, 5)
        self.run_for(3)
        reason = "upstream: an outage for 3 s (http 503); the next request in 42 s"
        self.assertEqual(self.working(), ([reason], []))
        for name, value in (
            ('merlind_upstream_limiter{state="outage"}', 1),
            ("merlind_upstream_limit", 1),
            ("merlind_upstream_probe_seconds", 42),
        ):
            self.assertEqual(self.metric(name), value, name)

    def test_paused(self) -> None:
        """In a pause tasks don't get on, and it says so; photos are taken all the same. The next run is paused, too."""
        self.assertEqual(self.ask_admin("/pause", "POST").json["paused"], True)
        reason = "paused: no requests to the upstream until somebody resumes them (POST /resume)"
        self.assertEqual((self.working(), self.metric("merlind_paused")), (([reason], []), 1))
        self.assertEqual(self.ask_admin("/health/ready").code, 200)
        self.stop()
        self.run_for(STOP_GRACE + 1)
        self.start()
        self.assertEqual(self.working(), ([reason], []))
        self.assertEqual(self.ask_admin("/resume", "POST").json["paused"], False)
        self.assertEqual((self.working(), self.metric("merlind_paused")), (([], []), 0))

    def test_misconfigured(self) -> None:
        """Wrong settings keep tasks from getting on until the upstream answers well."""
        limiter = self.parts.scheduler.limiter
        wrong = "upstream: it rejects our requests (http 401): check --upstream"
        self.learn(TransientError("http 401", fault=Fault.MISCONFIGURED), 1)
        self.assertEqual(self.working(), ([wrong], []))
        self.learn(Pending("a"), 1)
        self.assertEqual((self.working(), limiter.misconfigured), (([], []), None))

    def test_no_progress(self) -> None:
        """A few tasks that nobody scores make no outage, but a while without a good response is told."""
        self.run_for(STALL + 100)
        self.learn(TransientError("http 500"), 1)
        self.run_for(STALL)
        self.assertEqual(self.working(), ([], []))
        self.run_for(1)
        self.assertEqual(self.working(), ([f"upstream: no good response for {STALL + 1:.0f} s (http 500)"], []))
        self.learn(Rejected(TaskError("upstream_422", "no face")), 2)
        self.assertEqual(self.working(), ([], []))

    def test_limited(self) -> None:
        """It notes that the upstream gets fewer requests, and why."""
        self.learn(TransientError("http 503", fault=Fault.UNAVAILABLE), 1, 2, 3)
        self.assertEqual(self.working(), ([], ["upstream: limited to 2 of 4 requests (http 503)"]))

    def test_bad_tasks(self) -> None:
        """It notes tasks that keep failing while others succeed, and photos that are uploaded again and again."""
        for number in range(3):
            self.parts.queue.hold(make_task(number, blamed=1, reuploads=number))
        told = ["tasks: 3 keep failing while others succeed", "tasks: 2 were uploaded again, their retry_id unknown"]
        self.assertEqual(self.working(), ([], told))
        self.assertEqual(self.metric("merlind_suspects"), 3)
        for number in range(3):
            self.parts.queue.remove(number)


class ClientTests(ServiceCase):
    """The limits by client, as they are set."""

    def test_limits_apply(self) -> None:
        """Each limit by client is the one that is set, and what a client could not have is counted."""
        self.start(max_pending_per_client=1, max_uploads_per_client=1, max_long_polls_per_client=1)
        self.connect().send(post(form("Bo"))[:-10])
        self.assertEqual(self.ask(post(form("Cy"))[:-10]).json["code"], "too_many_uploads")
        self.clients[0].leave()
        task = self.ask(post()).json["task"]
        self.assertEqual(self.ask(post(form("Cy"))[:-10]).json["code"], "too_many_tasks")
        self.connect().send(get(task, Prefer="wait=60"))
        self.assertEqual(self.ask(get(task, Prefer="wait=60")).json["code"], "too_many_long_polls")
        for limit in ("uploads", "tasks", "long_polls"):
            self.assertEqual(self.metric(f'merlind_refused_total{{by="client",limit="{limit}"}}'), 1)
        self.stop()

    def test_connections_and_proxies(self) -> None:
        """The public listener has the limit on connections and the trusted networks that are set."""
        self.start(max_connections_per_client=1, trusted_proxy=[read_network("10.0.0.0/8")])
        for peer, code in (
            ("192.0.2.1", 404),
            ("192.0.2.1", 429),
            ("192.0.2.2", 404),
            ("10.1.2.3", 404),
            ("10.1.2.3", 404),
        ):
            data = get(5, X_Forwarded_For="198.51.100.7" if peer.startswith("10.") else None)
            self.assertEqual(self.connect(peer=peer).send(data).reply().code, code, peer)
        self.assertEqual(self.metric('merlind_refused_total{by="client",limit="connections"}'), 1)
        self.stop()


class MetricsTests(ServiceCase):
    """The metrics of the service."""

    def test_gauges(self) -> None:
        """Each metric has the value of what it is named after."""
        self.start()
        self.assertEqual(self.metric("merlind_oldest_unfinished_seconds"), 0)
        self.ask(post())
        self.connect().send(post(form("Bo"))[:-10])
        (task,) = self.parts.queue._tasks
        self.connect().send(get(task, Prefer="wait=60"))
        self.run_for(7)
        for name, value in (
            ('merlind_tasks{state="upload"}', 1),
            ('merlind_tasks{state="poll"}', 0),
            ('merlind_tasks{state="ready"}', 0),
            ('merlind_tasks{state="failed"}', 0),
            ('merlind_upstream_limiter{state="full"}', 1),
            ('merlind_upstream_limiter{state="outage"}', 0),
            ("merlind_upstream_limit", 4),
            ("merlind_upstream_probe_seconds", 0),
            ("merlind_suspects", 0),
            ('merlind_upstream_repeated_uploads_total{reason="handle_expired"}', 0),
            ('merlind_upstream_repeated_uploads_total{reason="restart"}', 0),
            ("merlind_oldest_unfinished_seconds", 7),
            ("merlind_spool_bytes", len(JPEG)),
            ("merlind_connections", 2),
            ("merlind_active_uploads", 1),
            ("merlind_long_polls", 1),
            ("merlind_upstream_in_flight", 1),
            ("merlind_tasks_due", 0),
            ('merlind_http_requests_total{code="202",method="POST"}', 1),
            ("merlind_accept_seconds_count", 1),
        ):
            self.assertEqual(self.metric(name), value, name)
        self.stop()

    def test_oldest_unknown(self) -> None:
        """While the database can't be read, the age of the oldest task keeps its last known value."""
        self.start()
        self.ask(post())
        self.run_for(3)
        self.assertEqual(self.metric("merlind_oldest_unfinished_seconds"), 3)
        self.watch.fault = fail_on("SELECT min", sqlite_error("SQLITE_BUSY"))
        self.assertEqual(self.metric("merlind_oldest_unfinished_seconds"), 3)
        self.watch.fault = lambda sql: None
        self.stop()

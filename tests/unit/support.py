"""Shared by the unit tests: a reactor without time, a database without threads, an upstream that the test plays.

The database and the spool are real, in a temporary directory. The database's thread is not: its work is a call on the
reactor's clock, so nothing happens before the test calls ``settle``, ``advance`` or ``run_for``.
"""

import hashlib
import itertools
import os
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from twisted.enterprise.adbapi import ConnectionPool
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from merlind.core.interfaces import PhotoMissing, Submission
from merlind.core.limiter import Limiter
from merlind.core.outcome import Outcome
from merlind.core.task import Photo, Policy, State, Task
from merlind.daemon.clock import ServiceClock, TaskClock
from merlind.storage.photos.spool import Spool
from merlind.storage.photos.staging import SpooledPhoto
from merlind.storage.sqlite import database
from merlind.storage.sqlite.engine import SqliteEngine
from merlind.storage.sqlite.files import OpenFiles
from merlind.storage.sqlite.last_commit import LastCommit
from merlind.storage.store import Store
from merlind.tasks.counts import LiveCounts
from merlind.tasks.eraser import Eraser
from merlind.tasks.history import History
from merlind.tasks.intake import Intake, Limits
from merlind.tasks.pauser import Pauser
from merlind.tasks.queue import WINDOW, TaskQueue
from merlind.tasks.results import Results
from merlind.tasks.scheduler import Scheduler

EPOCH = 1_800_000_000.0
"""The wall clock's time at the start of a test, in seconds."""

JPEG = b"\xff\xd8\xff\xe0 not much of a photo \r\n--\r\n"
"""Recognized as a JPEG, with bytes in it that a careless multipart parser takes for a delimiter."""

CLIENT = "192.0.2.1"
"""The client of whatever a test doesn't name one for."""

PHOTO = Photo(hashlib.sha256(JPEG).digest(), len(JPEG), "image/jpeg")


def make_task(task_id: int = 1, **changes: Any) -> Task:
    """Return a task as it is right after it was accepted, but for ``changes``."""
    return replace(Task(id=task_id, user="", name="Anna", photo=PHOTO, since=0.0, due=0.0), **changes)


class Reactor(MemoryReactorClock):
    """A reactor without time or network. ``callFromThread`` calls at once: there are no threads."""

    def callFromThread(self, function: Callable[..., object], *args: Any, **kwargs: Any) -> None:
        function(*args, **kwargs)

    def removeSystemEventTrigger(self, trigger: object) -> None:
        """Do nothing: ConnectionPool.close calls this."""

    def settle(self) -> None:
        """Let everything happen that needs no time to pass."""
        self.advance(0)

    def run_for(self, seconds: float) -> None:
        """Let time pass from timer to timer, each on time; ``advance`` is one leap that makes all of them late."""
        end = self.seconds() + seconds
        while (calls := self.getDelayedCalls()) and (at := min(call.getTime() for call in calls)) <= end:
            self.rightNow = max(at, self.rightNow)
            self.advance(0)
        self.rightNow = end


class FakeThreadPool:
    """The one thread of a database pool: runs its work in order, when the reactor's clock is advanced."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self.stopped = False

    def start(self) -> None:
        """Do nothing: there is no thread."""

    def stop(self) -> None:
        self.stopped = True

    def callInThreadWithCallback(
        self, on_result: Callable[[bool, Any], object], function: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> None:
        assert not self.stopped, "the pool is closed"

        def run() -> None:
            try:
                result = function(*args, **kwargs)
            except Exception:
                on_result(False, Failure())
            else:
                on_result(True, result)

        self._reactor.callLater(0, run)


@dataclass
class Watch:
    """The statements that a pool's connections execute, and the fault to inject into them."""

    statements: list[str] = field(default_factory=list)
    fault: Callable[[str], Exception | None] = lambda sql: None

    def see(self, sql: str) -> None:
        self.statements.append(sql)
        if (error := self.fault(sql)) is not None:
            raise error

    def count(self, start: str) -> int:
        """Return how many statements began with ``start``."""
        return sum(sql.startswith(start) for sql in self.statements)


class _WatchedCursor(sqlite3.Cursor):
    def execute(self, sql: str, *args: Any) -> "_WatchedCursor":
        assert isinstance(self.connection, _WatchedConnection)
        self.connection.watch.see(sql)
        super().execute(sql, *args)
        return self


class _WatchedConnection(sqlite3.Connection):
    watch: Watch

    def cursor(self, factory: Any = _WatchedCursor) -> Any:
        return super().cursor(factory)

    def execute(self, sql: str, *args: Any) -> Any:
        return self.cursor().execute(sql, *args)


def sqlite_error(name: str, text: str = "injected", of: type[sqlite3.Error] = sqlite3.OperationalError) -> Exception:
    """Return an error as the sqlite3 module raises it, with a name such as SQLITE_IOERR_FSYNC."""
    error = of(text)
    error.sqlite_errorname = name
    return error


def fail_on(start: str, error: Exception) -> Callable[[str], Exception | None]:
    """Return a fault that fails the statements beginning with ``start``."""
    return lambda sql: error if sql.startswith(start) else None


def make_pool(*args: Any, watch: Watch | None = None, **kwargs: Any) -> ConnectionPool:
    """Return a ConnectionPool with a fake thread on the reactor ``cp_reactor``; ``watch`` sees its statements."""

    def connect(*connect_args: Any, **connect_kwargs: Any) -> _WatchedConnection:
        connection = _WatchedConnection(*connect_args, **connect_kwargs)
        connection.watch = watch or Watch()
        return connection

    pool = ConnectionPool(*args, factory=connect, **kwargs)
    thread: Any = FakeThreadPool(kwargs["cp_reactor"])
    pool.threadpool = thread
    return pool


@dataclass
class UpstreamRequest:
    """A request that the upstream hasn't responded to yet."""

    kind: str
    task: Task
    began: float
    done: "Deferred[Outcome]"
    cancelled: bool = False

    def respond(self, outcome: Outcome) -> None:
        self.done.callback(outcome)

    def lose_photo(self) -> None:
        self.done.errback(PhotoMissing("gone"))


class FakeUpstream:
    """An upstream that the test plays: it responds to ``requests``, or sets ``script``.

    ``requests`` are those in flight, ``begun`` are all so far. ``script`` is called with each request as it begins: an
    outcome is the response at once, (seconds, outcome) a response after that time, an exception fails the request, and
    None leaves it to the test.
    """

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self.requests: list[UpstreamRequest] = []
        self.begun: list[UpstreamRequest] = []
        self.most_at_once = 0
        self.script: Callable[[UpstreamRequest], Outcome | tuple[float, Outcome] | Exception | None] = lambda request: (
            None
        )

    async def send(self, task: Task) -> Outcome:
        return await self._begin("poll" if task.state is State.POLL else "upload", task)

    def _begin(self, kind: str, task: Task) -> "Deferred[Outcome]":
        def cancel(_: object) -> None:
            request.cancelled = True

        request = UpstreamRequest(kind, task, self._reactor.seconds(), Deferred(cancel))
        self.begun.append(request)
        self.requests.append(request)
        self.most_at_once = max(self.most_at_once, len(self.requests))

        def ended(result: Any) -> Any:
            self.requests.remove(request)
            if late is not None and late.active():
                late.cancel()
            return result

        late = None
        request.done.addBoth(ended)
        response = self.script(request)
        if isinstance(response, tuple):
            late = self._reactor.callLater(response[0], request.done.callback, response[1])
        elif isinstance(response, Exception):
            request.done.errback(response)
        elif response is not None:
            request.done.callback(response)
        return request.done

    @property
    def one(self) -> UpstreamRequest:
        """The only request in flight."""
        (request,) = self.requests
        return request

    def kinds(self) -> list[str]:
        """Return the kinds of all requests so far."""
        return [request.kind for request in self.begun]


class Core:
    """All of merlind but HTTP, over a real database and spool and a fake upstream.

    ``refused`` lists the (limit, by) of what clients could not have, ``transitions`` the (before, after) that the
    scheduler reported, ``broken`` the reasons for which the store reported a broken disk.
    Change ``epoch`` to step the wall clock. ``directory`` is a data directory to go on with. ``restart`` is a kill and
    a new start on the same directory.
    """

    def __init__(
        self,
        test: SynchronousTestCase,
        *,
        poll_interval: float = 2.0,
        give_up_after: float = 86400.0,
        concurrency: int = 32,
        window: int = WINDOW,
        jitter: Callable[[], float] = lambda: 1.0,
        max_attempts: int = 100,
        keep_failed: float = 0.0,
        directory: Path | None = None,
        limits: Limits | None = None,
        max_pending_per_client: int = 0,
        max_long_polls_per_client: int = 0,
        sync_all: Callable[[int], None] | None = None,
    ) -> None:
        self.test = test
        self.reactor = Reactor()
        self.epoch = EPOCH
        self.path = directory or Path(test.mktemp()).absolute()
        self.path.mkdir(parents=True, exist_ok=True)
        flush_nothing(test)
        self.policy = Policy(poll_interval, give_up_after, jitter, max_attempts, keep_failed)
        self.limits = limits or Limits(100_000, 0, 512, 2**30)
        self.max_pending_per_client = max_pending_per_client
        self.max_long_polls_per_client = max_long_polls_per_client
        self.concurrency = concurrency
        self.window = window
        self.sync_all = sync_all
        self.transitions: list[tuple[Task, Task]] = []
        self.broken: list[str] = []
        self.ids: Callable[[], int] = itertools.count(1).__next__
        self._opened = False
        self._start()

    def _start(self) -> None:
        file = self.path / "tasks.sqlite"
        prepare_fast(file)
        self.clock = ServiceClock(
            self.reactor, database.service_time(file), wall=lambda: self.epoch + self.reactor.seconds()
        )
        self.clock.now()  # service time runs from the first call
        self.task_clock = TaskClock(self.clock, database.pause(file))
        self.spool = Spool(self.path / "spool", self.sync_all)
        self.spool.prepare()
        self.watch = Watch()
        self.pool = open_pool(file, self.reactor, self.watch)
        self._pools = [*getattr(self, "_pools", []), self.pool]
        if not self._opened:
            self._opened = True
            self.test.addCleanup(lambda: [pool.close() for pool in self._pools if pool.connections])
        last_commit = LastCommit(self.path / "last-commit")
        self.test.addCleanup(last_commit.close)
        self.engine = SqliteEngine(self.pool, self.spool, OpenFiles(file), last_commit, lambda: self.ids())
        self.store = Store(self.engine, self.task_clock.moment, self.broken.append)
        self.upstream = FakeUpstream(self.reactor)
        self.limiter = Limiter(self.concurrency, self.policy.jitter)
        self.refused: list[tuple[str, str]] = []
        self.history = History(self.clock, self.task_clock)
        self.counts = LiveCounts(self.max_pending_per_client, self.history.on_change)
        self.queue = TaskQueue(self.policy, self.window)
        self.results = Results(
            self.reactor, self.store, self.queue, self.counts, self.max_long_polls_per_client, self._on_refused
        )
        self.scheduler = Scheduler(
            self.reactor,
            self.task_clock,
            self.store,
            self.queue,
            self.upstream,
            self.policy,
            self.limiter,
            self._on_transition,
        )
        self.worker = self.scheduler.worker
        self.pauser = Pauser(self.reactor, self.task_clock, self.store, self.scheduler)
        self.intake = Intake(
            self.store, self.spool, self.counts, self.limits, self.results, self.scheduler, self._on_refused
        )
        self.eraser = Eraser(self.store, self.queue, self.results, self.scheduler)

    def start(self) -> None:
        """Load the counts and begin with the unfinished tasks, as the service does."""
        self.store.count().addCallbacks(self.counts.load, lambda failure: None)
        self.scheduler.start()
        self.pauser.start()

    def _on_refused(self, limit: str, by: str) -> None:
        self.refused.append((limit, by))

    def _on_transition(self, before: Task, after: Task) -> None:
        self.transitions.append((before, after))
        self.results.on_transition(before, after)

    def restart(self) -> None:
        """Kill it: timers, requests and uncommitted changes are lost. Then build it anew, not yet started."""
        for call in list(self.reactor.getDelayedCalls()):
            call.cancel()
        self.scheduler._running = False  # its coroutines read this when they are collected as garbage
        self.pool.close()
        self._start()

    # Shortcuts for most tests.

    def settle(self) -> None:
        self.reactor.settle()

    def now(self, deferred: "Deferred[Any]") -> Any:
        """Return the result of an operation that needs no time to pass."""
        self.settle()
        return self.test.successResultOf(deferred)

    def stage(self, photo: bytes = JPEG) -> SpooledPhoto:
        staged = self.spool.stage()
        staged.write(photo)
        staged.finish()
        return staged

    def submission(self, name: str = "Anna", photo: bytes = JPEG, user: str = "") -> Submission:
        return Submission(user, name, self.stage(photo), "image/jpeg")

    def accept(self, name: str = "Anna", photo: bytes = JPEG, user: str = "") -> Task:
        """Store a task without adding it to the scheduler."""
        task: Task = self.now(self.store.accept(self.submission(name, photo, user))).task
        return task

    def submit(self, name: str = "Anna", photo: bytes = JPEG, user: str = "", client: str = CLIENT) -> Task:
        """Submit a task as a client does: it is stored and added to the scheduler."""
        task: Task = self.now(self.submitting(self.submission(name, photo, user), client))
        return task

    def submitting(self, submission: Submission, client: str = CLIENT) -> "Deferred[Task]":
        """Submit a task; return what the web side awaits."""
        return Deferred.fromCoroutine(self.intake.submit(submission, client))

    def erasing(self, task_id: int, user: str = "") -> "Deferred[bool]":
        """Erase a task; return what the web side awaits."""
        return Deferred.fromCoroutine(self.eraser.erase(user, task_id))

    def stored(self, task_id: int) -> Any:
        """Return the stored task, or None."""
        return self.now(self.store.get(task_id))

    def files(self) -> list[str]:
        """Return the files in the spool, as paths relative to it."""
        folder = self.path / "spool"
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())

    def remains(self, content: bytes) -> list[str]:
        """Return the files below the data directory that have ``content`` in them."""
        found = (path for path in self.path.rglob("*") if path.is_file() and content in path.read_bytes())
        return sorted(str(path.relative_to(self.path)) for path in found)


class Wire:
    """The server's end of the connections that clients make through a reactor; by default of the last one."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._protocols: list[Any] = []
        self.transports: list[StringTransport] = []

    @property
    def transport(self) -> StringTransport:
        return self.transports[-1]

    def connect(self, **methods: Any) -> StringTransport:
        """Accept the last attempt to connect; the transport records what is sent, and has ``methods`` of its own."""
        protocol = self._reactor.tcpClients[-1][2].buildProtocol(None)
        transport = StringTransport()
        vars(transport).update(methods)
        assert protocol is not None
        protocol.makeConnection(transport)
        self._protocols.append(protocol)
        self.transports.append(transport)
        return transport

    def refuse(self, error: Exception) -> None:
        """Fail the last attempt to connect."""
        factory: Any = self._reactor.tcpClients[-1][2]
        factory.clientConnectionFailed(None, Failure(error))

    def receive(self, data: bytes, which: int = -1) -> None:
        """Deliver bytes to the client."""
        self._protocols[which].dataReceived(data)

    def lose(self, error: Exception, which: int = -1) -> None:
        """End the connection."""
        self._protocols[which].connectionLost(Failure(error))

    @property
    def closed(self) -> bool:
        """Whether the client closed the connection."""
        return self.transport.disconnecting or self.transport.disconnected


def flush_nothing(test: SynchronousTestCase) -> None:
    """Make fsync do nothing: no power is lost in a unit test."""
    test.patch(os, "fsync", lambda descriptor: None)


_empty_database = b""


def prepare_fast(file: Path) -> None:
    """Prepare the database as merlind does, but copy a new one: creating each costs several flushes."""
    global _empty_database
    if not _empty_database:
        database.prepare(file)
        _empty_database = file.read_bytes()
    elif not file.exists():
        file.write_bytes(_empty_database)
    database.prepare(file)


def configure_fast(connection: sqlite3.Connection) -> None:
    """Configure a connection as merlind does, but flush no commit: no power is lost in a unit test."""
    database.configure(connection)
    connection.execute("PRAGMA synchronous = OFF").fetchall()


def open_pool(file: Path, reactor: Reactor, watch: Watch) -> ConnectionPool:
    """Open the pool of a database as merlind does, but without a thread and without flushes."""
    return database.open_pool(file, reactor, partial(make_pool, watch=watch), configure_fast)


def open_files() -> set[str]:
    """Return the paths of the files that this process has open."""
    return {os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")}


def failing(number: int) -> Callable[..., Any]:
    """Return a system call that fails with this errno."""
    return raising(OSError(number, os.strerror(number)))


def raising(error: BaseException) -> Callable[..., Any]:
    """Return a function that raises ``error``, to patch another one with."""

    def call(*args: Any, **kwargs: Any) -> Any:
        raise error

    return call

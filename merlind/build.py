"""Puts all the parts of merlind together. Read this first: it shows what there is, and who knows whom."""

import platform
import random
import secrets
import sqlite3
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from twisted.enterprise.adbapi import ConnectionPool

import twisted
from merlind import __version__
from merlind.admin.api import Admin
from merlind.admin.entry import CONNECTION_LIMITS, AdminEntry
from merlind.admin.gauges import Gauges
from merlind.admin.health import Health
from merlind.admin.overview import Overview
from merlind.admin.page.document import for_people
from merlind.admin.page.routes import PageRoutes
from merlind.admin.pause import PauseRoutes
from merlind.admin.retry import RetryRoutes
from merlind.admin.routes import AdminRoutes
from merlind.admin.tasks import TaskList, TaskRoutes
from merlind.core.client_limit import ClientLimit
from merlind.core.clients import ClientAddresses
from merlind.core.limiter import Limiter
from merlind.core.task import MAX_TASK_ID, Policy
from merlind.daemon.clock import ServiceClock, TaskClock
from merlind.daemon.datadir import DataDir
from merlind.daemon.metrics import Metrics
from merlind.merlinface.choice import choose_scorer, face_installed
from merlind.settings import MAX_REFUSED_CONNECTIONS, Settings
from merlind.storage.photos.flush import trusted_syncfs
from merlind.storage.photos.spool import Spool
from merlind.storage.sqlite import database
from merlind.storage.sqlite.engine import SqliteEngine
from merlind.storage.sqlite.files import OpenFiles
from merlind.storage.sqlite.last_commit import LastCommit
from merlind.storage.store import Store
from merlind.tasks.counts import LiveCounts
from merlind.tasks.eraser import Eraser
from merlind.tasks.finished import FinishedTasks
from merlind.tasks.history import History
from merlind.tasks.intake import Intake, Limits
from merlind.tasks.pauser import Pauser
from merlind.tasks.queue import TaskQueue
from merlind.tasks.results import Results
from merlind.tasks.retention import Retention
from merlind.tasks.retrier import Retrier
from merlind.tasks.scheduler import Scheduler
from merlind.tasks.watch import Watch
from merlind.upstream.agent import KeepAliveAgent
from merlind.upstream.client import MerlinfaceClient
from merlind.web.access_log import AccessLog
from merlind.web.api import Routes
from merlind.web.auth.checkers import make_checkers
from merlind.web.auth.sign_in import SignIn
from merlind.web.client_rate import SubmissionRate
from merlind.web.cors import Cors
from merlind.web.cross_site import CrossSite
from merlind.web.description import link_to_description
from merlind.web.entry import Adapter, Check, EntryPoint
from merlind.web.page.facts import URL, Facts
from merlind.web.page.form_page import FormPage
from merlind.web.page.plain import PlainPages
from merlind.web.server.admission import Admission
from merlind.web.server.interfaces import ConnectionLimits
from merlind.web.server.site import EdgeSite
from merlind.web.status import StatusResponses


@dataclass(frozen=True)
class Parts:
    """The parts that the service starts and stops, in the order in which they were built."""

    clock: ServiceClock
    metrics: Metrics
    store: Store
    engine: SqliteEngine
    counts: LiveCounts
    queue: TaskQueue
    results: Results
    agent: KeepAliveAgent
    scheduler: Scheduler
    pauser: Pauser
    intake: Intake
    retrier: Retrier
    retention: Retention
    watch: Watch
    site: EdgeSite
    health: Health
    admin_site: EdgeSite


def build(
    reactor: Any,
    settings: Settings,
    data_dir: DataDir,
    upstream_url: str,
    on_broken: Callable[[str], None],
    make_pool: Callable[..., ConnectionPool] = ConnectionPool,
) -> Parts:
    """Build merlind on a locked data directory with a prepared database; nothing runs yet.

    ``on_broken`` is called with the reason when the disk fails. Raises OSError, DatabaseUnusable and AuthUnusable.
    """
    clock = ServiceClock(reactor, database.service_time(data_dir.database))
    task_clock = TaskClock(clock, database.pause(data_dir.database))
    metrics = Metrics()
    metrics.build_info(
        version=__version__,
        python=platform.python_version(),
        twisted=twisted.__version__,
        sqlite=sqlite3.sqlite_version,
    )
    jitter = random.SystemRandom().random

    # What is kept.
    photos = Spool(data_dir.spool, trusted_syncfs())
    photos.prepare()
    pool = database.open_pool(data_dir.database, reactor, make_pool)
    files = OpenFiles(data_dir.database, [data_dir.lock])
    last_commit = LastCommit(data_dir.last_commit)
    engine = SqliteEngine(pool, photos, files, last_commit, partial(next, _random_task_ids()))
    store = Store(engine, task_clock.moment, on_broken)

    # What becomes of a task.
    policy = Policy(settings.poll_interval, settings.give_up_after, jitter, settings.max_attempts, settings.keep_failed)
    history = History(clock, task_clock)
    counts = LiveCounts(settings.max_pending_per_client, history.on_change)
    queue = TaskQueue(policy)
    results = Results(reactor, store, queue, counts, settings.max_long_polls_per_client, metrics.refused)
    agent = KeepAliveAgent(reactor, upstream_url)
    on_request = _both(metrics.upstream_request, history.on_request)
    upstream = MerlinfaceClient(reactor, clock, agent, photos, on_request, settings.upstream_timeout)
    limiter = Limiter(settings.upstream_concurrency, jitter)
    finished = FinishedTasks(results.on_transition, task_clock, metrics)
    scheduler = Scheduler(reactor, task_clock, store, queue, upstream, policy, limiter, finished.on_transition)
    pauser = Pauser(reactor, task_clock, store, scheduler)
    limits = Limits(
        settings.max_pending, settings.min_free_bytes, settings.max_uploads, settings.max_upload_bytes,
        settings.max_uploads_per_client,
    )  # fmt: skip
    intake = Intake(store, photos, counts, limits, results, scheduler, metrics.refused)
    eraser = Eraser(store, queue, results, scheduler)
    retrier = Retrier(reactor, store, counts, results, scheduler, settings.max_pending)
    retention = Retention(reactor, clock, store, photos, results, settings.retention, settings.keep_failed)
    watch = Watch(reactor, store)

    # The public listener.
    status = StatusResponses(results, settings.poll_interval)
    facts = page_facts(settings)
    routes = Routes(reactor, intake, results, eraser, metrics, status, FormPage(facts).respond)
    checks: list[Check] = [CrossSite(settings.cors_origins)]
    adapters: list[Adapter] = [PlainPages(facts).adapt, link_to_description]
    if settings.client_rate is not None:
        rate = SubmissionRate(settings.client_rate, reactor.seconds, metrics.refused)
        checks.append(rate.check)
        adapters.append(rate.adapt)
    if settings.cors_origins:
        adapters.append(Cors(settings.cors_origins))
    checkers = make_checkers(settings.checkers, settings.listen)
    sign_in = SignIn(checkers, reactor.seconds, metrics.sign_in_refused) if checkers else None
    entry = EntryPoint(intake, status, settings.max_photo_bytes, routes.respond, adapters, checks, sign_in)
    connections = ConnectionLimits(
        settings.max_connections, MAX_REFUSED_CONNECTIONS, settings.min_rate, settings.upload_timeout
    )
    addresses = ClientAddresses(settings.trusted_networks)
    admission = Admission(addresses, ClientLimit(settings.max_connections_per_client))
    site = EdgeSite(reactor, entry, connections, admission, AccessLog(metrics), metrics.refused)

    # The admin listener.
    health = Health(task_clock, store, photos, counts, intake, queue, scheduler, pauser, settings)
    gauges = Gauges(reactor, task_clock, store, counts, queue, results, intake, scheduler, site)
    gauges.define(metrics)
    admin = Admin(metrics, health.readiness, health.progress, gauges.refresh)
    overview = Overview(
        reactor, task_clock, store, photos, counts, queue, scheduler, health, settings, __version__
    )  # fmt: skip
    tasks = TaskList(task_clock, store, queue)
    admin_routes = AdminRoutes(
        admin.respond,
        PauseRoutes(pauser).respond,
        TaskRoutes(tasks).respond,
        RetryRoutes(retrier).respond,
        PageRoutes(overview, history, tasks, store, pauser, retrier).respond,
    )
    admin_entry = AdminEntry(admin_routes, settings.admin_host, for_people)
    nobody = Admission(ClientAddresses(()), ClientLimit(0))
    admin_site = EdgeSite(reactor, admin_entry, CONNECTION_LIMITS, nobody, _ignore, _ignore)

    return Parts(
        clock, metrics, store, engine, counts, queue, results, agent, scheduler, pauser, intake, retrier,
        retention, watch, site, health, admin_site,
    )  # fmt: skip


def page_facts(settings: Settings) -> Facts:
    """Return what the pages say of this merlind. Raises ValueError if the scorer that is asked for isn't installed."""
    own = choose_scorer(settings.embedded_scorer, face_installed()) if settings.embedded else None
    host = None if own else urlsplit(settings.upstream).hostname
    longest = settings.give_up_after + settings.keep_failed
    return Facts(own or URL, host, settings.retention, longest, settings.max_photo_bytes)


def _both(first: Callable[..., None], second: Callable[..., None]) -> Callable[..., None]:
    """Return a function that calls both."""

    def call(*args: object) -> None:
        first(*args)
        second(*args)

    return call


def _ignore(*_args: object) -> None:
    """Neither count nor log: probes and monitoring ask all the time."""


def _random_task_ids() -> Iterator[int]:
    """Task ids that can't be guessed. Drawn 64 at a time: each draw releases the interpreter's lock."""
    while True:
        for (drawn,) in struct.iter_unpack("=Q", secrets.token_bytes(512)):
            if task_id := drawn & MAX_TASK_ID:
                yield task_id

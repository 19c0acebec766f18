"""The process around the service: what it may use, where it logs to, and how it ends."""

import gc
import os
import resource
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from merlind.daemon.clock import use_monotonic_time
from merlind.daemon.datadir import DataDir, DataDirUnusable
from merlind.daemon.log import LineLog, json_line, text_line
from merlind.service import MerlindService
from merlind.settings import Settings
from merlind.storage.sqlite import database
from merlind.web.server.site import MAX_TURNED_AWAY

_OWN_FILES = 24
"""How many files merlind has open besides connections, uploads and exchanges."""

_SWITCH_INTERVAL = 0.0005
"""Seconds for which the reactor goes on when the database's thread wants to run: it soon waits for the disk again."""

_COLLECT_EVERY = (5_000, 20, 100)
"""The garbage collector's thresholds: with Python's own it often goes through all tasks, and clients wait."""

LAST_MOMENT = 0.5
"""Seconds from a fault of the disk to the end of the process."""

STOP_DEADLINE = 10
"""Seconds after which a stop is no longer waited for."""


def make_service(settings: Settings, log_json: bool, twistd: Mapping[str, Any]) -> MerlindService:
    """merlind in this process; ``twistd`` are twistd's own options. Raises SystemExit with one line if it can't be."""
    from twisted.internet import reactor as global_reactor

    reactor: Any = global_reactor
    os.umask(0o077)
    use_monotonic_time(reactor)
    _shorten_pauses()
    settings = fit_open_files(settings, raise_open_files())
    data_dir = DataDir(settings.data_dir)
    try:
        data_dir.acquire()
        database.prepare(data_dir.database)
        service = MerlindService(reactor, settings, data_dir, lambda why: _die(reactor, why))
    except (DataDirUnusable, database.DatabaseUnusable) as error:
        raise SystemExit(f"merlind: {error}") from None
    except OSError as error:
        raise SystemExit(f"merlind: {error.filename or data_dir.path} can't be used: {error.strerror}") from None
    service.log_observer = make_log(reactor, log_json, twistd)
    if service.log_observer is not None:
        reactor.addSystemEventTrigger("during", "shutdown", service.log_observer.end)
    reactor.addSystemEventTrigger("after", "startup", _take_signals)
    reactor.addSystemEventTrigger("before", "shutdown", _limit_the_end)
    return service


def _shorten_pauses() -> None:
    """Set the interpreter up for a process that answers many at once, and keep what was imported from the collector."""
    sys.setswitchinterval(_SWITCH_INTERVAL)
    gc.set_threshold(*_COLLECT_EVERY)
    gc.freeze()


def make_log(reactor: Any, log_json: bool, twistd: Mapping[str, Any]) -> LineLog | None:
    """The log's observer; None leaves it to twistd, which was told where to log to."""
    if twistd.get("syslog") or twistd.get("logger"):
        return None
    logfile = twistd.get("logfile")
    render = json_line if log_json else text_line
    if logfile in (None, "", "-") and twistd.get("nodaemon", True):
        return LineLog(reactor, sys.stdout, render)
    if not log_json:
        return None
    return LineLog(reactor, open(logfile or "twistd.log", "a", encoding="utf-8"), render)


def raise_open_files() -> int:
    """Allow this process as many open files as it may have, and return how many those are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        return soft
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def fit_open_files(settings: Settings, files: int) -> Settings:
    """The settings with no more connections, uploads and exchanges than ``files`` open files allow."""
    concurrency = min(settings.upstream_concurrency, max(1, files // 8))
    room = max(2, files - _OWN_FILES - 2 * concurrency)
    uploads = min(settings.max_uploads, max(1, room // 4))
    # Those that are turned away are open for a moment too.
    room = max(1, (room - uploads) // 2, room - uploads - MAX_TURNED_AWAY)
    return replace(
        settings,
        upstream_concurrency=concurrency,
        max_uploads=uploads,
        max_connections=min(settings.max_connections, room),
    )


def _take_signals() -> None:
    """Let a signal that ends merlind limit the end at once: under load the reactor sees it only a moment later."""
    for number in (signal.SIGTERM, signal.SIGINT):
        stop = signal.getsignal(number)
        if callable(stop):
            signal.signal(number, partial(_begin_the_end, stop))


def _begin_the_end(stop: Callable[[int, Any], object], number: int, frame: Any) -> None:
    _limit_the_end()
    stop(number, frame)


def _limit_the_end() -> None:
    """From here on a second signal ends the process at once, and so does the deadline.

    By handlers of our own: the default ones do nothing to process 1 of a container, and Twisted's would stop twice.
    """

    def end(number: int, _: object) -> None:
        os._exit(128 + number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
        signal.signal(number, end)
    signal.alarm(STOP_DEADLINE)


def _die(reactor: Any, why: str) -> None:
    """End the process when the last answers have had a moment, with a status and a line that tell of the failure."""

    def last_words() -> None:
        sys.stdout.flush()
        sys.stderr.write(f"merlind: {why}\n")
        sys.stderr.flush()
        os._exit(1)

    reactor.callLater(LAST_MOMENT, last_words)

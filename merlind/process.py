"""The twistd plugin's side: the options, and the service that they make."""

import gc
import os
import re
import resource
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hyperlink import EncodedURL

from merlind import database
from merlind.clock import use_monotonic_time
from merlind.datadir import DataDir, DataDirUnusable
from merlind.log import LineLog, json_line, text_line
from merlind.options import EnvironmentOptions, Option, count, endpoint, seconds
from merlind.service import EMBEDDED, MerlindService, Settings
from merlind.web.site import MAX_TURNED_AWAY

_VISIBLE = re.compile(r"[\x21-\x7e]+")

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


def upstream(text: str) -> str:
    """The word ``embedded``, or an http or https URL."""
    if text == EMBEDDED:
        return text
    try:
        parts = urlsplit(text)
        EncodedURL.from_text(text)
        plain = _VISIBLE.fullmatch(text) is not None and parts.username is None
        usable = plain and parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError(f"{text!r} is neither an http or https URL nor the word {EMBEDDED}")
    return text


def _endpoint(text: str) -> str:
    from twisted.internet import reactor

    return str(endpoint(reactor)(text))


class Options(EnvironmentOptions):
    """The options of ``twistd merlind``."""

    synopsis = "[options]"
    longdesc = "Takes a name and a photo over HTTP and tells, in time, how well the name suits the person."
    prefix = "MERLIND"
    repeated = frozenset({"listen"})
    declared: Sequence[Option] = (
        Option("listen", "tcp:8000", "Where to serve; may be given more than once.", _endpoint),
        Option(
            "upstream",
            "http://merlinface.com:12345/api/",
            f"The URL of the scoring API, or the word {EMBEDDED} for a stand-in inside this process.",
            upstream,
        ),
        Option("data-dir", "./merlind-data", "The directory of the database and the photos.", Path),
        Option("poll-interval", "2", "Seconds between two questions for one task.", seconds(0.01)),
        Option("upstream-timeout", "30", "Seconds for one whole exchange with the upstream.", seconds(0.01)),
        Option("upstream-concurrency", "32", "The most exchanges at once.", count(1)),
        Option("give-up-after", "86400", "Seconds after which a task that got nowhere fails.", seconds(0.01)),
        Option("retention", "2592000", "Seconds for which a finished task is remembered.", seconds(0.0)),
        Option("max-photo-bytes", "10485760", "The largest photo, in bytes.", count(1)),
        Option("max-pending", "100000", "The most unfinished tasks; past it, 503.", count(1)),
        Option("max-connections", "20000", "The most open connections; past it, 503.", count(1)),
        Option("max-uploads", "512", "The most uploads in hand; past it, 503.", count(1)),
        Option("max-upload-bytes", "1073741824", "The most bytes of uploads in hand; past it, 503.", count(1)),
        Option("min-rate", "8192", "The slowest that a body may come in, in bytes a second.", count(1)),
        Option("min-free-bytes", "268435456", "The room to leave on the disk, in bytes; below it, 503.", count(0)),
        Option(
            "admin",
            "tcp:8001:interface=127.0.0.1",
            "Where to serve health and metrics; none turns it off.",
            lambda text: None if text == "none" else _endpoint(text),
        ),
    )
    flags = (("log-json", "Log a line of JSON for each event."),)

    def opt_listen(self, value: str) -> None:
        """Where to serve: an endpoint such as tcp:8000; may be given more than once. [default: tcp:8000, or
        $MERLIND_LISTEN, separated by spaces]"""
        self.add_repeated("listen", value)


def make_settings(options: Options) -> Settings:
    """The options' values as settings."""
    names = {option.name: option.name.replace("-", "_") for option in options.declared}
    return Settings(**{field: options[name] for name, field in names.items()})


def makeService(options: Options) -> MerlindService:
    """merlind as these options want it. Ends the start with one line if it can't be."""
    from twisted.internet import reactor as global_reactor

    reactor: Any = global_reactor
    os.umask(0o077)
    use_monotonic_time(reactor)
    _shorten_pauses()
    settings = fit_open_files(make_settings(options), raise_open_files())
    data_dir = DataDir(settings.data_dir)
    try:
        data_dir.acquire()
        database.prepare(data_dir.database)
        service = MerlindService(reactor, settings, data_dir, lambda why: _die(reactor, why))
    except (DataDirUnusable, database.DatabaseUnusable) as error:
        raise SystemExit(f"merlind: {error}") from None
    except OSError as error:
        raise SystemExit(f"merlind: {error.filename or data_dir.path} can't be used: {error.strerror}") from None
    service.log_observer = make_log(reactor, options)
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


def make_log(reactor: Any, options: Options) -> LineLog | None:
    """The log's observer; None leaves it to twistd, which was told where to log to."""
    twistd: Any = options.parent or {}
    if twistd.get("syslog") or twistd.get("logger"):
        return None
    logfile = twistd.get("logfile")
    render = json_line if options["log-json"] else text_line
    if logfile in (None, "", "-") and twistd.get("nodaemon", True):
        return LineLog(reactor, sys.stdout, render)
    if not options["log-json"]:
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

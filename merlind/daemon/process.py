"""The process around the service: its limits, its interpreter, its log, and how a signal or a failure ends it."""

import gc
import os
import resource
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from twisted.logger import globalLogPublisher

from merlind.daemon.fatal import FatalErrors
from merlind.daemon.log import LineLog, json_line, text_line
from merlind.daemon.log_output import LogOutput

_SWITCH_INTERVAL = 0.0005
"""Seconds that the reactor may run on when the database's thread wants to: the thread soon waits for the disk again."""

_GC_THRESHOLDS = (50_000, 20, 100)
"""The garbage collector's thresholds. With Python's own it often goes through all tasks, and clients wait. Hardly
anything here refers to itself, and what does is collected by time."""

LAST_MOMENT = 0.5
"""Seconds from a failure of the disk to the end of the process, for the last responses."""

STOP_DEADLINE = 10
"""Seconds that a stop may take."""


def shorten_pauses() -> None:
    """Set up the interpreter for a process that serves many clients. Call it when everything is imported."""
    sys.setswitchinterval(_SWITCH_INTERVAL)
    gc.set_threshold(*_GC_THRESHOLDS)
    gc.freeze()  # what is imported stays, so the collector need not look at it


def raise_open_files() -> int:
    """Raise the limit on open files as far as the process may, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        return soft
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def make_log(reactor: Any, log_json: bool, twistd: Mapping[str, Any]) -> LineLog | None:
    """Make the log's observer, or return None to let twistd log. ``twistd`` are twistd's own options.

    SIGUSR1 opens the log's file anew, as logrotate wants it; where there is no file of ours it does nothing. Raises
    SystemExit, with one line that says why, if the file can't be written.
    """
    log = None
    if not twistd.get("syslog") and not twistd.get("logger"):
        log = LineLog(reactor, _log_output(twistd), json_line if log_json else text_line)

    def on_signal(number: int, frame: object) -> None:
        if log is not None:
            reactor.callFromThread(log.reopen)

    # Without a handler the signal ends the process.
    signal.signal(signal.SIGUSR1, on_signal)
    return log


def _log_output(twistd: Mapping[str, Any]) -> LogOutput:
    path = twistd.get("logfile")
    if path in (None, "", "-"):
        if twistd.get("nodaemon", True):
            if sys.stdout is None:  # the process was started without one
                return LogOutput.to_file(os.devnull)
            sys.stdout.flush()
            return LogOutput.to_descriptor(sys.stdout.fileno())
        if path == "-":
            raise SystemExit("merlind: a daemon has no standard output to log to: name a file with --logfile")
        path = "twistd.log"
    try:
        return LogOutput.to_file(path)
    except OSError as error:
        raise SystemExit(f"merlind: the log {path} can't be written: {error.strerror}") from None


def limit_stop(reactor: Any) -> None:
    """From the first signal on, end the process at a second one or after STOP_DEADLINE, whatever the service does."""
    reactor.addSystemEventTrigger("after", "startup", _wrap_signals)
    reactor.addSystemEventTrigger("before", "shutdown", _start_deadline)


def _wrap_signals() -> None:
    # Start the deadline in the signal's handler: under load, the reactor notices the signal only a moment later.
    for number in (signal.SIGTERM, signal.SIGINT):
        handler = signal.getsignal(number)
        if callable(handler):
            signal.signal(number, partial(_first_signal, handler))


def _first_signal(handler: Callable[[int, Any], object], number: int, frame: Any) -> None:
    _start_deadline()
    handler(number, frame)


def _start_deadline() -> None:
    # The default handlers do nothing in process 1 of a container, and Twisted's would begin the stop again.
    def end(number: int, _: object) -> None:
        os._exit(128 + number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
        signal.signal(number, end)
    signal.alarm(STOP_DEADLINE)


def end_at_fatal_errors(reactor: Any, log: LineLog | None) -> None:
    """End the process when memory is out, or when the reactor's main loop itself fails."""
    fatal = FatalErrors(partial(end, log), log)
    # Twisted's publisher tells observers in order, and the log's is added later.
    globalLogPublisher.addObserver(fatal)
    fatal.guard_loop(reactor)


def end_soon(reactor: Any, log: LineLog | None, why: str) -> None:
    """End the process as a failure, with a line that says why, after LAST_MOMENT."""
    reactor.callLater(LAST_MOMENT, end, log, why)


def end(log: LineLog | None, why: str) -> None:
    """End the process as a failure, at once, with a line that says why."""
    try:
        if log is not None:
            with suppress(MemoryError):
                log.end()
        sys.stderr.write(f"merlind: {why}\n")
        sys.stderr.flush()
    finally:
        os._exit(1)

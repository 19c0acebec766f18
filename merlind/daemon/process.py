"""The process around the service: its limits, its interpreter, its log, and how a signal or a failed disk ends it."""

import gc
import os
import resource
import signal
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from merlind.daemon.log import LineLog, json_line, text_line

_SWITCH_INTERVAL = 0.0005
"""Seconds that the reactor may run on when the database's thread wants to: the thread soon waits for the disk again."""

_GC_THRESHOLDS = (5_000, 20, 100)
"""The garbage collector's thresholds. With Python's own it often goes through all tasks, and clients wait."""

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
    """Make the log's observer, or return None to let twistd log. ``twistd`` are twistd's own options."""
    if twistd.get("syslog") or twistd.get("logger"):
        return None
    logfile = twistd.get("logfile")
    render = json_line if log_json else text_line
    if logfile in (None, "", "-") and twistd.get("nodaemon", True):
        return LineLog(reactor, sys.stdout, render)
    if not log_json:
        return None
    return LineLog(reactor, open(logfile or "twistd.log", "a", encoding="utf-8"), render)


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


def die(reactor: Any, why: str) -> None:
    """End the process as a failure, with a line that says why, after LAST_MOMENT."""

    def end() -> None:
        sys.stdout.flush()
        sys.stderr.write(f"merlind: {why}\n")
        sys.stderr.flush()
        os._exit(1)

    reactor.callLater(LAST_MOMENT, end)

"""The log's lines, as text or as JSON, and the observer that writes them many at a time.

Twisted's own text observer takes 30 µs for each line, which is as much as a status request takes.
"""

import json
import re
import time
from collections.abc import Callable
from functools import lru_cache
from threading import RLock, get_ident
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import ILogObserver, LogEvent, Logger, LogLevel, formatEvent
from zope.interface import implementer

from merlind.daemon.log_output import LogOutput

FLUSH_DELAY = 0.1
"""Seconds that a line may stay in memory; warnings and errors are written at once."""

MAX_WAITING = 1000
"""Lines in memory after which they are written at once."""

MAX_WAITING_SIZE = 2**20
"""The most characters of lines that stay in memory while nothing can be written."""

END_PATIENCE = 1.0
"""Seconds that the end of the process waits for whoever reads the log."""

_OURS = "merlind."
"""How the namespaces of our own events begin."""

_ABOUT_PORTS = re.compile(r"\w+( \(TLS\))? starting on .+|\(\w+ Port .+ Closed\)")
"""What Twisted says when a port opens and closes."""

_log = Logger()

# Matched by identity: comparing two LogLevels scans all of them.
_URGENT = frozenset({LogLevel.warn, LogLevel.error, LogLevel.critical})


def text_line(event: LogEvent) -> str:
    """Render an event as Twisted's text logs do: time, namespace, level and message, and a traceback if it has one."""
    when = _local_time(int(event.get("log_time", 0)))
    line = f"{when} [{event.get('log_namespace', '-')}#{_level(event)}] {_message(event)}\n"
    failure = event.get("log_failure")
    return line if failure is None else line + failure.getTraceback()


@lru_cache(maxsize=1)
def _local_time(second: int) -> str:
    """Return a time in seconds since the epoch as the log has it; most lines share it with the one before."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(second))


def json_line(event: LogEvent) -> str:
    """Render an event as one line of JSON.

    Keys: ``time`` (seconds since the epoch), ``level``, ``system``, ``message``; ``traceback`` if the event has one;
    and, in an event of our own, what its message was made of, such as ``task`` or ``code``.
    """
    line: dict[str, Any] = {
        "time": round(event.get("log_time", 0.0), 6),
        "level": _level(event),
        "system": event.get("log_namespace", "-"),
        "message": _message(event),
    }
    if line["system"].startswith(_OURS):
        for name, value in event.items():
            if not name.startswith("log_") and name not in line:
                line[name] = value if isinstance(value, str | int | float) else str(value)
    failure = event.get("log_failure")
    if failure is not None:
        line["traceback"] = failure.getTraceback()
    return json.dumps(line) + "\n"


@implementer(ILogObserver)
class LineLog:
    """An observer that writes to ``output`` what ``render`` makes of each event, many lines at a time.

    What Twisted says of its ports is left out: merlind says itself where it serves.

    It never waits for whoever reads the log. While nothing can be written, up to MAX_WAITING_SIZE of lines wait in
    memory; those past it are dropped, and a line says later how many they were. Events may come from any thread.
    """

    def __init__(self, reactor: IReactorTime, output: LogOutput, render: Callable[[LogEvent], str]) -> None:
        self._reactor = reactor
        self._output = output
        self._render = render
        self._lock = RLock()  # it may be entered again: the end of the process can come while a line is written
        self._reactor_thread = get_ident()
        self._waiting: list[str] = []
        self._waiting_size = 0
        self._unsent = b""
        self._unsent_lines = 0
        self._untold = 0
        self._telling = 0
        self._flush_call: IDelayedCall | None = None
        self._end_deadline: float | None = None
        self.dropped = 0
        """How many lines were dropped so far."""

    def __call__(self, event: LogEvent) -> None:
        if event.get("log_namespace") == "log_legacy" and _ABOUT_PORTS.fullmatch(formatEvent(event)):
            return
        line = self._render(event)
        with self._lock:
            if len(self._unsent) + self._waiting_size + len(line) > MAX_WAITING_SIZE:
                self._drop(1)
            else:
                self._waiting.append(line)
                self._waiting_size += len(line)
            # Only the reactor's own thread may set a timer.
            at_once = event.get("log_level") in _URGENT or get_ident() != self._reactor_thread
            if at_once or self._end_deadline is not None or len(self._waiting) >= MAX_WAITING:
                self._write()
            elif self._flush_call is None:
                self._flush_soon()

    def end(self) -> None:
        """Write what waits, and each further line at once: the process ends, and no timer fires any more.

        All that together waits for the reader of the log for at most END_PATIENCE.
        """
        with self._lock:
            if self._end_deadline is None:
                self._end_deadline = self._reactor.seconds() + END_PATIENCE
                if self._flush_call is not None:
                    self._flush_call.cancel()
                    self._flush_call = None
            self._write()

    def reopen(self) -> None:
        """Open the log's file anew, after it was moved away; if that fails, say so and go on with the old one."""
        with self._lock:
            self._write()
            try:
                self._output.reopen()
            except OSError as error:
                _log.error("the log can't be opened anew: {why}", why=error.strerror)

    def _flush_soon(self) -> None:
        self._flush_call = self._reactor.callLater(FLUSH_DELAY, self._flush)

    def _flush(self) -> None:
        self._flush_call = None
        with self._lock:
            self._write()
            if self._unsent or self._waiting:
                self._flush_soon()

    def _write(self) -> None:
        try:
            while self._take():
                sent = self._output.write(self._unsent)
                self._unsent = self._unsent[sent:]
                if not sent and not self._may_wait():
                    return
        except OSError:
            # Nobody reads any more, or the disk is full: there is nowhere to say so until a line can be written again.
            self._unsent = b""
            self._untold += self._telling
            self._drop(self._unsent_lines)

    def _take(self) -> bool:
        """Make sure that there is something to send, if there can be; return whether there is."""
        if not self._unsent:
            lines, self._waiting, self._waiting_size = self._waiting, [], 0
            self._unsent_lines = len(lines)
            self._telling, self._untold = self._untold, 0
            if self._telling:
                lines.append(self._render(_dropped(self._telling)))
            self._unsent = "".join(lines).encode("utf-8", "backslashreplace")
        return bool(self._unsent)

    def _may_wait(self) -> bool:
        if self._end_deadline is None:
            return False
        left = self._end_deadline - self._reactor.seconds()
        return left > 0 and self._output.wait(left)

    def _drop(self, lines: int) -> None:
        self.dropped += lines
        self._untold += lines


def _dropped(lines: int) -> LogEvent:
    return {
        "log_time": time.time(),
        "log_level": LogLevel.warn,
        "log_namespace": _log.namespace,
        "log_format": "{lines} lines of the log were dropped: nobody read it, or it could not be written",
        "lines": lines,
    }


def _level(event: LogEvent) -> str:
    level = event.get("log_level")
    return "info" if level is None else str(level.name)


def _message(event: LogEvent) -> str:
    """Return an event's message, on one line."""
    template = event.get("log_format")
    if template is not None and event.get("log_namespace", "").startswith(_OURS):
        # Our own templates need no more than str.format, and formatEvent takes ten times as long.
        message = str(template.format_map(event))
    else:
        message = formatEvent(event)
    return message if message.isprintable() else message.replace("\n", " ").replace("\r", " ")

"""The log's lines, as text or as JSON, and the observer that writes them many at a time.

Twisted's own text observer takes 30 µs for each line, which is as much as a status request takes.
"""

import json
import time
from collections.abc import Callable
from typing import TextIO

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent
from zope.interface import implementer

FLUSH_DELAY = 0.1
"""Seconds that a line may stay in memory; warnings and errors are written at once."""

MAX_WAITING = 1000
"""The most lines that stay in memory."""

# Matched by identity: comparing two LogLevels scans all of them.
_URGENT = frozenset({LogLevel.warn, LogLevel.error, LogLevel.critical})


def text_line(event: LogEvent) -> str:
    """Render an event as Twisted's text logs do: time, namespace, level and message, and a traceback if it has one."""
    when = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(int(event.get("log_time", 0))))
    line = f"{when} [{event.get('log_namespace', '-')}#{_level(event)}] {_message(event)}\n"
    failure = event.get("log_failure")
    return line if failure is None else line + failure.getTraceback()


def json_line(event: LogEvent) -> str:
    """Render an event as one line of JSON.

    Keys: ``time`` (seconds since the epoch), ``level``, ``system``, ``message``; ``task`` and ``traceback`` if the
    event has them.
    """
    line = {
        "time": round(event.get("log_time", 0.0), 6),
        "level": _level(event),
        "system": event.get("log_namespace", "-"),
        "message": _message(event),
    }
    if "task" in event:
        line["task"] = event["task"]
    failure = event.get("log_failure")
    if failure is not None:
        line["traceback"] = failure.getTraceback()
    return json.dumps(line) + "\n"


@implementer(ILogObserver)
class LineLog:
    """An observer that writes to ``stream`` what ``render`` makes of each event, many lines at a time.

    The lines wait here and not in the stream's buffer: with PYTHONUNBUFFERED it has none.
    """

    def __init__(self, reactor: IReactorTime, stream: TextIO, render: Callable[[LogEvent], str]) -> None:
        self._reactor = reactor
        self._stream = stream
        self._render = render
        self._waiting: list[str] = []
        self._flush_call: IDelayedCall | None = None
        self._ending = False

    def end(self) -> None:
        """Write what waits, and each further line at once: the process ends, and no timer fires any more."""
        self._ending = True
        self._write()

    def __call__(self, event: LogEvent) -> None:
        self._waiting.append(self._render(event))
        if self._ending or event.get("log_level") in _URGENT or len(self._waiting) >= MAX_WAITING:
            self._write()
        elif self._flush_call is None:
            self._flush_call = self._reactor.callLater(FLUSH_DELAY, self._flush)

    def _flush(self) -> None:
        self._flush_call = None
        self._write()

    def _write(self) -> None:
        lines, self._waiting = self._waiting, []
        self._stream.write("".join(lines))
        self._stream.flush()


def _level(event: LogEvent) -> str:
    level = event.get("log_level")
    return "info" if level is None else str(level.name)


def _message(event: LogEvent) -> str:
    """Return an event's message, on one line."""
    template = event.get("log_format")
    if template is not None and event.get("log_namespace", "").startswith("merlind."):
        # Our own templates need no more than str.format, and formatEvent takes ten times as long.
        message = str(template.format_map(event))
    else:
        message = formatEvent(event)
    return message if message.isprintable() else message.replace("\n", " ").replace("\r", " ")

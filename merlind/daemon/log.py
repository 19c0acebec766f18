"""The log's lines, as text or as JSON. Made for many lines: Twisted's own text observer takes 30 µs for each."""

import json
import time
from collections.abc import Callable
from typing import TextIO

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent
from zope.interface import implementer

FLUSH_DELAY = 0.1
"""Seconds that a line of no urgency may stay in memory; what warns is written at once."""

MAX_WAITING = 1000
"""The most lines that stay in memory."""

# Told apart by identity: to compare two levels goes through all of them.
_URGENT = frozenset({LogLevel.warn, LogLevel.error, LogLevel.critical})


def text_line(event: LogEvent) -> str:
    """An event as Twisted's text logs have it: time, where it is from, its level, what it says; a traceback if any."""
    when = _local_time(int(event.get("log_time", 0)))
    line = f"{when} [{event.get('log_namespace', '-')}#{_level(event)}] {_message(event)}\n"
    failure = event.get("log_failure")
    return line if failure is None else line + failure.getTraceback()


def json_line(event: LogEvent) -> str:
    """An event as one line of JSON.

    Keys: time (seconds since the epoch), level, system, message; task if the event has one; traceback if it has one.
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
    """An observer that writes each event to ``stream`` as ``render`` makes it, many at a time.

    They wait here and not in the stream, which may have no buffer (PYTHONUNBUFFERED) and then writes each by itself.
    """

    def __init__(self, reactor: IReactorTime, stream: TextIO, render: Callable[[LogEvent], str]) -> None:
        self._reactor = reactor
        self._stream = stream
        self._render = render
        self._waiting: list[str] = []
        self._flush_call: IDelayedCall | None = None
        self._ending = False

    def end(self) -> None:
        """Write each line at once from here on: no timer goes off any more, and a signal may end the process."""
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
    """What an event says, on one line."""
    template = event.get("log_format")
    if template is not None and event.get("log_namespace", "").startswith("merlind."):
        # Our own templates use no more than str.format knows, and formatEvent takes ten times as long.
        message = str(template.format_map(event))
    else:
        message = formatEvent(event)
    return message.replace("\n", " ").replace("\r", " ") if not message.isprintable() else message


_told: tuple[int, str] = (-1, "")


def _local_time(seconds: int) -> str:
    """The local time, made once a second."""
    global _told
    if _told[0] != seconds:
        _told = (seconds, time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(seconds)))
    return _told[1]

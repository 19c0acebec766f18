"""Log lines in JSON: one object a line, with what an event says and not what it is made of."""

import json
from typing import TextIO

from twisted.logger import ILogObserver, LogEvent, formatEvent
from zope.interface import implementer


@implementer(ILogObserver)
class JSONLines:
    """An observer that writes each event to ``stream`` as a line of JSON.

    Keys: time (seconds since the epoch), level, system, message; task if the event has one; traceback if it has one.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __call__(self, event: LogEvent) -> None:
        level = event.get("log_level")
        line = {
            "time": round(event.get("log_time", 0.0), 6),
            "level": "info" if level is None else level.name,
            "system": event.get("log_namespace", "-"),
            "message": formatEvent(event),
        }
        if "task" in event:
            line["task"] = event["task"]
        failure = event.get("log_failure")
        if failure is not None:
            line["traceback"] = failure.getTraceback()
        self._stream.write(json.dumps(line, ensure_ascii=True) + "\n")
        self._stream.flush()

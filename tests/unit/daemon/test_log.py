"""The log's lines, and when they are written."""

import io
import json
import time
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import ILogObserver, Logger, LogLevel, LogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from merlind.daemon.log import FLUSH_DELAY, MAX_WAITING, LineLog, json_line, text_line

WHEN = 1_800_000_000.25


def event(text: str = "task {task}: {what}", level: LogLevel | None = LogLevel.info, **more: Any) -> dict[str, Any]:
    """An event of our own."""
    made = {"log_time": WHEN, "log_namespace": "merlind.store.Store", "log_format": text, **more}
    return made if level is None else {**made, "log_level": level}


def failure() -> Failure:
    """A failure with a traceback."""
    try:
        raise ValueError("what went wrong")
    except ValueError:
        return Failure()


class Stream(io.StringIO):
    """A stream that counts what is written to it, and its flushes."""

    writes = flushes = 0

    def write(self, text: str) -> int:
        self.writes += 1
        return super().write(text)

    def flush(self) -> None:
        self.flushes += 1


class TextTests(SynchronousTestCase):
    """Lines for people."""

    def test_line(self) -> None:
        """A line has the time, the namespace, the level and the message."""
        when = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(WHEN))
        self.assertEqual(
            text_line(event(task=7, what="received")), f"{when} [merlind.store.Store#info] task 7: received\n"
        )
        self.assertIn("#critical]", text_line(event(task=7, what="x", level=LogLevel.critical)))

    def test_time_goes_on(self) -> None:
        """Each line has the time of its own event."""
        lines = {text_line({**event("x"), "log_time": WHEN + n})[:19] for n in range(3)}
        self.assertEqual(len(lines), 3)

    def test_traceback(self) -> None:
        """A failure's traceback follows the line."""
        line = text_line(event("oops", LogLevel.critical, log_failure=failure()))
        self.assertIn("#critical] oops\nTraceback", line)
        self.assertIn("ValueError: what went wrong", line)

    def test_bare(self) -> None:
        """An empty event is a line too."""
        self.assertTrue(text_line({}).endswith(" [-#info] \n"), text_line({}))

    def test_one_line(self) -> None:
        """A message can't start a new line."""
        for what in ("a\nb", "a\r\nb", "a\rb"):
            line = text_line(event(task=1, what=what))
            self.assertEqual(line.count("\n") + line.count("\r"), 1)
            self.assertTrue(line.endswith("\n"))

    def test_formats(self) -> None:
        """Our events and Twisted's are formatted alike; Twisted's may call functions."""
        theirs = {**event("{x()} {y}", x=lambda: "called", y=1), "log_namespace": "twisted.web"}
        self.assertIn("] called 1\n", text_line(theirs))
        self.assertIn("] 0x1f é\n", text_line(event("{x:#x} {y}", x=31, y="é")))


class JsonTests(SynchronousTestCase):
    """Lines for machines."""

    def test_line(self) -> None:
        """A line is one object with these keys."""
        line = json_line(event(task=7, what="received"))
        self.assertEqual(line.count("\n"), 1)
        self.assertEqual(
            json.loads(line),
            {
                "time": WHEN,
                "level": "info",
                "system": "merlind.store.Store",
                "message": "task 7: received",
                "task": 7,
            },
        )

    def test_traceback(self) -> None:
        """A failure's traceback is on the same line."""
        line = json_line(event("oops", LogLevel.critical, log_failure=failure()))
        self.assertEqual(line.count("\n"), 1)
        self.assertIn("ValueError: what went wrong", json.loads(line)["traceback"])
        self.assertNotIn("task", json.loads(line))

    def test_bare(self) -> None:
        """An empty event is a line too."""
        self.assertEqual(json.loads(json_line({})), {"time": 0.0, "level": "info", "system": "-", "message": ""})

    def test_surrogates(self) -> None:
        """A character that UTF-8 doesn't have is escaped."""
        self.assertTrue(json_line(event("{x}", x="\udcff")).isascii())


class LineLogTests(SynchronousTestCase):
    """The observer."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.stream = Stream()
        self.log = LineLog(self.clock, self.stream, json_line)

    def test_interface(self) -> None:
        """It is a log observer."""
        self.assertTrue(verifyObject(ILogObserver, self.log))

    def test_written(self) -> None:
        """What a Logger logs is written as it is rendered."""
        log = Logger(namespace="merlind.test", observer=LogPublisher(self.log))
        log.info("task {task}: over", task=1)
        log.warn("task {task}: trouble", task=2)
        self.assertEqual(self.stream.writes, 1)
        lines = [json.loads(line) for line in self.stream.getvalue().splitlines()]
        self.assertEqual([line["message"] for line in lines], ["task 1: over", "task 2: trouble"])
        self.assertEqual([line["level"] for line in lines], ["info", "warn"])

    def test_flushed_soon(self) -> None:
        """Lines without a warning are written together, soon."""
        for _ in range(5):
            self.log(event("x"))
            self.log(event("x", None))
        self.assertEqual((self.stream.writes, self.stream.flushes, len(self.clock.getDelayedCalls())), (0, 0, 1))
        self.clock.advance(FLUSH_DELAY)
        self.assertEqual((self.stream.writes, self.stream.flushes, self.clock.getDelayedCalls()), (1, 1, []))
        self.assertEqual(self.stream.getvalue().count("\n"), 10)
        self.log(event("x"))
        self.clock.advance(FLUSH_DELAY)
        self.assertEqual(self.stream.flushes, 2)

    def test_flushed_at_once(self) -> None:
        """Warnings and errors are written at once, without a timer."""
        for level in (LogLevel.warn, LogLevel.error, LogLevel.critical):
            self.log(event("x", level))
        self.assertEqual((self.stream.flushes, self.clock.getDelayedCalls()), (3, []))

    def test_not_too_many(self) -> None:
        """A number of lines wait, and no more."""
        for _ in range(MAX_WAITING - 1):
            self.log(event("x"))
        self.assertEqual(self.stream.writes, 0)
        self.log(event("x"))
        self.assertEqual((self.stream.writes, self.stream.getvalue().count("\n")), (1, MAX_WAITING))

    def test_at_the_end(self) -> None:
        """When the process is about to end, what waits is written, and then each line at once."""
        written: list[str] = []
        stream = io.StringIO()
        self.patch(stream, "flush", lambda: written.append(stream.getvalue()))
        clock = Clock()
        log = LineLog(clock, stream, text_line)
        log(event(task=1, what="waits"))
        self.assertEqual(written, [])
        log.end()
        self.assertIn("task 1: waits", written[-1])
        log(event(task=2, what="is last"))
        self.assertIn("task 2: is last", written[-1])

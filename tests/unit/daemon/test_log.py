"""The log's lines, and when they are written."""

import json
import math
import time
from threading import Thread
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import ILogObserver, Logger, LogLevel, LogPublisher, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from merlind.daemon.log import (
    END_PATIENCE,
    FLUSH_DELAY,
    MAX_WAITING,
    MAX_WAITING_SIZE,
    LineLog,
    json_line,
    text_line,
)
from merlind.daemon.log_output import LogOutput
from tests.unit.support import raising

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


class Output(LogOutput):
    """An output that takes ``room`` bytes, all if that is None; ``room_after`` is how long to wait for room."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.written = b""
        self.writes = self.reopened = 0
        self.room: int | None = None
        self.room_after = math.inf

    def write(self, data: bytes) -> int:
        self.writes += 1
        taken = data[: self.room]
        self.written += taken
        if self.room is not None:
            self.room -= len(taken)
        return len(taken)

    def wait(self, seconds: float) -> bool:
        self._clock.advance(min(seconds, self.room_after))
        if self.room_after > seconds:
            return False
        self.room = None
        return True

    def reopen(self) -> None:
        self.reopened += 1


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
                "what": "received",
            },
        )

    def test_fields(self) -> None:
        """What a message of ours is made of is in the object too, as JSON; it can't change the first four keys."""
        line = json.loads(json_line(event("{why}", why=OSError("gone"), ms=3, share=0.5, time="x", message="y")))
        self.assertEqual((line["why"], line["ms"], line["share"]), ("gone", 3, 0.5))
        self.assertEqual((line["time"], line["message"]), (WHEN, "gone"))
        theirs = {**event("x", arg=1), "log_namespace": "twisted.web"}
        self.assertNotIn("arg", json.loads(json_line(theirs)))

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


class LineLogCase(SynchronousTestCase):
    """An observer on a clock, with an output that the test plays."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.output = Output(self.clock)
        self.log = LineLog(self.clock, self.output, json_line)

    def messages(self) -> list[str]:
        """The messages that were written so far."""
        return [json.loads(line)["message"] for line in self.output.written.splitlines()]


class LineLogTests(LineLogCase):
    """The observer."""

    def test_interface(self) -> None:
        """It is a log observer."""
        self.assertTrue(verifyObject(ILogObserver, self.log))

    def test_written(self) -> None:
        """What a Logger logs is written as it is rendered."""
        log = Logger(namespace="merlind.test", observer=LogPublisher(self.log))
        log.info("task {task}: over", task=1)
        log.warn("task {task}: trouble", task=2)
        self.assertEqual(self.output.writes, 1)
        lines = [json.loads(line) for line in self.output.written.splitlines()]
        self.assertEqual([line["message"] for line in lines], ["task 1: over", "task 2: trouble"])
        self.assertEqual([line["level"] for line in lines], ["info", "warn"])

    def test_ports(self) -> None:
        """What Twisted says of its ports and factories is left out, and nothing else of what it says."""
        for text in ("EdgeSite starting on 8000", "ApiSite (TLS) starting on '/run/a b'", "(TCP Port 8000 Closed)",
                     "Unable to write to plugin cache", "merlind starts"):  # fmt: skip
            self.log({"log_namespace": "log_legacy", "log_format": "{log_text}", "log_text": text})
        self.log(event("EdgeSite starting on 1"))
        self.clock.advance(FLUSH_DELAY)
        self.assertEqual(
            self.messages(), ["Unable to write to plugin cache", "merlind starts", "EdgeSite starting on 1"]
        )

    def test_flushed_soon(self) -> None:
        """Lines without a warning are written together, soon."""
        for _ in range(5):
            self.log(event("x"))
            self.log(event("x", None))
        self.assertEqual((self.output.writes, len(self.clock.getDelayedCalls())), (0, 1))
        self.clock.advance(FLUSH_DELAY)
        self.assertEqual((self.output.writes, self.clock.getDelayedCalls()), (1, []))
        self.assertEqual(self.messages(), ["x"] * 10)
        self.log(event("x"))
        self.clock.advance(FLUSH_DELAY)
        self.assertEqual(self.output.writes, 2)

    def test_flushed_at_once(self) -> None:
        """Warnings and errors are written at once, without a timer."""
        for level in (LogLevel.warn, LogLevel.error, LogLevel.critical):
            self.log(event("x", level))
        self.assertEqual((self.output.writes, self.clock.getDelayedCalls()), (3, []))

    def test_not_too_many(self) -> None:
        """A number of lines wait, and no more."""
        for _ in range(MAX_WAITING - 1):
            self.log(event("x"))
        self.assertEqual(self.output.writes, 0)
        self.log(event("x"))
        self.assertEqual((self.output.writes, len(self.messages())), (1, MAX_WAITING))

    def test_another_thread(self) -> None:
        """A line from another thread is written at once: only the reactor's own may set a timer."""
        thread = Thread(target=self.log, args=(event("x"),))
        thread.start()
        thread.join()
        self.assertEqual((self.messages(), self.clock.getDelayedCalls()), (["x"], []))

    def test_any_characters(self) -> None:
        """A character that UTF-8 doesn't have is escaped."""
        log = LineLog(self.clock, self.output, text_line)
        log(event("\udcff é", LogLevel.warn))
        self.assertTrue(self.output.written.endswith("\\udcff é\n".encode()))

    def test_reopened(self) -> None:
        """What waits is still written to the old file; a new one that can't be opened is reported in the old one."""
        log = LineLog(self.clock, self.output, json_line)
        globalLogPublisher.addObserver(log)
        self.addCleanup(globalLogPublisher.removeObserver, log)
        log(event("before"))
        log.reopen()
        self.assertEqual((self.messages(), self.output.reopened), (["before"], 1))
        self.patch(self.output, "reopen", raising(PermissionError(13, "Permission denied")))
        log.reopen()
        self.assertEqual(self.messages(), ["before", "the log can't be opened anew: Permission denied"])


class NobodyReadsTests(LineLogCase):
    """Whoever should read the log doesn't, or the disk is full (D16)."""

    def fill(self) -> int:
        """Log until two lines were dropped; return how many were not."""
        self.output.room = 0
        logged = 0
        while self.log.dropped < 2:
            self.log(event("x" * 1000))
            logged += 1
        return logged - 2

    def test_lines_wait(self) -> None:
        """Lines that can't be written wait, and are written as soon as they can, in order and whole."""
        self.output.room = 0
        self.log(event("first", LogLevel.warn))
        self.log(event("second"))
        self.output.room = 10
        self.clock.advance(FLUSH_DELAY)
        self.assertEqual(len(self.output.written), 10)
        self.output.room = None
        self.clock.advance(FLUSH_DELAY)
        self.assertEqual((self.messages(), self.log.dropped), (["first", "second"], 0))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_lines_are_dropped_and_counted(self) -> None:
        """Only so many wait. The others are dropped, and a line says how many; then all is as before."""
        kept = self.fill()
        self.assertLess(kept * 1000, MAX_WAITING_SIZE)
        self.assertGreater(kept * 1200, MAX_WAITING_SIZE)
        self.output.room = None
        self.clock.advance(FLUSH_DELAY)
        *lines, last = self.messages()
        self.assertEqual(len(lines), kept)
        self.assertIn("2 lines of the log were dropped", last)
        self.log(event("later", LogLevel.warn))
        self.assertEqual((self.messages()[-1], self.log.dropped), ("later", 2))

    def test_memory_is_bounded(self) -> None:
        """However much is logged, no more than so much waits; one line larger than that is dropped."""
        kept = self.fill()
        for _ in range(10_000):
            self.log(event("x" * 1000, LogLevel.error))
        self.assertGreaterEqual(self.log.dropped, 10_000)
        self.assertLessEqual(len(self.log._unsent) + self.log._waiting_size, MAX_WAITING_SIZE)
        self.output.room = None
        self.clock.advance(FLUSH_DELAY)
        self.assertEqual(len(self.messages()), kept + 2)
        self.log(event("x" * MAX_WAITING_SIZE))
        self.assertEqual(self.log.dropped, 10_003)

    def test_errors(self) -> None:
        """A pipe without a reader, or a full disk, loses lines and nothing else; when it is over a line says so."""
        self.patch(self.output, "write", raising(OSError(28, "No space left on device")))
        for _ in range(3):
            self.log(event("lost", LogLevel.warn))
        self.assertEqual(self.log.dropped, 3)
        del self.output.write
        self.log(event("kept", LogLevel.warn))
        self.assertEqual(self.messages()[0], "kept")
        self.assertIn("3 lines of the log were dropped", self.messages()[1])
        self.assertEqual(len(self.messages()), 2)

    def test_at_the_end(self) -> None:
        """When the process is about to end, what waits is written, and then each line at once."""
        self.log(event("waits"))
        self.assertEqual(self.messages(), [])
        self.log.end()
        self.assertEqual(self.messages(), ["waits"])
        self.log(event("last"))
        self.assertEqual(self.messages(), ["waits", "last"])

    def test_the_end_waits_for_a_slow_reader(self) -> None:
        """The end of the process gives a reader some time."""
        self.output.room = 0
        self.log(event("first"))
        self.output.room_after = 0.5
        self.log.end()
        self.log(event("last"))
        self.assertEqual((self.messages(), self.clock.seconds()), (["first", "last"], 0.5))

    def test_the_end_waits_only_so_long(self) -> None:
        """A reader that stands still delays the end once, by END_PATIENCE."""
        self.output.room = 0
        self.log(event("first"))
        self.log.end()
        for _ in range(10):
            self.log(event("last", LogLevel.critical))
        self.log.end()
        self.assertEqual((self.output.written, self.clock.seconds()), (b"", END_PATIENCE))

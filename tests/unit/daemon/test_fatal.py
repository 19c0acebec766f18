"""Errors after which the process can't go on (D14)."""

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import ILogObserver, LogEvent, Logger, LogPublisher
from twisted.python import log as legacy
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from merlind.daemon.fatal import FatalErrors
from tests.unit.support import raising


@implementer(ILogObserver)
class Recorder:
    """The log's own observer."""

    def __init__(self) -> None:
        self.events: list[LogEvent] = []

    def __call__(self, event: LogEvent) -> None:
        self.events.append(event)


class FatalCase(SynchronousTestCase):
    """An observer whose ends are recorded, with the number of events that were written before."""

    def setUp(self) -> None:
        self.log = Recorder()
        self.ends: list[tuple[str, int]] = []
        self.fatal = FatalErrors(lambda why: self.ends.append((why, len(self.log.events))), self.log)


class ObserverTests(FatalCase):
    """What is logged."""

    def log_error(self, error: BaseException) -> None:
        """Log an error as our code and Twisted's do."""
        Logger(observer=LogPublisher(self.fatal)).failure("unexpected error", Failure(error))

    def test_interface(self) -> None:
        """It is a log observer."""
        self.assertTrue(verifyObject(ILogObserver, self.fatal))

    def test_out_of_memory(self) -> None:
        """A MemoryError is written to the log, and then ends the process."""
        self.log_error(MemoryError())
        self.assertEqual(self.ends, [("out of memory", 1)])
        self.assertIsInstance(self.log.events[0]["log_failure"].value, MemoryError)

    def test_caused_by_it(self) -> None:
        """So do errors that a MemoryError caused, however deep it lies."""
        for error in (self.cause(1), self.cause(3), self.handled(), self.gathered()):
            self.ends.clear()
            self.log_error(error)
            self.assertEqual(len(self.ends), 1, error)

    def cause(self, depth: int) -> BaseException:
        """An error from an error, and so on, from a MemoryError."""
        error: BaseException = MemoryError()
        for _ in range(depth):
            outer = RuntimeError()
            outer.__cause__ = error
            error = outer
        return error

    def handled(self) -> BaseException:
        """An error that came while a MemoryError was handled."""
        try:
            try:
                raise MemoryError
            except MemoryError:
                raise KeyError("x")  # noqa: B904
        except KeyError as error:
            return error

    def gathered(self) -> BaseException:
        """An error of one of many Deferreds."""
        one: Deferred[None] = Deferred()
        together = gatherResults([one, Deferred()], consumeErrors=True)
        one.errback(MemoryError())
        error: BaseException = self.failureResultOf(together).value
        return error

    def test_old_style(self) -> None:
        """An error logged through twisted.python.log counts too: the reactor logs those of connections there."""
        publisher = legacy.LogPublisher(publishPublisher=LogPublisher(self.fatal))
        publisher.msg(failure=Failure(MemoryError()), why="Unhandled Error", isError=1)
        self.assertEqual(self.ends, [("out of memory", 1)])

    def test_other_errors(self) -> None:
        """Any other error, also one that refers to itself, and any other event, ends nothing."""
        circle = RuntimeError()
        circle.__cause__ = circle
        for error in (ValueError("x"), OSError(12, "Cannot allocate memory"), circle):
            self.log_error(error)
        Logger(observer=LogPublisher(self.fatal)).critical("no error at all")
        self.assertEqual((self.ends, self.log.events), ([], []))

    def test_log_that_fails(self) -> None:
        """The process ends also if not even the error can be written, and if the log isn't ours."""
        for write in (raising(MemoryError()), None):
            ends: list[str] = []
            observer: Any = write
            fatal = FatalErrors(ends.append, observer)
            event: LogEvent = {"log_failure": Failure(MemoryError())}
            if write is None:
                fatal(event)
            else:
                self.assertRaises(MemoryError, fatal, event)
            self.assertEqual(ends, ["out of memory"])


class Loop:
    """A reactor's main loop, turn by turn, as twisted.internet.base has it: it logs what comes out, and goes on."""

    def __init__(self, run: Callable[[], object], poll: Callable[[], object]) -> None:
        self.run, self.poll = run, poll

    def runUntilCurrent(self) -> None:
        self.run()

    def doIteration(self, delay: float) -> float:
        self.poll()
        return delay

    def turn(self) -> None:
        """Turn once."""
        try:
            self.runUntilCurrent()
            self.doIteration(1.0)
        except BaseException:
            return


class LoopTests(FatalCase):
    """What comes out of the reactor's main loop."""

    def test_error(self) -> None:
        """An error that a turn of the loop raises ends the process, after it was logged."""
        for error, why in ((KeyError("x"), "the main loop failed"), (MemoryError(), "out of memory")):
            for functions in ((raising(error), lambda: None), (lambda: None, raising(error))):
                self.ends.clear()
                loop = Loop(*functions)
                self.fatal.guard_loop(loop)
                self.log.events.clear()
                loop.turn()
                self.assertEqual(self.ends, [(why, 1)])
                self.assertIs(self.log.events[0]["log_failure"].value, error)

    def test_no_error(self) -> None:
        """A turn without one returns what it returns."""
        loop = Loop(lambda: None, lambda: None)
        self.fatal.guard_loop(loop)
        loop.turn()
        self.assertEqual((self.ends, loop.doIteration(3.0)), ([], 3.0))

    def test_log_that_fails(self) -> None:
        """The process ends also if the error can't be logged, and if the log isn't ours."""
        for write in (raising(MemoryError()), None):
            ends: list[str] = []
            observer: Any = write
            loop = Loop(raising(MemoryError()), lambda: None)
            FatalErrors(ends.append, observer).guard_loop(loop)
            loop.turn()
            self.assertEqual(ends, ["out of memory"])

    def test_other_reactors(self) -> None:
        """A reactor whose loop is another's, as asyncio's, has no such turns."""
        self.fatal.guard_loop(object())

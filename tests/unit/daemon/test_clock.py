"""The two times: service time runs on, whatever the wall clock does."""

import time
from typing import Any

from twisted.internet.base import ReactorBase
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from merlind.core.interfaces import Moment
from merlind.core.pause import Pause, begin
from merlind.daemon.clock import ServiceClock, TaskClock, use_monotonic_time


class Quiet(ReactorBase):
    """A reactor that is not installed and never runs."""

    def __init__(self, calls: int = 0) -> None:
        self._calls = calls

    def getDelayedCalls(self) -> Any:
        return [object()] * self._calls


class ServiceClockTests(SynchronousTestCase):
    """Service time."""

    def test_goes_on(self) -> None:
        """Service time goes on where the last run ended, whatever the reactor's seconds are."""
        reactor = Clock()
        reactor.advance(5000)
        clock = ServiceClock(reactor, start=100.0)
        self.assertEqual(clock.now(), 100.0)
        reactor.advance(2.5)
        self.assertEqual(clock.now(), 102.5)

    def test_task_time(self) -> None:
        """Task time is service time, until there is a pause; then it stands still, and service time goes on."""
        reactor = Clock()
        service = ServiceClock(reactor, start=100.0, wall=lambda: 1e9)
        clock = TaskClock(service, Pause(total=30.0))
        self.assertEqual((clock.now(), clock.moment()), (70.0, Moment(100.0, 70.0, 1e9)))
        clock.pause = begin(clock.pause, service.now(), 1e9, None)
        reactor.advance(5.0)
        self.assertEqual((clock.now(), clock.moment(), clock.wall()), (70.0, Moment(105.0, 70.0, 1e9), 1e9))

    def test_runs_from_the_first_call(self) -> None:
        """Service time starts with the first call: until then the reactor may change its clock."""
        reactor = Clock()
        clock = ServiceClock(reactor)
        reactor.advance(77)
        self.assertEqual(clock.now(), 0.0)
        reactor.advance(1)
        self.assertEqual(clock.now(), 1.0)

    def test_wall(self) -> None:
        """A step of the wall clock doesn't change service time; by default the wall clock is the machine's."""
        wall = [1e9]
        clock = ServiceClock(Clock(), 3.0, lambda: wall[0])
        self.assertEqual((clock.now(), clock.wall()), (3.0, 1e9))
        wall[0] = 2e9
        self.assertEqual((clock.now(), clock.wall()), (3.0, 2e9))
        self.assertIs(ServiceClock(Clock()).wall, time.time)


class MonotonicTests(SynchronousTestCase):
    """The reactor's own timers."""

    def test_set(self) -> None:
        """Timers follow the monotonic clock."""
        reactor = Quiet()
        self.assertIsNot(reactor.seconds, time.monotonic)
        use_monotonic_time(reactor)
        self.assertIs(reactor.seconds, time.monotonic)

    def test_not_with_timers(self) -> None:
        """A reactor that has timers keeps the clock that they were set by."""
        reactor = Quiet(calls=1)
        use_monotonic_time(reactor)
        self.assertNotIn("seconds", vars(reactor))

    def test_other_reactors(self) -> None:
        """A reactor that isn't Twisted's own keeps its clock."""
        reactor = Clock()
        use_monotonic_time(reactor)
        self.assertNotIn("seconds", vars(reactor))

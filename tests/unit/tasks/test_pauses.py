"""Pauses of coroutines."""

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from merlind.tasks.pauses import Pauses


class PausesTests(SynchronousTestCase):
    """A pause ends in time, or when merlind stops."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.pauses = Pauses(self.clock)

    def test_waits(self) -> None:
        """A pause lasts as long as was asked for."""
        d = Deferred.fromCoroutine(self.pauses.wait(3))
        self.clock.advance(2)
        self.assertNoResult(d)
        self.clock.advance(1)
        self.successResultOf(d)

    def test_stop(self) -> None:
        """A stop cancels all pauses, later ones too, and no timer remains."""
        waiting = [Deferred.fromCoroutine(self.pauses.wait(3)) for _ in range(2)]
        self.pauses.stop()
        waiting.append(Deferred.fromCoroutine(self.pauses.wait(3)))
        for d in waiting:
            self.failureResultOf(d, CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])

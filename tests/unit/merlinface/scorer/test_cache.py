"""Judgements of the last minutes."""

from collections.abc import Callable

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from merlind.merlinface.scorer.cache import JudgementCache
from merlind.merlinface.scorer.judgement import NO_FACE, Judgement, Refused

ADA = Judgement(0.98, 34.0)


class CacheTests(SynchronousTestCase):
    """What is looked at, and how often."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.cache = JudgementCache(self.clock, keep_seconds=10, max_kept=2)
        self.looks = 0

    def get(self, digest: bytes, result: Callable[[], Deferred[Judgement]]) -> Deferred[Judgement]:
        def look() -> Deferred[Judgement]:
            self.looks += 1
            return result()

        return self.cache.get(digest, look)

    def test_looked_at_once(self) -> None:
        """A photo that comes again within the time that judgements are kept isn't looked at again."""
        for _ in range(3):
            self.assertEqual(self.successResultOf(self.get(b"a", lambda: succeed(ADA))), ADA)
            self.clock.advance(3)
        self.assertEqual(self.looks, 1)
        self.clock.advance(1)
        self.get(b"a", lambda: succeed(ADA))
        self.assertEqual(self.looks, 2)

    def test_shared_while_waiting(self) -> None:
        """Whoever asks while a photo is looked at gets the same judgement."""
        look: Deferred[Judgement] = Deferred()
        self.assertFalse(self.cache.covers(b"a"))
        waiting = [self.get(b"a", lambda: look) for _ in range(3)]
        self.assertTrue(self.cache.covers(b"a"))
        look.callback(ADA)
        self.assertEqual([self.successResultOf(one) for one in waiting], [ADA] * 3)
        self.assertEqual(self.looks, 1)

    def test_refusals_are_kept(self) -> None:
        """A photo without a face has none the next time either; each gets an exception of its own."""
        refused = [
            self.failureResultOf(self.get(b"a", lambda: fail(Refused(NO_FACE))), Refused).value for _ in range(3)
        ]
        self.assertEqual(([one.reason for one in refused], self.looks), ([NO_FACE] * 3, 1))
        self.assertIsNot(refused[1], refused[2])

    def test_failures_are_not_kept(self) -> None:
        """A failure is told to all that wait, and the photo is looked at again the next time."""
        look: Deferred[Judgement] = Deferred()
        waiting = [self.get(b"a", lambda: look) for _ in range(2)]
        look.errback(ValueError("crash"))
        for one in waiting:
            self.failureResultOf(one, ValueError)

        def broken() -> Deferred[Judgement]:
            raise ValueError("at once")

        self.failureResultOf(self.get(b"a", broken), ValueError)
        self.assertEqual(self.successResultOf(self.get(b"a", lambda: succeed(ADA))), ADA)
        self.assertEqual(self.looks, 3)

    def test_bounded(self) -> None:
        """Past the most judgements, the oldest is dropped."""
        for digest in (b"a", b"b", b"c"):
            self.get(digest, lambda: succeed(ADA))
        self.assertEqual([self.cache.covers(digest) for digest in (b"a", b"b", b"c")], [False, True, True])

    def test_nothing_is_left(self) -> None:
        """Judgements are dropped in time though nobody asks, and no timer is left."""
        self.get(b"a", lambda: succeed(ADA))
        self.clock.advance(6)
        self.get(b"b", lambda: succeed(ADA))
        self.clock.advance(4)
        self.assertEqual([self.cache.covers(digest) for digest in (b"a", b"b")], [False, True])
        self.clock.advance(6)
        self.assertEqual((self.cache.covers(b"b"), self.clock.getDelayedCalls()), (False, []))

    def test_cleared(self) -> None:
        """Clearing drops everything at once."""
        self.cache.clear()
        self.get(b"a", lambda: succeed(ADA))
        self.cache.clear()
        self.assertEqual((self.cache.covers(b"a"), self.clock.getDelayedCalls()), (False, []))

"""How many exchanges the upstream is trusted with."""

from twisted.trial.unittest import SynchronousTestCase

from merlind.core.breaker import PROBE_CAP, THRESHOLD, Breaker, BreakerState


class BreakerTests(SynchronousTestCase):
    """The circuit breaker."""

    def make(self, concurrency: int = 8, base: float = 2.0, jitter: float = 1.0) -> Breaker:
        return Breaker(concurrency, base, lambda: jitter)

    def opened(self, concurrency: int = 8, base: float = 2.0, jitter: float = 1.0) -> Breaker:
        """One that has just opened, at the time 100."""
        breaker = self.make(concurrency, base, jitter)
        for _ in range(THRESHOLD):
            breaker.failure(100.0)
        return breaker

    def test_closed(self) -> None:
        """At first everything is allowed, and success changes nothing."""
        breaker = self.make()
        for _ in range(3):
            self.assertEqual((breaker.state, breaker.allowance(0.0), breaker.limit), (BreakerState.CLOSED, 8, 8))
            breaker.success()

    def test_opens(self) -> None:
        """Troubles in a row open it, a success between them starts the count anew."""
        breaker = self.make()
        for _ in range(THRESHOLD - 1):
            breaker.failure(100.0)
        self.assertEqual(breaker.state, BreakerState.CLOSED)
        breaker.success()
        for _ in range(THRESHOLD - 1):
            breaker.failure(100.0)
        self.assertEqual((breaker.state, breaker.allowance(100.0)), (BreakerState.CLOSED, 8))
        breaker.failure(100.0)
        self.assertEqual((breaker.state, breaker.allowance(100.0)), (BreakerState.OPEN, 0))

    def test_small_concurrency(self) -> None:
        """It takes no more troubles than there can be at once."""
        breaker = self.make(concurrency=2)
        breaker.failure(0.0)
        self.assertEqual(breaker.state, BreakerState.CLOSED)
        breaker.failure(0.0)
        self.assertEqual(breaker.state, BreakerState.OPEN)

    def test_probe(self) -> None:
        """After a pause, one at a time."""
        breaker = self.opened()
        self.assertEqual(breaker.probe_at, 102.0)
        self.assertEqual([breaker.allowance(now) for now in (101.99, 102.0, 500.0)], [0, 1, 1])

    def test_failed_probes(self) -> None:
        """Each makes the pause longer, up to the cap."""
        breaker, pauses = self.opened(), []
        for _ in range(7):
            now = breaker.probe_at
            breaker.failure(now)
            pauses.append(breaker.probe_at - now)
        self.assertEqual(pauses, [4, 8, 16, 32, PROBE_CAP, PROBE_CAP, PROBE_CAP])
        self.assertEqual(breaker.state, BreakerState.OPEN)

    def test_late_failures(self) -> None:
        """Exchanges that began before it opened are no failed probes."""
        breaker = self.opened()
        for now in (100.5, 101.9):
            breaker.failure(now, retry_after=1000.0)
        self.assertEqual(breaker.probe_at, 102.0)
        breaker.failure(102.0)
        self.assertEqual(breaker.probe_at, 106.0)

    def test_pause_asked_for(self) -> None:
        """The pause that the upstream asks for is kept, if it is the longer one."""
        for after, probe_at in ((1.0, 102.0), (900.0, 1000.0)):
            breaker = self.make(concurrency=1)
            breaker.failure(100.0, after)
            self.assertEqual(breaker.probe_at, probe_at)

    def test_never_a_loop(self) -> None:
        """However the dice fall, probes are half a second apart."""
        self.assertEqual(self.opened(jitter=0.0).probe_at, 100.5)

    def test_opens_gradually(self) -> None:
        """One more for each success, from one; closed again at the full number."""
        breaker, seen = self.opened(concurrency=3), []
        for _ in range(4):
            breaker.success()
            seen.append((breaker.limit, breaker.state, breaker.allowance(0.0)))
        self.assertEqual(
            seen,
            [(1, BreakerState.OPENING, 1), (2, BreakerState.OPENING, 2), *[(3, BreakerState.CLOSED, 3)] * 2],
        )

    def test_relapse(self) -> None:
        """While it opens, as many troubles as are allowed at once are enough to open it again, its count anew."""
        breaker = self.opened()
        for _ in range(4):
            breaker.failure(breaker.probe_at)
        breaker.success()
        breaker.success()
        breaker.failure(300.0)
        self.assertEqual(breaker.limit, 2)
        breaker.failure(300.0)
        self.assertEqual((breaker.state, breaker.probe_at), (BreakerState.OPEN, 302.0))

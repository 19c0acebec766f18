"""How many requests the circuit breaker allows in flight."""

from twisted.trial.unittest import SynchronousTestCase

from merlind.core.breaker import PROBE_CAP, THRESHOLD, Breaker, BreakerState


class BreakerTests(SynchronousTestCase):
    """Opening after failures, probing, and closing gradually."""

    def make(self, concurrency: int = 8, base: float = 2.0, jitter: float = 1.0) -> Breaker:
        return Breaker(concurrency, base, lambda: jitter)

    def opened(self, concurrency: int = 8, base: float = 2.0, jitter: float = 1.0) -> Breaker:
        """Return a breaker that has just opened, at the time 100."""
        breaker = self.make(concurrency, base, jitter)
        for _ in range(THRESHOLD):
            breaker.failure(100.0)
        return breaker

    def test_closed_allows_all(self) -> None:
        """A closed breaker allows the full concurrency, and a success changes nothing."""
        breaker = self.make()
        for _ in range(3):
            self.assertEqual((breaker.state, breaker.allowance(0.0), breaker.limit), (BreakerState.CLOSED, 8, 8))
            breaker.success()

    def test_failures_in_a_row_open_it(self) -> None:
        """Failures in a row open it; a success between them resets the count."""
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
        """With a small concurrency, as many failures as requests fit in flight open it."""
        breaker = self.make(concurrency=2)
        breaker.failure(0.0)
        self.assertEqual(breaker.state, BreakerState.CLOSED)
        breaker.failure(0.0)
        self.assertEqual(breaker.state, BreakerState.OPEN)

    def test_one_probe_at_a_time(self) -> None:
        """After a pause, an open breaker allows one request at a time."""
        breaker = self.opened()
        self.assertEqual(breaker.probe_at, 102.0)
        self.assertEqual([breaker.allowance(now) for now in (101.99, 102.0, 500.0)], [0, 1, 1])

    def test_failed_probes_lengthen_the_pause(self) -> None:
        """Each failed probe doubles the pause, up to the cap."""
        breaker, pauses = self.opened(), []
        for _ in range(7):
            now = breaker.probe_at
            breaker.failure(now)
            pauses.append(breaker.probe_at - now)
        self.assertEqual(pauses, [4, 8, 16, 32, PROBE_CAP, PROBE_CAP, PROBE_CAP])
        self.assertEqual(breaker.state, BreakerState.OPEN)

    def test_late_failures_are_no_probes(self) -> None:
        """A failed request that began before the breaker opened is no failed probe."""
        breaker = self.opened()
        for now in (100.5, 101.9):
            breaker.failure(now, retry_after=1000.0)
        self.assertEqual(breaker.probe_at, 102.0)
        breaker.failure(102.0)
        self.assertEqual(breaker.probe_at, 106.0)

    def test_retry_after(self) -> None:
        """A Retry-After longer than the pause replaces it."""
        for after, probe_at in ((1.0, 102.0), (900.0, 1000.0)):
            breaker = self.make(concurrency=1)
            breaker.failure(100.0, after)
            self.assertEqual(breaker.probe_at, probe_at)

    def test_shortest_pause(self) -> None:
        """Probes are at least half a second apart, whatever the jitter is."""
        self.assertEqual(self.opened(jitter=0.0).probe_at, 100.5)

    def test_closes_gradually(self) -> None:
        """From one on, each success allows one more request; at the full concurrency the breaker is closed."""
        breaker, seen = self.opened(concurrency=3), []
        for _ in range(4):
            breaker.success()
            seen.append((breaker.limit, breaker.state, breaker.allowance(0.0)))
        self.assertEqual(
            seen,
            [(1, BreakerState.OPENING, 1), (2, BreakerState.OPENING, 2), *[(3, BreakerState.CLOSED, 3)] * 2],
        )

    def test_failures_while_recovering(self) -> None:
        """During recovery, as many failures as the limit open it again, with the first and shortest pause."""
        breaker = self.opened()
        for _ in range(4):
            breaker.failure(breaker.probe_at)
        breaker.success()
        breaker.success()
        breaker.failure(300.0)
        self.assertEqual(breaker.limit, 2)
        breaker.failure(300.0)
        self.assertEqual((breaker.state, breaker.probe_at), (BreakerState.OPEN, 302.0))

"""How often each client may do something (docs/battery.md, A10)."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from merlind.core import rate as module
from merlind.core.rate import ClientRates, Quota, Rate, read_rate
from tests.unit.web.support import checked

START = 1_000_000.7
"""When the tests begin, by a clock that has run for eleven days."""


class ReadingTests(SynchronousTestCase):
    """What an operator writes."""

    def test_rates(self) -> None:
        """A number of times, a slash and a number of seconds."""
        self.assertEqual(read_rate("100/60"), Rate(100, 60))
        self.assertEqual(read_rate("1000000/86400"), Rate(1_000_000, 86_400))

    def test_no_rates(self) -> None:
        """Anything else is refused, and named."""
        for text in ("", "100", "100/", "/60", "0/60", "100/0", "-1/60", "1.5/60", "100/min", "100/60s", " 100/60",
                     "١/٦", "1000001/1", "1/86401", "9" * 5000 + "/1", "100/60/60"):  # fmt: skip
            self.assertIn(repr(text), str(self.assertRaises(ValueError, read_rate, text)))


class ClientRatesTests(SynchronousTestCase):
    """A rate for each client."""

    def setUp(self) -> None:
        self.rates = ClientRates(Rate(3, 30))

    def take(self, client: str, *times: float) -> list[bool]:
        """Whether a client may, at each of these times after the start."""
        return [self.rates.take(client, START + seconds) for seconds in times]

    def test_burst(self) -> None:
        """All at once, and then each time that one has come back; what is refused costs nothing."""
        self.assertEqual(self.take("a", 0, 0, 0, 0, 1, 9), [True, True, True, False, False, False])
        self.assertEqual(self.take("a", 10, 10, 19, 20), [True, False, False, True])

    def test_evenly(self) -> None:
        """One that keeps to the pace is never refused."""
        self.assertEqual(self.take("a", *(10.0 * n for n in range(1000))), [True] * 1000)

    def test_all_is_back(self) -> None:
        """After a pause there is the whole quota again, and no more than that."""
        self.take("a", 0, 0, 0)
        self.assertEqual(self.take("a", 500, 500, 500, 500), [True, True, True, False])

    def test_each_for_itself(self) -> None:
        """One client's burst takes nothing from another."""
        self.take("a", 0, 0, 0, 0)
        self.assertEqual(self.take("b", 0, 0, 0, 0), [True, True, True, False])

    def test_quota(self) -> None:
        """It tells how many are left, and when there is one more."""
        for now, quota in ((0, Quota(3, 0.0)), (0, Quota(2, 10.0)), (4, Quota(1, 6.0)), (4, Quota(0, 6.0))):
            told = self.rates.quota("a", START + now)
            self.assertEqual((told.left, round(told.more_after, 6)), (quota.left, quota.more_after))
            self.rates.take("a", START + now)
        self.assertEqual(self.rates.quota("a", START + 100), Quota(3, 0.0))
        self.assertEqual(self.rates.quota("b", START + 4), Quota(3, 0.0))

    def test_waiting_as_told(self) -> None:
        """Whoever waits as long as it is told may, at any rate."""
        for times, seconds in ((100, 60), (7, 60), (1, 86_400), (3, 1), (1000, 3), (1_000_000, 1)):
            rates = ClientRates(Rate(times, seconds))
            now = START
            for _ in range(min(times, 2000)):
                self.assertTrue(rates.take("a", now))
            for _ in range(100):
                quota = rates.quota("a", now)
                now += 0.0 if quota.left else quota.more_after
                self.assertTrue(rates.take("a", now), (times, seconds))

    def test_memory(self) -> None:
        """Clients whose quota is whole are forgotten as others come."""
        for number in range(1000):
            self.take(f"early {number}", 0)
        self.assertEqual(self.rates.clients, 1000)
        for number in range(1000):
            self.take(f"late {number}", 60 + number)
        self.assertLessEqual(self.rates.clients, 12)

    def test_most_clients(self) -> None:
        """Past a number of clients the one that was here longest ago is forgotten, and has its quota again."""
        self.patch(module, "MAX_CLIENTS", 10)
        self.take("a", 0, 0, 0)
        for number in range(9):
            self.take(f"b{number}", 1)
        self.assertEqual(self.take("a", 2), [False])
        self.take("c", 2)
        self.assertEqual(self.rates.clients, 10)
        self.assertEqual(self.take("a", 2, 2, 2, 2), [True, True, True, False])

    @checked
    @given(
        st.integers(1, 20),
        st.integers(1, 100),
        st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 30)), max_size=60),
    )
    def test_never_more(self, times: int, seconds: int, steps: list[tuple[str, float]]) -> None:
        """In any stretch of time a client may as often as the burst and the pace allow, and is refused no earlier."""
        rates = ClientRates(Rate(times, seconds))
        now, allowed = START, {"a": [], "b": []}  # type: ignore[var-annotated]
        for client, pause in steps:
            now += pause
            left = rates.quota(client, now).left
            took = rates.take(client, now)
            self.assertEqual(took, left > 0)
            if took:
                allowed[client].append(now)
        for moments in allowed.values():
            for first, start in enumerate(moments):
                for last in range(first, len(moments)):
                    most = times + (moments[last] - start) * times / seconds
                    self.assertLessEqual(last - first + 1, most + 0.01)

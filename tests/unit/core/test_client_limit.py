"""Counting what each client has (docs/battery.md, A7)."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from merlind.core.client_limit import ClientLimit
from tests.unit.web.support import checked


class ClientLimitTests(SynchronousTestCase):
    """A limit for each client."""

    def test_each_for_itself(self) -> None:
        """A client may have as many as the limit says; others may too, and it again when one is gone."""
        limit = ClientLimit(2)
        self.assertEqual([limit.enter("a") for _ in range(3)], [True, True, False])
        self.assertEqual((limit.full("a"), limit.full("b"), limit.enter("b")), (True, False, True))
        limit.leave("a")
        self.assertEqual([limit.enter("a") for _ in range(2)], [True, False])

    def test_past_the_limit(self) -> None:
        """What is there in any case is counted past the limit too, and has to go before there is room."""
        limit = ClientLimit(1)
        limit.add("a")
        limit.add("a")
        limit.leave("a")
        self.assertFalse(limit.enter("a"))
        limit.leave("a")
        self.assertTrue(limit.enter("a"))

    def test_no_limit(self) -> None:
        """0 sets no limit, and then nothing is kept."""
        limit = ClientLimit(0)
        self.assertTrue(all(limit.enter("a") for _ in range(1000)))
        self.assertEqual((limit.full("a"), limit.clients), (False, 0))
        limit.leave("a")

    def test_leaving_too_often(self) -> None:
        """Whoever has none can't have one less."""
        limit = ClientLimit(1)
        self.assertRaises(KeyError, limit.leave, "a")
        self.assertEqual(limit.clients, 0)

    @checked
    @given(st.integers(1, 3), st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=40))
    def test_counts(self, most: int, steps: list[tuple[str, bool]]) -> None:
        """It counts as a dictionary would, and keeps only clients that have any."""
        limit = ClientLimit(most)
        has = dict.fromkeys("abc", 0)
        for client, more in steps:
            if more:
                self.assertEqual(limit.enter(client), has[client] < most)
                has[client] = min(most, has[client] + 1)
            elif has[client]:
                limit.leave(client)
                has[client] -= 1
            self.assertEqual(limit.clients, sum(count > 0 for count in has.values()))

"""Which requests fail, and how."""

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from merlind.merlinface.faults import Fault, draw_fault


class FaultTests(SynchronousTestCase):
    """Drawing a request's fault."""

    def test_rate_0(self) -> None:
        """With a rate of 0 no request fails."""
        self.assertEqual({draw_fault(Random(1), 0) for _ in range(100)}, {None})

    def test_rate_is_the_share(self) -> None:
        """The rate is the share that fails, and each kind of fault occurs."""
        random = Random(1)
        drawn = [draw_fault(random, 0.25) for _ in range(4000)]
        self.assertApproximates(sum(one is not None for one in drawn) / len(drawn), 0.25, 0.03)
        self.assertEqual(set(drawn), {None, *Fault})

    def test_rate_1(self) -> None:
        """With a rate of 1 every request fails."""
        random = Random(1)
        self.assertNotIn(None, [draw_fault(random, 1) for _ in range(1000)])

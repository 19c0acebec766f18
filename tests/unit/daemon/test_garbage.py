"""Garbage that refers to itself is collected by time."""

import gc
import weakref

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from merlind.daemon.garbage import INTERVAL, collect_by_time


class Node:
    """Something that may refer to itself."""

    me: "Node | None" = None


class CollectTests(SynchronousTestCase):
    """When it is collected."""

    def setUp(self) -> None:
        self.clock = Clock()

    def test_interval(self) -> None:
        """It is collected again and again, and not at the start."""
        times: list[float] = []
        collect_by_time(self.clock, lambda: times.append(self.clock.seconds()))
        self.assertEqual(times, [])
        self.clock.pump([INTERVAL] * 3)
        self.assertEqual(times, [INTERVAL, 2 * INTERVAL, 3 * INTERVAL])

    def test_long_collection(self) -> None:
        """The reactor has the whole interval to itself, however long one takes."""
        times: list[float] = []

        def collect() -> None:
            times.append(self.clock.seconds())
            self.clock.rightNow += 5.0

        collect_by_time(self.clock, collect)
        self.clock.advance(INTERVAL)
        self.clock.advance(INTERVAL - 0.1)
        self.assertEqual(len(times), 1)
        self.clock.advance(0.2)
        self.assertEqual(len(times), 2)

    def test_old_garbage(self) -> None:
        """What refers to itself is gone after it, even if the collector took it for old."""
        node = Node()
        node.me = node
        gc.collect()
        seen = weakref.ref(node)
        del node
        collect_by_time(self.clock)
        self.assertIsNotNone(seen())
        self.clock.advance(INTERVAL)
        self.assertIsNone(seen())

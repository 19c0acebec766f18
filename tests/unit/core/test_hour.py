"""The last hour, minute by minute."""

import random

from twisted.trial.unittest import SynchronousTestCase

from merlind.core.hour import LONGEST, MINUTE, MINUTES, SHORTEST, Durations, LastHour, Minute, sum_up


def durations(*seconds: float) -> Durations:
    """Durations that are counted."""
    counted = Durations()
    for each in seconds:
        counted.add(each)
    return counted


class DurationsTests(SynchronousTestCase):
    """Percentiles of many durations, in little memory."""

    def test_within_five_percent(self) -> None:
        """A percentile is within 5 % of the true one, whatever the durations."""
        rng = random.Random(5)
        seconds = sorted(10 ** rng.uniform(-2.9, 5.9) for _ in range(999))
        counted = durations(*seconds)
        for share, rank in ((0.001, 0), (0.5, 499), (0.95, 949), (1.0, 998)):
            found = counted.percentile(share)
            assert found is not None
            self.assertLess(abs(found / seconds[rank] - 1), 0.05, share)

    def test_one(self) -> None:
        """Of a single duration, all percentiles are that one."""
        for seconds in (0.001, 0.0011, 0.05, 1.0, 1.1, 3600.0):
            found = durations(seconds).percentile(0.5)
            assert found is not None
            self.assertLess(abs(found / seconds - 1), 0.05, seconds)
            self.assertEqual(found, durations(seconds).percentile(0.95))

    def test_none(self) -> None:
        """Without durations there is no percentile."""
        self.assertIsNone(Durations().percentile(0.5))

    def test_bounds(self) -> None:
        """What is too short or too long counts as the shortest or the longest; so does what a wrong clock makes."""
        for seconds, found in ((0.0, SHORTEST), (-5.0, SHORTEST), (1e12, LONGEST), (float("inf"), LONGEST)):
            percentile = durations(seconds).percentile(0.5)
            assert percentile is not None
            self.assertLess(abs(percentile / found - 1), 0.05, seconds)

    def test_include(self) -> None:
        """Those of several minutes make those of all."""
        whole = durations(1.0, 1.0, 1.0)
        whole.include(durations(100.0))
        self.assertEqual(whole.count, 4)
        self.assertEqual(whole.percentile(0.75), durations(1.0).percentile(0.5))
        self.assertEqual(whole.percentile(0.76), durations(100.0).percentile(0.5))


class LastHourTests(SynchronousTestCase):
    """Minutes."""

    def setUp(self) -> None:
        self.hour = LastHour()

    def figures(self, now: float) -> list[tuple[float, int, int, int, int]]:
        return [
            (began, each.scored, each.failed, each.requests.count, each.unfinished)
            for began, each in self.hour.minutes(now)
        ]

    def test_a_minute(self) -> None:
        """What happens within a minute is counted together; each minute has the time at which it began."""
        self.hour.scored(130.0, 5.0)
        self.hour.scored(179.9, 7.0)
        self.hour.failed(180.0)
        self.hour.requested(181.0, 0.5)
        self.assertEqual(self.figures(200.0), [(120.0, 2, 0, 0, 0), (180.0, 0, 1, 1, 0)])
        (_, first), _ = self.hour.minutes(200.0)
        self.assertEqual(first.waits.count, 2)

    def test_nothing_changes_by_itself(self) -> None:
        """In minutes in which nothing happens, as many tasks are unfinished as at the end of the one before."""
        self.hour.set_unfinished(0.0, 5)
        self.hour.set_unfinished(30.0, 7)
        self.hour.set_unfinished(185.0, 2)
        unfinished = [unfinished for *_, unfinished in self.figures(245.0)]
        self.assertEqual(unfinished, [7, 7, 7, 2, 2])

    def test_an_hour(self) -> None:
        """Of more than an hour, the last one is kept."""
        for number in range(100):
            self.hour.failed(number * MINUTE)
        found = self.figures(99 * MINUTE)
        self.assertEqual((len(found), found[0][0]), (MINUTES, 40 * MINUTE))

    def test_long_silence(self) -> None:
        """After days without anything there is an hour of nothing, and no more than that."""
        self.hour.set_unfinished(0.0, 3)
        self.hour.scored(0.0, 1.0)
        found = self.figures(1e6)
        self.assertEqual((len(found), {row[1:] for row in found}), (MINUTES, {(0, 0, 0, 3)}))
        self.assertEqual(found[-1][0], 1e6 // MINUTE * MINUTE)

    def test_nothing_yet(self) -> None:
        """Right after the start there is the one minute that it is."""
        self.assertEqual(self.figures(65.0), [(60.0, 0, 0, 0, 0)])

    def test_sum(self) -> None:
        """All minutes as one: what happened in any, and what is unfinished now."""
        self.hour.scored(0.0, 5.0)
        self.hour.failed(60.0)
        self.hour.requested(60.0, 2.0)
        self.hour.requested(120.0, 2.0)
        self.hour.set_unfinished(130.0, 4)
        whole = sum_up(minute for _, minute in self.hour.minutes(150.0))
        self.assertEqual((whole.scored, whole.failed, whole.unfinished), (1, 1, 4))
        self.assertEqual((whole.requests.count, whole.waits.count), (2, 1))
        self.assertEqual(sum_up([]).scored, Minute().scored)

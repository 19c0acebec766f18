"""The charts and the table of the last hour."""

from twisted.trial.unittest import SynchronousTestCase

from merlind.admin.page.hour import bars, hour_section, nice_top, steps
from merlind.core.hour import MINUTES, LastHour
from tests.unit.admin.page.support import Html


class PathTests(SynchronousTestCase):
    """What is drawn."""

    def test_scale(self) -> None:
        """A scale ends with a round number that nothing exceeds."""
        for highest, top in (
            (0.0, 1), (0.003, 0.005), (0.1, 0.1), (0.7, 1), (1, 1), (1.1, 2), (4, 5), (5, 5), (6, 10), (99, 100),
            (101, 200), (12345, 20000),
        ):  # fmt: skip
            self.assertAlmostEqual(nice_top(highest), top)

    def test_bars(self) -> None:
        """Each minute with a value has a bar as high as that, the newest at the right; 0 has none."""
        self.assertEqual(bars([1], 1000), "M59.1 100v-3.0h.8v3.0z", "one among many is seen")
        self.assertEqual(bars([5, 0, None, 10], 10), "M56.1 100v-50.0h.8v50.0zM59.1 100v-100.0h.8v100.0z")

    def test_steps(self) -> None:
        """Neighbours are joined; a minute without a value is a gap."""
        self.assertEqual(steps([5, 10, None, 0], 10), "M56 50.0H57V0.0H58M59 100.0H60")
        self.assertEqual(steps([], 1), "")


class SectionTests(SynchronousTestCase):
    """The part of the page."""

    def setUp(self) -> None:
        self.hour = LastHour()

    def section(self, now: float) -> Html:
        return Html.of(hour_section([(1_800_000_000.0 + began, each) for began, each in self.hour.minutes(now)]))

    def test_words_and_table(self) -> None:
        """Each chart says in words what it shows, and the table has every minute, the newest first."""
        self.hour.set_unfinished(0.0, 4)
        self.hour.scored(0.0, 2.0)
        self.hour.failed(0.0)
        self.hour.requested(65.0, 0.3)
        section = self.section(130.0)
        labels = [svg.attrib["aria-label"] for svg in section.all("svg")]
        self.assertEqual(
            labels,
            [
                "Outcomes a minute in the last hour: 1 scored, 1 failed",
                "Requests to the upstream in the last hour: 1 request: p50 290 ms, p95 290 ms",
                "From 202 to score in the last hour: 1 score: p50 2.0 s, p95 2.0 s",
                "Unfinished tasks in the last hour: 4 now",
            ],
        )
        self.assertEqual([svg.attrib["role"] for svg in section.all("svg")], ["img"] * 4)
        rows = section.texts("tbody/tr")
        self.assertEqual(
            rows,
            [
                "08:02 – – – – – – – 4",
                "08:01 – – 1 290 ms 290 ms – – 4",
                "08:00 1 1 – – – 2.0 s 2.0 s 4",
            ],
        )

    def test_nothing_yet(self) -> None:
        """Right after the start it is there as well, with nothing in it."""
        section = self.section(0.0)
        self.assertIn("0 scored, 0 failed", section.text)
        self.assertEqual(len(section.all("tbody/tr")), 1)

    def test_whole_hour(self) -> None:
        """After an hour and more, each minute has its place."""
        for number in range(90):
            self.hour.scored(number * 60.0, 1.0)
        section = self.section(89 * 60.0)
        self.assertEqual(len(section.all("tbody/tr")), MINUTES)
        path = section.all("svg/path")[0].attrib["d"]
        self.assertEqual((path.count("M"), path[:4]), (MINUTES, "M0.1"))

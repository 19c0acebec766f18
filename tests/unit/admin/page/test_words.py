"""Times, durations and sizes as people read them."""

from twisted.trial.unittest import SynchronousTestCase

from merlind.admin.page.words import counted, duration, minute, moment, number, optional_duration, size


class WordsTests(SynchronousTestCase):
    """How the page writes values."""

    def test_durations(self) -> None:
        """In the two largest units; below ten seconds with two digits."""
        for seconds, text in (
            (0.0, "0 ms"),
            (0.0012, "1.2 ms"),
            (0.034, "34 ms"),
            (0.9994, "999 ms"),
            (0.9996, "1.0 s"),
            (9.94, "9.9 s"),
            (9.96, "10 s"),
            (59.4, "59 s"),
            (59.6, "1 min"),
            (61.0, "1 min 1 s"),
            (3600.0, "1 h"),
            (3605.0, "1 h"),
            (3660.0, "1 h 1 min"),
            (90_000.0, "1 d 1 h"),
            (86_400.0 * 400, "400 d"),
        ):
            self.assertEqual(duration(seconds), text, seconds)
        self.assertEqual(optional_duration(None), "–")

    def test_sizes(self) -> None:
        """In the unit in which they have up to three digits."""
        for count, text in (
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 KB"),
            (10 * 1024, "10 KB"),
            (1024**2 * 3 // 2, "1.5 MB"),
            (63 * 1024**3, "63 GB"),
            (5000 * 1024**4, "5000 TB"),
        ):
            self.assertEqual(size(count), text, count)

    def test_numbers(self) -> None:
        """With a comma at each thousand, and the word for one or several."""
        self.assertEqual(number(1234567), "1,234,567")
        self.assertEqual([counted(count, "task", "tasks") for count in (0, 1, 2)], ["0 tasks", "1 task", "2 tasks"])

    def test_times(self) -> None:
        """In UTC, whatever the machine's own zone."""
        self.assertEqual((moment(1_800_000_000.9), minute(1_800_000_000.0)), ("2027-01-15 08:00:00", "08:00"))

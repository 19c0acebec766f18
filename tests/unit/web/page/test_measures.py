"""Durations, sizes and scores as people write them."""

from twisted.trial.unittest import SynchronousTestCase

from merlind.web.page.measures import duration, score, size
from merlind.web.page.texts import read_texts

EN, RU = read_texts("en"), read_texts("ru")


class MeasureTests(SynchronousTestCase):
    """In both languages."""

    def test_duration(self) -> None:
        """The largest unit of which there are two, and never less than the whole time."""
        for seconds, english, russian in (
            (2592000, "30 days", "30 дней"),
            (86400, "24 hours", "24 часа"),
            (86401, "25 hours", "25 часов"),
            (2 * 86400, "2 days", "2 дня"),
            (21 * 86400, "21 days", "21 день"),
            (20.5 * 86400, "21 days", "21 день"),
            (11 * 86400, "11 days", "11 дней"),
            (3600, "60 minutes", "60 минут"),
            (7200, "2 hours", "2 часа"),
            (21 * 3600, "21 hours", "21 час"),
            (121 * 60, "3 hours", "3 часа"),
            (61 * 60, "61 minutes", "61 минуту"),
            (120, "2 minutes", "2 минуты"),
            (119, "119 seconds", "119 секунд"),
            (1, "1 second", "1 секунду"),
            (0.25, "1 second", "1 секунду"),
            (0, "0 seconds", "0 секунд"),
        ):
            self.assertEqual((duration(EN, seconds), duration(RU, seconds)), (english, russian))

    def test_size(self) -> None:
        """Megabytes with one digit behind the point if it says something, and never more than there is."""
        mb = 1024 * 1024
        for count, english, russian in (
            (10485760, "10 MB", "10 МБ"),
            (int(20.57 * mb), "20.5 MB", "20,5 МБ"),
            (mb, "1 MB", "1 МБ"),
            (2 * mb - 1, "1.9 MB", "1,9 МБ"),
            (mb - 1, "1023 KB", "1023 КБ"),
            (1024, "1 KB", "1 КБ"),
            (1023, "1023 bytes", "1023 байта"),
            (1, "1 byte", "1 байт"),
        ):
            self.assertEqual((size(EN, count), size(RU, count)), (english, russian))

    def test_score(self) -> None:
        """Two digits between 0 and 1, and all of them elsewhere."""
        for result, english, russian in (
            (0.8349, "0.83", "0,83"),
            (0, "0.00", "0,00"),
            (1.0, "1.00", "1,00"),
            (-1, "-1", "-1"),
            (42.123, "42.123", "42,123"),
        ):
            self.assertEqual((score(EN, result), score(RU, result)), (english, russian))

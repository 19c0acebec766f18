"""National statistics beside the table that comes with merlind."""

import json
import lzma
import struct
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from merlind.merlinface.scorer.guess import SLOTS, Guess
from merlind.merlinface.scorer.packed import PackedTable
from tests.unit.merlinface.scorer import national_files as files

if not files.MISSING:
    from merlind.merlinface.scorer.names import Names
    from merlind.merlinface.scorer.national import read


class NationalNamesTests(SynchronousTestCase):
    """A table with Anna and Camille, and INSEE's."""

    skip = files.MISSING

    def setUp(self) -> None:
        head = json.dumps({"population": [[1000] * 25] * 2})
        packed = PackedTable(lzma.compress(f"{head}\nanna\t250\t9\t\ncamille\t0\t31\t".encode()))
        guess = Guess(lzma.compress(struct.pack("<dd", 0.1, 0.0) + bytes(SLOTS)))
        path = Path(self.mktemp())
        path.write_text(files.INSEE_OLD, "utf-8")
        self.ours = Names(packed, guess)
        self.both = Names(packed, guess, [read(path)])

    def test_a_name_that_only_they_know(self) -> None:
        """It is known then, with its years."""
        self.assertFalse(self.ours.find("Zoé").known)

        found = self.both.find("Zoé")

        self.assertTrue(found.known)
        self.assertGreater(found.female_share, 0.99)
        assert found.births is not None
        self.assertAlmostEqual(found.births.total(), 4000 * 0.5**0.4)  # the file ends in 2020, ours in 2024

    def test_a_name_that_both_know(self) -> None:
        """Both count, and the population stays ours: births are as if into it."""
        self.assertLess(self.ours.find("Camille").female_share, 0.01)

        found = self.both.find("Camille")

        self.assertTrue(0.2 < found.female_share < 0.4)
        self.assertEqual(found.population, self.ours.find("Camille").population)

    def test_a_name_that_they_do_not_know(self) -> None:
        """It stays as it is."""
        self.assertEqual(self.both.find("Anna"), self.ours.find("Anna"))

    def test_count(self) -> None:
        """A name that both know is one name."""
        self.assertEqual((self.ours.count(), self.both.count()), (2, 4))

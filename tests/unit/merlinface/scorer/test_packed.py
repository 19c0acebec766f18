"""The table of names, as it is stored."""

from twisted.trial.unittest import SynchronousTestCase

from merlind.merlinface.scorer.packed import NameRow, PackedTable
from merlind.merlinface.scorer.statistics import PERIODS, Births
from tests.unit.merlinface.scorer.support import FLAT, in_period, pack_names


class PackedTableTests(SynchronousTestCase):
    """Look-ups."""

    def test_every_name_is_found(self) -> None:
        """Whatever its place: the first and the last, and those whose key begins like another's."""
        for size in range(1, 40):
            keys = [f"a{'b' * (number % 5)}{number}" for number in range(size)] + ["анна", "花子"]
            table = PackedTable(pack_names({key: (number % 251 / 250, 5) for number, key in enumerate(keys)}))

            self.assertEqual(table.count, len(keys))
            for number, key in enumerate(keys):
                row = table.find(key)
                assert row is not None
                self.assertAlmostEqual(row.female_share, number % 251 / 250)

    def test_other_names_are_not_found(self) -> None:
        """Before the first, after the last, between two, and parts of others."""
        table = PackedTable(pack_names({"anna": (1.0, 9), "annabel": (1.0, 5), "otto": (0.0, 9)}))

        for key in ("", "a", "ann", "annab", "annabella", "b", "ottos", "zoe", "анна", "aaa"):
            self.assertIsNone(table.find(key))

    def test_evidence_is_a_power_of_two(self) -> None:
        """It stands for 2 ** power - 1 people."""
        self.assertEqual(PackedTable(pack_names({"kim": (0.8, 4)})).find("kim"), NameRow(0.8, 15.0, None))

    def test_birth_years_are_split_by_gender(self) -> None:
        """A name's people are spread over its periods, women and men alike."""
        table = PackedTable(pack_names({"kim": (0.8, 10, in_period(12))}))

        row = table.find("kim")

        assert row is not None and row.births is not None
        self.assertAlmostEqual(row.births.female[12], 0.8 * 1023)
        self.assertAlmostEqual(row.births.male[12], 0.2 * 1023)
        self.assertEqual(sum(1 for n in row.births.female if n), 1)

    def test_the_population_comes_with_it(self) -> None:
        """Births of everybody stand in the table's head."""
        population = Births((1.0,) * PERIODS, (2.0,) * PERIODS)

        self.assertEqual(PackedTable(pack_names({"a": (0.5, 1)}, population)).population, population)
        self.assertEqual(PackedTable(pack_names({"a": (0.5, 1)})).population, FLAT)

"""What several tables say of one name together."""

from itertools import permutations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from merlind.merlinface.scorer.births import NameBirths, Table, Tally
from merlind.merlinface.scorer.merge import FEW, OLDER_BY, OUR_LAST_YEAR, merge
from merlind.merlinface.scorer.packed import NameRow
from merlind.merlinface.scorer.statistics import PERIODS, Births, period_of

ZEROS = (0.0,) * PERIODS
FLAT = Births((1000.0,) * PERIODS, (1000.0,) * PERIODS)
"""Our population: as many births in each period."""


def table(*rows: tuple[str, bool, int | None, int], others: int = 0, years: range = range(1900, 2025)) -> Table:
    """A country's table of these rows, in which as many others of each sex are born each year."""
    tally = Tally()
    for row in rows:
        tally.add(*row)
    for year in years if others else ():
        tally.add("others", True, year, others)
        tally.add("others", False, year, others)
    assert tally.first_year is not None and tally.last_year is not None
    return Table("made up", "a plain table", tally.by_name(), tally.total(), tally.first_year, tally.last_year)


def merged(ours: NameRow | None, *tables: Table, population: Births = FLAT) -> NameRow:
    row = merge("anna", ours, population, tables)
    assert row is not None
    return row


def spread(births: tuple[float, ...]) -> list[float]:
    return [round(n / sum(births), 6) for n in births]


def in_years(*years: int, births: float) -> tuple[float, ...]:
    periods = [period_of(year) for year in years]
    return tuple(births if period in periods else 0.0 for period in range(PERIODS))


class ShareTests(SynchronousTestCase):
    """Whose name it is."""

    def test_unknown_everywhere(self) -> None:
        """A name that no table has stays unknown, and one that ours alone has stays as it is."""
        ours = NameRow(0.9, 50, None)
        self.assertIsNone(merge("anna", None, FLAT, [table(("emma", True, 2000, 5))]))
        self.assertIs(merge("anna", ours, FLAT, [table(("emma", True, 2000, 5))]), ours)
        self.assertIs(merge("anna", ours, FLAT, []), ours)

    def test_only_theirs(self) -> None:
        """A name that only the national table has is as there; births of no known year count for the sex."""
        row = merged(None, table(("anna", True, 2024, 60), ("anna", False, None, 20)))
        self.assertEqual((row.female_share, row.people), (0.75, 80))

    def test_larger_counts_more(self) -> None:
        """Weights grow with births, but a country with a hundred times as many doesn't outvote a well-known name."""
        ours = NameRow(1.0, FEW, None)
        few, as_many, many = (
            merged(ours, table(("anna", False, OUR_LAST_YEAR, births))).female_share for births in (10, 1000, 100_000)
        )
        self.assertAlmostEqual(few, 0.5 / (0.5 + 10 / 1010))
        self.assertAlmostEqual(as_many, 0.5)
        self.assertAlmostEqual(many, 0.5 / (0.5 + 100_000 / 101_000))
        huge = NameRow(1.0, 10_000_000, None)
        self.assertGreater(merged(huge, table(("anna", False, OUR_LAST_YEAR, 100_000))).female_share, 0.5)
        self.assertLess(merged(huge, table(("anna", False, OUR_LAST_YEAR, 100_000))).female_share, 0.51)

    def test_newer_counts_more(self) -> None:
        """A table that ends OLDER_BY years before ours counts half, as do its people; so does ours beside a newer."""
        ours = NameRow(1.0, 1000, None)
        old = merged(ours, table(("anna", False, OUR_LAST_YEAR - int(OLDER_BY), 1000)))
        new = merged(ours, table(("anna", False, OUR_LAST_YEAR + int(OLDER_BY), 1000)))
        self.assertAlmostEqual(old.female_share, 2 / 3)
        self.assertAlmostEqual(old.people, 1500)
        self.assertAlmostEqual(new.female_share, 1 / 3)
        self.assertAlmostEqual(new.people, 1500)

    @settings(max_examples=100, deadline=None, derandomize=True, database=None)
    @given(st.lists(st.tuples(st.booleans(), st.integers(1850, 2100), st.integers(1, 10**9)), min_size=1, max_size=3))
    def test_any_tables(self, rows: list[tuple[bool, int, int]]) -> None:
        """Shares stay shares, no births are negative, and the order of tables makes no difference."""
        ours = NameRow(0.3, 400, Births(in_years(1950, births=120), in_years(1950, 2000, births=140)))
        tables = [table(("anna", *row), others=7) for row in rows]
        results = [merged(ours, *order) for order in permutations(tables)]
        for row in results:
            assert row.births is not None
            self.assertTrue(0 <= row.female_share <= 1)
            self.assertTrue(all(n >= 0 for n in row.births.female + row.births.male))
            self.assertAlmostEqual(row.female_share, results[0].female_share)
            assert results[0].births is not None
            self.assertAlmostEqual(row.births.total() / results[0].births.total(), 1)


class BirthYearTests(SynchronousTestCase):
    """When those who have the name were born."""

    def test_births_as_into_our_population(self) -> None:
        """A country's baby boom is no fashion of a name: what counts is a name's share of the births of a period."""
        rows = [
            ("anna", True, 1950, 300),
            ("anna", True, 2000, 100),
            ("emma", True, 1950, 2700),
            ("emma", True, 2000, 900),
        ]
        row = merged(None, table(*rows, others=0, years=range(0)))
        assert row.births is not None
        self.assertAlmostEqual(row.births.female[10], row.births.female[20])

    def test_years_that_a_table_does_not_cover(self) -> None:
        """Before a table begins nothing is known of a name, so that its births are as the population's there."""
        row = merged(None, table(("anna", True, 2000, 290), others=100, years=range(1996, 2025)))
        assert row.births is not None
        before = row.births.female[: period_of(1995)]
        self.assertEqual(len(set(map(round, before))), 1)
        self.assertAlmostEqual(sum(before) / sum(row.births.female), 19 / 25)
        self.assertEqual(row.births.female[21], 0)

    def test_ours_tells_what_theirs_does_not_cover(self) -> None:
        """A name of the old in ours stays one of the old beside a table that begins in 1996."""
        ours = NameRow(1.0, 100_000, Births(in_years(1930, 1935, births=50_000), ZEROS))
        row = merged(ours, table(("anna", True, 2000, 20), others=1000, years=range(1996, 2025)))
        assert row.births is not None
        old = sum(row.births.female[:10]) / sum(row.births.female)
        self.assertGreater(old, 0.95)

    def test_mean_of_both(self) -> None:
        """Where both know the years, their spreads are averaged by weight."""
        ours = NameRow(1.0, 1_000_000, Births(in_years(1950, births=1_000_000), ZEROS))
        theirs = table(("anna", True, 2000, 1_000_000), others=1)
        row = merged(ours, theirs)
        assert row.births is not None
        self.assertAlmostEqual(row.births.female[10] / row.births.female[20], 1.0, places=2)
        self.assertAlmostEqual(row.births.total() / row.people, 1)

    def test_years_unknown(self) -> None:
        """Without births of a known year anywhere, the years stay open; where one knows them, they are its own."""
        undated = Table("made up", "INSEE", {"anna": NameBirths(Births(ZEROS, ZEROS), 25, 0)}, FLAT, 1900, 2024)
        self.assertIsNone(merged(NameRow(0.9, 50, None), undated).births)
        known = Births(in_years(1950, births=50), ZEROS)
        row = merged(NameRow(1.0, 50, known), undated)
        assert row.births is not None
        self.assertEqual(spread(row.births.female), spread(known.female))
        self.assertEqual((row.people, row.births.total()), (75, 50))

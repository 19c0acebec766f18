"""The worked example of docs/scorer.md: its numbers are what the formula and the tables that are shipped make of it."""

from functools import cache
from importlib.resources import files
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from merlind.merlinface.scorer import formula
from merlind.merlinface.scorer.births import NameBirths, Table
from merlind.merlinface.scorer.judgement import Judgement
from merlind.merlinface.scorer.packed import NameRow
from merlind.merlinface.scorer.statistics import PERIODS, Births
from tests.unit.merlinface.scorer.support import MISSING

if not MISSING:
    from merlind.merlinface.scorer.judge import Judge
    from merlind.merlinface.scorer.merge import merge
    from merlind.merlinface.scorer.names import Names

PORTRAITS = Path(__file__).parents[3] / "portraits"
PAGE = Path(__file__).parents[4] / "docs" / "scorer.md"
DATA = files("merlind.merlinface.scorer") / "data" / "names.bin"
YEAR = 2026
FACE = Judgement(female=0.987, age=36.5)


@cache
def shipped_names() -> "Names":
    """Load the tables once for all tests."""
    return Names.load()


class WorkedExampleTests(SynchronousTestCase):
    """The page."""

    skip = MISSING or (None if DATA.is_file() else "the table of names isn't here")

    def line(self, start: str) -> str:
        """The line of the page that begins so."""
        (line,) = (line for line in PAGE.read_text("utf-8").splitlines() if line.startswith(start))
        return line

    def test_the_face(self) -> None:
        """It is what the portrait is judged to be; other processors may differ in the last digits."""
        judged = Judge().look((PORTRAITS / "astronaut.jpg").read_bytes())
        self.assertApproximates(judged.female, FACE.female, 0.002)
        self.assertApproximates(judged.age, FACE.age, 0.2)
        self.assertIn(f"{FACE.female} a woman's, {FACE.age} years", PAGE.read_text("utf-8"))

    def test_scores(self) -> None:
        """Each name's likelihood ratio and score."""
        for name, start in (
            ("Jennifer", "LR = (0.3"),
            ("Eileen", "| Eileen"),
            ("Анна", "| Анна"),
            ("James", "| James"),
        ):
            ratio = formula.likelihood_ratio(FACE, shipped_names().find(name), YEAR)
            self.assertIn(f"{ratio:.3f}", self.line(start))
            self.assertIn(f"{ratio / (1 + ratio):.3f}", self.line(start))

    def test_birth_years(self) -> None:
        """Jennifer's, everybody's, and how the age fits them."""
        found = shipped_names().find("Jennifer")
        assert found.births is not None
        given = [sum(pair) / found.births.total() for pair in zip(found.births.female, found.births.male, strict=True)]
        everybody = [n / sum(found.population.female) for n in found.population.female]
        self.assertEqual(len(given), PERIODS)
        for period in range(13, 20):
            first = 1900 + 5 * period
            shares = f"| {100 * given[period]:.1f} % | {100 * everybody[period]:.1f} % |"
            self.assertIn(shares, self.line(f"| {first}–"))

    def test_tables_together(self) -> None:
        """Camille in two tables."""
        nothing = Births((0.0,) * PERIODS, (0.0,) * PERIODS)
        theirs = Table("", "", {"camille": NameBirths(nothing, 105_000, 45_000)}, nothing, 1900, 2025)
        row = merge("camille", NameRow(0.89, 500_000, None), nothing, [theirs])
        assert row is not None
        self.assertIn(f"÷ 1.924 = {row.female_share:.3f}", PAGE.read_text("utf-8"))

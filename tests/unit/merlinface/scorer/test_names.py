"""What is known of a name."""

from functools import cache
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from merlind.merlinface.scorer.guess import Guess
from merlind.merlinface.scorer.judgement import Refused
from merlind.merlinface.scorer.packed import PackedTable
from merlind.merlinface.scorer.short_forms import FULL_NAMES
from merlind.merlinface.scorer.statistics import PERIODS
from tests.unit.merlinface.scorer.support import FLAT, MISSING, checked, in_period, pack_guess, pack_names

if not MISSING:
    from merlind.merlinface.scorer.keys import key_of
    from merlind.merlinface.scorer.names import Names


def names(rows: dict[str, Any]) -> "Names":
    return Names(PackedTable(pack_names(rows)), Guess(pack_guess({})))


class NamesTests(SynchronousTestCase):
    """Look-ups in a table that the test makes up."""

    skip = MISSING

    def test_a_known_name(self) -> None:
        """Its share of women is a little less sure than the table says: one more woman and one more man are added."""
        found = names({"anna": (1.0, 3)}).find(" Ánna ")

        self.assertTrue(found.known)
        self.assertAlmostEqual(found.female_share, 8 / 9)
        self.assertIsNone(found.births)
        self.assertEqual(found.population, FLAT)

    def test_an_unknown_name_is_guessed(self) -> None:
        """It says so."""
        found = names({"anna": (1.0, 9)}).find("Xqzt")

        self.assertFalse(found.known)
        self.assertAlmostEqual(found.female_share, 0.5)

    def test_a_name_without_a_letter_is_refused(self) -> None:
        """There is nothing to look up or to guess from."""
        for name in ("", " ", "🙂", "7", "-"):
            refused = self.assertRaises(Refused, names({"anna": (1.0, 9)}).find, name)
            self.assertEqual(refused.reason, "the name has no letters")

    def test_the_first_known_part_of_a_name(self) -> None:
        """Of several names the whole counts, else the first part that is known; initials are skipped."""
        table = names({"anna": (1.0, 20), "otto": (0.0, 20), "ottoanna": (0.5, 20), "j": (1.0, 20)})

        for name, share in (("Anna-Otto", 1), ("Xqzt Otto", 0), ("Otto Anna", 0.5), ("J. Otto", 0), ("Otto 🙂", 0)):
            self.assertAlmostEqual(table.find(name).female_share, share, places=4)

    def test_a_name_known_by_its_transliteration(self) -> None:
        """It counts for 30 people at most, since it may be another name."""
        found = names({"nikos": (0.0, 20)}).find("Νίκος")

        self.assertTrue(found.known)
        self.assertAlmostEqual(found.female_share, 1 / 32)

    def test_short_forms_go_first(self) -> None:
        """A short form has the share of its full names, whatever the table says of it, and no birth years."""
        table = names({"дима": (1.0, 9, in_period(20)), "дмитрии": (0.0, 20, in_period(17)), "аня": (0.0, 20)})

        found = table.find("Дима")

        self.assertLess(found.female_share, 0.001)
        self.assertIsNone(found.births)

    def test_a_short_form_of_names_of_both_genders(self) -> None:
        """It is as much the one as the other."""
        table = names({"александр": (0.0, 20), "александра": (1.0, 10)})

        self.assertAlmostEqual(table.find("Саша").female_share, 0.5)

    def test_a_short_form_whose_full_name_is_unknown(self) -> None:
        """It is looked up as it is."""
        self.assertTrue(names({"дима": (0.0, 9)}).find("Дима").known)

    @checked
    @given(st.text(max_size=40))
    def test_any_text_is_found_or_refused(self, name: str) -> None:
        """Whatever it is, a share is a share."""
        try:
            found = names({"anna": (1.0, 9)}).find(name)
        except Refused:
            return
        self.assertTrue(0 <= found.female_share <= 1)


@cache
def shipped_names() -> "Names":
    """Load it once for all tests."""
    return Names.load()


class ShippedNamesTests(SynchronousTestCase):
    """The table that comes with merlind."""

    skip = MISSING

    def setUp(self) -> None:
        self.names = shipped_names()

    def test_names_of_many_scripts(self) -> None:
        """Well-known names come out as what they are."""
        women = ("Anna", "Mary", "Анна", "Наталья", "花子", "Zoë", "Marie-Claire", "Fatima", "Aoife")
        men = ("Robert", "Bob", "Дмитрий", "Otto", "太郎", "José", "Muhammad", "Jean-Pierre", "Сергей", "Николай")
        for name in women:
            found = self.names.find(name)
            self.assertTrue(found.known and found.female_share > 0.7, (name, found.female_share))
        for name in men:
            found = self.names.find(name)
            self.assertTrue(found.known and found.female_share < 0.3, (name, found.female_share))

    def test_short_forms(self) -> None:
        """All of them stand for names that are known, and are of those names' gender."""
        for form, full in FULL_NAMES.items():
            self.assertEqual(key_of(form), form)
            found = self.names.find(form)
            shares = [self.names.find(name).female_share for name in full]
            self.assertTrue(found.known and all(self.names.find(name).known for name in full), form)
            self.assertApproximates(found.female_share, sum(shares) / len(shares), 0.05, form)
        self.assertLess(self.names.find("Дима").female_share, 0.1)
        self.assertLess(self.names.find("Никита").female_share, 0.3)

    def test_birth_years(self) -> None:
        """A name's births lie where its fashion was."""
        for name, first, last in (("Mildred", 1905, 1935), ("Linda", 1940, 1965), ("Ashley", 1980, 2000)):
            births = self.names.find(name).births
            assert births is not None
            total = [women + men for women, men in zip(births.female, births.male, strict=True)]
            most = total.index(max(total))
            self.assertTrue(first <= 1900 + 5 * most <= last, name)
        self.assertEqual(PERIODS, len(self.names.find("Linda").population.female))

    def test_unknown_names(self) -> None:
        """Their letters are guessed from, within bounds."""
        for name, low, high in (("Zuvrellina", 0.5, 0.85), ("Brqzdork", 0.15, 0.5)):
            found = self.names.find(name)
            self.assertFalse(found.known)
            self.assertTrue(low <= found.female_share <= high, (name, found.female_share))

"""The guess from a name's letters."""

from twisted.trial.unittest import SynchronousTestCase

from merlind.merlinface.scorer.guess import HIGHEST, LOWEST, SLOTS, Guess, slots_of
from tests.unit.merlinface.scorer.support import pack_guess


class GuessTests(SynchronousTestCase):
    """Names that no table knows."""

    def test_endings_decide(self) -> None:
        """The weights of a name's parts add up."""
        ends_in_a = set(slots_of("xa")) & set(slots_of("ya")) - set(slots_of("xb"))
        guess = Guess(pack_guess({slot: 100 for slot in ends_in_a}))

        self.assertGreater(guess.female_share("zqa"), 0.8)
        self.assertAlmostEqual(guess.female_share("zqo"), 0.5)

    def test_it_stays_within_its_bounds(self) -> None:
        """A guess is never as sure as a table."""
        for weight, bound in ((127, HIGHEST), (-127, LOWEST)):
            guess = Guess(pack_guess(dict.fromkeys(range(SLOTS), weight), scale=1.0))

            self.assertAlmostEqual(guess.female_share("annabella"), bound)

    def test_very_long_names(self) -> None:
        """However long a name is, no number overflows."""
        for weight in (127, -127):
            guess = Guess(pack_guess(dict.fromkeys(range(SLOTS), weight), scale=10.0))

            self.assertTrue(LOWEST <= guess.female_share("abcdefghijklmnopqrstuvwxyz" * 8) <= HIGHEST)

    def test_one_letter_says_nothing(self) -> None:
        """An initial is no name."""
        guess = Guess(pack_guess({}, bias=3.0))

        self.assertEqual(guess.female_share("a"), 0.5)
        self.assertEqual(guess.female_share(""), 0.5)

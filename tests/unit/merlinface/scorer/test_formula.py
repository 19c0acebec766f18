"""The score from a judgement and a name's statistics (docs/scorer.md)."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from merlind.merlinface.scorer.formula import likelihood_ratio, score
from merlind.merlinface.scorer.judgement import Judgement
from merlind.merlinface.scorer.statistics import PERIODS, Births, NameStatistics, period_of
from tests.unit.merlinface.scorer.support import FLAT, checked, in_period

YEAR = 2024
WOMAN_OF_30 = Judgement(female=0.99, age=30.0)
MAN_OF_30 = Judgement(female=0.01, age=30.0)
counts = st.tuples(*[st.floats(0, 1e7)] * PERIODS)


def name(female_share: float, births: Births | None = None, population: Births = FLAT) -> NameStatistics:
    return NameStatistics(female_share, births, population, known=True)


def womens(period: int, births: float = 1e6) -> NameStatistics:
    """Make a name of women who were all born in one period."""
    return name(1.0, Births(in_period(period, births), in_period(period, 0)))


class FormulaTests(SynchronousTestCase):
    """The formula."""

    def test_a_name_that_says_nothing_scores_a_half(self) -> None:
        """A name of both genders without birth years is as probable for any face."""
        for female in (0.0, 0.3, 1.0):
            self.assertAlmostEqual(score(Judgement(female, 44.0), name(0.5), YEAR), 0.5)

    def test_a_face_that_says_nothing_scores_a_half(self) -> None:
        """A face that could be a woman's or a man's speaks neither for nor against a name without birth years."""
        for share in (0.0, 0.4, 1.0):
            self.assertAlmostEqual(score(Judgement(0.5, 30.0), name(share), YEAR), 0.5)

    def test_gender_alone(self) -> None:
        """Without birth years, the ratio is looks x share + (1 - looks) x (1 - share), over ½, with both floors."""
        looks, share = 0.003 + 0.994 * 0.99, 0.01 + 0.98 * 0.8
        expected = (looks * share + (1 - looks) * (1 - share)) / 0.5

        self.assertAlmostEqual(likelihood_ratio(WOMAN_OF_30, name(0.8), YEAR), expected)
        self.assertAlmostEqual(score(WOMAN_OF_30, name(0.8), YEAR), expected / (1 + expected))

    def test_the_genders_are_treated_alike(self) -> None:
        """Everything mirrored gives the same score."""
        born = Births(in_period(18, 5e5), in_period(10, 2e4))
        mirrored = Births(born.male, born.female)

        self.assertAlmostEqual(score(WOMAN_OF_30, name(0.96, born), YEAR), score(MAN_OF_30, name(0.04, mirrored), YEAR))

    def test_a_name_of_the_other_gender_scores_low(self) -> None:
        """A man's name hardly suits a woman's face, and the other way round."""
        self.assertLess(score(WOMAN_OF_30, name(0.0), YEAR), 0.05)
        self.assertLess(score(MAN_OF_30, name(1.0), YEAR), 0.05)

    def test_a_name_of_ones_own_years_scores_higher(self) -> None:
        """The nearer a name's birth years are to the face's, the better it suits."""
        face = period_of(YEAR - 30)
        assert face is not None

        scores = [score(WOMAN_OF_30, womens(face - before), YEAR) for before in (0, 2, 4, 6)]

        self.assertEqual(scores, sorted(scores, reverse=True))
        self.assertGreater(scores[0] - scores[-1], 0.1)

    def test_a_rare_name_says_little_about_age(self) -> None:
        """Ten births move a score less than a million do."""
        face = period_of(YEAR - 30)
        assert face is not None
        plain = score(WOMAN_OF_30, name(1.0), YEAR)

        self.assertLess(score(WOMAN_OF_30, womens(face, 10), YEAR) - plain, 0.01)
        self.assertGreater(score(WOMAN_OF_30, womens(face, 1e6), YEAR) - plain, 0.05)

    def test_who_is_not_born_yet_has_no_face(self) -> None:
        """In an old photo, births after it count for nothing."""
        later = womens(24)

        self.assertGreater(score(Judgement(0.99, 1.0), later, 2024), score(Judgement(0.99, 1.0), later, 1990))

    @checked
    @given(st.floats(0, 1), st.floats(-10, 130), st.floats(0, 1), counts, counts, st.integers(1950, 2100))
    def test_any_score_is_from_0_to_1(
        self, female: float, age: float, share: float, women: tuple[float, ...], men: tuple[float, ...], year: int
    ) -> None:
        """Whatever the judgement and the name are."""
        value = score(Judgement(female, age), name(share, Births(women, men)), year)

        self.assertTrue(0 < value < 1)

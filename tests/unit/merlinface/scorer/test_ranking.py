"""The figures that tell how good scores are."""

from twisted.trial.unittest import SynchronousTestCase

from tests.unit.merlinface.scorer.support import MISSING

if not MISSING:
    import numpy as np

    from merlind.merlinface.scorer.ranking import calibrate, estimate, rank


class RankingTests(SynchronousTestCase):
    """AUC and calibration of made-up scores: four names, two of women, each of several photos."""

    skip = MISSING

    def setUp(self) -> None:
        self.names = np.array([0, 0, 1, 2, 2, 3])
        self.female = np.array([True, True, False, False])
        self.true = self.names[:, None] == np.arange(4)

    def test_true_names_always_first(self) -> None:
        """The AUC is 1, with no doubt."""
        ranking = rank(self.true.astype(float), self.names, self.female)

        for found in (ranking.any, ranking.same, ranking.balanced):
            self.assertEqual((found.mean, found.low, found.high), (1, 1, 1))

    def test_scores_that_tell_nothing(self) -> None:
        """Equal scores win half of the time."""
        ranking = rank(np.full((6, 4), 0.7), self.names, self.female)

        self.assertEqual((ranking.any.mean, ranking.same.mean, ranking.balanced.mean), (0.5, 0.5, 0.5))

    def test_gender_alone(self) -> None:
        """Scores that tell gender and nothing else: balanced is ¾, and within one gender ½."""
        alike = self.female[self.names][:, None] == self.female[None, :]

        ranking = rank(alike.astype(float), self.names, self.female)

        self.assertEqual((ranking.same.mean, ranking.balanced.mean), (0.5, 0.75))

    def test_a_name_with_nothing_to_compare_with(self) -> None:
        """With one woman's name alone, its photos don't count where names of women are compared."""
        ranking = rank(np.eye(3)[[0, 1, 2]], np.array([0, 1, 2]), np.array([True, False, False]))

        self.assertEqual(ranking.any.mean, 1)
        self.assertEqual(ranking.same.mean, 1)

    def test_intervals_are_by_name(self) -> None:
        """A hundred photos of one name tell as little as one."""
        values, groups = np.array([0.0, 1.0]), np.array([0, 1])

        few, many = estimate(values, groups), estimate(np.repeat(values, 100), np.repeat(groups, 100))

        self.assertEqual((few.mean, few.low, few.high), (0.5, 0.0, 1.0))
        self.assertEqual((many.low, many.high), (few.low, few.high))

    def test_calibration(self) -> None:
        """Scores that are right as often as they say come out so."""
        random = np.random.default_rng(0)
        names = np.repeat(np.arange(40), 50)
        female = np.arange(40) % 2 == 0
        # True names have 0.9 in nine of ten photos, false ones in one of ten.
        scores = np.where(random.random((2000, 40)) < 0.1, 0.9, 0.1)
        scores[np.arange(2000), names] = np.where(random.random(2000) < 0.9, 0.9, 0.1)

        low, high = calibrate(scores, names, female)

        self.assertAlmostEqual(low.said, 0.1)
        self.assertApproximates(low.true.mean, 0.1, 0.02)
        self.assertApproximates(high.true.mean, 0.9, 0.02)
        self.assertAlmostEqual(low.photos + high.photos, 2000)

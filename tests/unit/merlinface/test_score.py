"""The stand-in's score."""

from twisted.trial.unittest import SynchronousTestCase

from merlind.core.names import canonical_name
from merlind.merlinface.score import score, score_of_digest


class ScoreTests(SynchronousTestCase):
    """The score."""

    def test_stable(self) -> None:
        """Scores never change from version to version: these numbers were computed once."""
        self.assertEqual(score("Anna", b"photo"), 0.6689)
        self.assertEqual(score("Anna", b"photo2"), 0.6448)
        self.assertEqual(score("Otto", b"photo"), 0.2162)

    def test_range(self) -> None:
        """A score is from 0 to 1, with four decimal places."""
        for number in range(500):
            value = score(str(number), b"photo")
            self.assertTrue(0 <= value <= 1)
            self.assertEqual(value, round(value, 4))

    def test_equal_names_have_equal_scores(self) -> None:
        """Names that compare equal (docs/contract.md, "Identity of a task") have the same score."""
        self.assertEqual(canonical_name(" \tZoe\u0308\n"), "Zo\u00eb")
        self.assertEqual(score(" Zoe\u0308 ", b"photo"), score("Zo\u00eb", b"photo"))

    def test_empty_name_and_photo(self) -> None:
        """An empty photo and an empty name have scores too."""
        self.assertIsInstance(score("", b""), float)
        self.assertEqual(score_of_digest("", bytes(32)), score_of_digest(" ", bytes(32)))

"""How names are compared."""

from twisted.trial.unittest import SynchronousTestCase

from tests.unit.merlinface.scorer.support import MISSING

if not MISSING:
    from merlind.merlinface.scorer.keys import ascii_key_of, key_of


class KeyTests(SynchronousTestCase):
    """Keys."""

    skip = MISSING

    def test_what_does_not_count(self) -> None:
        """Case, accents, punctuation, white space, and signs that people leave out."""
        for name, key in (
            ("José-María", "josemaria"),
            (" ANNA ", "anna"),
            ("O'Neill", "oneill"),
            ("Ｚｏë", "zoe"),
            ("Алёна", "алена"),
            ("Йосиф", "иосиф"),
            ("Анна-Мария", "аннамария"),
            ("مُحَمَّد", "محمد"),
            ("花子", "花子"),
            ("Νίκος", "νικοσ"),
        ):
            self.assertEqual(key_of(name), key, name)

    def test_without_a_letter_there_is_no_key(self) -> None:
        """Digits, signs and pictures are no name."""
        for name in ("", "   ", "🙂", "123", "-", "́", "..."):
            self.assertEqual(key_of(name), "", repr(name))

    def test_transliteration(self) -> None:
        """Any script can be written in plain letters."""
        self.assertEqual(ascii_key_of("Анна"), "anna")
        self.assertEqual(ascii_key_of("Νίκος"), "nikos")

"""What a name may be."""

import unicodedata

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from merlind.core.names import MAX_NAME, normal_name
from tests.unit.web.support import checked


class NameTests(SynchronousTestCase):
    """Names."""

    def refusal(self, raw: bytes) -> str:
        return str(self.assertRaises(ValueError, normal_name, raw))

    def test_kept_as_they_are(self) -> None:
        """Whatever people are called arrives as it was sent."""
        for name in (
            "Анна",
            "Ærøskøbing",
            "O'Brien-Smith",
            "José María",
            "李小龍",
            "فاطمة",
            "नेहा",
            "👩‍👩‍👧‍👦",
            "🏳️‍🌈",
            "Z̷̧̙͉a̶l̴g̵o̸",
            "a\u200db\u200cc",
            "<script>alert(1)</script>",
            "'; DROP TABLE task; --",
            "{name} %s \\n",
        ):
            self.assertEqual(normal_name(name.encode("utf-8")), name)

    def test_composed(self) -> None:
        """Names that differ in Unicode's spelling alone are one name."""
        decomposed = unicodedata.normalize("NFD", "Zoë Ångström")
        self.assertNotEqual(decomposed, "Zoë Ångström")
        self.assertEqual(normal_name(decomposed.encode("utf-8")), "Zoë Ångström")

    def test_trimmed(self) -> None:
        """White space around it goes, of every kind; inside it stays."""
        for white in (" ", "\t", "\r\n", "\v\f", "\x85", "\u00a0", "\u1680", "\u2000", "\u200a", "\u2028", "\u3000"):
            self.assertEqual(normal_name(f"{white}Anna  Maria{white}{white}".encode()), "Anna  Maria", ascii(white))

    def test_empty(self) -> None:
        """Nothing, or nothing but white space, is no name."""
        for blank in ("", " ", "\t\r\n", "\u00a0\u2003\u3000", "\x85\u2028\u2029"):
            self.assertEqual(self.refusal(blank.encode("utf-8")), "the name is empty", ascii(blank))

    def test_length(self) -> None:
        """From 1 to 200 characters, counted after it was composed and trimmed."""
        for name in ("a", "a" * MAX_NAME, "Ж" * MAX_NAME, "😀" * MAX_NAME):
            self.assertEqual(normal_name(f" {name} ".encode()), name)
        self.assertEqual(normal_name(("e\u0301" * MAX_NAME).encode("utf-8")), "é" * MAX_NAME)
        for name in ("a" * (MAX_NAME + 1), "😀" * (MAX_NAME + 1), "x" * 1_000_000):
            self.assertEqual(self.refusal(name.encode("utf-8")), "the name is longer than 200 characters")

    def test_control_characters(self) -> None:
        """What can play tricks on a log or a screen is no part of a name."""
        wicked = [*map(chr, range(0x20)), *map(chr, range(0x7F, 0xA0)), "\u2028", "\u2029"]
        wicked += "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
        for character in wicked:
            refusal = self.refusal(f"An{character}na".encode())
            self.assertEqual(refusal, "the name has control characters in it", ascii(character))

    def test_not_utf8(self) -> None:
        """Bytes that are no UTF-8, lone surrogates among them, are refused and not guessed at."""
        for raw in (
            b"\xff",
            b"Ann\xe4",
            b"\xc0\xaf",
            b"\xed\xa0\x80",
            b"\xed\xb0\x80x",
            b"\xf4\x90\x80\x80",
            b"\xe2\x82",
        ):
            self.assertEqual(self.refusal(raw), "the name is not UTF-8", raw)

    @checked
    @given(st.one_of(st.binary(max_size=300), st.text(max_size=210).map(lambda text: text.encode("utf-8", "replace"))))
    def test_any_bytes(self, raw: bytes) -> None:
        """Whatever comes is refused, or becomes a name that stays the same when sent again."""
        try:
            name = normal_name(raw)
        except ValueError:
            return
        self.assertEqual(normal_name(name.encode("utf-8")), name)
        self.assertTrue(1 <= len(name) <= MAX_NAME and name == name.strip())

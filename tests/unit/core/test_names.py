"""Which names are accepted, and how they are normalized (docs/battery.md, C5)."""

import unicodedata

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from merlind.core.names import MAX_NAME, normal_name
from tests.unit.web.support import checked


class NameTests(SynchronousTestCase):
    """Normalizing names, and refusing invalid ones."""

    def error(self, raw: bytes) -> str:
        return str(self.assertRaises(ValueError, normal_name, raw))

    def test_kept_as_they_are(self) -> None:
        """Names in any script, with emoji, markup or SQL in them, stay as they were sent."""
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
        """Names that differ only in Unicode normalization become equal."""
        decomposed = unicodedata.normalize("NFD", "Zoë Ångström")
        self.assertNotEqual(decomposed, "Zoë Ångström")
        self.assertEqual(normal_name(decomposed.encode("utf-8")), "Zoë Ångström")

    def test_trimmed(self) -> None:
        """White space of every kind is trimmed around a name, and kept in it."""
        for white in (" ", "\t", "\r\n", "\v\f", "\x85", "\u00a0", "\u1680", "\u2000", "\u200a", "\u2028", "\u3000"):
            self.assertEqual(normal_name(f"{white}Anna  Maria{white}{white}".encode()), "Anna  Maria", ascii(white))

    def test_empty(self) -> None:
        """An empty name is refused, and so is one that is all white space."""
        for blank in ("", " ", "\t\r\n", "\u00a0\u2003\u3000", "\x85\u2028\u2029"):
            self.assertEqual(self.error(blank.encode("utf-8")), "the name is empty", ascii(blank))

    def test_length(self) -> None:
        """A name has 1 to 200 characters, counted after normalizing and trimming."""
        for name in ("a", "a" * MAX_NAME, "Ж" * MAX_NAME, "😀" * MAX_NAME):
            self.assertEqual(normal_name(f" {name} ".encode()), name)
        self.assertEqual(normal_name(("e\u0301" * MAX_NAME).encode("utf-8")), "é" * MAX_NAME)
        for name in ("a" * (MAX_NAME + 1), "😀" * (MAX_NAME + 1), "x" * 1_000_000):
            self.assertEqual(self.error(name.encode("utf-8")), "the name is longer than 200 characters")

    def test_control_characters(self) -> None:
        """Characters that can forge lines or reorder text in a log or on a screen are refused."""
        wicked = [*map(chr, range(0x20)), *map(chr, range(0x7F, 0xA0)), "\u2028", "\u2029"]
        wicked += "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
        for character in wicked:
            error = self.error(f"An{character}na".encode())
            self.assertEqual(error, "the name has control characters in it", ascii(character))

    def test_not_utf8(self) -> None:
        """Bytes that are not UTF-8, lone surrogates among them, are refused, not guessed at."""
        for raw in (
            b"\xff",
            b"Ann\xe4",
            b"\xc0\xaf",
            b"\xed\xa0\x80",
            b"\xed\xb0\x80x",
            b"\xf4\x90\x80\x80",
            b"\xe2\x82",
        ):
            self.assertEqual(self.error(raw), "the name is not UTF-8", raw)

    @checked
    @given(st.one_of(st.binary(max_size=300), st.text(max_size=210).map(lambda text: text.encode("utf-8", "replace"))))
    def test_any_bytes(self, raw: bytes) -> None:
        """Any bytes are refused, or become a name that normalizing doesn't change again."""
        try:
            name = normal_name(raw)
        except ValueError:
            return
        self.assertEqual(normal_name(name.encode("utf-8")), name)
        self.assertTrue(1 <= len(name) <= MAX_NAME and name == name.strip())

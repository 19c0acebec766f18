"""Which names are accepted, and how they are normalized (docs/battery.md, C5, C12 and A6)."""

import unicodedata

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from merlind.core import names
from merlind.core.names import MAX_NAME, normal_name, without_name
from tests.unit.web.support import checked

FLAG = "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f"
"""The flag of Scotland."""

INVISIBLE = (
    "\ufeff\u200b\u2060\u00ad\u034f\u180e\u115f\u3164\uffa0\u17b4\u2800\u2062\u206a\u200c\u200d\ufff9\ufffb\U00016fe4"
    "\u200e\u200f\u061c\u202a\u202e\u2066\u2069\ufe00\ufe0f\u180b\U000e0100\U000e01ef\U000e0001\U000e0041\U000e007f"
    "\ufdd0\ufdef\uffff\U0001fffe\U0010ffff\U0001d159\U0001d173\U0001bca0"
)
"""Byte order mark, fillers, marks of direction, variation selectors, tags, noncharacters and others."""


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
            "علی\u200cرضا",
            "क्\u200dषमा",
            "മോഹന്\u200d",
            "渡邉\U000e0102",
            "❤\ufe0f",
            "Anna ©\ufe0f",
            "Anna ‼\ufe0f",
            FLAG,
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
            self.assertEqual(self.error(blank.encode("utf-8")), "name is empty", ascii(blank))

    def test_invisible_at_the_ends(self) -> None:
        """What can't be seen is trimmed around a name, in any number and order, and mixed with white space."""
        for character in INVISIBLE:
            raw = f" {character}{character}\ufeff Anna{character}\n{character}".encode()
            self.assertEqual(normal_name(raw), "Anna", ascii(character))
        self.assertEqual(normal_name(f"{INVISIBLE}Анна{INVISIBLE[::-1]}".encode()), "Анна")

    def test_invisible_alone(self) -> None:
        """A name in which nothing can be seen is empty."""
        for blank in (*INVISIBLE, INVISIBLE, " \ufeff ", FLAG[1:], "\U000e0100" * 2000):
            self.assertEqual(self.error(blank.encode("utf-8")), "name is empty", ascii(blank[:20]))

    def test_what_shapes_the_last_character(self) -> None:
        """It stays, and nothing else behind it does; equal names stay equal."""
        for name in ("❤\ufe0f", "渡邉\U000e0102", "മോഹന്\u200d", FLAG):
            self.assertEqual(normal_name(f"{name}\u200d\ufe0f\ufeff\U000e007f ".encode()), name)
        for raw, name in (
            ("Anna\U000e0067\U000e007f", "Anna"),
            ("\U0001f3f4" + "\U000e0067" * 8 + "\U000e007f", "\U0001f3f4"),
            ("\U0001f3f4\U000e0067", "\U0001f3f4"),
            ("=\u0338\ufe0f", "\u2260\ufe0f"),
            ("\u2260\ufe0f", "\u2260\ufe0f"),
        ):
            self.assertEqual(normal_name(raw.encode("utf-8")), name)

    def test_length(self) -> None:
        """A name has 1 to 200 characters, counted after normalizing and trimming."""
        for name in ("a", "a" * MAX_NAME, "Ж" * MAX_NAME, "😀" * MAX_NAME):
            self.assertEqual(normal_name(f" {name} ".encode()), name)
        self.assertEqual(normal_name(("e\u0301" * MAX_NAME).encode("utf-8")), "é" * MAX_NAME)
        for name in ("a" * (MAX_NAME + 1), "😀" * (MAX_NAME + 1), "x" * 1_000_000):
            self.assertEqual(self.error(name.encode("utf-8")), "name is longer than 200 characters")

    def test_little_is_normalized(self) -> None:
        """What is too long for a name isn't normalized: that takes a time that grows with the square."""
        lengths = []

        class Recorder:
            """unicodedata, which says how much it is to normalize."""

            combining, category = unicodedata.combining, unicodedata.category

            @staticmethod
            def normalize(form: str, text: str) -> str:
                lengths.append(len(text))
                return unicodedata.normalize(form, text)  # type: ignore[arg-type]

        self.patch(names, "unicodedata", Recorder)
        marks = "a" + "\u0345" * 2047 + "\u0334" * 2047
        for name in (marks, marks[:802], "\ufeff" + "\u0345\u0334" * 401, "\ufdfa" * 801):
            self.assertEqual(self.error(name.encode("utf-8")), "name is longer than 200 characters")
        self.assertEqual(lengths, [])
        longest = "\u1f82" * MAX_NAME
        decomposed = unicodedata.normalize("NFD", longest)
        blank = "\ufeff" * 1000
        self.assertEqual(normal_name(f"{blank}{decomposed}{blank}".encode()), longest)
        self.assertEqual(len(lengths), 1)
        self.assertLessEqual(lengths[0], 4 * MAX_NAME + 8)

    def test_control_characters(self) -> None:
        """Characters that can forge lines or reorder text in a log or on a screen are refused."""
        wicked = [*map(chr, range(0x20)), *map(chr, range(0x7F, 0xA0)), "\u2028", "\u2029"]
        wicked += "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
        for character in wicked:
            error = self.error(f"An{character}na".encode())
            self.assertEqual(error, "name has control characters in it", ascii(character))

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
            self.assertEqual(self.error(raw), "name is not UTF-8", raw)

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

    @checked
    @given(
        st.text(
            st.one_of(
                st.sampled_from(INVISIBLE + FLAG + "❤邉\u0d4d\u0338= "), st.characters(exclude_categories=["Cs"])
            ),
            max_size=30,
        )
    )
    def test_equal_texts_are_one_name(self, text: str) -> None:
        """However a text is normalized and whatever stands around it, it is the same name, or none."""

        def name_of(form: str) -> str:
            try:
                return normal_name(form.encode("utf-8"))
            except ValueError as error:
                return f"refused: {error}"

        name = name_of(text)
        self.assertEqual(name_of(unicodedata.normalize("NFC", text)), name)
        self.assertEqual(name_of(unicodedata.normalize("NFD", text)), name)
        self.assertEqual(name_of(f"\ufeff {text} \ufeff"), name)


class WithoutNameTests(SynchronousTestCase):
    """What an upstream said, for the log."""

    def test_name_goes(self) -> None:
        """The name goes, whole or in words, in any case and script, and in NFC or NFD; other words stay."""
        for name, text, expected in (
            ("Anna", "ANNA is not known", "[name] is not known"),
            ("Anna", "no face in Annals", "no face in Annals"),
            ("A", "a face has no A", "[name] face has no [name]"),
            ("Mary Ann", "Ann, Mary: not known", "[name], [name]: not known"),
            ("Mary Ann", "Mary Ann: not known", "[name]: not known"),
            ("Анна-Мария", "нет имени анна мария", "нет имени [name] [name]"),
            ("李小龍", "名字李小龍未知", "名字[name]未知"),
            ("Zoë", unicodedata.normalize("NFD", "Zoë is not known"), "[name] is not known"),
            ("👩‍👩‍👧", "no 👩‍👩‍👧", "no [name]"),
            ("(.*", "(.* is bad", "[name] is bad"),
            ("Anna", "no face found", "no face found"),
        ):
            self.assertEqual(without_name(text, name), expected)

    def test_cut_short(self) -> None:
        """A last word that was cut could be the beginning of the name."""
        self.assertEqual(without_name("not known: Аграф…", "Аграфена"), "not known: …")
        self.assertEqual(without_name("Аграф…", "Аграфена"), " …")

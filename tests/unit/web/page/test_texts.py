"""The table of texts, and what is made of it."""

import json
import re
from importlib.resources import files
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from merlind.web.page.facts import KINDS
from merlind.web.page.texts import LANGUAGES, Texts, plural_form, read_texts

TABLE: dict[str, Any] = json.loads(files("merlind.web.page").joinpath("texts.json").read_text("utf-8"))

FORMS = {"en": {"one", "other"}, "ru": {"one", "few", "many"}}


def _placeholders(text: Any) -> set[str]:
    words = " ".join(text.values()) if isinstance(text, dict) else text
    return set(re.findall(r"\{(\w+)\}", words))


class TableTests(SynchronousTestCase):
    """texts.json: no language lacks anything that another one has."""

    def test_same_in_each_language(self) -> None:
        """Each text is there in each language, and has the same placeholders there, and all its plural forms."""
        for key, entry in TABLE.items():
            if set(entry) == {"as"}:
                self.assertIn(entry["as"], TABLE, key)
                self.assertNotIn("as", TABLE[entry["as"]], key)
                continue
            self.assertEqual(list(entry), list(LANGUAGES), key)
            self.assertEqual(len({frozenset(_placeholders(text)) for text in entry.values()}), 1, key)
            kinds = {type(text) for text in entry.values()}
            self.assertEqual(len(kinds), 1, key)
            if kinds == {dict}:
                self.assertEqual({language: set(text) for language, text in entry.items()}, FORMS, key)
            else:
                self.assertTrue(all(text.strip() == text and text for text in entry.values()), key)

    def test_variants(self) -> None:
        """What depends on the scorer is there for each kind of scorer."""
        kinds_by_key: dict[str, set[str]] = {}
        for key in TABLE:
            base, _, last = key.rpartition(".")
            if last in KINDS:
                kinds_by_key.setdefault(base, set()).add(last)
        self.assertEqual(sorted(kinds_by_key), ["about", "meaning", "privacy"])
        self.assertEqual({frozenset(kinds) for kinds in kinds_by_key.values()}, {KINDS})

    def test_no_number_written_out(self) -> None:
        """What can be set stands in no text as a number."""
        for key, entry in TABLE.items():
            if key.startswith(("privacy", "kinds", "error.too_large")):
                for text in entry.values():
                    self.assertIsNone(re.search(r"[0-9]", text), key)


class TextsTests(SynchronousTestCase):
    """Texts in one language."""

    def setUp(self) -> None:
        self.texts = Texts(
            "ru", {"a": "{x}, {y}", "b.one": "1", "b.two": "2", "n": {"one": "{n} a", "few": "{n} b", "many": "{n} c"}}
        )

    def test_placeholders(self) -> None:
        """Placeholders without a value stay, and a value's own braces are no placeholders."""
        self.assertEqual(self.texts.say("a", x="{y}"), "{y}, {y}")
        self.assertEqual(self.texts.say("a", x="{y}", y="1"), "{y}, 1")
        self.assertEqual(self.texts.with_values(y="9").say("a"), "{x}, 9")

    def test_unknown_key(self) -> None:
        """A key that isn't there is an error, not an empty place on the page."""
        self.assertRaises(KeyError, self.texts.say, "nothing")

    def test_variant(self) -> None:
        """One variant is chosen, and the others are gone."""
        chosen = self.texts.for_variant("two", frozenset({"one", "two"}))
        self.assertEqual(set(chosen), {"a", "b", "n"})
        self.assertEqual(chosen.say("b"), "2")

    def test_plurals(self) -> None:
        """Each number has its form, as CLDR has them."""
        for number, form in (
            *((n, "one") for n in (1, 21, 101, 121)),
            *((n, "few") for n in (2, 3, 4, 22, 34, 102)),
            *((n, "many") for n in (0, 5, 10, 11, 12, 13, 14, 20, 25, 111, 112, 114)),
        ):
            self.assertEqual(plural_form("ru", number), form, number)
        self.assertEqual([plural_form("en", n) for n in (0, 1, 2, 21)], ["other", "one", "other", "other"])
        self.assertEqual([self.texts.say("n", n=n) for n in (1, 3, 5)], ["1 a", "3 b", "5 c"])
        self.assertEqual(self.texts.with_values(x="1").say("n", n=21), "21 a")

    def test_same_as(self) -> None:
        """A key may take the texts of another one."""
        for language in LANGUAGES:
            texts = read_texts(language)
            self.assertEqual(texts.say("error.full"), texts.say("error.busy"))

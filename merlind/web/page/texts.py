"""The texts for people, in each language: one table, texts.json, for the page's script and for what the server writes.

A text is a string with {placeholders}, or an object of such strings by plural form, which ``n`` chooses. In place of
both languages, ``{"as": KEY}`` takes the texts of another key.
"""

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files

LANGUAGES = ("en", "ru")
"""The languages that there are; the first one is for people who want none of them."""

Text = str | dict[str, str]

_PLACEHOLDER = re.compile(r"\{(\w+)\}")


class Texts(Mapping[str, Text]):
    """The texts in one language, by key."""

    def __init__(self, language: str, table: Mapping[str, Text]) -> None:
        self.language = language
        self._table = table

    def __getitem__(self, key: str) -> Text:
        return self._table[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)

    def say(self, key: str, **values: object) -> str:
        """Return a text with its placeholders filled in, as far as there are values. Raises KeyError."""
        text = self._table[key]
        if isinstance(text, dict):
            number = values["n"]
            assert isinstance(number, int), "texts with plurals count whole things"
            text = text[plural_form(self.language, number)]
        return _fill(text, values)

    def with_values(self, **values: str) -> "Texts":
        """Return the texts with these placeholders filled in for good."""
        filled: dict[str, Text] = {
            key: _fill(text, values)
            if isinstance(text, str)
            else {form: _fill(words, values) for form, words in text.items()}
            for key, text in self._table.items()
        }
        return Texts(self.language, filled)

    def for_variant(self, variant: str, variants: frozenset[str]) -> "Texts":
        """Return the texts with those for one of the ``variants`` in place: KEY.VARIANT as KEY, and no others."""
        table = {}
        for key, text in self._table.items():
            base, _, last = key.rpartition(".")
            if last not in variants:
                table[key] = text
            elif last == variant:
                table[base] = text
        return Texts(self.language, table)


def _fill(text: str, values: Mapping[str, object]) -> str:
    return _PLACEHOLDER.sub(lambda found: str(values.get(found[1], found[0])), text)


@cache
def read_texts(language: str) -> Texts:
    """Read the table's texts in one of the LANGUAGES."""
    table = json.loads(files("merlind.web.page").joinpath("texts.json").read_text("utf-8"))
    return Texts(language, {key: table[entry.get("as", key)][language] for key, entry in table.items()})


def plural_form(language: str, number: int) -> str:
    """Return the name of a whole number's plural form, as CLDR and JavaScript's Intl.PluralRules have it."""
    if language != "ru":
        return "one" if number == 1 else "other"
    if number % 10 == 1 and number % 100 != 11:
        return "one"
    if number % 10 in (2, 3, 4) and number % 100 not in (12, 13, 14):
        return "few"
    return "many"

"""What the columns of a table of name statistics mean, and what its rows say. Knows no files: a row is a list of cells.

What is wrong with a row is said by a ValueError, in words for a person.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import NamedTuple

from merlind.merlinface.scorer.keys import key_of

MAX_COUNT = 1_000_000_000
"""The most births that one row may tell."""

MAX_NAME = 200
"""The longest name, in characters."""

YEARS = range(1800, 2101)
"""The years that are believed."""


class Source(Enum):
    """Whose form a table has."""

    INSEE = "INSEE"
    NRS = "NRS"
    ONS = "ONS"
    SSA = "SSA"
    PLAIN = "a plain table"


class Entry(NamedTuple):
    """The births of one name, sex and year; the year is None where it isn't told."""

    key: str
    female: bool
    year: int | None
    births: int


@dataclass(frozen=True, slots=True)
class Context:
    """What is told outside the rows: by a title, or the name of a sheet or file. None where nothing is."""

    female: bool | None = None
    year: int | None = None

    def or_else(self, other: "Context") -> "Context":
        """Return this, filled up from another."""
        return Context(
            other.female if self.female is None else self.female, other.year if self.year is None else self.year
        )


@dataclass(frozen=True, slots=True)
class Layout:
    """Where in a row is what. ``sex`` and ``year`` are None where the context tells them, or the columns of counts do.

    ``counts`` has the columns with births, each with its year, or None if the row or the context tells it.
    """

    source: Source
    width: int
    name: int
    sex: int | None
    year: int | None
    counts: Mapping[int, int | None]

    @property
    def tells_years(self) -> bool:
        """Whether each number has its year in the table itself."""
        return self.year is not None or None not in self.counts.values()


SSA_LAYOUT = Layout(Source.SSA, 3, 0, 1, None, {2: None})
"""The files of the SSA have no header, and their year is in their name."""

_MEANING = {
    **dict.fromkeys(("name", "first name", "firstname", "firstforename", "forename", "given name", "vorname"), "name"),
    **dict.fromkeys(("prenom", "preusuel", "imie"), "name"),
    **dict.fromkeys(("sex", "gender", "sexe", "geschlecht", "plec"), "sex"),
    **dict.fromkeys(("year", "yr", "birth year", "year of birth", "annee", "annais", "periode", "jahr", "rok"), "year"),
    **dict.fromkeys(("count", "number", "n", "births", "frequency", "nombre", "valeur", "anzahl", "liczba"), "count"),
}
"""The headers that are understood, without case and accents."""

_SEXES = {
    **dict.fromkeys(("f", "female", "girl", "girls", "g", "woman", "2", "femme", "fille", "feminin"), True),
    **dict.fromkeys(("w", "weiblich", "k", "kobieta"), True),
    **dict.fromkeys(("m", "male", "boy", "boys", "b", "man", "1", "homme", "garcon", "masculin"), False),
    **dict.fromkeys(("mannlich", "mezczyzna"), False),
}
"""What a cell may call a sex, and whether it is female: B and G are those of the NRS, 1 and 2 INSEE's."""

_SUPPRESSED = frozenset(("[x]", "[c]", "[z]", ":", "..", "s", "*"))
"""What offices write where a number is too small to be told, or isn't known."""

_SSA_ROW = re.compile(r"[^,;\t\"]+,[FM],\d+")
_YEAR_COUNT = re.compile(r"(\d{4}) count")
_GROUPS = re.compile(r"\d{1,3}(?:[, \u00a0\u202f]\d{3})+")
_WHOLE = re.compile(r"(\d+)\.0+")
_FEMALE = re.compile(r"girl|female|fille")
_MALE = re.compile(r"boy|(?<!fe)male|garcon")
_YEAR = re.compile(r"(?<!\d)(?:1[89]|20)\d\d(?!\d)")


def plain(text: str) -> str:
    """Return a cell without case, accents, and white space about it."""
    if text.isascii():
        return text.strip().lower()
    decomposed = unicodedata.normalize("NFD", text.casefold().replace("ł", "l"))
    return "".join(c for c in decomposed if not unicodedata.combining(c)).strip()


def is_ssa(line: str) -> bool:
    """Tell whether a file's first line is one of the SSA's: ``Mary,F,12055``."""
    return _SSA_ROW.fullmatch(line.strip()) is not None


def context_of(text: str) -> Context:
    """Return what a title or name tells: a sex if it names one alone, a year if it has one alone."""
    text = plain(text)
    female, male = _FEMALE.search(text) is not None, _MALE.search(text) is not None
    years = set(_YEAR.findall(text))
    return Context(female if female != male else None, int(years.pop()) if len(years) == 1 else None)


def layout_of(header: Sequence[str]) -> Layout | None:
    """Return the layout that a header tells; None if it is none."""
    cells = [" ".join(plain(cell).split()) for cell in header]
    found: dict[str, int] = {}
    by_year: dict[int, int | None] = {}
    for column, cell in enumerate(cells):
        if (match := _YEAR_COUNT.fullmatch(cell)) and int(match[1]) in YEARS:
            by_year[column] = int(match[1])
        elif (meaning := _MEANING.get(cell)) is not None:
            found.setdefault(meaning, column)
    if "name" not in found or not (by_year or "count" in found):
        return None
    width = len(cells)
    while not cells[width - 1]:
        width -= 1
    if by_year:
        return Layout(Source.ONS, width, found["name"], found.get("sex"), None, by_year)
    source = Source.PLAIN
    if "preusuel" in cells or {"prenom", "periode"} <= set(cells):
        source = Source.INSEE
    elif "firstforename" in cells or cells[:5] == ["year", "sex", "name", "number", "rank"]:
        source = Source.NRS
    return Layout(source, width, found["name"], found.get("sex"), found.get("year"), {found["count"]: None})


class Rows:
    """Reads the rows of one table. Raises ValueError at once if nothing tells the sex, or the year, of its births.

    ``keys`` remembers the keys of names: a name comes again for each year, and its key takes longer than all else.
    """

    def __init__(self, layout: Layout, context: Context, keys: dict[str, str]) -> None:
        if layout.sex is None and context.female is None:
            raise ValueError("nothing says whose sex this is: add a column sex, or girls or boys to the file's name")
        if not layout.tells_years and context.year is None:
            raise ValueError("nothing says which year this is: add a column year, or the year to the file's name")
        self._layout = layout
        self._context = context
        self._wide = layout.source is Source.ONS
        """Whether a row has all years of a name: most of its cells are empty then, and notes follow the last."""
        columns = (layout.name, layout.sex, layout.year, *(() if self._wide else layout.counts))
        self._needed = 1 + max(column for column in columns if column is not None)
        self._keys = keys

    def read(self, cells: Sequence[str]) -> Iterator[Entry]:
        """Yield what a row says; nothing for one that counts no name, such as INSEE's _PRENOMS_RARES."""
        layout = self._layout
        if self._wide and not any(cells[c].strip() for c in layout.counts if c < len(cells)):
            return
        if len(cells) < self._needed:
            raise ValueError(f"{len(cells)} cells where {self._needed} are needed: was the file cut off here?")
        if len(cells) > layout.width and any(cell.strip() for cell in cells[layout.width :]):
            raise ValueError(f"{len(cells)} cells where the header has {layout.width}: is a number or name unquoted?")
        name = cells[layout.name]
        found = self._keys.get(name)
        if found is None:
            found = self._keys[name] = _key(name)
        if not found:
            return
        female = self._context.female if layout.sex is None else _sex(cells[layout.sex])
        assert female is not None  # the constructor saw to it
        for column, year in layout.counts.items():
            if column >= len(cells):
                continue
            if layout.year is not None:
                year = _year(cells[layout.year])
            elif year is None:
                year = self._context.year
            cell = cells[column]
            # Most numbers are plain ones.
            count = int(cell) if len(cell) <= 9 and cell.isascii() and cell.isdigit() else _count(cell, self._wide)
            if count:
                yield Entry(found, female, year, count)


def _key(name: str) -> str:
    if len(name) > MAX_NAME:
        raise ValueError(f"a name of {len(name)} characters: is a quote or separator missing?")
    return "" if name.lstrip().startswith("_") else key_of(name)


@lru_cache(256)
def _sex(cell: str) -> bool:
    female = _SEXES.get(plain(cell))
    if female is None:
        raise ValueError(f"{_short(cell)} is no sex: F or M, female or male, girl or boy, 2 or 1 are")
    return female


@lru_cache(1024)
def _year(cell: str) -> int | None:
    text = cell.strip()
    if text.upper() == "XXXX":
        return None
    number = _number(text)
    if number is None or number not in YEARS:
        raise ValueError(f"{_short(cell)} is no year from {YEARS[0]} to {YEARS[-1]}, nor XXXX for an unknown one")
    return number


def _count(cell: str, may_be_empty: bool) -> int:
    text = cell.strip()
    if plain(text) in _SUPPRESSED or (may_be_empty and not text):
        return 0
    number = _number(text)
    if number is None:
        raise ValueError(f"{_short(cell)} is no number of births")
    if number > MAX_COUNT:
        raise ValueError(f"{_short(cell)} births of one name in one year are too many: do two columns run together?")
    return number


def _number(text: str) -> int | None:
    """Read a whole number: 1204, "1,204", "1 204", 1204.0."""
    if not text.isascii() or not text.isdigit():
        if match := _WHOLE.fullmatch(text):
            text = match[1]
        elif _GROUPS.fullmatch(text):
            text = re.sub(r"\D", "", text)
        else:
            return None
    return int(text) if len(text) <= 15 and text.isascii() else None


def _short(cell: str) -> str:
    """Quote a cell for a message: its beginning, printably."""
    return ascii(cell if len(cell) <= 30 else cell[:30] + "…") if not cell.isprintable() else repr(cell[:30])

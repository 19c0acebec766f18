"""What is known of a first name: in our table, in national statistics read beside it, or from its letters."""

import re
from collections.abc import Iterable, Sequence
from importlib.resources import files
from typing import Protocol

from merlind.merlinface.scorer.guess import Guess
from merlind.merlinface.scorer.judgement import NO_LETTER, Refused
from merlind.merlinface.scorer.keys import ascii_key_of, key_of
from merlind.merlinface.scorer.packed import NameRow, PackedTable
from merlind.merlinface.scorer.short_forms import FULL_NAMES
from merlind.merlinface.scorer.statistics import Births, NameStatistics, add

TRANSLITERATED_PEOPLE = 30.0
"""The most people that a share counts for which was found by the transliteration of a name: it may be another name."""

_SEPARATORS = re.compile(r"[\s\-‐–.,]+")


class Table(Protocol):
    """National statistics, as national.py reads them. Births are looked up by ``key_of`` a name.

    ``weight`` is how much one of its births counts beside one of ours: it is up to the table to count for more when it
    is newer. That a larger table counts for more follows from its births.
    """

    @property
    def weight(self) -> float: ...

    @property
    def population(self) -> Births: ...

    def find(self, key: str) -> Births | None: ...


class Names:
    """Finds names in all tables together."""

    def __init__(self, packed: PackedTable, guess: Guess, extra: Sequence[Table] = ()) -> None:
        self._packed = packed
        self._guess = guess
        self._extra = tuple(extra)
        self._population = add([packed.population, *(table.population.scaled(table.weight) for table in extra)])

    @classmethod
    def load(cls, extra: Sequence[Table] = ()) -> "Names":
        """Read the tables that come with merlind, and use ``extra`` beside them."""
        data = files("merlind.merlinface.scorer") / "data"
        return cls(PackedTable((data / "names.bin").read_bytes()), Guess((data / "guess.bin").read_bytes()), extra)

    def find(self, name: str) -> NameStatistics:
        """Return what is known of a name, or guess. Raises Refused if there is no letter in it.

        Short forms go first: "Дима" is in tables too, as a rare name of girls. Of "Anna-Maria Luisa", if it isn't known
        as a whole, the first part that is known counts.
        """
        whole = key_of(name)
        if not whole:
            raise Refused(NO_LETTER)
        row = self._find_written(whole) or self._find_part(name) or self._find_transliterated(whole)
        if row is None:
            return NameStatistics(self._guess.female_share(ascii_key_of(whole)), None, self._population, known=False)
        return NameStatistics(_smoothed(row), row.births, self._population, known=True)

    def _find_written(self, key: str) -> NameRow | None:
        return self._find_short(key) or self._find_key(key)

    def _find_part(self, name: str) -> NameRow | None:
        keys = (key_of(part) for part in _SEPARATORS.split(name))
        return _first(self._find_written(key) for key in keys if len(key) > 1)

    def _find_transliterated(self, key: str) -> NameRow | None:
        row = self._find_key(ascii_key_of(key))
        return row and NameRow(row.female_share, min(row.people, TRANSLITERATED_PEOPLE), row.births)

    def _find_short(self, key: str) -> NameRow | None:
        """Return the mean of the names that a short form stands for, whose birth years are left open."""
        full = [row for name in FULL_NAMES.get(key, ()) if (row := self._find_key(key_of(name)))]
        if not full:
            return None
        return NameRow(sum(row.female_share for row in full) / len(full), min(row.people for row in full), None)

    def _find_key(self, key: str) -> NameRow | None:
        """Return what all tables together know of one key."""
        ours = self._packed.find(key)
        theirs = [births.scaled(table.weight) for table in self._extra if (births := table.find(key))]
        return _together(ours, theirs) if theirs else ours


def _together(ours: NameRow | None, theirs: Sequence[Births]) -> NameRow:
    births = add(theirs)
    women, people = sum(births.female), births.total()
    if ours is None:
        return NameRow(women / people, people, births)
    share = (women + ours.female_share * ours.people) / (people + ours.people)
    return NameRow(share, people + ours.people, add([births, ours.births]) if ours.births else births)


def _smoothed(row: NameRow) -> float:
    """Return the share of women as if there were one more woman and one more man: Laplace's rule of succession."""
    return (row.female_share * row.people + 1) / (row.people + 2)


def _first(rows: Iterable[NameRow | None]) -> NameRow | None:
    return next((row for row in rows if row is not None), None)

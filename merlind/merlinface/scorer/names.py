"""What is known of a first name: in our table, in national statistics read beside it, or from its letters."""

import re
from collections.abc import Iterable, Sequence
from importlib.resources import files

from merlind.merlinface.scorer.births import Table
from merlind.merlinface.scorer.guess import Guess
from merlind.merlinface.scorer.judgement import NO_LETTER, Refused
from merlind.merlinface.scorer.keys import ascii_key_of, key_of
from merlind.merlinface.scorer.merge import merge
from merlind.merlinface.scorer.packed import NameRow, PackedTable
from merlind.merlinface.scorer.short_forms import FULL_NAMES
from merlind.merlinface.scorer.statistics import NameStatistics

TRANSLITERATED_PEOPLE = 30.0
"""The most people that a share counts for which was found by the transliteration of a name: it may be another name."""

_SEPARATORS = re.compile(r"[\s\-‐–.,]+")


class Names:
    """Finds names in all tables together."""

    def __init__(self, packed: PackedTable, guess: Guess, extra: Sequence[Table] = ()) -> None:
        self._packed = packed
        self._guess = guess
        self._extra = tuple(extra)
        self._population = packed.population

    @classmethod
    def load(cls, extra: Sequence[Table] = ()) -> "Names":
        """Read the tables that come with merlind, and use ``extra`` beside them."""
        data = files("merlind.merlinface.scorer") / "data"
        return cls(PackedTable((data / "names.bin").read_bytes()), Guess((data / "guess.bin").read_bytes()), extra)

    def count(self) -> int:
        """Count the names that are known. This goes through all of them."""
        return len(set(self._packed.keys()).union(*(table.births for table in self._extra)))

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
        return merge(key, self._packed.find(key), self._population, self._extra)


def _smoothed(row: NameRow) -> float:
    """Return the share of women as if there were one more woman and one more man: Laplace's rule of succession."""
    return (row.female_share * row.people + 1) / (row.people + 2)


def _first(rows: Iterable[NameRow | None]) -> NameRow | None:
    return next((row for row in rows if row is not None), None)

"""Births by name, sex and period, kept compactly: a country's statistics have hundreds of thousands of rows."""

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from merlind.merlinface.scorer.statistics import PERIODS, Births, period_of

_UNDATED = PERIODS
_SEX = PERIODS + 1
_ROW = 2 * _SEX


@dataclass(frozen=True, slots=True)
class NameBirths:
    """The births of one name: those of each period, and those of none, before 1900 or in a year that isn't told."""

    dated: Births
    undated_female: int = 0
    undated_male: int = 0

    @property
    def female(self) -> float:
        """All that were female."""
        return sum(self.dated.female) + self.undated_female

    @property
    def total(self) -> float:
        """All of both sexes."""
        return self.dated.total() + self.undated_female + self.undated_male


class BirthsByName(Mapping[str, NameBirths]):
    """The births of each name, by its key.

    A name needs memory for its key, its place in a dict, and 9 bytes for each period and sex in which it was given.
    """

    def __init__(self, rows: dict[str, int], ends: "array[int]", slots: "array[int]", counts: "array[int]") -> None:
        self._rows = rows
        self._ends = ends
        self._slots = slots
        self._counts = counts

    def __getitem__(self, key: str) -> NameBirths:
        row = self._rows[key]
        numbers = [0] * _ROW
        for i in range(self._ends[row - 1] if row else 0, self._ends[row]):
            numbers[self._slots[i]] = self._counts[i]
        return _name_births(numbers)

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, key: object) -> bool:
        return key in self._rows


@dataclass(frozen=True, slots=True)
class Table:
    """The statistics of one file: the births of each name by its key, those of all names, and the years it covers.

    ``source`` says who publishes files of its form.
    """

    file: str
    source: str
    births: Mapping[str, NameBirths]
    total: Births
    first_year: int
    last_year: int

    def __str__(self) -> str:
        years = str(self.first_year) if self.first_year == self.last_year else f"{self.first_year}–{self.last_year}"
        return f"{self.file} ({self.source}), {len(self.births):,} names, {years}"


class Tally:
    """Adds up births, and notes the first and the last year that any of them is told of."""

    def __init__(self) -> None:
        self._rows: dict[str, int] = {}
        self._numbers = array("Q")
        self.first_year: int | None = None
        self.last_year: int | None = None

    def add(self, key: str, female: bool, year: int | None, count: int) -> None:
        """Count the births of a name in one year; None if the year isn't told."""
        row = self._rows.get(key)
        if row is None:
            row = self._rows[key] = len(self._rows)
            self._numbers.extend((0,) * _ROW)
        slot = _UNDATED
        if year is not None:
            if self.first_year is None or year < self.first_year:
                self.first_year = year
            if self.last_year is None or year > self.last_year:
                self.last_year = year
            period = period_of(year)
            if period is not None:
                slot = period
        self._numbers[row * _ROW + (0 if female else _SEX) + slot] += count

    def total(self) -> Births:
        """Return the births of all names in each period."""
        return _name_births([sum(self._numbers[slot::_ROW]) for slot in range(_ROW)]).dated

    def by_name(self) -> BirthsByName:
        """Return the births of each name, with the zeros left out."""
        ends, slots, counts = array("I"), array("B"), array("Q")
        for start in range(0, len(self._numbers), _ROW):
            for slot, count in enumerate(self._numbers[start : start + _ROW]):
                if count:
                    slots.append(slot)
                    counts.append(count)
            ends.append(len(slots))
        return BirthsByName(self._rows, ends, slots, counts)


def _name_births(numbers: Sequence[int]) -> NameBirths:
    female, male = numbers[:_SEX], numbers[_SEX:]
    dated = Births(tuple(map(float, female[:PERIODS])), tuple(map(float, male[:PERIODS])))
    return NameBirths(dated, female[_UNDATED], male[_UNDATED])

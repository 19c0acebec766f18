"""The table of names that comes with merlind (data/names.bin, made by tools/build_names.py).

It is LZMA over a line of JSON and a sorted line for each name: key, share of women in 1/250, evidence as a power of
two, and for names with birth years one character for each period.
"""

import json
import lzma
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from merlind.merlinface.scorer.statistics import Births

SHARE_STEPS = 250
"""A share of women is stored in so many steps."""

LOWEST_CHARACTER = 33
HIGHEST_LEVEL = 90
"""A period's births are one character: LOWEST_CHARACTER + HIGHEST_LEVEL × √(births ÷ the most of a period)."""


@dataclass(frozen=True, slots=True)
class NameRow:
    """What the table says of a name: the share of women, on how many people that rests, and the births if known."""

    female_share: float
    people: float
    births: Births | None


class PackedTable:
    """All names, kept as the bytes they are stored in: 8 MB. A look-up is a binary search."""

    def __init__(self, packed: bytes) -> None:
        head, _, self._lines = lzma.decompress(packed).partition(b"\n")
        female, male = json.loads(head)["population"]
        self.population = Births(tuple(map(float, female)), tuple(map(float, male)))

    @cached_property
    def count(self) -> int:
        """How many names there are."""
        return self._lines.count(b"\n") + 1

    def keys(self) -> Iterator[str]:
        """Yield the keys of all names."""
        for line in self._lines.split(b"\n"):
            yield line[: line.index(b"\t")].decode("utf-8")

    def find(self, key: str) -> NameRow | None:
        """Return what is known of the name with this key, if anything."""
        wanted = key.encode("utf-8") + b"\t"
        low, high = 0, len(self._lines)
        while low < high:
            start = self._lines.rfind(b"\n", low, (low + high) // 2) + 1 or low
            end = self._lines.find(b"\n", start, high)
            end = high if end < 0 else end
            line = self._lines[start:end]
            if line.startswith(wanted):
                return _row(line)
            if line.partition(b"\t")[0] < key.encode("utf-8"):
                low = end + 1
            else:
                high = start
        return None


def _row(line: bytes) -> NameRow:
    _, share, power, levels = line.split(b"\t")
    female_share, people = int(share) / SHARE_STEPS, 2.0 ** int(power) - 1
    if not levels:
        return NameRow(female_share, people, None)
    squares = [(level - LOWEST_CHARACTER) ** 2 for level in levels]
    total = sum(squares)
    # The table counts both sexes' births of a name together.
    female = tuple(people * female_share * n / total for n in squares)
    male = tuple(people * (1 - female_share) * n / total for n in squares)
    return NameRow(female_share, people, Births(female, male))

"""The values that name statistics come in: births by sex and period."""

from dataclasses import dataclass

FIRST_YEAR = 1900
"""The first year of the first period."""

PERIOD = 5
"""Years in a period: birth years are counted by fives, which is finer than an age can be judged."""

PERIODS = 25
"""How many periods there are: from 1900 to 2024. Later births count to the last one."""

MIDDLES = tuple(FIRST_YEAR + PERIOD * (index + 0.5) for index in range(PERIODS))
"""The middle of each period, as a year."""


@dataclass(frozen=True, slots=True)
class Births:
    """Births of girls and of boys: one number for each of the PERIODS."""

    female: tuple[float, ...]
    male: tuple[float, ...]

    def total(self) -> float:
        """Return all births together."""
        return sum(self.female) + sum(self.male)


@dataclass(frozen=True, slots=True)
class NameStatistics:
    """What is known of one name.

    ``female_share`` is the share of women (0 to 1) among those who have the name. ``births`` says when they were born,
    as far as that is known; None: as everybody else. ``population`` are the births of everybody. ``known`` is False
    where the name is in no table and was judged by its letters.
    """

    female_share: float
    births: Births | None
    population: Births
    known: bool


def period_of(year: int) -> int | None:
    """Return the index of a birth year's period, or None for a year before FIRST_YEAR."""
    return min((year - FIRST_YEAR) // PERIOD, PERIODS - 1) if year >= FIRST_YEAR else None

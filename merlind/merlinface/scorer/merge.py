"""Puts together what several tables say of one name: ours, and national statistics (docs/scorer.md works it through).

Each table has a weight for each name, 0 to 1. It grows with the births that the table has of the name, and shrinks with
the years by which the table is older than the newest:

    weight = ½ ^ (years older ÷ OLDER_BY) × births ÷ (births + FEW)

So the newer and the larger count more, but a small country's name isn't outvoted by a country with a hundred times the
births. The result doesn't depend on the tables' order.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from merlind.merlinface.scorer.births import NameBirths, Table
from merlind.merlinface.scorer.packed import NameRow
from merlind.merlinface.scorer.statistics import FIRST_YEAR, PERIODS, Births, period_of

OUR_LAST_YEAR = 2024
"""The last year whose births are in our table."""

OLDER_BY = 10.0
"""A table that ends so many years before the newest counts half."""

FEW = 1000.0
"""With so many births of a name, a table has half of the most weight that it can have."""

PRIOR_BIRTHS = 3000.0
"""Before a table begins, a name's births are taken to be as in ours, to which so many of the whole population's are
added; a name that ours doesn't know, as the population's."""

Numbers = Sequence[float]
"""One number for each of the PERIODS."""


@dataclass(frozen=True, slots=True)
class _Part:
    """What one table says: its weight, of how many people (in an old table they count less), and their births."""

    weight: float
    people: float
    female_share: float
    births: Births | None


def merge(key: str, ours: NameRow | None, population: Births, tables: Sequence[Table]) -> NameRow | None:
    """Return what our table's row and national tables together say of the name with this key; None if none knows it.

    ``population`` are the births of everybody in our table. The births returned are as if into that population, so that
    they can be compared with it.
    """
    found = [(table, births) for table in tables if (births := table.births.get(key)) is not None and births.total]
    if not found:
        return ours
    newest = max(OUR_LAST_YEAR, *(table.last_year for table, _ in found))
    parts = [_theirs(table, births, ours, population, newest) for table, births in found]
    if ours is not None and ours.people:
        newness = _newness(OUR_LAST_YEAR, newest)
        parts.append(_Part(newness * _size(ours.people), newness * ours.people, ours.female_share, ours.births))
    weight = sum(part.weight for part in parts)
    share = sum(part.weight * part.female_share for part in parts) / weight
    return NameRow(share, sum(part.people for part in parts), _mixed(parts, share))


def _newness(last_year: int, newest: int) -> float:
    return float(0.5 ** ((newest - last_year) / OLDER_BY))


def _size(births: float) -> float:
    return births / (births + FEW)


def _theirs(table: Table, births: NameBirths, ours: NameRow | None, population: Births, newest: int) -> _Part:
    newness = _newness(table.last_year, newest)
    dated = None
    if births.dated.total():
        base = _base(ours, population)
        covered = _covered(table)
        dated = Births(
            _completed(births.dated.female, table.total.female, population.female, base.female, covered),
            _completed(births.dated.male, table.total.male, population.male, base.male, covered),
        )
    return _Part(newness * _size(births.total), newness * births.total, births.female / births.total, dated)


def _covered(table: Table) -> range:
    """Return the periods that a table has years of."""
    first, last = period_of(max(table.first_year, FIRST_YEAR)), period_of(max(table.last_year, FIRST_YEAR))
    assert first is not None and last is not None  # neither is before FIRST_YEAR
    return range(first, last + 1)


def _base(ours: NameRow | None, population: Births) -> Births:
    """Return how births of the name are taken to be spread over the periods that a table tells nothing of."""
    if ours is None or ours.births is None:
        return population
    return Births(_padded(ours.births.female, population.female), _padded(ours.births.male, population.male))


def _padded(births: Numbers, everybody: Numbers) -> tuple[float, ...]:
    total = sum(everybody)
    return tuple(n + PRIOR_BIRTHS * all_ / total for n, all_ in zip(births, everybody, strict=True))


def _completed(
    births: Numbers, everybody: Numbers, population: Numbers, base: Numbers, covered: range
) -> tuple[float, ...]:
    """Return births of one sex as if into the population, with what the table doesn't cover as in ``base``.

    Within a table it is the share of everybody's births that counts: a country's baby boom is no fashion of a name.
    """
    shares = [births[p] / everybody[p] * population[p] if everybody[p] else 0.0 for p in range(PERIODS)]
    inside, base_inside = sum(shares), sum(base[p] for p in covered)
    if not inside or not base_inside:
        return (0.0,) * PERIODS
    told = sum(births)
    return tuple(shares[p] * told / inside if p in covered else base[p] * told / base_inside for p in range(PERIODS))


def _mixed(parts: Sequence[_Part], female_share: float) -> Births | None:
    """Return the births of all people whose birth years are told, spread as the parts are on their weighted mean."""
    dated = [(part.weight, part.births) for part in parts if part.births is not None]
    if not dated:
        return None
    people = sum(part.people for part in parts if part.births is not None)
    female = _mean_spread([(weight, births.female) for weight, births in dated])
    male = _mean_spread([(weight, births.male) for weight, births in dated])
    return Births(
        tuple(people * female_share * share for share in female),
        tuple(people * (1 - female_share) * share for share in male),
    )


def _mean_spread(spreads: Sequence[tuple[float, Numbers]]) -> list[float]:
    """Return the mean of births that each add up to 1, by weight; zeros if there are none."""
    given = [(weight / sum(births), births) for weight, births in spreads if sum(births)]
    weight = sum(weight for weight, births in spreads if sum(births))
    return [sum(w * births[p] for w, births in given) / weight if given else 0.0 for p in range(PERIODS)]

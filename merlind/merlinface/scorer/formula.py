"""How a score comes about from a judgement and a name's statistics (docs/scorer.md works one example through).

The likelihood ratio says how much more probable the name is for such a face than for anybody:

    LR = P(name | face) / P(name) = Σ_sex looks(sex) P(sex | name) E[fit | name, sex] / Σ_sex looks(sex) ½ E[fit | sex]

where E averages, over birth years, how well an age fits the face. The score is LR / (1 + LR): ½ says nothing, 1 suits.
"""

from collections.abc import Sequence
from math import exp

from merlind.merlinface.scorer.judgement import Judgement
from merlind.merlinface.scorer.statistics import MIDDLES, PERIOD, PERIODS, Births, NameStatistics

LOOKS_FLOOR = 0.003
"""No face speaks for a gender with more than 1 - LOOKS_FLOOR, however sure the model is."""

SHARE_FLOOR = 0.01
"""No name does with more than 1 - SHARE_FLOOR: people have names that hardly anybody of their gender has."""

AGE_SPREAD = 8.0
"""Standard deviation of a true age about the judged one, in years."""

FIT_FLOOR = 1e-3
"""How well an age far off still fits, where the judged age fits with 1."""

PSEUDO_BIRTHS = 3000.0
"""So many births as of the population are added to a name's own, so that a rare name says little about age."""

TRUST = 0.7
"""How far a name's birth years are believed: the rest is as the population, since fashions differ between countries."""

BLUR = tuple(exp(-0.5 * periods**2) for periods in range(7))
"""How much of a name's births counts so many periods before and after: fashions come earlier or later elsewhere. One
period is one standard deviation."""

OLD = 80.0
OLD_SPREAD = 6.0
"""At the age of OLD, half of those born are in photos yet; OLD_SPREAD is the scale of that logistic curve, in years."""

Numbers = Sequence[float]
"""One number for each of the PERIODS."""


def score(judgement: Judgement, statistics: NameStatistics, year: int) -> float:
    """Return how well the name suits the face in a photo of ``year``: from 0 to 1, with ½ for "says nothing"."""
    ratio = likelihood_ratio(judgement, statistics, year)
    return ratio / (1 + ratio)


def likelihood_ratio(judgement: Judgement, statistics: NameStatistics, year: int) -> float:
    """Return P(name | face) / P(name) for a face that could as well have been a woman's as a man's."""
    looks_female = LOOKS_FLOOR + (1 - 2 * LOOKS_FLOOR) * judgement.female
    share_female = SHARE_FLOOR + (1 - 2 * SHARE_FLOOR) * statistics.female_share
    everybody = statistics.population
    ages = [year - middle for middle in MIDDLES]
    living = [_living(age) for age in ages]
    fit = [_fit(age, judgement.age) for age in ages]

    name = anybody = 0.0
    for looks, share, everyone, own in (
        (looks_female, share_female, everybody.female, _births_as_female(statistics.births)),
        (1 - looks_female, 1 - share_female, everybody.male, _births_as_male(statistics.births)),
    ):
        base = _normalised(everyone)
        born = base if own is None else _believed(own, base)
        name += looks * share * _mean(fit, _times(born, living))
        anybody += looks * 0.5 * _mean(fit, _times(base, living))
    return name / anybody


def _births_as_female(births: Births | None) -> Numbers | None:
    return _mixed(births.female, births.male) if births else None


def _births_as_male(births: Births | None) -> Numbers | None:
    return _mixed(births.male, births.female) if births else None


def _mixed(own: Numbers, other: Numbers) -> Numbers:
    """Add a little of the other gender's births: who has the name against the rule has it when others do."""
    return [a + SHARE_FLOOR * b for a, b in zip(own, other, strict=True)]


def _believed(births: Numbers, base: Numbers) -> Numbers:
    """Return the share of a name's people that was born in each period, as far as it can be believed."""
    padded = [n + PSEUDO_BIRTHS * share for n, share in zip(births, base, strict=True)]
    own = _normalised(_blurred(padded))
    return [TRUST * mine + (1 - TRUST) * share for mine, share in zip(own, base, strict=True)]


def _blurred(births: Numbers) -> Numbers:
    """Spread each period's births over those beside it."""
    return [
        sum(BLUR[abs(at - period)] * births[at] for at in range(PERIODS) if abs(at - period) < len(BLUR))
        for period in range(PERIODS)
    ]


def _living(age: float) -> float:
    """Return the share of an age's people who may be in a photo; a period that has just begun counts."""
    return 1 / (1 + exp((age - OLD) / OLD_SPREAD)) if age >= -PERIOD / 2 else 0.0


def _fit(age: float, judged: float) -> float:
    return exp(-0.5 * ((age - judged) / AGE_SPREAD) ** 2) + FIT_FLOOR


def _mean(values: Numbers, weights: Numbers) -> float:
    return sum(_times(values, weights)) / sum(weights)


def _times(left: Numbers, right: Numbers) -> Numbers:
    return [a * b for a, b in zip(left, right, strict=True)]


def _normalised(numbers: Numbers) -> Numbers:
    total = sum(numbers)
    return [n / total for n in numbers]

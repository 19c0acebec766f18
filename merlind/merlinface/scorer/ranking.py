"""How good scores are, as figures: ranking (AUC) and calibration, with intervals by bootstrap over names."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

ROUNDS = 1000
"""Rounds of the bootstrap."""

DRAWS = 8
"""False names that each photo's score is compared with for calibration, half of them women's."""

STEPS = 5
"""Calibration is told for so many equal ranges of the score."""

FEWEST = 10
"""A range with fewer photos' worth of scores is left out."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its interval of 95 %: what it could as well have been with other names."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True, slots=True)
class Ranking:
    """AUC: how often the true name gets a better score for a face than another person's name, ½ for equal scores.

    ``any`` compares with all other names, ``same`` with those of the true name's gender, and ``balanced`` with as many
    women's as men's.
    """

    any: Estimate
    same: Estimate
    balanced: Estimate


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A range of scores: the mean score, and the share of it that went to true names rather than to false ones."""

    said: float
    true: Estimate
    photos: float


def rank(scores: Floats, names: Indices, female: npt.NDArray[np.bool_]) -> Ranking:
    """Rank ``scores`` (photos x names) for photos of people who have ``names``; ``female`` tells women's names."""
    rows = np.array(
        [
            _auc(scores[photo, names], scores[photo, name], name, names, female[names])
            for photo, name in enumerate(names)
        ]
    )
    # A name's gender may be the only one of its kind: such a photo has nothing to compare with.
    return Ranking(*(estimate(column[~np.isnan(column)], names[~np.isnan(column)]) for column in rows.T))


def _auc(others: Floats, own: float, name: int, names: Indices, female: npt.NDArray[np.bool_]) -> list[float]:
    """Return what share of other people's names scores less than the own one: any, same gender, balanced."""
    wins = (others < own) + 0.5 * (others == own)
    other = names != name
    own_gender = female[names == name][0]
    same, opposite = (_mean(wins[other & (female == gender)]) for gender in (own_gender, not own_gender))
    return [_mean(wins[other]), same, (same + opposite) / 2]


def calibrate(scores: Floats, names: Indices, female: npt.NDArray[np.bool_], seed: int = 1) -> list[Calibrated]:
    """Compare what scores say with how often they are right, if a photo comes as often with its name as another."""
    random = np.random.default_rng(seed)
    said, true, group = [], [], []
    for photo, name in enumerate(names):
        for draw in range(DRAWS):
            candidates = np.flatnonzero((names != name) & (female[names] == (draw % 2 == 0)))
            if len(candidates):
                said += [scores[photo, name], scores[photo, names[random.choice(candidates)]]]
                true += [1.0, 0.0]
                group += [name, name]
    return _by_range(np.array(said), np.array(true), np.array(group))


def _by_range(said: Floats, true: Floats, group: Indices) -> list[Calibrated]:
    ranges = np.minimum((said * STEPS).astype(int), STEPS - 1)
    found = []
    for index in range(STEPS):
        inside = ranges == index
        if inside.sum() >= FEWEST * DRAWS:
            share = estimate(true[inside], group[inside])
            found.append(Calibrated(float(said[inside].mean()), share, float(inside.sum()) / DRAWS / 2))
    return found


def estimate(values: Floats, groups: Indices, seed: int = 2) -> Estimate:
    """Return the mean, with an interval from drawing groups anew: people of one name aren't independent."""
    unique, index = np.unique(groups, return_inverse=True)
    sums, counts = np.bincount(index, values), np.bincount(index)
    drawn = np.random.default_rng(seed).integers(0, len(unique), (ROUNDS, len(unique)))
    low, high = np.percentile(sums[drawn].sum(1) / counts[drawn].sum(1), [2.5, 97.5])
    return Estimate(float(values.mean()), float(low), float(high))


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else float("nan")

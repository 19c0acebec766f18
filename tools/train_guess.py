"""Makes guess.bin, the weights that guess the share of women for names in no table (merlinface/scorer/guess.py).

A logistic regression learns from nine tenths of the names of names.bin in plain a to z, and is tried on the last tenth.

usage: train_guess.py names.bin guess.bin
"""

import lzma
import sys
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.linear_model import SGDClassifier

from merlind.merlinface.scorer.guess import SLOTS, slots_of
from merlind.merlinface.scorer.packed import SHARE_STEPS

MIN_POWER = 3
"""Names with less evidence (2 ** 3 people) teach nothing."""

MAX_WEIGHT = 10
"""More evidence than 2 ** 10 people counts no more: a common name isn't more of an example."""

TRAINED = 120_000
"""So many names are learned from."""

CLEAR = 0.8
"""Names with a larger share of one gender are counted as right or wrong."""


def read_names(packed: bytes) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Return keys in plain a to z, their shares of women, and their weights."""
    lines = [line.split("\t") for line in lzma.decompress(packed).decode("utf-8").split("\n")[1:]]
    rows = [line for line in lines if line[0].isascii() and len(line[0]) > 1 and int(line[2]) >= MIN_POWER]
    shares = np.array([int(row[1]) / SHARE_STEPS for row in rows])
    return [row[0] for row in rows], shares, np.array([min(int(row[2]), MAX_WEIGHT) for row in rows], float)


def matrix(keys: list[str]) -> csr_matrix:
    """Return which slots each name has."""
    slots = [slots_of(key) for key in keys]
    ends = np.cumsum([0, *map(len, slots)])
    return csr_matrix((np.ones(ends[-1]), np.concatenate(slots), ends), shape=(len(keys), SLOTS))


def main(names: Path, target: Path) -> None:
    """Train, report, and write the weights."""
    keys, shares, weights = read_names(names.read_bytes())
    random = np.random.default_rng(0)
    held_out = random.random(len(keys)) < 0.1
    trained = random.permutation(np.flatnonzero(~held_out))[:TRAINED]
    slots = matrix(keys)
    # Each name twice: as a woman's by its share, as a man's by the rest.
    twice = np.concatenate([trained, trained])
    female = np.repeat([1, 0], len(trained))
    weight = weights[twice] * np.where(female, shares[twice], 1 - shares[twice])
    used = weight > 0
    model = SGDClassifier("log_loss", alpha=3e-6, max_iter=6, tol=None, random_state=0, average=True)
    model.fit(slots[twice[used]], female[used], sample_weight=weight[used] / weight.mean())
    scale = np.abs(model.coef_[0]).max() / 127
    steps = np.round(model.coef_[0] / scale).astype(np.int8)
    bias = float(model.intercept_[0])
    clear = held_out & (np.abs(shares - 0.5) > CLEAR - 0.5)
    right = (slots[clear] @ (steps * scale) + bias > 0) == (shares[clear] > 0.5)
    print(f"{right.mean():.1%} right of {len(right)} clear names held out")
    target.write_bytes(lzma.compress(np.array([scale, bias], "<f8").tobytes() + steps.tobytes()))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))

"""What the face scorer's tests share: whether they can run, and tables of names made up for a test."""

import json
import lzma
import struct
from collections.abc import Mapping, Sequence
from importlib.util import find_spec

from hypothesis import settings

from merlind.merlinface.scorer.guess import SLOTS
from merlind.merlinface.scorer.packed import HIGHEST_LEVEL, LOWEST_CHARACTER, SHARE_STEPS
from merlind.merlinface.scorer.statistics import PERIODS, Births

checked = settings(max_examples=200, deadline=None, derandomize=True, database=None)

_MODULES = ("anyascii", "numpy", "onnxruntime", "PIL", "pi_heif")

MISSING = None if all(map(find_spec, _MODULES)) else "the extra merlind[scorer] is not installed"
"""Why the tests of the face scorer are skipped, if they are."""

FLAT = Births((1000.0,) * PERIODS, (1000.0,) * PERIODS)
"""A population with as many births in all periods."""


def in_period(index: int, births: float = 1000.0) -> tuple[float, ...]:
    """Make births that all fall in one period."""
    return tuple(births if period == index else 0.0 for period in range(PERIODS))


def pack_names(
    rows: Mapping[str, tuple[float, int] | tuple[float, int, Sequence[float]]], population: Births = FLAT
) -> bytes:
    """Pack a table: for each key the share of women, the power of two of the evidence, and the births if known."""
    lines = []
    for key, (share, power, *years) in sorted(rows.items(), key=lambda row: row[0].encode("utf-8")):
        levels = ""
        if years:
            most = max(years[0])
            levels = "".join(chr(LOWEST_CHARACTER + round(HIGHEST_LEVEL * (n / most) ** 0.5)) for n in years[0])
        lines.append(f"{key}\t{round(share * SHARE_STEPS)}\t{power}\t{levels}")
    head = json.dumps({"population": [population.female, population.male]})
    return lzma.compress("\n".join([head, *lines]).encode("utf-8"))


def pack_guess(weights: Mapping[int, int], scale: float = 0.1, bias: float = 0.0) -> bytes:
    """Pack the weights of a guess, by slot."""
    return lzma.compress(
        struct.pack("<dd", scale, bias) + struct.pack(f"<{SLOTS}b", *(weights.get(slot, 0) for slot in range(SLOTS)))
    )

"""A guess at how many of those who have a name are women, from its letters: for names that no table knows.

The weights (data/guess.bin, made by tools/train_guess.py) are those of a logistic regression over parts of the name.
"""

import lzma
import struct
import zlib
from math import tanh

SLOTS = 16384
"""Parts of names are hashed to so many weights."""

LOWEST, HIGHEST = 0.15, 0.85
"""The bounds of a guess, which is wrong for one clear name in nine."""


class Guess:
    """The regression: a scale and a bias (doubles, little-endian), then SLOTS signed bytes, all packed by LZMA."""

    def __init__(self, packed: bytes) -> None:
        raw = lzma.decompress(packed)
        self._scale, self._bias = struct.unpack_from("<dd", raw)
        self._weights = struct.unpack_from(f"<{SLOTS}b", raw, 16)

    def female_share(self, letters: str) -> float:
        """Guess the share from a name in plain a to z (``ascii_key_of``); a single letter says nothing."""
        if len(letters) < 2:
            return 0.5
        logit = self._bias + self._scale * sum(self._weights[slot] for slot in slots_of(letters))
        # The logistic function of the logit, by a tanh that can't overflow.
        return LOWEST + (HIGHEST - LOWEST) * (1 + tanh(logit / 2)) / 2


def slots_of(letters: str) -> list[int]:
    """Return the slots of a name's parts: its beginnings, its endings, and all its pairs and triples of letters."""
    marked = f"^{letters}$"
    parts = {marked[:n] for n in (2, 3, 4)} | {marked[-n:] for n in (2, 3, 4, 5)}
    parts |= {marked[at : at + n] for n in (2, 3) for at in range(len(marked) - n + 1)}
    return sorted({zlib.crc32(part.encode("ascii")) % SLOTS for part in parts})

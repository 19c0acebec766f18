"""How long to wait after failures in a row."""

import math

BACKOFF_CAP = 300.0
"""The longest back-off between two attempts at one task, in seconds."""


def backoff(failures: int, base: float, jitter: float, cap: float = BACKOFF_CAP) -> float:
    """Return the seconds to wait after ``failures`` in a row: full jitter below a capped exponential.

    ``jitter`` is a random number from 0 to 1. ("Full jitter" as in the AWS Architecture Blog, "Exponential Backoff And
    Jitter".)
    """
    return jitter * min(cap, math.ldexp(base, min(failures, 32)))


def growing_pause(times: int, base: float, jitter: float, cap: float = BACKOFF_CAP) -> float:
    """Return the seconds to wait after the same has happened ``times`` before: never less than the pause before.

    It is the upper half of ``backoff``'s range, for pauses whose length is what they are for.
    """
    return backoff(times, base, (1.0 + jitter) / 2.0, cap)

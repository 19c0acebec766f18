"""Durations, sizes and scores as people write them."""

import math

from merlind.web.page.texts import Texts

_UNITS = (("unit.days", 86400), ("unit.hours", 3600), ("unit.minutes", 60), ("unit.seconds", 1))
_KB = 1024
_MB = 1024 * 1024


def duration(texts: Texts, seconds: float) -> str:
    """Return a duration in the largest unit of which there are two, rounded up: nothing is kept longer than it says."""
    whole = math.ceil(seconds)
    unit, length = next((unit for unit in _UNITS if whole >= 2 * unit[1]), _UNITS[-1])
    return texts.say(unit, n=-(-whole // length))


def size(texts: Texts, count: int) -> str:
    """Return a number of bytes as a size, rounded down: what is said to fit does. A megabyte is 1024 × 1024 bytes."""
    if count < _KB:
        return texts.say("unit.b", n=count)
    if count < _MB:
        return texts.say("unit.kb", n=count // _KB)
    whole, tenths = divmod(count * 10 // _MB, 10)
    return texts.say("unit.mb", n=decimal(texts, f"{whole}.{tenths}") if tenths else whole)


def score(texts: Texts, result: float) -> str:
    """Return a score with two digits; one that isn't between 0 and 1 as it is: who knows what its digits mean."""
    return decimal(texts, f"{result:.2f}" if 0 <= result <= 1 else str(result))


def decimal(texts: Texts, digits: str) -> str:
    """Return a number with the language's decimal sign."""
    return digits.replace(".", texts.say("decimal"))

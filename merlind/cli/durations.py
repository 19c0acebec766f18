"""Durations as people write them: ``90``, ``90s``, ``30m``, ``1h``, ``2d``."""

import re

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd]?)", re.ASCII | re.IGNORECASE)


def seconds_of(text: str) -> float:
    """Return a duration in seconds. Raises ValueError."""
    found = _DURATION.fullmatch(text.strip())
    if not found:
        raise ValueError(f"{text!r} is no duration such as 90s, 30m, 1h or 2d")
    return float(found[1]) * _UNITS[found[2].lower()]


def say(seconds: float) -> str:
    """Return a duration for people, in the two largest units that it has."""
    parts: list[str] = []
    rest = round(seconds)
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        if rest >= length or (unit == "s" and not parts):
            parts.append(f"{rest // length}{unit}")
            rest %= length
    return " ".join(parts[:2])

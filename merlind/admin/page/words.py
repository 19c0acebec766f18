"""Times, durations, sizes and counts as the page writes them. Pure."""

from datetime import UTC, datetime

_UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
_SIZES = ("B", "KB", "MB", "GB", "TB")

NONE = "–"
"""Stands for a value that there isn't."""


def duration(seconds: float) -> str:
    """Return a duration in its two largest units, such as ``3 h 12 min``; below ten seconds with two digits."""
    if seconds < 0.9995:
        milliseconds = seconds * 1000
        return f"{milliseconds:.0f} ms" if milliseconds >= 9.95 or not milliseconds else f"{milliseconds:.1f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    left = round(seconds)
    parts: list[str] = []
    for name, length in _UNITS:
        count, rest = divmod(left, length)
        if count or parts:
            parts.append(f"{count} {name}" if count else "")
            left = rest
        if len(parts) == 2:
            break
    return " ".join(filter(None, parts))


def optional_duration(seconds: float | None) -> str:
    """Return a duration, or NONE without one."""
    return NONE if seconds is None else duration(seconds)


def size(count: int) -> str:
    """Return a number of bytes, such as ``1.2 GB``; each unit is 1,024 of the one before."""
    shown, unit = float(count), 0
    while shown >= 999.5 and unit < len(_SIZES) - 1:
        shown, unit = shown / 1024, unit + 1
    return f"{shown:.1f} {_SIZES[unit]}" if unit and shown < 9.95 else f"{shown:.0f} {_SIZES[unit]}"


def number(count: int) -> str:
    """Return a whole number with a comma at each thousand."""
    return f"{count:,}"


def counted(count: int, one: str, several: str) -> str:
    """Return a number with the word for what it counts."""
    return f"{number(count)} {one if count == 1 else several}"


def moment(wall: float) -> str:
    """Return a time (epoch) to the second, such as ``2026-01-31 18:00:05``, in UTC."""
    return f"{datetime.fromtimestamp(wall, UTC):%Y-%m-%d %H:%M:%S}"


def minute(wall: float) -> str:
    """Return the hour and minute of a time (epoch), such as ``18:00``, in UTC."""
    return f"{datetime.fromtimestamp(wall, UTC):%H:%M}"

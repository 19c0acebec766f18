"""How many passwords a client may try: so many wrong ones in a minute, then none until the minute is over."""

from dataclasses import dataclass

MAX_FAILURES = 20
"""How many wrong passwords one client may send in WINDOW; those that are being checked count meanwhile."""

WINDOW = 60.0
"""Seconds from a client's first attempt until its count begins anew."""

MAX_CLIENTS = 10_000
"""How many clients are counted at once; past it, the one that was counted longest is forgotten."""


@dataclass(slots=True)
class _Count:
    since: float
    failures: int = 0


class Attempt:
    """One password that is being checked: it counts as wrong until ``forgive`` is called."""

    __slots__ = ("_count",)

    def __init__(self, count: _Count) -> None:
        self._count = count

    def forgive(self) -> None:
        """Count it no longer: the password was right, or could not be checked. To be called once at most."""
        self._count.failures -= 1


class Attempts:
    """Counts wrong passwords by client. ``now`` is in seconds, of a clock that never goes back."""

    def __init__(self) -> None:
        self._counts: dict[str, _Count] = {}  # in the order of their beginning

    def __len__(self) -> int:
        """How many clients are counted."""
        return len(self._counts)

    def seconds_to_wait(self, client: str, now: float) -> float:
        """Return for how long a client may not try again; 0 if it may now."""
        count = self._counts.get(client)
        if count is None or count.failures < MAX_FAILURES:
            return 0.0
        return max(0.0, count.since + WINDOW - now)

    def begin(self, client: str, now: float) -> Attempt:
        """Count an attempt of a client."""
        count = self._counts.get(client)
        if count is None or now - count.since >= WINDOW:
            self._counts.pop(client, None)
            self._make_room(now)
            count = self._counts[client] = _Count(now)
        count.failures += 1
        return Attempt(count)

    def _make_room(self, now: float) -> None:
        while self._counts:
            first = next(iter(self._counts))
            if len(self._counts) < MAX_CLIENTS and now - self._counts[first].since < WINDOW:
                return
            del self._counts[first]

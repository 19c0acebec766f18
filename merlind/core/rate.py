"""How often each client may do something: so many times in so many seconds, all at once or one after the other.

The generic cell rate algorithm: what a client has used comes back at an even pace, and one number a client says how
much that is: the time at which all of it is back.
"""

import re
from dataclasses import dataclass
from itertools import islice

MAX_TIMES = 1_000_000
MAX_SECONDS = 86_400

MAX_CLIENTS = 100_000
"""How many clients are remembered, at some 200 bytes each; past that, the one that was here longest ago goes."""

_RATE = re.compile(r"([0-9]{1,7})/([0-9]{1,5})", re.ASCII)

_ROUNDING = 1e-3
"""How much of a turn may be missing: sums of fractions of seconds aren't exact."""


@dataclass(frozen=True, slots=True)
class Rate:
    """``times`` in ``seconds``."""

    times: int
    seconds: int


def read_rate(text: str) -> Rate:
    """Read a rate such as ``100/60``, which is 100 times in 60 seconds. Raises ValueError."""
    found = _RATE.fullmatch(text)
    times, seconds = (int(found[1]), int(found[2])) if found else (0, 0)
    if not (1 <= times <= MAX_TIMES and 1 <= seconds <= MAX_SECONDS):
        raise ValueError(f"{text!r} is no rate such as 100/60: up to {MAX_TIMES} times in up to {MAX_SECONDS} seconds")
    return Rate(times, seconds)


@dataclass(frozen=True, slots=True)
class Quota:
    """How often a client may go on now, and in how many seconds once more than that; zero if it has all."""

    left: int
    more_after: float


class ClientRates:
    """Counts what each client does against one rate. Times are in seconds, of a clock that never goes back."""

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        self._interval = rate.seconds / rate.times
        self._whole_at: dict[str, float] = {}
        """When each client's quota is whole again; whoever did something last comes last."""

    @property
    def clients(self) -> int:
        """How many clients are remembered."""
        return len(self._whole_at)

    def take(self, client: str, now: float) -> bool:
        """Count one more for a client, if it may; returns whether it may."""
        self._forget(now)
        if self.quota(client, now).left == 0:
            return False
        whole_at = max(now, self._whole_at.pop(client, now))
        if len(self._whole_at) >= MAX_CLIENTS:
            del self._whole_at[next(iter(self._whole_at))]
        self._whole_at[client] = whole_at + self._interval
        return True

    def quota(self, client: str, now: float) -> Quota:
        """Return what a client has left."""
        used = max(0.0, self._whole_at.get(client, now) - now) / self._interval
        left = max(0, int(self.rate.times - used + _ROUNDING))
        more_after = (left + 1 + used - self.rate.times) * self._interval
        return Quota(left, more_after if left < self.rate.times else 0.0)

    def _forget(self, now: float) -> None:
        """Forget the first clients if their quotas are whole: two for each one that may be added.

        A quota is whole ``rate.seconds`` after its client's last time at the latest, so the first one is soon another.
        """
        for client in [*islice(self._whole_at, 2)]:
            if self._whole_at[client] <= now:
                del self._whole_at[client]

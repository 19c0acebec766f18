"""What an unreliable upstream does to some requests instead of a proper response."""

from enum import Enum
from random import Random


class Fault(Enum):
    """One way in which a request fails."""

    BUSY = "503"
    BUSY_FOR = "503 with Retry-After"
    RESET = "connection reset before the response"
    CUT_SHORT = "connection closed in the middle of the response"


def draw_fault(random: Random, rate: float) -> Fault | None:
    """Draw the next request's fault: with probability ``rate`` (0 to 1) one of all kinds alike, else None."""
    return random.choice(list(Fault)) if rate and random.random() < rate else None

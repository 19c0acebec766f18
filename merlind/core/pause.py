"""A pause that an operator orders: no new requests to the upstream, and no time that counts against a task. Pure."""

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Pause:
    """Whether merlind is paused, and for how long it was before.

    ``total`` is how long all earlier pauses lasted together, and ``began`` when this one did, None if there is none:
    both in seconds of service time. It ends by itself at ``until`` (seconds since the epoch), or after ``seconds``;
    without them, when somebody says so.
    """

    total: float = 0.0
    began: float | None = None
    until: float | None = None
    seconds: float | None = None

    @property
    def paused(self) -> bool:
        """Whether there is a pause."""
        return self.began is not None

    def task_time(self, now: float) -> float:
        """Return the task time at ``now`` (service time): service time without the pauses."""
        return (now if self.began is None else self.began) - self.total

    def left(self, wall: float) -> float | None:
        """Return the seconds until the pause ends by itself at ``wall`` (epoch), None if it doesn't.

        A pause is for people, so its end is by the wall clock, and time switched off counts. But however wrong that
        clock is, it lasts no longer than was asked for.
        """
        if self.until is None or self.seconds is None:
            return None
        return min(max(0.0, self.until - wall), self.seconds)


def begin(pause: Pause, now: float, wall: float, seconds: float | None) -> Pause:
    """Return the pause that begins, or goes on, at ``now`` (service time) and ``wall`` (epoch) for ``seconds``."""
    until = None if seconds is None else wall + seconds
    return replace(pause, began=now if pause.began is None else pause.began, until=until, seconds=seconds)


def end(pause: Pause, now: float) -> Pause:
    """Return what is left of a pause that ends at ``now`` (service time)."""
    return Pause(pause.total if pause.began is None else pause.total + now - pause.began)

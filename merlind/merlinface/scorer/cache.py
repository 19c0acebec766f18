"""Judgements of the last minutes, so that a photo that comes with several names is looked at once."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from merlind.merlinface.scorer.judgement import Judgement, Refused

KEEP_SECONDS = 300.0
"""How long a judgement is kept after its photo was looked at."""

MAX_KEPT = 10_000
"""The most judgements that are kept; the oldest make room. Each takes some 500 bytes."""


@dataclass(frozen=True, slots=True)
class _Kept:
    found: Judgement | str
    """A judgement, or the reason of a refusal. Not the exception: each raise would tie it to what raised it."""
    until: float


class JudgementCache:
    """Judgements and refusals by the SHA-256 digest of the photo; no photo is kept, and no failure."""

    def __init__(self, clock: IReactorTime, keep_seconds: float = KEEP_SECONDS, max_kept: int = MAX_KEPT) -> None:
        self._clock = clock
        self._keep_seconds = keep_seconds
        self._max_kept = max_kept
        self._kept: OrderedDict[bytes, _Kept] = OrderedDict()  # the oldest first
        self._looking: dict[bytes, list[Deferred[Judgement]]] = {}
        self._expiry: IDelayedCall | None = None

    def covers(self, digest: bytes) -> bool:
        """Whether ``get`` would look at no photo: it has a judgement, or waits for one."""
        return digest in self._looking or digest in self._kept

    def get(self, digest: bytes, look: Callable[[], Deferred[Judgement]]) -> Deferred[Judgement]:
        """Return the judgement of a photo; ``look`` is called if there is none, and nobody else waits for one.

        The Deferred fails with Refused, or with whatever ``look`` fails with.
        """
        if (kept := self._kept.get(digest)) is not None:
            return fail(Refused(kept.found)) if isinstance(kept.found, str) else succeed(kept.found)
        waiter: Deferred[Judgement] = Deferred()
        if (waiters := self._looking.get(digest)) is not None:
            waiters.append(waiter)
            return waiter
        self._looking[digest] = [waiter]
        maybeDeferred(look).addBoth(self._looked, digest)
        return waiter

    def clear(self) -> None:
        """Drop everything that is kept."""
        self._kept.clear()
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None

    def _looked(self, found: Judgement | Failure, digest: bytes) -> None:
        if isinstance(found, Judgement):
            self._keep(digest, found)
        elif isinstance(found.value, Refused):
            self._keep(digest, found.value.reason)
        for waiter in self._looking.pop(digest):
            waiter.callback(found)

    def _keep(self, digest: bytes, found: Judgement | str) -> None:
        if len(self._kept) >= self._max_kept:
            self._kept.popitem(last=False)
        self._kept[digest] = _Kept(found, self._clock.seconds() + self._keep_seconds)
        if self._expiry is None:
            self._expiry = self._clock.callLater(self._keep_seconds, self._expire)

    def _expire(self) -> None:
        self._expiry = None
        now = self._clock.seconds()
        while self._kept and next(iter(self._kept.values())).until <= now:
            self._kept.popitem(last=False)
        if self._kept:
            oldest = next(iter(self._kept.values()))
            self._expiry = self._clock.callLater(oldest.until - now, self._expire)

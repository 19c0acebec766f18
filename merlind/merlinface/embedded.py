"""A scorer of merlind's own as its upstream: the API on a port of this machine, inside merlind's process."""

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from merlind.merlinface.api import AT_ONCE, StandInSettings, make_site
from merlind.merlinface.choice import EXTRA, FACE, STAND_IN, choose_scorer, face_installed
from merlind.merlinface.face import FaceScorer
from merlind.merlinface.scorer.pool import PoolSettings, default_workers
from merlind.merlinface.scoring import Scorer
from merlind.merlinface.stand_in import StandInScorer

_log = Logger()


def embedded_workers(asked: str | None) -> int:
    """Return how many workers the scorer that was asked for has: none if it is the stand-in."""
    return default_workers() if asked != STAND_IN and face_installed() else 0


class Embedded:
    """The scorer that was asked for, or the face scorer where it is installed; ``site`` is to be listened on.

    ``reactor`` is an IReactorProcess and an IReactorTime; ``names`` are files of name statistics for the face scorer.
    Raises ValueError if the scorer isn't installed.
    """

    def __init__(self, reactor: Any, asked: str | None, names: Sequence[str] = ()) -> None:
        self._asked = asked
        chosen = choose_scorer(asked, face_installed())
        self._scorer: Scorer = StandInScorer()
        settings = StandInSettings()
        if chosen == FACE:
            self._scorer, settings = FaceScorer(reactor, PoolSettings(default_workers(), names=tuple(names))), AT_ONCE
        self.site = make_site(reactor, settings, scorer=self._scorer)

    @property
    def name(self) -> str:
        """Which scorer it is."""
        return self._scorer.name

    def start(self) -> None:
        """Say which scorer it is, and start it."""
        if self._scorer.name == FACE:
            _log.info("the upstream is the embedded {about}", about=self._scorer.about)
        else:
            _log.warn("the upstream is the embedded stand-in: its scores mean nothing")
            if self._asked is None:
                _log.warn("the face scorer, whose scores mean something, is not installed: it comes with {extra}",
                          extra=EXTRA)  # fmt: skip
        self._scorer.start()

    def stop(self) -> "Deferred[None]":
        """Fire when nothing of the scorer runs any more."""
        return self._scorer.stop()

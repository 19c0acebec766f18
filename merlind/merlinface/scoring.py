"""What a scorer is: where the API's scores come from. There are two, the face scorer and the stand-in."""

from dataclasses import dataclass
from typing import Protocol

from twisted.internet.defer import Deferred

from merlind.merlinface.form import UploadForm


@dataclass(frozen=True, slots=True)
class Score:
    """A score from 0 to 1, and whether the name is known; None if the scorer knows nothing of names."""

    value: float
    known_name: bool | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """This photo with this name gets no score, ever: the reason is in words that quote nothing of them."""

    reason: str


@dataclass(frozen=True, slots=True)
class Trouble:
    """There is no score now; the same upload may get one later."""

    reason: str


Verdict = Score | Refusal | Trouble


class Scorer(Protocol):
    """Scores uploads."""

    @property
    def name(self) -> str:
        """What the scorer is called, in the option ``--scorer`` and in the header ``Server``."""

    @property
    def about(self) -> str:
        """What its scores are worth, in ASCII: every response says it, and the log at the start."""

    @property
    def max_photo_memory(self) -> int | None:
        """How many bytes of photos it may hold, those that still come in included; None if it needs no photos."""

    def start(self) -> None:
        """Get ready; uploads may come before it is."""

    def stop(self) -> "Deferred[None]":
        """Drop what it works on, and fire when nothing of it runs any more."""

    def score(self, upload: UploadForm) -> "Deferred[Verdict]":
        """Score an upload, and release its photo once that isn't needed any more. The Deferred never fails."""

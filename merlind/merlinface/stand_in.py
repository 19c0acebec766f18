"""The stand-in: a scorer for trying merlind out and for tests, whose scores mean nothing (score.py)."""

from twisted.internet.defer import Deferred, succeed

from merlind.merlinface.form import UploadForm
from merlind.merlinface.score import DISCLAIMER, score_of_digest
from merlind.merlinface.scoring import Score, Verdict


class StandInScorer:
    """Scores at once, from a photo's digest and a name."""

    name = "stand-in"
    about = DISCLAIMER
    max_photo_memory = None

    def start(self) -> None:
        """Do nothing: it is ready."""

    def stop(self) -> "Deferred[None]":
        """Do nothing: it works on nothing."""
        return succeed(None)

    def score(self, upload: UploadForm) -> "Deferred[Verdict]":
        """Return a stable number."""
        return succeed(Score(score_of_digest(upload.name, upload.photo_sha256)))

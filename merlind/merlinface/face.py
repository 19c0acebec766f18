"""The face scorer as the API sees it: a pool of workers, with the judgements of the last minutes in front of it.

Nothing of the numeric side (onnxruntime, numpy, Pillow, the tables of names) is imported here: it lives in the workers.
"""

import os
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from merlind.merlinface.form import UploadForm
from merlind.merlinface.score import DIGITS
from merlind.merlinface.scorer.cache import JudgementCache
from merlind.merlinface.scorer.frames import NameScore, look_request, read_judgement, read_score, score_request
from merlind.merlinface.scorer.judgement import Judgement, Refused
from merlind.merlinface.scorer.pool import (
    Pool,
    PoolDown,
    PoolFull,
    PoolSettings,
    worker_command,
    worker_environment,
)
from merlind.merlinface.scoring import Refusal, Score, Trouble, Verdict

ABOUT = "face scorer; a game that judges apparent gender and age against statistics of names, no evidence about anyone"
"""What the face scorer's scores are worth."""

MAX_PHOTO_MEMORY = 512 * 2**20
"""How many bytes of photos may come in and wait: more than the 32 of 10 MiB that a merlind has in flight by default."""

_log = Logger()


class FaceScorer:
    """Scores a name by what a face looks like; ``reactor`` is an IReactorProcess and an IReactorTime."""

    name = "face"
    about = ABOUT
    max_photo_memory = MAX_PHOTO_MEMORY

    def __init__(self, reactor: Any, settings: PoolSettings, command: list[str] | None = None) -> None:
        self._pool = Pool(reactor, settings, command or worker_command(settings), worker_environment(os.environ))
        self._cache = JudgementCache(reactor)

    def start(self) -> None:
        """Start the workers."""
        self._pool.start()

    def stop(self) -> "Deferred[None]":
        """End the workers, and forget all judgements."""
        self._cache.clear()
        return self._pool.stop()

    def score(self, upload: UploadForm) -> "Deferred[Verdict]":
        """Have the photo looked at, unless that was done just now, and the name scored for what was seen."""
        return Deferred.fromCoroutine(self._score(upload))

    async def _score(self, upload: UploadForm) -> Verdict:
        try:
            judgement = await self._judge(upload)
            found = await self._score_name(upload.name, judgement)
        except Refused as refused:
            return Refusal(refused.reason)
        except PoolFull:
            return Trouble("too many photos wait")
        except PoolDown as down:
            return Trouble(str(down))
        except ValueError as error:
            _log.error("a worker of the face scorer is out of step: {why}", why=str(error))
            return Trouble("internal error")
        return Score(round(found.score, DIGITS), found.known_name)

    async def _judge(self, upload: UploadForm) -> Judgement:
        photo = upload.photo
        assert photo is not None, "the form was read without its photo"

        def look() -> Deferred[Judgement]:
            return self._pool.ask(look_request(photo.read())).addCallback(read_judgement)

        try:
            if self._cache.covers(upload.photo_sha256):
                photo.release()
            return await self._cache.get(upload.photo_sha256, look)
        finally:
            photo.release()

    async def _score_name(self, name: str, judgement: Judgement) -> NameScore:
        # Urgent: it takes a worker a millisecond, and a whole score is ready then.
        return read_score(await self._pool.ask(score_request(name, judgement), urgent=True))

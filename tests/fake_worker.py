"""A worker as merlind's own, but for what it sees: a photo's bytes say what it does. It needs no extra package.

python -m tests.fake_worker --photo-seconds 10 --memory 1000000000
"""

import os
import time
from pathlib import Path

from merlind.merlinface.scorer import worker
from merlind.merlinface.scorer.frames import NameScore
from merlind.merlinface.scorer.judgement import NO_FACE, Judgement, Refused


def look(photo: bytes) -> Judgement:
    """Do what the photo says: ``crash``, ``hang``, ``hog`` memory, crash ``once PATH``; else judge by its length."""
    word, _, rest = photo.partition(b" ")
    match word:
        case b"crash":
            os.abort()
        case b"hang":
            while True:
                time.sleep(1)
        case b"hog":
            return Judgement(0.5, len(bytearray(2**40)))
        case b"once":
            try:
                Path(os.fsdecode(rest)).touch(exist_ok=False)
            except FileExistsError:
                return Judgement(0.5, 1.0)
            os.abort()
        case b"nobody":
            raise Refused(NO_FACE)
    return Judgement(0.5, float(len(photo) % 100))


def score(name: str, judgement: Judgement) -> NameScore:
    """Return the judged age in centuries as a score, so that a test can tell whose it is."""
    return NameScore(judgement.age / 100, name == "Anna")


if __name__ == "__main__":
    worker.load = lambda names_files=(): (look, score)
    worker.main()

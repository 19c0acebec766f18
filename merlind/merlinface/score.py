"""The stand-in's score: a stable number made from a name and a photo. It means nothing."""

import hashlib

from merlind.core.names import canonical_name

DISCLAIMER = "stand-in; the score means nothing"
"""What every response says in its header ``X-Merlinface``."""

DIGITS = 4
"""The decimal places of a score."""


def score(name: str, photo: bytes) -> float:
    """Return a number from 0 to 1: the same for the same photo and an equal name, as names are compared in merlind."""
    return score_of_digest(name, hashlib.sha256(photo).digest())


def score_of_digest(name: str, photo_sha256: bytes) -> float:
    """Return what ``score`` does, from the photo's SHA-256 digest."""
    digest = hashlib.sha256(photo_sha256 + canonical_name(name).encode("utf-8")).digest()
    return round(int.from_bytes(digest[:8]) / 2**64, DIGITS)

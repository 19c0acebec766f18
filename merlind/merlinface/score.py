"""The stand-in's score: a stable number from a name and a photo that says nothing about either."""

import hashlib
import unicodedata

DIGITS = 4
"""The decimal places of a score."""


def score(name: str, photo: bytes) -> float:
    """A number from 0 to 1: the same for the same photo and the same name, however the name is composed or padded."""
    return score_of_digest(name, hashlib.sha256(photo).digest())


def score_of_digest(name: str, photo_sha256: bytes) -> float:
    """The same as ``score``, for a photo of which only the SHA-256 digest is at hand."""
    digest = hashlib.sha256(photo_sha256 + normal_name(name).encode("utf-8")).digest()
    return round(int.from_bytes(digest[:8]) / 2**64, DIGITS)


def normal_name(name: str) -> str:
    """The name after Unicode NFC and trimming of white space (contract: when two names are equal)."""
    return unicodedata.normalize("NFC", name).strip()

"""What the pages say of this merlind: who scores, and what is kept for how long."""

from dataclasses import dataclass
from typing import Any

from merlind.web.page.measures import duration, size
from merlind.web.page.texts import Texts, read_texts

URL = "url"
"""The kind of scorer that is a service at the URL of ``--upstream``; the others are merlind's own, by their names."""

KINDS = frozenset({URL, "face", "stand-in"})
"""All kinds of scorers; the texts have variants for them."""


@dataclass(frozen=True)
class Facts:
    """What people should know before they send a photo."""

    scorer: str
    """One of KINDS."""
    host: str | None
    """The host of the scoring service, if the scorer isn't merlind's own."""
    retention: float
    """Seconds that name and score are kept."""
    longest_kept: float
    """Seconds that the photo is kept if there is no score: while it is tried, and then while it may be tried again."""
    max_photo_bytes: int
    """The largest photo, in bytes."""

    def texts(self, language: str) -> Texts:
        """Return the texts in a language, with what they say of these facts filled in."""
        texts = read_texts(language).for_variant(self.scorer, KINDS)
        return texts.with_values(
            scorer=self.host or "merlind",
            retention=duration(texts, self.retention),
            longest_kept=duration(texts, self.longest_kept),
            max_photo=size(texts, self.max_photo_bytes),
        )

    def for_script(self, language: str) -> dict[str, Any]:
        """Return the facts for the page's script, as they go into JSON."""
        return {
            "lang": language,
            "max_photo_bytes": self.max_photo_bytes,
            "retention": self.retention,
            "longest_kept": self.longest_kept,
            "scorer": {"kind": self.scorer, "host": self.host},
        }

"""What can be set."""

from dataclasses import dataclass
from pathlib import Path

EMBEDDED = "embedded"
"""The upstream that is the stand-in, inside this process."""


@dataclass(frozen=True)
class Settings:
    """What can be set; the options' names, with their units."""

    listen: list[str]
    admin: str | None
    upstream: str
    data_dir: Path
    poll_interval: float
    upstream_timeout: float
    upstream_concurrency: int
    give_up_after: float
    retention: float
    max_photo_bytes: int
    max_pending: int
    max_connections: int
    max_uploads: int
    max_upload_bytes: int
    min_rate: int
    min_free_bytes: int

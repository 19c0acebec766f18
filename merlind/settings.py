"""What can be set, with units, and how it is fitted to what the process may use. Knows nothing of the command line."""

from dataclasses import dataclass, replace
from pathlib import Path

from merlind.core.clients import LOOPBACK, Network
from merlind.core.rate import Rate

EMBEDDED = "embedded"
"""The value of ``upstream`` that means a scorer of merlind's own; ``embedded:NAME`` says which one."""

MAX_REFUSED_CONNECTIONS = 128
"""How many connections past ``max_connections``, at once, get a response that says so; more are closed without one."""

OWN_FILES = 40
"""How many files merlind has open besides public connections, uploads, requests to the upstream and workers' pipes."""

WORKER_PIPES = 3
"""How many pipes lead to a worker of the embedded face scorer: its standard input, output and error."""


@dataclass(frozen=True)
class Settings:
    """The settings of one merlind; each is named after its option."""

    listen: list[str]
    """Where to serve the public: Twisted server endpoints, such as ``tcp:8000``."""
    admin: str | None
    """Where to serve health, metrics and the page for operators, as an endpoint; None serves them nowhere."""
    admin_host: list[str]
    """Names of the admin listener, in lower case, besides those that are always allowed."""
    auth: list[str | None]
    """How users sign in: descriptions of twisted.cred's checkers; None stands for none."""
    upstream: str
    """The URL of the scoring API, or EMBEDDED, alone or with a colon and the scorer's name."""
    names: list[str]
    """Files of name statistics for the embedded face scorer."""
    data_dir: Path
    """The directory of the database and the photos."""
    poll_interval: float
    """Seconds between two polls for one task."""
    upstream_timeout: float
    """Seconds for one request to the upstream, from connecting to the response's last byte."""
    upstream_concurrency: int
    """The most requests to the upstream in flight."""
    give_up_after: float
    """Seconds of service time after which an unfinished task fails."""
    max_attempts: int
    """How often a task may fail at the upstream while others succeed."""
    retention: float
    """Seconds that a finished task is kept."""
    keep_failed: float
    """Seconds that the photo of a task is kept after it was given up, so that it can be tried again."""
    max_photo_bytes: int
    """The largest photo, in bytes."""
    max_pending: int
    """The most unfinished tasks."""
    max_connections: int
    """The most open connections on the public listener."""
    max_uploads: int
    """The most active uploads."""
    max_upload_bytes: int
    """The most bytes of all active uploads together."""
    max_connections_per_client: int
    """The most open connections of one client; 0 sets no limit, here and in the next three."""
    max_uploads_per_client: int
    """The most active uploads of one client."""
    max_pending_per_client: int
    """The most unfinished tasks of one client."""
    max_long_polls_per_client: int
    """The most long polls of one client."""
    client_rate: Rate | None
    """How often one client may submit; None sets no limit."""
    cors_origin: list[str | None]
    """The origins whose pages may send requests and read responses; None is none, and ANY is every one."""
    trusted_proxy: list[Network | None]
    """The networks of proxies that tell who their clients are, besides this machine; None trusts none of the latter."""
    min_rate: int
    """The slowest that a body may come in, in bytes a second."""
    upload_timeout: float
    """The longest that a body may take to come in, in seconds, however fast it is."""
    min_free_bytes: int
    """The room to leave on the disk, in bytes."""

    @property
    def embedded(self) -> bool:
        """Whether the upstream is a scorer of merlind's own."""
        return self.upstream.partition(":")[0] == EMBEDDED

    @property
    def embedded_scorer(self) -> str | None:
        """The scorer that is asked for by name, if one is."""
        return self.upstream.partition(":")[2] or None if self.embedded else None

    @property
    def cors_origins(self) -> list[str]:
        """The origins whose pages may do so."""
        return [origin for origin in self.cors_origin if origin is not None]

    @property
    def checkers(self) -> list[str]:
        """The checkers by which users sign in; without one, nobody needs to."""
        return [checker for checker in self.auth if checker is not None]

    @property
    def trusted_networks(self) -> list[Network]:
        """Where proxies are believed when they say who their client is."""
        named = [network for network in self.trusted_proxy if network is not None]
        return named if None in self.trusted_proxy else [*LOOPBACK, *named]


def fit_open_files(settings: Settings, files: int, workers: int = 0) -> Settings:
    """Return the settings with as many connections, uploads and requests as ``files`` open files allow; ``workers`` are
    those of the embedded scorer."""
    concurrency = min(settings.upstream_concurrency, max(1, files // 8))
    # A request to the upstream has a photo and a connection open, and both ends of it where the upstream is embedded.
    files_of_request = 3 if settings.embedded else 2
    room = max(2, files - OWN_FILES - WORKER_PIPES * workers - files_of_request * concurrency)
    uploads = min(settings.max_uploads, max(1, room // 4))
    room = max(1, (room - uploads) // 2, room - uploads - MAX_REFUSED_CONNECTIONS)
    fitted = replace(
        settings,
        upstream_concurrency=concurrency,
        max_uploads=uploads,
        max_connections=min(settings.max_connections, room),
    )
    return fit_clients(fitted)


def fit_clients(settings: Settings) -> Settings:
    """Return the settings with limits by client of at most half of what all clients may have; 0 stays as it is."""

    def fit(most: int, total: int) -> int:
        return min(most, max(1, total // 2))

    return replace(
        settings,
        max_connections_per_client=fit(settings.max_connections_per_client, settings.max_connections),
        max_uploads_per_client=fit(settings.max_uploads_per_client, settings.max_uploads),
        max_pending_per_client=fit(settings.max_pending_per_client, settings.max_pending),
        # Each long poll has a connection of its own.
        max_long_polls_per_client=fit(settings.max_long_polls_per_client, settings.max_connections),
    )

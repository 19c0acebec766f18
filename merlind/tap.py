"""``twistd merlind``: its options, and how the process and the service start."""

import os
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from hyperlink import EncodedURL
from twisted.application.service import IService
from twisted.logger import Logger
from twisted.python import usage

from merlind.core.clients import Network, read_network
from merlind.core.origin import read_origin
from merlind.core.rate import Rate, read_rate
from merlind.daemon import process
from merlind.daemon.clock import use_monotonic_time
from merlind.daemon.datadir import DataDir, DataDirUnusable
from merlind.daemon.garbage import collect_by_time
from merlind.daemon.options import EnvironmentOptions, Option, count, endpoint, seconds
from merlind.daemon.systemd import Systemd
from merlind.daemon.user import User
from merlind.merlinface.choice import EXTRA, FACE, STAND_IN, face_installed
from merlind.merlinface.names_option import NAMES, check_names, given_names
from merlind.settings import EMBEDDED, Settings, fit_open_files
from merlind.storage import pairing
from merlind.storage.sqlite.errors import DatabaseUnusable

_log = Logger()

_HOST_NAME = re.compile(r"[A-Za-z0-9._-]{1,253}")
_VISIBLE = re.compile(r"[\x21-\x7e]+")


def upstream(text: str) -> str:
    """Read the word ``embedded``, with or without a scorer's name, or an http or https URL."""
    if text in (EMBEDDED, *(f"{EMBEDDED}:{name}" for name in (FACE, STAND_IN))):
        return text
    try:
        parts = urlsplit(text)
        EncodedURL.from_text(text)
        plain = _VISIBLE.fullmatch(text) is not None and parts.username is None
        usable = plain and parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError(f"{text!r} is neither an http or https URL nor the word {EMBEDDED}")
    return text


def host_name(text: str) -> str:
    """Read a host name; returns it in lower case."""
    if not _HOST_NAME.fullmatch(text):
        raise ValueError(f"{text!r} is no host name such as merlind.example.org")
    return text.lower()


def proxy(text: str) -> Network | None:
    """Read a network or an address, or the word ``none``."""
    try:
        return None if text == "none" else read_network(text)
    except ValueError:
        raise ValueError(f"{text!r} is no network such as 10.0.0.0/8, no address and not the word none") from None


def origin(text: str) -> str | None:
    """Read an origin, or the word ``none``."""
    return None if text == "none" else read_origin(text)


def rate(text: str) -> Rate | None:
    """Read a rate, or the word ``none``."""
    return None if text == "none" else read_rate(text)


def checker(text: str) -> str | None:
    """Read the description of a checker of twisted.cred, or the word ``none``."""
    if text == "none":
        return None
    if not text.partition(":")[0].isalnum():
        raise ValueError(f"{text!r} is not a checker such as htpasswd:FILE, nor the word none")
    return text


_ADDRESS = "an IPv4 address, or a /64 in IPv6"


def _per_client(
    limit: str, default: str, what: str, total: str, who: str = f"a user that signed in, {_ADDRESS}"
) -> Option:
    text = f"The most {what} of one client ({who}), at most half of --max-{total}; past it, 429. 0 sets no limit."
    return Option(f"max-{limit}-per-client", default, text, count(0))


class Options(EnvironmentOptions):
    """The options of ``twistd merlind``."""

    synopsis = "[options]"
    longdesc = "Takes a name and a photo over HTTP and tells, in time, how well the name suits the person."
    prefix = "MERLIND"
    repeated = frozenset({"listen", "names", "auth", "trusted-proxy", "admin-host", "cors-origin"})
    declared: Sequence[Option] = (
        Option("listen", "tcp:8000", "Where to serve; may be given more than once.", endpoint),
        Option("auth", "none", "How users sign in; may be given more than once.", checker),
        Option(
            "upstream",
            "http://merlinface.com:12345/api/",
            f"The URL of the scoring API, or the word {EMBEDDED} for merlind's own: the face scorer where it is "
            f"installed, else a stand-in; {EMBEDDED}:{FACE} and {EMBEDDED}:{STAND_IN} ask for one of them.",
            upstream,
        ),
        NAMES,
        Option("data-dir", "./merlind-data", "The directory of the database and the photos.", Path),
        Option("poll-interval", "2", "Seconds between two polls for one task.", seconds(0.01)),
        Option("upstream-timeout", "30", "Seconds for one whole request to the upstream.", seconds(0.01)),
        Option("upstream-concurrency", "32", "The most requests to the upstream in flight.", count(1)),
        Option("give-up-after", "86400", "Seconds after which an unfinished task fails.", seconds(0.01)),
        Option(
            "max-attempts",
            "100",
            "How often a task may fail at the upstream while others succeed; then it fails for good.",
            count(1),
        ),
        Option("retention", "2592000", "Seconds that a finished task is kept.", seconds(0.0)),
        Option(
            "keep-failed",
            "86400",
            "Seconds that the photo of a task is kept after it was given up, so that it can be tried again.",
            seconds(0.0),
        ),
        Option("max-photo-bytes", "10485760", "The largest photo, in bytes.", count(1)),
        Option("max-pending", "100000", "The most unfinished tasks; past it, 503.", count(1)),
        Option("max-connections", "20000", "The most open connections; past it, 503.", count(1)),
        Option("max-uploads", "512", "The most active uploads; past it, 503.", count(1)),
        Option("max-upload-bytes", "1073741824", "The most bytes of all active uploads; past it, 503.", count(1)),
        _per_client("connections", "5000", "open connections", "connections", _ADDRESS),
        _per_client("uploads", "128", "active uploads", "uploads"),
        _per_client("pending", "25000", "unfinished tasks", "pending"),
        _per_client("long-polls", "2500", "long polls", "connections"),
        Option(
            "client-rate",
            "none",
            "How often one client may submit a photo, as N/S: N times in S seconds, all at once or one after the "
            "other; past it, 429. none sets no limit.",
            rate,
        ),
        Option("cors-origin", "none", "An origin whose pages may ask; may be given more than once.", origin),
        Option("trusted-proxy", "127.0.0.0/8 ::1", "A proxy's network; may be given more than once.", proxy),
        Option("min-rate", "8192", "The slowest that a body may come in, in bytes a second.", count(1)),
        Option("upload-timeout", "900", "Seconds that a body may take to come in, however fast it is.", seconds(1)),
        Option("min-free-bytes", "268435456", "The room to leave on the disk, in bytes; below it, 503.", count(0)),
        Option(
            "admin",
            "tcp:8001:interface=127.0.0.1",
            "Where to serve health, metrics and the page for operators; none turns it off.",
            lambda text: None if text == "none" else endpoint(text),
        ),
        Option(
            "admin-host", "none", "A name of the admin listener, with dots; may be given more than once.", host_name
        ),
    )
    flags = (("log-json", "Log one line of JSON for each event."),)

    def opt_listen(self, description: str) -> None:
        """Where to serve: an endpoint such as tcp:8000; may be given more than once. [default: tcp:8000, or
        $MERLIND_LISTEN, separated by spaces]"""
        self.add("listen", description)

    def opt_names(self, path: str) -> None:
        """A file of name statistics of your country, for the embedded face scorer to use beside ours (docs/scorer.md);
        may be repeated. [default: none, or $MERLIND_NAMES, separated by spaces]"""
        self.add("names", path)

    def opt_auth(self, description: str) -> None:
        """How users sign in: htpasswd:FILE for passwords, tokens:FILE for tokens, proxy:HEADER for a proxy that signs
        them in and asks on a unix socket, or another checker of twisted.cred; may be repeated. [default: none, or
        $MERLIND_AUTH, separated by spaces]"""
        self.add("auth", description)

    def opt_admin_host(self, name: str) -> None:
        """A name by which the admin listener may be asked, besides addresses and names without a dot; may be
        repeated. [default: none, or $MERLIND_ADMIN_HOST]"""
        self.add("admin-host", name)

    def opt_cors_origin(self, page: str) -> None:
        """An origin such as https://app.example.org, whose pages may send requests and read responses, or * for every
        one; may be repeated. [default: none, or $MERLIND_CORS_ORIGIN]"""
        self.add("cors-origin", page)

    def opt_trusted_proxy(self, network: str) -> None:
        """Proxies to believe about clients; may be repeated. [default: 127.0.0.0/8 ::1, or $MERLIND_TRUSTED_PROXY]"""
        self.add("trusted-proxy", network)

    def postOptions(self) -> None:
        """Check that what was given goes together. Raises UsageError."""
        super().postOptions()
        self["names"] = given_names(self["names"])
        if self["names"] and self["upstream"] not in (EMBEDDED, f"{EMBEDDED}:{FACE}"):
            raise usage.UsageError(f"--names is an option of --upstream {EMBEDDED}, not of {self['upstream']}")
        if self["names"] and not face_installed():
            raise usage.UsageError(f"--names is for the face scorer, which is not installed: it comes with {EXTRA}")


def make_settings(options: Options) -> Settings:
    """Return the options' values as settings."""
    return Settings(**{option.name.replace("-", "_"): options[option.name] for option in options.declared})


def _check_names(paths: Sequence[str], user: User) -> None:
    """Log what is in files of names, as the user that the workers run as. Raises SystemExit, with one line."""
    try:
        with user.acting():
            _log.info("{names}", names=check_names(paths))
    except ValueError as error:
        raise SystemExit(f"merlind: {error}") from None


def makeService(options: Options) -> IService:
    """Prepare the process and make the service in it. Raises SystemExit, with one line that says why it can't."""
    # Late, because both import the reactor, and twistd loads this module before it chooses one.
    from twisted.internet import reactor

    from merlind.merlinface.embedded import embedded_workers
    from merlind.service import MerlindService

    os.umask(0o077)
    use_monotonic_time(reactor)
    process.shorten_pauses()
    collect_by_time(reactor)
    log = process.make_log(reactor, options["log-json"], options.parent or {})
    process.end_at_fatal_errors(reactor, log)
    settings = make_settings(options)
    workers = embedded_workers(settings.embedded_scorer) if settings.embedded else 0
    settings = fit_open_files(settings, process.raise_open_files(), workers)
    user = User.of(options.parent or {})
    data_dir = DataDir(settings.data_dir, user)
    if settings.names:
        _check_names(settings.names, user)
    try:
        data_dir.acquire()
        with data_dir.user.acting():
            pairing.prepare(data_dir.database, data_dir.spool, data_dir.last_commit)
        service = MerlindService(reactor, settings, data_dir, partial(process.end_soon, reactor, log))
    except (DataDirUnusable, DatabaseUnusable, pairing.WrongPair) as error:
        raise SystemExit(f"merlind: {error}") from None
    except OSError as error:
        raise SystemExit(f"merlind: {error.filename or data_dir.path} can't be used: {error.strerror}") from None
    service.log_observer = log
    service.systemd = Systemd(os.environ)
    if log is not None:
        reactor.addSystemEventTrigger("during", "shutdown", log.end)
    process.limit_stop(reactor)
    return service

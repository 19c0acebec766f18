"""The twistd plugin's side: the options, and the service that they make."""

import gc
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from hyperlink import EncodedURL
from twisted.application.service import IService

from merlind.daemon.options import EnvironmentOptions, Option, count, endpoint, seconds
from merlind.settings import EMBEDDED, Settings

_VISIBLE = re.compile(r"[\x21-\x7e]+")


def upstream(text: str) -> str:
    """The word ``embedded``, or an http or https URL."""
    if text == EMBEDDED:
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


class Options(EnvironmentOptions):
    """The options of ``twistd merlind``."""

    synopsis = "[options]"
    longdesc = "Takes a name and a photo over HTTP and tells, in time, how well the name suits the person."
    prefix = "MERLIND"
    repeated = frozenset({"listen"})
    declared: Sequence[Option] = (
        Option("listen", "tcp:8000", "Where to serve; may be given more than once.", endpoint),
        Option(
            "upstream",
            "http://merlinface.com:12345/api/",
            f"The URL of the scoring API, or the word {EMBEDDED} for a stand-in inside this process.",
            upstream,
        ),
        Option("data-dir", "./merlind-data", "The directory of the database and the photos.", Path),
        Option("poll-interval", "2", "Seconds between two questions for one task.", seconds(0.01)),
        Option("upstream-timeout", "30", "Seconds for one whole exchange with the upstream.", seconds(0.01)),
        Option("upstream-concurrency", "32", "The most exchanges at once.", count(1)),
        Option("give-up-after", "86400", "Seconds after which a task that got nowhere fails.", seconds(0.01)),
        Option("retention", "2592000", "Seconds for which a finished task is remembered.", seconds(0.0)),
        Option("max-photo-bytes", "10485760", "The largest photo, in bytes.", count(1)),
        Option("max-pending", "100000", "The most unfinished tasks; past it, 503.", count(1)),
        Option("max-connections", "20000", "The most open connections; past it, 503.", count(1)),
        Option("max-uploads", "512", "The most uploads in hand; past it, 503.", count(1)),
        Option("max-upload-bytes", "1073741824", "The most bytes of uploads in hand; past it, 503.", count(1)),
        Option("min-rate", "8192", "The slowest that a body may come in, in bytes a second.", count(1)),
        Option("min-free-bytes", "268435456", "The room to leave on the disk, in bytes; below it, 503.", count(0)),
        Option(
            "admin",
            "tcp:8001:interface=127.0.0.1",
            "Where to serve health and metrics; none turns it off.",
            lambda text: None if text == "none" else endpoint(text),
        ),
    )
    flags = (("log-json", "Log a line of JSON for each event."),)

    def opt_listen(self, value: str) -> None:
        """Where to serve: an endpoint such as tcp:8000; may be given more than once. [default: tcp:8000, or
        $MERLIND_LISTEN, separated by spaces]"""
        self.add_repeated("listen", value)


def make_settings(options: Options) -> Settings:
    """The options' values as settings."""
    names = {option.name: option.name.replace("-", "_") for option in options.declared}
    return Settings(**{field: options[name] for name, field in names.items()})


def makeService(options: Options) -> IService:
    """merlind as these options want it. Ends the start with one line if it can't be."""
    # Nothing that is imported is garbage, and looking for some among it takes a fourteenth of the start.
    gc.disable()
    try:
        from merlind.daemon.process import make_service

        return make_service(make_settings(options), options["log-json"], options.parent or {})
    finally:
        gc.enable()

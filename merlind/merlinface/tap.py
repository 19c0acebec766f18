"""``twistd merlinface``: the scoring API's options, and the service made from them."""

from collections.abc import Sequence
from typing import Any, cast

from twisted.application import strports
from twisted.application.service import IService, MultiService
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IReactorCore, IReactorTime
from twisted.logger import Logger
from twisted.python import usage
from twisted.web.server import Site

from merlind.daemon.options import EnvironmentOptions, Option, count, endpoint, seconds, share
from merlind.merlinface.api import AT_ONCE, StandInSettings, make_site
from merlind.merlinface.choice import FACE, STAND_IN, choose_scorer, face_installed
from merlind.merlinface.face import FaceScorer
from merlind.merlinface.names_option import NAMES, check_names, given_names
from merlind.merlinface.score import DISCLAIMER
from merlind.merlinface.scorer.pool import PoolSettings, default_workers
from merlind.merlinface.scoring import Scorer
from merlind.merlinface.stand_in import StandInScorer

_log = Logger()
_DEFAULTS = StandInSettings()
_POOL = PoolSettings(workers=1)

AUTO = "auto"
"""The default of --scorer and of --workers."""

_STAND_IN_ONLY = ("delay", "waits", "trouble")
"""The options that only the stand-in has: who gives one of them wants the stand-in."""


def scorer(text: str) -> str | None:
    """Read the name of a scorer; None for ``auto``."""
    if text not in (FACE, STAND_IN, AUTO):
        raise ValueError(f"{text!r} is neither {FACE} nor {STAND_IN}")
    return None if text == AUTO else text


def workers(text: str) -> int:
    """Read the number of workers, or ``auto``."""
    return default_workers() if text == AUTO else count(1)(text)


class MerlinfaceOptions(EnvironmentOptions):
    """The command line of ``twistd merlinface``; each option has a variable, such as MERLINFACE_WORKERS."""

    prefix = "MERLINFACE"
    longdesc = (
        "Answers like the API of merlinface, with scores of its own: those of the face scorer, or those of a "
        f"{DISCLAIMER}. It forgets everything when it ends."
    )
    repeated = frozenset({"names"})
    declared: Sequence[Option] = (
        Option("listen", "tcp:12345", "Where to listen, as a Twisted server endpoint.", endpoint),
        Option(
            "scorer",
            AUTO,
            f"{FACE} or {STAND_IN}; {AUTO} is {FACE} where it is installed, unless an option of the stand-in is given.",
            scorer,
        ),
        Option("workers", AUTO, f"How many processes judge photos; {AUTO} is one less than the cores.", workers),
        Option(
            "photo-seconds",
            f"{_POOL.photo_seconds:g}",
            "Seconds that a photo may take; its process is killed then.",
            seconds(0.1),
        ),
        Option(
            "worker-memory", str(_POOL.worker_memory), "The most address space of a worker, in bytes.", count(2**28)
        ),
        NAMES,
        Option("delay", f"{_DEFAULTS.delay:g}", "Seconds from an upload to its score (stand-in).", seconds()),
        Option(
            "waits",
            str(_DEFAULTS.waits),
            "How often to answer wait before the score, the upload included (stand-in).",
            count(),
        ),
        Option(
            "trouble",
            f"{_DEFAULTS.fault_rate:g}",
            "The share of requests, 0 to 1, that get a 503, a reset connection or half an answer (stand-in).",
            share,
        ),
    )

    def opt_names(self, path: str) -> None:
        """A file of name statistics of your country, to use beside ours (docs/scorer.md); may be repeated. [default:
        none, or $MERLINFACE_NAMES, separated by spaces]"""
        self.add("names", path)

    def postOptions(self) -> None:
        """Choose the scorer. Raises UsageError if what was given doesn't go together."""
        faults = [name for name in _STAND_IN_ONLY if name in self or self.variable(name) in self._environment]
        super().postOptions()
        if faults and self["scorer"] == FACE:
            raise usage.UsageError(f"--{faults[0]} is an option of the stand-in, not of --scorer {FACE}")
        try:
            self["scorer"] = STAND_IN if faults else choose_scorer(self["scorer"], face_installed())
        except ValueError as error:
            raise usage.UsageError(f"--scorer: {error}") from None
        self["names"] = given_names(self["names"])
        if self["names"] and self["scorer"] != FACE:
            raise usage.UsageError(f"--names is an option of --scorer {FACE}, not of the stand-in")


# twistd looks for this name.
Options = MerlinfaceOptions


class MerlinfaceService(MultiService):
    """The API's site on its port, and its scorer."""

    def __init__(self, description: str, site: Site, scorer: Scorer, reactor: IReactorCore) -> None:
        super().__init__()
        self._description = description
        self._scorer = scorer
        strports.service(description, site, reactor).setServiceParent(self)

    def privilegedStartService(self) -> None:
        """Listen. Raises SystemExit, with one line for a person, if it can't listen there."""
        try:
            super().privilegedStartService()
        except (CannotListenError, OSError) as error:
            reason = getattr(error, "socketError", error)
            raise SystemExit(f"merlinface: cannot listen on {self._description}: {reason}") from None

    def startService(self) -> None:
        """Start the scorer: not before twistd has given up root."""
        super().startService()
        self._scorer.start()

    def stopService(self) -> "Deferred[None]":
        """Stop listening, then the scorer; fires when nothing runs any more."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        await super().stopService()
        await self._scorer.stop()


def make_scorer(options: MerlinfaceOptions, reactor: Any) -> tuple[Scorer, StandInSettings]:
    """Return the scorer that was chosen, and how the API behaves in front of it."""
    if options["scorer"] == FACE:
        pool = PoolSettings(
            options["workers"], options["photo-seconds"], options["worker-memory"], names=tuple(options["names"])
        )
        return FaceScorer(reactor, pool), AT_ONCE
    return StandInScorer(), StandInSettings(options["delay"], options["waits"], options["trouble"])


def makeService(options: MerlinfaceOptions, reactor: object = _reactor) -> IService:
    """Make the service; the reactor is an IReactorCore, an IReactorTime and an IReactorProcess.

    Raises SystemExit, with one line for a person, for a file of names that is broken.
    """
    if options["names"]:
        try:
            _log.info("{names}", names=check_names(options["names"]))
        except ValueError as error:
            raise SystemExit(f"merlinface: {error}") from None
    scorer, settings = make_scorer(options, reactor)
    site = make_site(cast(IReactorTime, reactor), settings, scorer=scorer)
    return MerlinfaceService(options["listen"], site, scorer, cast(IReactorCore, reactor))

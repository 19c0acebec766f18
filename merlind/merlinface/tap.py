"""``twistd merlinface``: the stand-in's options, and the service made from them."""

from typing import cast

from twisted.application import strports
from twisted.application.service import IService, MultiService
from twisted.internet import reactor as _reactor
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IReactorCore, IReactorTime
from twisted.web.server import Site

from merlind.daemon.options import EnvironmentOptions, Option, count, endpoint, seconds, share
from merlind.merlinface.api import StandInSettings, make_site
from merlind.merlinface.score import DISCLAIMER

_DEFAULTS = StandInSettings()


class StandInOptions(EnvironmentOptions):
    """The command line of ``twistd merlinface``; each option has a variable, such as MERLINFACE_DELAY."""

    prefix = "MERLINFACE"
    longdesc = f"Answers like the API of merlinface, but is a {DISCLAIMER}. It forgets everything when it ends."
    declared = (
        Option(
            "listen",
            "tcp:12345",
            "Where to listen, as a Twisted server endpoint.",
            endpoint,
        ),
        Option("delay", f"{_DEFAULTS.delay:g}", "Seconds from an upload to its score.", seconds()),
        Option(
            "waits", str(_DEFAULTS.waits), "How often to answer wait before the score, the upload included.", count()
        ),
        Option(
            "trouble",
            f"{_DEFAULTS.fault_rate:g}",
            "The share of requests, 0 to 1, that get a 503, a reset connection or half an answer.",
            share,
        ),
    )


# twistd looks for this name.
Options = StandInOptions


class StandInService(MultiService):
    """The stand-in's site on its port."""

    def __init__(self, description: str, site: Site, reactor: IReactorCore) -> None:
        super().__init__()
        self._description = description
        strports.service(description, site, reactor).setServiceParent(self)

    def privilegedStartService(self) -> None:
        """Listen. Raises SystemExit, with one line for a person, if it can't listen there."""
        try:
            super().privilegedStartService()
        except (CannotListenError, OSError) as error:
            reason = getattr(error, "socketError", error)
            raise SystemExit(f"merlinface: cannot listen on {self._description}: {reason}") from None


def makeService(options: StandInOptions, reactor: object = _reactor) -> IService:
    """Make the service; the reactor is an IReactorCore and an IReactorTime."""
    settings = StandInSettings(options["delay"], options["waits"], options["trouble"])
    site = make_site(cast(IReactorTime, reactor), settings)
    return StandInService(options["listen"], site, cast(IReactorCore, reactor))

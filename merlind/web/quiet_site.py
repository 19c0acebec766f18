"""A Site for the listeners that need no access log: the admin side and the stand-in of the upstream."""

from twisted.web.server import Site


class QuietSite(Site):
    """A Site that logs neither its start nor its requests, and so needs no timer for the dates of such a log."""

    noisy = False

    def startFactory(self) -> None:
        """Open no log file."""

    def stopFactory(self) -> None:
        """There is none to close."""

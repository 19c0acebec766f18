"""Listening: the short way for plain TCP does what Twisted's endpoints do."""

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactor
from twisted.trial.unittest import SynchronousTestCase

from merlind.daemon.listen import _PLAIN, BACKLOG, check, listen

PLAIN = ("tcp:8000", "tcp:port=8000", "tcp:0:interface=127.0.0.1", "tcp:port=1:interface=0.0.0.0", "tcp:1:interface=")


class ListenTests(SynchronousTestCase):
    """Taking a port."""

    def setUp(self) -> None:
        self.reactor = MemoryReactor()
        self.factory = Factory()

    def test_as_the_endpoint_does(self) -> None:
        """Where it would, for whom it would, with a longer queue."""
        for description in PLAIN:
            self.assertIsNotNone(_PLAIN.fullmatch(description))
            port = listen(self.reactor, description, self.factory)
            serverFromString(self.reactor, f"{description}:backlog={BACKLOG}").listen(self.factory)
            short, long = self.reactor.tcpServers[-2:]
            self.assertEqual(short, long)
            self.assertIsInstance(port.getHost(), IPv4Address)

    def test_left_to_the_endpoint(self) -> None:
        """What says more, or says it otherwise."""
        for description, backlog in (
            ("tcp:1:backlog=7", 7),
            ("tcp6:1", BACKLOG),
            ("tcp:1:interface=\\:\\:1", BACKLOG),
            ("tcp:interface=127.0.0.1:port=1", BACKLOG),
        ):
            self.assertIsNone(_PLAIN.fullmatch(description))
            listen(self.reactor, description, self.factory)
            self.assertEqual(self.reactor.tcpServers[-1][2], backlog)
        listen(self.reactor, "unix:/sock", self.factory)
        self.assertEqual(self.reactor.unixServers[-1][0], "/sock")

    def test_not_listening(self) -> None:
        """Why it can't be is raised, on either way."""

        def refuse(*args: Any, **more: Any) -> None:
            raise CannotListenError("", 1, OSError(98, "Address already in use"))

        self.patch(self.reactor, "listenTCP", refuse)
        for description in ("tcp:1", "tcp:1:backlog=7"):
            self.assertRaises(CannotListenError, listen, self.reactor, description, self.factory)


class CheckTests(SynchronousTestCase):
    """Whether there is such an endpoint."""

    def test_good(self) -> None:
        """Plain or not."""
        for description in (*PLAIN, "tcp:1:backlog=7", "unix:/sock"):
            check(description)

    def test_bad(self) -> None:
        """An endpoint's parser says so."""
        for description in ("", "tcp", "tcp:", "tcp:x", "nowhere", "tcp:1:nonsense=2"):
            self.assertRaises((ValueError, TypeError, IndexError), check, description)

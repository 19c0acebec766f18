"""``twistd merlinface``: its command line, and the service made from it."""

from typing import Any

from twisted.application.service import IService
from twisted.internet.address import IPv4Address
from twisted.internet.error import CannotListenError
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.plugin import IPlugin
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from merlind.merlinface import tap
from merlind.merlinface.api import StandInSettings
from tests.unit.merlinface.support import UPLOAD, post, read_reply
from twisted.plugins import merlinface_plugin


class OptionsTests(SynchronousTestCase):
    """The command line."""

    def parse(self, *arguments: str, **environment: str) -> dict[str, object]:
        options = tap.Options(environment)
        options.parseOptions(list(arguments))
        return {name: options[name] for name in ("listen", "delay", "waits", "trouble")}

    def test_defaults(self) -> None:
        """The port of merlinface, and the settings' defaults."""
        settings = StandInSettings()
        self.assertEqual(
            self.parse(),
            {"listen": "tcp:12345", "delay": settings.delay, "waits": settings.waits, "trouble": settings.fault_rate},
        )

    def test_given(self) -> None:
        """An option wins over its variable."""
        self.assertEqual(
            self.parse(
                "--listen", "tcp:1", "--delay", "0.5", "--waits=0", MERLINFACE_TROUBLE="0.1", MERLINFACE_WAITS="9"
            ),
            {"listen": "tcp:1", "delay": 0.5, "waits": 0, "trouble": 0.1},
        )

    def test_wrong(self) -> None:
        """Each value is checked, from the command line or a variable."""
        for argument, reason in (
            ("--listen=nowhere", "--listen: 'nowhere' is not an endpoint"),
            ("--delay=-1", "--delay: '-1' is not a number of seconds"),
            ("--delay=nan", "--delay: 'nan' is not a number of seconds"),
            ("--waits=1.5", "--waits: '1.5' is not a whole number"),
            ("--trouble=2", "--trouble: '2' is not a share"),
        ):
            self.assertIn(reason, str(self.assertRaises(SystemExit, self.parse, argument)))
        error = self.assertRaises(SystemExit, self.parse, MERLINFACE_WAITS="x")
        self.assertIn("MERLINFACE_WAITS: 'x' is not a whole number", str(error))

    def test_help(self) -> None:
        """The help says that the score means nothing, and names the variables."""
        text = str(tap.Options({}))
        self.assertIn("score means nothing", " ".join(text.split()))
        self.assertIn("MERLINFACE_TROUBLE", text)


class Taken(MemoryReactorClock):
    """A reactor with every port in use."""

    def listenTCP(self, port: int, factory: object, backlog: int = 50, interface: str = "") -> Any:
        raise CannotListenError(interface, port, OSError(98, "Address already in use"))


class ServiceTests(SynchronousTestCase):
    """The plugin and its service."""

    def options(self, *arguments: str) -> tap.Options:
        options = tap.Options({})
        options.parseOptions(list(arguments))
        return options

    def test_plugin(self) -> None:
        """twistd finds the plugin."""
        self.assertTrue(verifyObject(IPlugin, merlinface_plugin.merlinface))
        self.assertEqual(merlinface_plugin.merlinface.tapname, "merlinface")
        self.assertIs(merlinface_plugin.merlinface.options, tap.Options)
        self.assertIs(merlinface_plugin.merlinface.makeService, tap.makeService)

    def test_listens(self) -> None:
        """The service listens on its --listen endpoint, and responds by its settings."""
        reactor = MemoryReactorClock()
        service = tap.makeService(
            self.options("--listen=tcp:4711:interface=127.0.0.1", "--delay=0", "--waits=0"), reactor
        )
        self.assertTrue(verifyObject(IService, service))
        service.privilegedStartService()
        service.startService()
        ((port, site, _, interface),) = reactor.tcpServers
        self.assertEqual((port, interface), (4711, "127.0.0.1"))
        transport = StringTransport()
        protocol: Any = site.buildProtocol(IPv4Address("TCP", "127.0.0.1", 4712))
        protocol.makeConnection(transport)
        protocol.dataReceived(post(UPLOAD))
        self.assertEqual(read_reply(transport.value()).json["status"], "success")
        service.stopService()

    def test_port_in_use(self) -> None:
        """A port in use ends the process with one line and a status that isn't zero."""
        service = tap.makeService(self.options("--listen=tcp:4711"), Taken())
        error = self.assertRaises(SystemExit, service.privilegedStartService)
        self.assertEqual(error.code, "merlinface: cannot listen on tcp:4711: [Errno 98] Address already in use")

"""``twistd merlinface``: its command line, and the service made from it."""

import os
from pathlib import Path
from typing import Any

from twisted.application.service import IService
from twisted.internet.address import IPv4Address
from twisted.internet.error import CannotListenError
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.logger import capturedLogs, formatEvent
from twisted.plugin import IPlugin
from twisted.trial.unittest import SkipTest, SynchronousTestCase
from zope.interface.verify import verifyObject

from merlind.merlinface import tap
from merlind.merlinface.api import StandInSettings
from tests.unit.merlinface.scorer.national_files import MISSING, PLAIN
from tests.unit.merlinface.scorer.processes import ProcessReactor
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

    def scorer(self, installed: bool, *arguments: str, **environment: str) -> object:
        self.patch(tap, "face_installed", lambda: installed)
        options = tap.Options(environment)
        options.parseOptions(list(arguments))
        return options["scorer"]

    def test_scorer(self) -> None:
        """The face scorer where it is installed, unless another or an option of the stand-in is given."""
        for installed, arguments, environment, scorer in (
            (True, (), {}, "face"),
            (False, (), {}, "stand-in"),
            (True, ("--scorer=stand-in",), {}, "stand-in"),
            (True, ("--scorer=face",), {"MERLINFACE_SCORER": "stand-in"}, "face"),
            (True, ("--delay=1",), {}, "stand-in"),
            (True, (), {"MERLINFACE_TROUBLE": "0.1"}, "stand-in"),
        ):
            self.assertEqual(self.scorer(installed, *arguments, **environment), scorer, (arguments, environment))

    def test_wrong_scorer(self) -> None:
        """What there isn't, isn't installed or doesn't go together ends the start with one line."""
        for installed, arguments, reason in (
            (True, ("--scorer=x",), "--scorer: 'x' is neither face nor stand-in"),
            (False, ("--scorer=face",), "--scorer: the face scorer is not installed: it comes with merlind[scorer]"),
            (True, ("--scorer=face", "--waits=1"), "--waits is an option of the stand-in, not of --scorer face"),
            (True, ("--workers=0",), "--workers: '0' is not a whole number of at least 1"),
            (True, ("--photo-seconds=0",), "--photo-seconds: '0' is not a number of seconds"),
            (True, ("--worker-memory=1000",), "--worker-memory: '1000' is not a whole number of at least 268435456"),
        ):
            error = self.assertRaises(SystemExit, self.scorer, installed, *arguments)
            self.assertEqual(error.code.partition(reason)[:2], ("merlinface: ", reason))

    def names(self, *arguments: str, **environment: str) -> object:
        self.patch(tap, "face_installed", lambda: True)
        options = tap.Options(environment)
        options.parseOptions(list(arguments))
        return options["names"]

    def test_names(self) -> None:
        """They may be several, in the variable too, split at white space there; relative paths are made whole."""
        here = os.getcwd()
        self.assertEqual(self.names(), [])
        self.assertEqual(self.names("--names=a.csv", "--names", "/b.csv"), [f"{here}/a.csv", "/b.csv"])
        self.assertEqual(self.names(MERLINFACE_NAMES="/a.csv\n/b.csv"), ["/a.csv", "/b.csv"])
        self.assertEqual(self.names("--names=/a.csv", MERLINFACE_NAMES="/b.csv"), ["/a.csv"])
        error = self.assertRaises(SystemExit, self.names, "--names=a.csv", "--delay=1")
        self.assertEqual(error.code, "merlinface: --names is an option of --scorer face, not of the stand-in")

    def test_workers(self) -> None:
        """The number of workers follows from the cores, unless it is given."""
        self.patch(tap, "default_workers", lambda: 7)
        self.assertEqual((tap.workers("auto"), tap.workers("2")), (7, 2))

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

    def test_face_scorer(self) -> None:
        """The face scorer's workers start with the service, with the limits that were given, and stop with it."""
        self.patch(tap, "face_installed", lambda: True)
        reactor = ProcessReactor()
        options = self.options("--scorer=face", "--workers=2", "--photo-seconds=3", "--worker-memory=1000000000")
        service = tap.makeService(options, reactor)
        service.privilegedStartService()
        self.assertEqual(reactor.commands, [])
        service.startService()
        limits = ["--photo-seconds=3.0", "--memory=1000000000"]
        self.assertEqual([list(command[-2:]) for _, command, _ in reactor.commands], [limits, limits])
        stopped: Any = service.stopService()
        for worker in reactor.spawned:
            self.assertNoResult(stopped)
            worker.die(signal=15)
        self.successResultOf(stopped)

    def test_names(self) -> None:
        """Files of names are checked at the start, told in one line, and given to the workers."""
        self.patch(tap, "face_installed", lambda: True)
        self.patch(tap, "check_names", lambda paths: f"names: {' '.join(paths)}")
        reactor = ProcessReactor()
        with capturedLogs() as logs:
            service = tap.makeService(self.options("--scorer=face", "--workers=1", "--names=/a", "--names=/b"), reactor)
        self.assertEqual([formatEvent(event) for event in logs], ["names: /a /b"])
        service.startService()
        ((_, command, _),) = reactor.commands
        self.assertEqual(list(command[3:5]), ["--names=/a", "--names=/b"])

    def test_broken_names(self) -> None:
        """A broken file ends the start with its line."""
        if MISSING:
            raise SkipTest(MISSING)
        self.patch(tap, "face_installed", lambda: True)
        path = Path(self.mktemp())
        path.write_text(PLAIN + "Zoe,F,19I0,5\n")
        options = self.options("--scorer=face", f"--names={path}")
        error = self.assertRaises(SystemExit, tap.makeService, options, ProcessReactor())
        self.assertIn(f"merlinface: --names: {path.absolute()}, line 4: '19I0' is no year", error.code)

    def test_port_in_use(self) -> None:
        """A port in use ends the process with one line and a status that isn't zero."""
        service = tap.makeService(self.options("--listen=tcp:4711"), Taken())
        error = self.assertRaises(SystemExit, service.privilegedStartService)
        self.assertEqual(error.code, "merlinface: cannot listen on tcp:4711: [Errno 98] Address already in use")

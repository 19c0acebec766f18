"""The twistd plugin's side: the service that the options make, and how a start or an end is told of."""

import gc
import io
import json
import os
import resource
import signal
import sqlite3
import stat
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import twisted.internet
from twisted.application.service import IServiceMaker
from twisted.logger import LogLevel
from twisted.plugin import IPlugin
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from merlind import database, tap
from merlind.datadir import DataDir
from merlind.log import LineLog
from merlind.service import Settings
from merlind.web.site import MAX_TURNED_AWAY
from tests.unit.support import Reactor
from twisted.plugins import merlind_plugin

EVENT = {"log_level": LogLevel.warn, "log_namespace": "merlind.x", "log_format": "task {task}: done", "task": 7}


class TapCase(SynchronousTestCase):
    """A process whose signals, limits, mask and reactor are not touched."""

    def setUp(self) -> None:
        self.reactor = Reactor()
        self.triggers: list[tuple[str, str, Callable[[], None]]] = []
        self.patch(self.reactor, "addSystemEventTrigger", lambda *trigger: self.triggers.append(trigger))
        self.patch(twisted.internet, "reactor", self.reactor)
        self.addCleanup(os.umask, os.umask(0o022))
        self.addCleanup(sys.setswitchinterval, sys.getswitchinterval())
        self.addCleanup(gc.set_threshold, *gc.get_threshold())
        self.frozen: list[bool] = []
        self.patch(gc, "freeze", lambda: self.frozen.append(True))
        self.limit = (1024, 1024)
        self.patch(resource, "getrlimit", lambda kind: self.limit)
        self.patch(resource, "setrlimit", self.set_limit)
        self.signals: dict[int, Any] = {number: f"default {number}" for number in range(1, 65)}
        self.alarms: list[int] = []
        self.patch(signal, "signal", self.signals.__setitem__)
        self.patch(signal, "getsignal", self.signals.__getitem__)
        self.patch(signal, "alarm", self.alarms.append)
        self.exits: list[int] = []
        self.patch(os, "_exit", self.exits.append)
        self.stdout, self.stderr = io.StringIO(), io.StringIO()
        self.patch(sys, "stdout", self.stdout)
        self.patch(sys, "stderr", self.stderr)
        self.folder = Path(self.mktemp()).absolute()

    def set_limit(self, kind: int, limit: tuple[int, int]) -> None:
        self.limit = limit

    def options(self, *arguments: str, parent: dict[str, Any] | None = None, **environment: str) -> tap.Options:
        options = tap.Options(environment)
        options.parent = parent
        options.parseOptions([f"--data-dir={self.folder}", *arguments])
        return options

    def make(self, *arguments: str) -> Any:
        service = tap.makeService(self.options(*arguments))
        self.addCleanup(service._data_dir.release)
        return service

    def refusal(self) -> str:
        """The line that ends the start."""
        made: list[DataDir] = []

        def data_dir(path: Path) -> DataDir:
            made.append(DataDir(path))
            return made[-1]

        self.patch(tap, "DataDir", data_dir)
        error = self.assertRaises(SystemExit, tap.makeService, self.options())
        made[0].release()  # as the process's end does
        self.assertIsInstance(error.code, str)
        self.assertNotIn("\n", str(error.code))
        return str(error.code)


class OptionsTests(TapCase):
    """From the command line to the settings."""

    def test_plugin(self) -> None:
        """twistd can find it."""
        self.assertTrue(verifyObject(IPlugin, merlind_plugin.merlind))
        self.assertTrue(verifyObject(IServiceMaker, merlind_plugin.merlind))
        self.assertEqual(merlind_plugin.merlind.tapname, "merlind")
        self.assertIs(merlind_plugin.merlind.options, tap.Options)
        self.assertIs(merlind_plugin.merlind.makeService, tap.makeService)

    def test_defaults(self) -> None:
        """As the issue has them."""
        options = tap.Options({})
        options.parseOptions([])
        self.assertEqual(
            tap.make_settings(options),
            Settings(
                listen=["tcp:8000"],
                admin="tcp:8001:interface=127.0.0.1",
                upstream="http://merlinface.com:12345/api/",
                data_dir=Path("merlind-data"),
                poll_interval=2.0,
                upstream_timeout=30.0,
                upstream_concurrency=32,
                give_up_after=86400.0,
                retention=30 * 86400.0,
                max_photo_bytes=10 * 2**20,
                max_pending=100_000,
                max_connections=20_000,
                max_uploads=512,
                max_upload_bytes=2**30,
                min_rate=8192,
                min_free_bytes=256 * 2**20,
            ),
        )
        self.assertFalse(options["log-json"])

    def test_environment(self) -> None:
        """Each has its variable; the flag wins."""
        options = tap.Options(
            {
                "MERLIND_LISTEN": "tcp:1 tcp:2",
                "MERLIND_DATA_DIR": "/x",
                "MERLIND_UPSTREAM": "embedded",
                "MERLIND_ADMIN": "none",
                "MERLIND_RETENTION": "60",
                "MERLIND_LOG_JSON": "1",
                "MERLIND_MAX_PENDING": "5",
            }
        )
        options.parseOptions(["--max-pending=6"])
        settings = tap.make_settings(options)
        self.assertEqual((settings.listen, settings.data_dir, settings.admin), (["tcp:1", "tcp:2"], Path("/x"), None))
        self.assertEqual((settings.upstream, settings.retention, settings.max_pending), ("embedded", 60.0, 6))
        self.assertTrue(options["log-json"])

    def test_listen(self) -> None:
        """More than once."""
        self.assertEqual(self.options("--listen=tcp:1", "--listen", "tcp:2")["listen"], ["tcp:1", "tcp:2"])

    def test_wrong(self) -> None:
        """One clear line, whichever it is."""
        for argument, reason in (
            ("--listen=nowhere", "--listen: 'nowhere' is not an endpoint such as tcp:8000"),
            ("--admin=off", "--admin: 'off' is not an endpoint"),
            ("--upstream=merlinface.com", "--upstream: 'merlinface.com' is neither an http or https URL nor the word"),
            ("--upstream=http://user:secret@h/", "--upstream: 'http://user:secret@h/' is neither"),
            ("--upstream=http://h /", "--upstream: 'http://h /' is neither"),
            ("--upstream=http://[h/", "--upstream: 'http://[h/' is neither"),
            ("--poll-interval=0", "--poll-interval: '0' is not a number of seconds of at least 0.01"),
            ("--upstream-timeout=inf", "--upstream-timeout: 'inf' is not a number of seconds"),
            ("--give-up-after=x", "--give-up-after: 'x' is not a number of seconds"),
            ("--retention=-1", "--retention: '-1' is not a number of seconds"),
            ("--upstream-concurrency=0", "--upstream-concurrency: '0' is not a whole number of at least 1"),
            ("--max-photo-bytes=1e6", "--max-photo-bytes: '1e6' is not a whole number"),
            ("--max-connections=-1", "--max-connections: '-1' is not a whole number"),
            ("--min-rate=0", "--min-rate: '0' is not a whole number"),
            ("--nonsense", "option --nonsense not recognized"),
        ):
            line = str(self.assertRaises(SystemExit, self.options, argument).code)
            self.assertIn(reason, line)
            self.assertTrue(line.startswith("merlind: ") and "\n" not in line, line)

    def test_help(self) -> None:
        """It tells each default, unit and variable."""
        text = " ".join(str(tap.Options({})).split())
        for option in tap.Options.declared:
            self.assertIn(f"--{option.name}", text)
            self.assertIn("$" + tap.Options.variable(option.name), text)
            if option.name != "listen":
                self.assertIn(f"[default: {option.default}, or", text)


class OpenFilesTests(TapCase):
    """What the process's limit on open files allows."""

    def settings(self, files: int, *arguments: str) -> tuple[int, int, int]:
        """Exchanges, uploads and connections with so many files."""
        settings = tap.fit_open_files(tap.make_settings(self.options(*arguments)), files)
        return settings.upstream_concurrency, settings.max_uploads, settings.max_connections

    def test_plenty(self) -> None:
        """Nothing is cut."""
        self.assertEqual(self.settings(1_000_000), (32, 512, 20_000))

    def test_few(self) -> None:
        """Everything fits, and there is always a little of each."""
        for files in (0, 1, 20, 30, 64, 100, 256, 1024, 4096, 20_000):
            exchanges, uploads, connections = self.settings(files)
            self.assertTrue(min(exchanges, uploads, connections) >= 1, files)
            if files >= 64:
                turned_away = min(MAX_TURNED_AWAY, connections)
                self.assertLessEqual(tap._OWN_FILES + 2 * exchanges + uploads + connections + turned_away, files)

    def test_not_raised(self) -> None:
        """What was asked for is never exceeded."""
        few = ("--upstream-concurrency=2", "--max-uploads=3", "--max-connections=4")
        self.assertEqual(self.settings(1_000_000, *few), (2, 3, 4))

    def test_limit_is_raised(self) -> None:
        """To what the process may have; an endless one is left as it is."""
        self.limit = (1024, 4096)
        self.assertEqual((tap.raise_open_files(), self.limit), (4096, (4096, 4096)))
        self.limit = (1024, resource.RLIM_INFINITY)
        self.assertEqual((tap.raise_open_files(), self.limit), (1024, (1024, resource.RLIM_INFINITY)))


class MakeServiceTests(TapCase):
    """The service."""

    def test_made(self) -> None:
        """A directory of our own, locked, with an empty database; nothing is listened on yet."""
        self.limit = (256, 256)
        service = self.make("--upstream=embedded")
        self.assertEqual(stat.S_IMODE(self.folder.stat().st_mode), 0o700)
        self.assertEqual(sorted(path.name for path in self.folder.iterdir()), ["lock", "spool", "tasks.sqlite"])
        self.assertEqual(os.umask(0o077), 0o077)
        self.assertAlmostEqual(sys.getswitchinterval(), 0.0005)
        self.assertEqual((gc.get_threshold(), self.frozen), ((5_000, 20, 100), [True]))
        self.assertEqual(self.reactor.tcpServers, [])
        self.assertEqual(service._settings.max_connections, 63)
        self.assertEqual(service.site._max_connections, 63)
        self.assertIsInstance(service.log_observer, LineLog)
        self.assertIn(("before", "shutdown", tap._limit_the_end), [trigger[:3] for trigger in self.triggers])
        self.assertEqual((self.signals[signal.SIGTERM], self.alarms), (f"default {signal.SIGTERM}", []))

    def test_locked(self) -> None:
        """A second process is refused."""
        self.make()
        self.assertEqual(self.refusal(), f"merlind: {self.folder} is in use by another merlind")

    def test_unusable_directory(self) -> None:
        """What is no directory, or lies below none."""
        self.folder.write_text("a file")
        self.assertEqual(self.refusal(), f"merlind: {self.folder} can't be used: File exists")
        self.folder = self.folder / "below"
        self.assertEqual(self.refusal(), f"merlind: {self.folder} can't be used: Not a directory")

    def test_unusable_spool(self) -> None:
        """A spool that is a file."""
        self.folder.mkdir()
        (self.folder / "spool").write_text("a file")
        line = self.refusal()
        self.assertEqual(line, f"merlind: {self.folder}/spool can't be used: File exists")

    def test_garbage(self) -> None:
        """What is no database is left as it is."""
        self.folder.mkdir()
        file = self.folder / "tasks.sqlite"
        file.write_bytes(b"garbage" * 1000)
        line = self.refusal()
        self.assertEqual(line, f"merlind: {file} is not a database that can be read (file is not a database)")
        self.assertEqual(file.read_bytes(), b"garbage" * 1000)
        self.assertEqual(sorted(path.name for path in self.folder.iterdir()), ["lock", "tasks.sqlite"])

    def test_newer(self) -> None:
        """A database that only a newer merlind knows."""
        self.folder.mkdir()
        file = self.folder / "tasks.sqlite"
        database.prepare(file)
        with closing(sqlite3.connect(file)) as connection:
            connection.execute("PRAGMA user_version = 99")
        self.assertEqual(
            self.refusal(), f"merlind: {file} is of version 99; this merlind knows versions up to {database.VERSION}"
        )

    def test_damaged(self) -> None:
        """A database of ours with a row or a table missing, or damaged behind its first page."""
        self.folder.mkdir()
        file = self.folder / "tasks.sqlite"
        database.prepare(file)
        for statement in ("PRAGMA journal_mode = DELETE", "DELETE FROM clock", "DROP TABLE clock"):
            with closing(sqlite3.connect(file, isolation_level=None)) as connection:
                connection.execute(statement).fetchall()
            if statement.startswith("D"):
                self.assertIn(f"merlind: {file} is damaged", self.refusal())
        file.write_bytes(file.read_bytes()[:4096] + b"\xff" * 100_000)
        self.assertIn(f"merlind: {file} is ", self.refusal())


class LogTests(TapCase):
    """Where the log goes."""

    def log(self, *arguments: str, **twistd: Any) -> LineLog | None:
        return tap.make_log(self.reactor, self.options(*arguments, parent=twistd))

    def test_standard_output(self) -> None:
        """As text, or as JSON, in the foreground."""
        for twistd in ({"nodaemon": True}, {"nodaemon": True, "logfile": "-"}, {"nodaemon": True, "logfile": ""}):
            log = self.log(**twistd)
            assert log is not None
            log(EVENT)
            self.assertTrue(self.stdout.getvalue().endswith("[merlind.x#warn] task 7: done\n"))
        log = tap.make_log(self.reactor, self.options("--log-json"))
        assert log is not None
        log(EVENT)
        line = json.loads(self.stdout.getvalue().splitlines()[-1])
        self.assertEqual((line["message"], line["task"], line["level"]), ("task 7: done", 7, "warn"))

    def test_left_to_twistd(self) -> None:
        """Which was told of a place, or of a logger of its own."""
        for twistd in (
            {"syslog": True},
            {"logger": "x.y"},
            {"nodaemon": True, "logfile": "x.log"},
            {"nodaemon": False, "logfile": None},
        ):
            self.assertIsNone(self.log(**twistd), twistd)
        self.assertIsNone(self.log("--log-json", syslog=True))
        self.assertIsNone(self.log("--log-json", logger="x.y"))

    def test_json_into_a_file(self) -> None:
        """twistd's own files hold no JSON: where it is asked for, we write them."""
        file = Path(self.mktemp())
        for twistd in ({"nodaemon": True, "logfile": str(file)}, {"nodaemon": False, "logfile": str(file)}):
            log = self.log("--log-json", **twistd)
            assert log is not None
            log(EVENT)
            log._stream.close()
        self.assertEqual([json.loads(line)["task"] for line in file.read_text().splitlines()], [7, 7])
        self.assertEqual(self.stdout.getvalue(), "")


class EndTests(TapCase):
    """The end of the process."""

    def test_limited(self) -> None:
        """From the stop on a signal ends it at once, and so does the deadline."""
        tap._limit_the_end()
        self.assertEqual(self.alarms, [tap.STOP_DEADLINE])
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
            self.signals[number](number, None)
        self.assertEqual(self.exits, [128 + signal.SIGTERM, 128 + signal.SIGINT, 128 + signal.SIGALRM])
        self.assertEqual(self.signals[signal.SIGHUP], f"default {signal.SIGHUP}")

    def test_signal(self) -> None:
        """The first signal limits the end, and then is the reactor's; one that is ignored stays so."""
        seen: list[tuple[int, list[int]]] = []
        self.signals[signal.SIGTERM] = lambda number, frame: seen.append((number, list(self.alarms)))
        tap._take_signals()
        self.assertEqual(self.signals[signal.SIGINT], f"default {signal.SIGINT}")
        self.signals[signal.SIGTERM](signal.SIGTERM, None)
        self.assertEqual(seen, [(signal.SIGTERM, [tap.STOP_DEADLINE])])
        self.signals[signal.SIGTERM](signal.SIGTERM, None)
        self.assertEqual((self.exits, len(seen)), ([128 + signal.SIGTERM], 1))

    def test_die(self) -> None:
        """After a fault of the disk: a moment for the last answers, then a line and a status that is no success."""
        service = self.make()
        service._die("the database failed")
        self.assertEqual((self.exits, self.stderr.getvalue()), ([], ""))
        self.reactor.run_for(tap.LAST_MOMENT)
        self.assertEqual((self.exits, self.stderr.getvalue()), ([1], "merlind: the database failed\n"))

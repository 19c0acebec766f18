"""The process: what it may use, where its log goes, and how a start or an end is told of."""

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

import twisted.internet.reactor  # so that there is one to put another in the place of
from twisted.logger import LogLevel
from twisted.trial.unittest import SynchronousTestCase

from merlind import tap
from merlind.daemon import process
from merlind.daemon.datadir import DataDir
from merlind.daemon.log import LineLog
from merlind.storage.sqlite import database
from merlind.web.server.site import MAX_TURNED_AWAY
from tests.unit.support import Reactor

EVENT = {"log_level": LogLevel.warn, "log_namespace": "merlind.x", "log_format": "task {task}: done", "task": 7}


class ProcessCase(SynchronousTestCase):
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

        self.patch(process, "DataDir", data_dir)
        error = self.assertRaises(SystemExit, tap.makeService, self.options())
        made[0].release()  # as the process's end does
        self.assertIsInstance(error.code, str)
        self.assertNotIn("\n", str(error.code))
        return str(error.code)


class OpenFilesTests(ProcessCase):
    """What the process's limit on open files allows."""

    def settings(self, files: int, *arguments: str) -> tuple[int, int, int]:
        """Exchanges, uploads and connections with so many files."""
        settings = process.fit_open_files(tap.make_settings(self.options(*arguments)), files)
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
                self.assertLessEqual(process._OWN_FILES + 2 * exchanges + uploads + connections + turned_away, files)

    def test_not_raised(self) -> None:
        """What was asked for is never exceeded."""
        few = ("--upstream-concurrency=2", "--max-uploads=3", "--max-connections=4")
        self.assertEqual(self.settings(1_000_000, *few), (2, 3, 4))

    def test_limit_is_raised(self) -> None:
        """To what the process may have; an endless one is left as it is."""
        self.limit = (1024, 4096)
        self.assertEqual((process.raise_open_files(), self.limit), (4096, (4096, 4096)))
        self.limit = (1024, resource.RLIM_INFINITY)
        self.assertEqual((process.raise_open_files(), self.limit), (1024, (1024, resource.RLIM_INFINITY)))


class MakeServiceTests(ProcessCase):
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
        self.assertTrue(gc.isenabled())
        self.assertEqual(self.reactor.tcpServers, [])
        self.assertEqual(service._settings.max_connections, 63)
        self.assertEqual(service.site._max_connections, 63)
        self.assertIsInstance(service.log_observer, LineLog)
        self.assertIn(("before", "shutdown", process._limit_the_end), [trigger[:3] for trigger in self.triggers])
        self.assertEqual((self.signals[signal.SIGTERM], self.alarms), (f"default {signal.SIGTERM}", []))

    def test_locked(self) -> None:
        """A second process is refused."""
        self.make()
        self.assertEqual(self.refusal(), f"merlind: {self.folder} is in use by another merlind")
        self.assertTrue(gc.isenabled())

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


class LogTests(ProcessCase):
    """Where the log goes."""

    def log(self, *arguments: str, **twistd: Any) -> LineLog | None:
        return process.make_log(self.reactor, self.options(*arguments)["log-json"], twistd)

    def test_standard_output(self) -> None:
        """As text, or as JSON, in the foreground."""
        for twistd in ({"nodaemon": True}, {"nodaemon": True, "logfile": "-"}, {"nodaemon": True, "logfile": ""}):
            log = self.log(**twistd)
            assert log is not None
            log(EVENT)
            self.assertTrue(self.stdout.getvalue().endswith("[merlind.x#warn] task 7: done\n"))
        log = process.make_log(self.reactor, True, {})
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


class EndTests(ProcessCase):
    """The end of the process."""

    def test_limited(self) -> None:
        """From the stop on a signal ends it at once, and so does the deadline."""
        process._limit_the_end()
        self.assertEqual(self.alarms, [process.STOP_DEADLINE])
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
            self.signals[number](number, None)
        self.assertEqual(self.exits, [128 + signal.SIGTERM, 128 + signal.SIGINT, 128 + signal.SIGALRM])
        self.assertEqual(self.signals[signal.SIGHUP], f"default {signal.SIGHUP}")

    def test_signal(self) -> None:
        """The first signal limits the end, and then is the reactor's; one that is ignored stays so."""
        seen: list[tuple[int, list[int]]] = []
        self.signals[signal.SIGTERM] = lambda number, frame: seen.append((number, list(self.alarms)))
        process._take_signals()
        self.assertEqual(self.signals[signal.SIGINT], f"default {signal.SIGINT}")
        self.signals[signal.SIGTERM](signal.SIGTERM, None)
        self.assertEqual(seen, [(signal.SIGTERM, [process.STOP_DEADLINE])])
        self.signals[signal.SIGTERM](signal.SIGTERM, None)
        self.assertEqual((self.exits, len(seen)), ([128 + signal.SIGTERM], 1))

    def test_die(self) -> None:
        """After a fault of the disk: a moment for the last answers, then a line and a status that is no success."""
        service = self.make()
        service._die("the database failed")
        self.assertEqual((self.exits, self.stderr.getvalue()), ([], ""))
        self.reactor.run_for(process.LAST_MOMENT)
        self.assertEqual((self.exits, self.stderr.getvalue()), ([1], "merlind: the database failed\n"))

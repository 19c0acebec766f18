"""``twistd merlind``: from the command line to the settings, and from there to a service."""

import gc
import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from twisted.application.service import IServiceMaker
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.plugin import IPlugin
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from merlind import service as service_module
from merlind import tap
from merlind.core.clients import LOOPBACK, read_network
from merlind.core.rate import Rate
from merlind.daemon import process
from merlind.daemon.datadir import DataDir
from merlind.daemon.garbage import INTERVAL
from merlind.daemon.log import LineLog
from merlind.daemon.user import User
from merlind.merlinface import embedded
from merlind.settings import WORKER_PIPES, Settings
from merlind.storage.sqlite import database
from tests.unit.daemon.support import ProcessCase
from twisted.plugins import merlind_plugin


def parsed(*arguments: str, **environment: str) -> tap.Options:
    """The options of a command line."""
    options = tap.Options(environment)
    options.parseOptions(list(arguments))
    return options


class OptionsTests(SynchronousTestCase):
    """From the command line to the settings."""

    def test_plugin(self) -> None:
        """twistd finds options and service."""
        self.assertTrue(verifyObject(IPlugin, merlind_plugin.merlind))
        self.assertTrue(verifyObject(IServiceMaker, merlind_plugin.merlind))
        self.assertEqual(merlind_plugin.merlind.tapname, "merlind")
        self.assertIs(merlind_plugin.merlind.options, tap.Options)
        self.assertIs(merlind_plugin.merlind.makeService, tap.makeService)

    def test_no_reactor(self) -> None:
        """To load the options installs no reactor: ``twistd --reactor`` still has its choice."""
        code = "import sys, merlind.tap; print('twisted.internet.reactor' in sys.modules)"
        paths = os.pathsep.join(os.path.abspath(path) for path in sys.path)
        environment = {**os.environ, "PYTHONPATH": paths}
        done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True, env=environment)
        self.assertEqual(done.stdout, b"False\n")

    def test_defaults(self) -> None:
        """These are the defaults that docs/options.md promises."""
        options = parsed()
        self.assertEqual(
            tap.make_settings(options),
            Settings(
                listen=["tcp:8000"],
                admin="tcp:8001:interface=127.0.0.1",
                admin_host=["none"],
                auth=[None],
                upstream="http://merlinface.com:12345/api/",
                names=[],
                data_dir=Path("./merlind-data"),
                poll_interval=2.0,
                upstream_timeout=30.0,
                upstream_concurrency=32,
                give_up_after=86400.0,
                max_attempts=100,
                retention=30 * 86400.0,
                keep_failed=86400.0,
                max_photo_bytes=10 * 2**20,
                max_pending=100_000,
                max_connections=20_000,
                max_uploads=512,
                max_upload_bytes=2**30,
                max_connections_per_client=5000,
                max_uploads_per_client=128,
                max_pending_per_client=25_000,
                max_long_polls_per_client=2500,
                client_rate=None,
                cors_origin=[None],
                trusted_proxy=list(LOOPBACK),
                min_rate=8192,
                upload_timeout=900.0,
                min_free_bytes=256 * 2**20,
            ),
        )
        self.assertFalse(options["log-json"])

    def test_environment(self) -> None:
        """Each option has its variable; a flag wins over it."""
        options = parsed(
            "--max-pending=6",
            MERLIND_LISTEN="tcp:1 tcp:2",
            MERLIND_DATA_DIR="/x",
            MERLIND_UPSTREAM="embedded",
            MERLIND_ADMIN="none",
            MERLIND_RETENTION="60",
            MERLIND_LOG_JSON="1",
            MERLIND_MAX_PENDING="5",
        )
        settings = tap.make_settings(options)
        self.assertEqual((settings.listen, settings.data_dir, settings.admin), (["tcp:1", "tcp:2"], Path("/x"), None))
        self.assertEqual((settings.upstream, settings.retention, settings.max_pending), ("embedded", 60.0, 6))
        self.assertTrue(options["log-json"])

    def test_each_option_has_its_setting(self) -> None:
        """A value that is given arrives where it belongs."""
        numbers = {
            option.name: str(number)
            for number, option in enumerate(tap.Options.declared, 11)
            if option.name
            not in (
                "listen",
                "upstream",
                "names",
                "auth",
                "data-dir",
                "admin",
                "admin-host",
                "trusted-proxy",
                "client-rate",
                "cors-origin",
            )
        }
        settings = tap.make_settings(parsed(*(f"--{name}={value}" for name, value in numbers.items())))
        for name, value in numbers.items():
            self.assertEqual(getattr(settings, name.replace("-", "_")), float(value), name)

    def test_auth(self) -> None:
        """Checkers are kept in their order, and none stands for none; what can't be one is refused."""
        options = parsed("--auth=htpasswd:/etc/users", "--auth=proxy:Remote-User")
        self.assertEqual(tap.make_settings(options).checkers, ["htpasswd:/etc/users", "proxy:Remote-User"])
        options = parsed(MERLIND_AUTH="tokens:/etc/tokens proxy:X-User")
        self.assertEqual(tap.make_settings(options).checkers, ["tokens:/etc/tokens", "proxy:X-User"])
        self.assertEqual(tap.make_settings(parsed("--auth=none")).checkers, [])
        self.assertIn("htpasswd:FILE", str(self.assertRaises(SystemExit, parsed, "--auth=:users")))

    def test_admin_host(self) -> None:
        """Names of the admin listener are kept in lower case; what can't be a name is refused."""
        options = parsed("--admin-host=Ops.example.org", "--admin-host=b.example")
        self.assertEqual(tap.make_settings(options).admin_host, ["ops.example.org", "b.example"])

    def test_listen(self) -> None:
        """``--listen`` may be given more than once; then the variable doesn't count."""
        self.assertEqual(parsed("--listen=tcp:1", "--listen", "tcp:2")["listen"], ["tcp:1", "tcp:2"])
        options = parsed("--listen=tcp:1", "--listen=tcp:2", MERLIND_LISTEN="tcp:3")
        self.assertEqual(options["listen"], ["tcp:1", "tcp:2"])

    def test_trusted_proxy(self) -> None:
        """Proxies of the named networks are trusted, and those on this machine unless one of the names is ``none``."""
        named = [read_network("10.0.0.0/8"), read_network("192.0.2.1")]
        for arguments, environment, trusted in (
            ([], {}, [*LOOPBACK]),
            (["--trusted-proxy=10.0.0.0/8", "--trusted-proxy=192.0.2.1"], {}, [*LOOPBACK, *named]),
            ([], {"MERLIND_TRUSTED_PROXY": "10.0.0.0/8 192.0.2.1"}, [*LOOPBACK, *named]),
            (["--trusted-proxy=none"], {"MERLIND_TRUSTED_PROXY": "10.0.0.0/8"}, []),
            ([], {"MERLIND_TRUSTED_PROXY": "10.0.0.0/8 none 192.0.2.1"}, named),
        ):
            found = tap.make_settings(parsed(*arguments, **environment)).trusted_networks
            self.assertEqual(set(found), set(trusted), (arguments, environment))

    def test_cors_origin(self) -> None:
        """Origins are kept as browsers write them; ``none`` is none."""
        for arguments, environment, origins in (
            ([], {}, []),
            (["--cors-origin=none"], {"MERLIND_CORS_ORIGIN": "https://a.example"}, []),
            (
                ["--cors-origin=https://A.example:443", "--cors-origin=http://b:3000"],
                {},
                ["https://a.example", "http://b:3000"],
            ),
            ([], {"MERLIND_CORS_ORIGIN": "https://a.example *"}, ["https://a.example", "*"]),
        ):
            self.assertEqual(tap.make_settings(parsed(*arguments, **environment)).cors_origins, origins)

    def test_client_rate(self) -> None:
        """A rate is so many times in so many seconds; ``none`` sets no limit."""
        self.assertEqual(tap.make_settings(parsed("--client-rate=100/60")).client_rate, Rate(100, 60))
        self.assertIsNone(tap.make_settings(parsed("--client-rate=none", MERLIND_CLIENT_RATE="1/1")).client_rate)

    def test_admin(self) -> None:
        """The admin listener can be turned off, on the command line too, whatever the variable says."""
        self.assertIsNone(parsed("--admin=none")["admin"])
        self.assertIsNone(parsed("--admin=none", MERLIND_ADMIN="tcp:9")["admin"])
        self.assertEqual(parsed("--admin=tcp:9")["admin"], "tcp:9")

    def test_upstream(self) -> None:
        """The upstream is an http or https URL, or the word for merlind's own."""
        for text in (
            "embedded",
            "embedded:face",
            "embedded:stand-in",
            "http://h",
            "https://h:1/api/?x=%20",
            "http://[::1]:12345/api/",
            "HTTP://H/",
        ):
            self.assertEqual(tap.upstream(text), text)
        for text in ("", "h", "ftp://h/", "http://", "http://:1/", "http://h:0/", "http://h:x/", "http://h:99999/",
                     "http://[::1/", "http://h/é", "http://h/a b", "http://h/\n", "Embedded", "embedded:",
                     "embedded:other"):  # fmt: skip
            self.assertIn(repr(text), str(self.assertRaises(ValueError, tap.upstream, text)))

    def test_names(self) -> None:
        """Files of names are for the embedded face scorer; relative paths are made whole."""
        self.patch(tap, "face_installed", lambda: True)
        for upstream in ("embedded", "embedded:face"):
            options = parsed(f"--upstream={upstream}", "--names=a.csv", "--names", "/b.csv")
            self.assertEqual(tap.make_settings(options).names, [os.path.abspath("a.csv"), "/b.csv"])
        options = parsed("--upstream=embedded", MERLIND_NAMES="/a.csv /b.csv")
        self.assertEqual(tap.make_settings(options).names, ["/a.csv", "/b.csv"])

    def test_names_for_nobody(self) -> None:
        """Without the face scorer they would go unread: the start ends."""
        for installed, upstream, reason in (
            (True, "http://h/api/", "--names is an option of --upstream embedded, not of http://h/api/"),
            (True, "embedded:stand-in", "--names is an option of --upstream embedded, not of embedded:stand-in"),
            (
                False,
                "embedded",
                "--names is for the face scorer, which is not installed: it comes with merlind[scorer]",
            ),
        ):
            self.patch(tap, "face_installed", lambda installed=installed: installed)
            for arguments, environment in ((("--names=/a.csv",), {}), ((), {"MERLIND_NAMES": "/a.csv"})):
                error = self.assertRaises(SystemExit, parsed, f"--upstream={upstream}", *arguments, **environment)
                self.assertEqual(error.code, f"merlind: {reason}")

    def test_wrong(self) -> None:
        """A wrong value ends the start with one line that names the option and the value."""
        for argument, reason in (
            ("--listen=nowhere", "--listen: 'nowhere' is not an endpoint such as tcp:8000"),
            ("--listen=x", "--listen: 'x' is not an endpoint"),
            ("--admin=off", "--admin: 'off' is not an endpoint"),
            ("--admin=never", "--admin: 'never' is not an endpoint"),
            ("--upstream=x", "--upstream: 'x' is neither an http or https URL"),
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
            ("--admin-host=a/b", "--admin-host: 'a/b' is no host name such as"),
            (
                "--trusted-proxy=10.0.0.1/8",
                "--trusted-proxy: '10.0.0.1/8' is no network such as 10.0.0.0/8, no address",
            ),
            ("--cors-origin=https://a.example/", "--cors-origin: 'https://a.example/' is no origin such as"),
            ("--client-rate=100", "--client-rate: '100' is no rate such as 100/60"),
            ("--trusted-proxy=localhost", "--trusted-proxy: 'localhost' is no network"),
            ("--max-uploads-per-client=-1", "--max-uploads-per-client: '-1' is not a whole number of at least 0"),
            ("--max-connections=-1", "--max-connections: '-1' is not a whole number"),
            ("--min-rate=0", "--min-rate: '0' is not a whole number"),
            ("--nonsense", "option --nonsense not recognized"),
        ):
            line = str(self.assertRaises(SystemExit, parsed, argument).code)
            self.assertIn(reason, line)
            self.assertTrue(line.startswith("merlind: ") and "\n" not in line, line)

    def test_help(self) -> None:
        """The help names each option with its default and its variable."""
        text = " ".join(str(tap.Options({})).split())
        for option in tap.Options.declared:
            self.assertIn(f"--{option.name}", text)
            self.assertIn("$" + tap.Options.variable(option.name), text)
            self.assertIn(f"[default: {option.default}, or", text)


class MakeServiceTests(ProcessCase):
    """From the options to a service."""

    def setUp(self) -> None:
        super().setUp()
        self.folder = Path(self.mktemp()).absolute()

    def make(self, *arguments: str) -> Any:
        """A service, and what it holds until the test ends."""
        service: Any = tap.makeService(parsed(f"--data-dir={self.folder}", *arguments))
        self.addCleanup(service._data_dir.release)
        return service

    def refusal(self) -> str:
        """The line that ends the start."""
        made: list[DataDir] = []

        def data_dir(path: Path, user: User) -> DataDir:
            made.append(DataDir(path, user))
            return made[-1]

        self.patch(tap, "DataDir", data_dir)

        def start() -> None:
            service: Any = tap.makeService(parsed(f"--data-dir={self.folder}"))
            service.privilegedStartService()

        error = self.assertRaises(SystemExit, start)
        made[0].release()  # as the end of the process does
        self.assertIsInstance(error.code, str)
        self.assertNotIn("\n", str(error.code))
        return str(error.code)

    def test_made(self) -> None:
        """It has a locked directory of its own with an empty database, fits the process, and listens on nothing yet."""
        self.limit = (256, 256)
        service = self.make("--upstream=embedded:stand-in")
        self.assertEqual(stat.S_IMODE(self.folder.stat().st_mode), 0o700)
        self.assertEqual(sorted(path.name for path in self.folder.iterdir()), ["lock", "spool", "tasks.sqlite"])
        self.assertEqual(os.umask(0o077), 0o077)
        self.assertEqual((self.frozen, gc.isenabled()), ([True], True))
        self.assertEqual(self.reactor.tcpServers, [])
        self.assertEqual(service._settings.max_connections, 45)
        self.assertIsInstance(service.log_observer, LineLog)
        self.assertEqual(
            [trigger[:2] for trigger in self.triggers],
            [("during", "shutdown"), ("after", "startup"), ("before", "shutdown")],
        )

    def test_files_for_the_workers(self) -> None:
        """The pipes of the embedded face scorer's workers count among the open files."""
        self.limit = (1000, 1000)
        limits = []
        for workers in (0, 1, 31):
            self.patch(embedded, "face_installed", lambda workers=workers: workers > 0)
            self.patch(embedded, "default_workers", lambda workers=workers: workers)
            service = self.make("--upstream=embedded")
            service._data_dir.release()
            limits.append(service._settings.max_connections + service._settings.max_uploads)
        self.assertEqual(limits[0] - limits[2], 31 * WORKER_PIPES)
        self.assertTrue(limits[0] > limits[1] > limits[2])

    def test_names(self) -> None:
        """Files of names are read at the start, told in one line, and given to the embedded scorer."""
        self.patch(tap, "face_installed", lambda: True)
        self.patch(tap, "check_names", lambda paths: f"names: {' '.join(paths)}")
        made: list[tuple[Any, ...]] = []

        def embed(*arguments: Any) -> None:
            made.append(arguments)
            raise ValueError("no further")

        self.patch(service_module, "Embedded", embed)
        with capturedLogs() as logs:
            service = self.make("--upstream=embedded", "--names=/a", "--names=/b")
        self.assertEqual([formatEvent(event) for event in logs], ["names: /a /b"])
        self.assertRaises(SystemExit, service.privilegedStartService)
        self.assertEqual([arguments[1:] for arguments in made], [(None, ["/a", "/b"])])

    def test_broken_names(self) -> None:
        """A broken file ends the start with its line, before anything is made."""
        self.patch(tap, "face_installed", lambda: True)

        def broken(paths: Any) -> str:
            raise ValueError(f"--names: {paths[0]}, line 4: no year")

        self.patch(tap, "check_names", broken)
        error = self.assertRaises(SystemExit, self.make, "--upstream=embedded", "--names=/a")
        self.assertEqual(error.code, "merlind: --names: /a, line 4: no year")
        self.assertFalse(self.folder.exists())

    def test_last_lines_of_the_log(self) -> None:
        """From the shutdown on no line of the log waits in memory."""
        log = self.make().log_observer
        log({"log_level": LogLevel.info, "log_namespace": "merlind.x", "log_format": "stopped"})
        self.assertEqual(self.stdout.getvalue(), "")
        self.fire("during", "shutdown")
        self.assertIn("stopped", self.stdout.getvalue())

    def test_watched(self) -> None:
        """systemd is told what becomes of it, garbage is collected by time, and running out of memory ends it."""
        self.patch(os, "environ", {"NOTIFY_SOCKET": "/run/systemd/notify", "WATCHDOG_USEC": "30000000"})
        self.assertEqual(self.make().systemd.watchdog(), 30.0)
        self.assertEqual([call.getTime() for call in self.reactor.getDelayedCalls()], [INTERVAL])
        self.publisher({"log_failure": Failure(MemoryError()), "log_format": "oops"})
        self.assertEqual((self.exits, self.stderr.getvalue()), ([1], "merlind: out of memory\n"))
        self.assertIn("oops", self.stdout.getvalue())

    def test_failed_disk(self) -> None:
        """A failure of the disk ends the process."""
        self.make()._die("the database failed")
        self.reactor.run_for(process.LAST_MOMENT)
        self.assertEqual((self.exits, self.stderr.getvalue()), ([1], "merlind: the database failed\n"))

    def test_locked(self) -> None:
        """A second process on the same directory is refused."""
        self.make()
        self.assertEqual(self.refusal(), f"merlind: {self.folder} is in use by another merlind")

    def test_unusable_directory(self) -> None:
        """A file in place of the directory, or of one above it, is named."""
        self.folder.write_text("a file")
        self.assertEqual(self.refusal(), f"merlind: {self.folder} can't be used: File exists")
        self.folder = self.folder / "below"
        self.assertEqual(self.refusal(), f"merlind: {self.folder} can't be used: Not a directory")

    def test_unusable_spool(self) -> None:
        """A file in place of the spool is named."""
        self.folder.mkdir()
        (self.folder / "spool").write_text("a file")
        self.assertEqual(self.refusal(), f"merlind: {self.folder}/spool can't be used: Not a directory")

    def test_no_database(self) -> None:
        """A file that is no database is refused and left as it is."""
        self.folder.mkdir()
        file = self.folder / "tasks.sqlite"
        file.write_bytes(b"garbage" * 1000)
        line = self.refusal()
        self.assertEqual(line, f"merlind: {file} is not a database that can be read (file is not a database)")
        self.assertEqual(file.read_bytes(), b"garbage" * 1000)
        self.assertEqual(sorted(path.name for path in self.folder.iterdir()), ["lock", "tasks.sqlite"])

    def test_newer_database(self) -> None:
        """A database of a newer merlind is refused."""
        self.folder.mkdir()
        file = self.folder / "tasks.sqlite"
        database.prepare(file)
        with closing(sqlite3.connect(file)) as connection:
            connection.execute("PRAGMA user_version = 99")
        self.assertEqual(
            self.refusal(), f"merlind: {file} is of version 99; this merlind knows versions up to {database.VERSION}"
        )

    def test_damaged_database(self) -> None:
        """A database of ours that lacks a row or a table, or is damaged behind its first page, is refused."""
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

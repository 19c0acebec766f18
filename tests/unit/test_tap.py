"""The twistd plugin's side: from the command line to the settings."""

from pathlib import Path

from twisted.application.service import IServiceMaker
from twisted.plugin import IPlugin
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from merlind import tap
from merlind.settings import Settings
from twisted.plugins import merlind_plugin


class OptionsTests(SynchronousTestCase):
    """From the command line to the settings."""

    def options(self, *arguments: str) -> tap.Options:
        options = tap.Options({})
        options.parseOptions(arguments)
        return options

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

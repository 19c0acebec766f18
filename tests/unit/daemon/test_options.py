"""Options from the command line and the environment: which one wins, and what is refused."""

import io
import os
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from merlind import __version__
from merlind.daemon.options import EnvironmentOptions, Option, boolean, count, endpoint, seconds, share


class Sample(EnvironmentOptions):
    """One option of each kind."""

    prefix = "SAMPLE"
    repeated = frozenset({"listen"})
    declared: Sequence[Option] = (
        Option("listen", "tcp:1", "Where.", endpoint),
        Option("poll-interval", "2", "Pause.", seconds(0.5)),
        Option("most", "7", "Most.", count(1)),
        Option("name", "x", "Name."),
    )
    flags = (("loud", "Be loud."),)

    def opt_listen(self, value: str) -> None:
        """Where."""
        self.add("listen", value)


def parse(*arguments: str, **environment: str) -> EnvironmentOptions:
    """The options of a command line and an environment."""
    options = Sample(environment)
    options.parseOptions(list(arguments))
    return options


class SampleTests(SynchronousTestCase):
    """Options that an environment variable can set too."""

    def refusal(self, *arguments: str, **environment: str) -> str:
        """The line that ends the start."""
        error = self.assertRaises(SystemExit, parse, *arguments, **environment)
        text = str(error.code)
        self.assertNotIn("\n", text)
        return text

    def test_defaults(self) -> None:
        """A default is read like any other text."""
        options = parse()
        self.assertEqual(
            [options[name] for name in ("listen", "poll-interval", "most", "name", "loud")],
            [["tcp:1"], 2.0, 7, "x", False],
        )

    def test_environment(self) -> None:
        """A variable wins over the default; one without the prefix doesn't count."""
        options = parse(
            SAMPLE_LISTEN="tcp:2  tcp:3", SAMPLE_POLL_INTERVAL="0.5", SAMPLE_MOST="9", SAMPLE_LOUD="yes", MOST="8"
        )
        self.assertEqual(
            [options[name] for name in ("listen", "poll-interval", "most", "name", "loud")],
            [["tcp:2", "tcp:3"], 0.5, 9, "x", True],
        )

    def test_flag(self) -> None:
        """A flag wins over a variable, even over a bad one."""
        options = parse(
            "--most=5", "--loud", "--poll-interval", "3", SAMPLE_MOST="junk", SAMPLE_LOUD="0", SAMPLE_POLL_INTERVAL="9"
        )
        self.assertEqual((options["most"], options["loud"], options["poll-interval"]), (5, True, 3.0))

    def test_repeated(self) -> None:
        """An option that may be given more than once is a list, in order; the flags' values replace the variable's."""
        self.assertEqual(
            parse("--listen=tcp:5", "--listen", "tcp:4", SAMPLE_LISTEN="tcp:6")["listen"], ["tcp:5", "tcp:4"]
        )

    def test_real_environment(self) -> None:
        """By default the variables are the process's."""
        self.patch(os, "environ", {"SAMPLE_MOST": "3"})
        options = Sample()
        options.parseOptions([])
        self.assertEqual(options["most"], 3)

    def test_refused(self) -> None:
        """A bad value ends the start with one line that names the flag or the variable, and says what is wrong."""
        self.assertEqual(self.refusal("--most=0"), "sample: --most: '0' is not a whole number of at least 1")
        self.assertEqual(
            self.refusal(SAMPLE_MOST="many"), "sample: SAMPLE_MOST: 'many' is not a whole number of at least 1"
        )
        self.assertEqual(
            self.refusal("--poll-interval=0.4"),
            "sample: --poll-interval: '0.4' is not a number of seconds of at least 0.5",
        )
        for arguments in (("--listen=tcp:1", "--listen=nowhere:1"), ("--listen=tcp:abc",)):
            self.assertIn("is not an endpoint such as tcp:8000", self.refusal(*arguments))
        self.assertIn("SAMPLE_LISTEN: 'junk'", self.refusal(SAMPLE_LISTEN="tcp:1 junk"))
        self.assertIn("SAMPLE_LISTEN: '' is not an endpoint", self.refusal(SAMPLE_LISTEN=""))
        self.assertIn("frobnicate", self.refusal("--frobnicate"))
        self.assertTrue(self.refusal("stray").startswith("sample: "))

    def test_version(self) -> None:
        """``--version`` prints the version, and nothing starts."""
        out = io.StringIO()
        with redirect_stdout(out):
            error = self.assertRaises(SystemExit, parse, "--version")
        self.assertEqual((error.code, out.getvalue()), (0, f"sample {__version__}\n"))

    def test_help(self) -> None:
        """The help shows each option's default and variable."""
        text = " ".join(str(Sample({})).split())
        self.assertIn("--poll-interval= Pause. [default: 2, or $SAMPLE_POLL_INTERVAL]", text)
        self.assertIn("--loud Be loud. [or $SAMPLE_LOUD=1]", text)
        self.assertIn("--listen= Where.", text)


class ParserTests(SynchronousTestCase):
    """How texts are read."""

    def assert_refused(self, parse: Any, *texts: str) -> None:
        for text in texts:
            self.assertIn(repr(text), str(self.assertRaises(ValueError, parse, text)))

    def test_boolean(self) -> None:
        """A few words are true."""
        for text in ("1", "true", "YES", " on "):
            self.assertTrue(boolean(text))
        for text in ("0", "", "false", "no", "off", "2"):
            self.assertFalse(boolean(text))

    def test_seconds(self) -> None:
        """Seconds are finite, and not too few."""
        self.assertEqual([seconds()(text) for text in ("0", "1.5", "1e3")], [0.0, 1.5, 1000.0])
        self.assert_refused(seconds(), "", "x", "-1", "nan", "inf", "-inf", "1e999")
        self.assert_refused(seconds(2.0), "1.999")

    def test_count(self) -> None:
        """A count is plain digits, not too low and not too many."""
        self.assertEqual([count()(text) for text in ("0", "007", "9" * 15)], [0, 7, 10**15 - 1])
        self.assert_refused(count(), "", "x", "-1", "+1", "1.0", "1_0", "٣", "²", " 1", "9" * 16, "9" * 5000)
        self.assert_refused(count(3), "2")

    def test_share(self) -> None:
        """A share is a number from 0 to 1."""
        self.assertEqual([share(text) for text in ("0", "0.5", "1")], [0.0, 0.5, 1.0])
        self.assert_refused(share, "", "x", "-0.1", "1.1", "nan", "inf")

    def test_endpoint(self) -> None:
        """An endpoint is whatever Twisted takes, as it was typed."""
        for text in ("tcp:8000", "tcp:0:interface=127.0.0.1", "tcp6:8000", "unix:/x/y"):
            self.assertEqual(endpoint(text), text)
        self.assert_refused(endpoint, "", "tcp", "tcp:", "nowhere", "tcp:1:nonsense=2")

    def test_no_systemd_socket(self) -> None:
        """A socket that systemd didn't pass is named, with those that it passed, and with what to write."""
        text = "systemd:domain=INET:name=web"
        self.patch(os, "environ", {})
        self.assertRegex(
            self.reason(text), "^'systemd:domain=INET:name=web' is no socket .* it passed none .*LISTEN_FDNAMES"
        )
        self.patch(os, "environ", {"LISTEN_FDNAMES": "merlind:admin"})
        for wrong in (text, "systemd:name=merlind", f"haproxy:{text}"):
            self.assertIn("those that it passed are named merlind, admin. Write systemd:domain=", self.reason(wrong))

    def reason(self, text: str) -> str:
        """Why a text is no endpoint."""
        return str(self.assertRaises(ValueError, endpoint, text))

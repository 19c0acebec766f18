"""The command line and the environment: which one wins, and what is refused."""

import io
import os
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from merlind import __version__, tap
from merlind.daemon.options import EnvironmentOptions, Option, boolean, count, endpoint, seconds, share


class Sample(EnvironmentOptions):
    """Options to try."""

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
        self.add_repeated("listen", value)


def parse(*arguments: str, kind: type[EnvironmentOptions] = Sample, **environment: str) -> EnvironmentOptions:
    options = kind(environment)
    options.parseOptions(list(arguments))
    return options


class SampleTests(SynchronousTestCase):
    """Options that an environment variable can set too."""

    def refusal(self, *arguments: str, **environment: str) -> str:
        """The line that an attempt ends with."""
        error = self.assertRaises(SystemExit, parse, *arguments, **environment)
        text = str(error.code)
        self.assertNotIn("\n", text)
        return text

    def test_defaults(self) -> None:
        """As they are declared, parsed."""
        options = parse()
        self.assertEqual(
            [options[name] for name in ("listen", "poll-interval", "most", "name", "loud")],
            [["tcp:1"], 2.0, 7, "x", False],
        )

    def test_environment(self) -> None:
        """A variable wins over the default, and is parsed too; what is not ours doesn't matter."""
        options = parse(
            SAMPLE_LISTEN="tcp:2  tcp:3", SAMPLE_POLL_INTERVAL="0.5", SAMPLE_MOST="9", SAMPLE_LOUD="yes", MOST="8"
        )
        self.assertEqual(
            [options[name] for name in ("listen", "poll-interval", "most", "name", "loud")],
            [["tcp:2", "tcp:3"], 0.5, 9, "x", True],
        )

    def test_flag(self) -> None:
        """The flag wins over the variable, even a bad one."""
        options = parse(
            "--most=5", "--loud", "--poll-interval", "3", SAMPLE_MOST="junk", SAMPLE_LOUD="0", SAMPLE_POLL_INTERVAL="9"
        )
        self.assertEqual((options["most"], options["loud"], options["poll-interval"]), (5, True, 3.0))

    def test_repeated(self) -> None:
        """One that may be given more than once is a list, in order; flags replace the variable's."""
        self.assertEqual(
            parse("--listen=tcp:5", "--listen", "tcp:4", SAMPLE_LISTEN="tcp:6")["listen"], ["tcp:5", "tcp:4"]
        )

    def test_real_environment(self) -> None:
        """Where none is given, it is the process's."""
        self.patch(os, "environ", {"SAMPLE_MOST": "3"})
        options = Sample()
        options.parseOptions([])
        self.assertEqual(options["most"], 3)

    def test_refused(self) -> None:
        """A bad value ends the start with one line that says where it is from and what is wrong."""
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
        self.assertIn("frobnicate", self.refusal("--frobnicate"))
        self.assertTrue(self.refusal("stray").startswith("sample: "))

    def test_version(self) -> None:
        """It is told, and that is all."""
        out = io.StringIO()
        with redirect_stdout(out):
            error = self.assertRaises(SystemExit, parse, "--version")
        self.assertEqual((error.code, out.getvalue()), (0, f"sample {__version__}\n"))

    def test_help(self) -> None:
        """Each option tells its default and its variable."""
        text = " ".join(str(Sample({})).split())
        self.assertIn("--poll-interval= Pause. [default: 2, or $SAMPLE_POLL_INTERVAL]", text)
        self.assertIn("--loud Be loud. [or $SAMPLE_LOUD=1]", text)
        self.assertIn("--listen= Where.", text)


class ParserTests(SynchronousTestCase):
    """What is read as what."""

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
        """Finite, and not too few."""
        self.assertEqual([seconds()(text) for text in ("0", "1.5", "1e3")], [0.0, 1.5, 1000.0])
        self.assert_refused(seconds(), "", "x", "-1", "nan", "inf", "-inf", "1e999")
        self.assert_refused(seconds(2.0), "1.999")

    def test_count(self) -> None:
        """Plain digits, not too few, not too many."""
        self.assertEqual([count()(text) for text in ("0", "007", "9" * 15)], [0, 7, 10**15 - 1])
        self.assert_refused(count(), "", "x", "-1", "+1", "1.0", "1_0", "٣", "²", " 1", "9" * 16, "9" * 5000)
        self.assert_refused(count(3), "2")

    def test_share(self) -> None:
        """From 0 to 1."""
        self.assertEqual([share(text) for text in ("0", "0.5", "1")], [0.0, 0.5, 1.0])
        self.assert_refused(share, "", "x", "-0.1", "1.1", "nan", "inf")

    def test_endpoint(self) -> None:
        """What Twisted takes, as it was."""
        for text in ("tcp:8000", "tcp:0:interface=127.0.0.1", "tcp6:8000", "unix:/x/y"):
            self.assertEqual(endpoint(text), text)
        self.assert_refused(endpoint, "", "tcp", "tcp:", "nowhere", "tcp:1:nonsense=2")


class MerlindTests(SynchronousTestCase):
    """The options of ``twistd merlind``."""

    def refusal(self, *arguments: str) -> str:
        return str(self.assertRaises(SystemExit, parse, *arguments, kind=tap.Options).code)

    def test_defaults(self) -> None:
        """The brief's port and upstream, and a setting for each."""
        settings = tap.make_settings(parse(kind=tap.Options))  # type: ignore[arg-type]
        self.assertEqual((settings.listen, settings.upstream), (["tcp:8000"], "http://merlinface.com:12345/api/"))
        self.assertEqual((settings.poll_interval, settings.give_up_after), (2.0, 86400.0))
        self.assertEqual(settings.data_dir, Path("./merlind-data"))
        self.assertEqual(settings.admin, "tcp:8001:interface=127.0.0.1")

    def test_each_has_its_setting(self) -> None:
        """A value that is given arrives where it belongs."""
        numbers = {
            option.name: str(number)
            for number, option in enumerate(tap.Options.declared, 11)
            if option.name not in ("listen", "upstream", "data-dir", "admin")
        }
        options = parse(*(f"--{name}={value}" for name, value in numbers.items()), kind=tap.Options)
        settings = tap.make_settings(options)  # type: ignore[arg-type]
        for name, value in numbers.items():
            self.assertEqual(getattr(settings, name.replace("-", "_")), float(value), name)

    def test_admin(self) -> None:
        """It can be turned off."""
        self.assertIsNone(parse("--admin=none", kind=tap.Options)["admin"])
        self.assertEqual(parse("--admin=tcp:9", kind=tap.Options)["admin"], "tcp:9")
        self.assertIn("--admin: 'never' is not an endpoint", self.refusal("--admin=never"))

    def test_listen(self) -> None:
        """More than one place."""
        options = parse("--listen=tcp:1", "--listen=tcp:2", kind=tap.Options, MERLIND_LISTEN="tcp:3")
        self.assertEqual(options["listen"], ["tcp:1", "tcp:2"])
        self.assertIn("--listen: 'x' is not an endpoint", self.refusal("--listen=x"))

    def test_upstream(self) -> None:
        """An http or https URL, or the word for the stand-in."""
        for text in ("embedded", "http://h", "https://h:1/api/?x=%20", "http://[::1]:12345/api/", "HTTP://H/"):
            self.assertEqual(tap.upstream(text), text)
        for text in ("", "h", "ftp://h/", "http://", "http://:1/", "http://h:0/", "http://h:x/", "http://h:99999/",
                     "http://[::1/", "http://h/é", "http://h/a b", "http://h/\n", "Embedded"):  # fmt: skip
            self.assertIn(repr(text), str(self.assertRaises(ValueError, tap.upstream, text)))
        self.assertIn("--upstream: 'x' is neither an http or https URL", self.refusal("--upstream=x"))

    def test_help(self) -> None:
        """Each option is told."""
        text = str(tap.Options({}))
        for option in tap.Options.declared:
            self.assertIn(f"--{option.name}", text)

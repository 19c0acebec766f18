"""From ``--auth`` to checkers: which there are, and what can't be one."""

import subprocess
import sys
from pathlib import Path

from twisted.cred.strcred import ICheckerFactory
from twisted.plugin import IPlugin
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from merlind.web.auth.checkers import AuthUnusable, make_checkers
from merlind.web.auth.password_checker import HtpasswdChecker
from merlind.web.auth.proxy import ProxyChecker
from merlind.web.auth.tokens import TokenChecker
from tests.unit.web.auth.support import hash_of, token_file
from twisted.plugins import merlind_auth_plugin

UNIX = ("tcp:8000", "unix:/run/socket")


class MakeCheckersTests(SynchronousTestCase):
    """What ``--auth`` says."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp())

    def test_plugins(self) -> None:
        """twisted.cred finds them by their names."""
        for factory in (merlind_auth_plugin.htpasswd, merlind_auth_plugin.tokens, merlind_auth_plugin.proxy):
            self.assertTrue(verifyObject(IPlugin, factory))
            self.assertTrue(verifyObject(ICheckerFactory, factory))

    def test_light(self) -> None:
        """To load the plugins, as each twistd does, installs no reactor and loads no hashes."""
        code = (
            "import sys, twisted.plugins.merlind_auth_plugin; "
            "print([name for name in ('twisted.internet.reactor', 'argon2') if name in sys.modules])"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, check=True, env={"PYTHONPATH": ":".join(sys.path)}
        )
        self.assertEqual(done.stdout, b"[]\n")

    def test_made(self) -> None:
        """Each kind is made, in the order that was given; one of Twisted's own is as good."""
        users, tokens = self.path.with_suffix(".users"), token_file(self.path)
        users.write_text(f"ann:{hash_of('secret')}\n")
        plain = self.path.with_suffix(".plain")
        plain.write_text("ann:secret\n")
        made = make_checkers([f"htpasswd:{users}", f"tokens:{tokens}", "proxy:Remote-User", f"file:{plain}"], UNIX)
        kinds = [type(checker) for checker in made[:3]]
        self.assertEqual(kinds, [HtpasswdChecker, TokenChecker, ProxyChecker])
        self.assertEqual(len(made), 4)

    def test_refused(self) -> None:
        """What can't be used is told in one line, which names file and line."""
        self.path.write_text("# ours\nann:$apr1$secret\n")
        for description, why in (
            (f"htpasswd:{self.path}", f"{self.path.absolute()}, line 2: an MD5 hash of Apache"),
            ("htpasswd:/nowhere/file", "/nowhere/file can't be read: No such file or directory"),
            ("htpasswd", "say htpasswd:FILE"),
            ("tokens:", "say tokens:FILE"),
            (f"tokens:{self.path}", f"{self.path.absolute()}, line 2: it is not USER:LABEL:SHA256:CREATED"),
            ("proxy:Host", "'Host' is no header such as Remote-User"),
            ("nosuch:thing", "there is no such checker; there are "),
            ("anonymous", "it takes neither passwords nor tokens"),
        ):
            error = str(self.assertRaises(AuthUnusable, make_checkers, [description], UNIX))
            self.assertTrue(error.startswith(f"--auth {description}: {why}"), error)
            self.assertNotIn("\n", error)
            self.assertNotIn("secret", error)
        self.assertIn("htpasswd, ", error := str(self.assertRaises(AuthUnusable, make_checkers, ["nosuch"], UNIX)))
        self.assertNotIn("anonymous", error)

    def test_proxy_without_a_unix_socket(self) -> None:
        """A proxy is believed on unix sockets only, so there has to be one, of whatever kind."""
        for listen in (["tcp:8000"], ["haproxy:tcp:8000", "ssl:443"], ["systemd:domain=INET:index=0"]):
            error = str(self.assertRaises(AuthUnusable, make_checkers, ["proxy:Remote-User"], listen))
            self.assertIn("no --listen has one", error)
        for listen in (["unix:/s"], ["tcp:8000", "haproxy:unix:/s"], ["systemd:domain=UNIX:index=0"]):
            self.assertEqual(len(make_checkers(["proxy:Remote-User"], listen)), 1)

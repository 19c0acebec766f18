"""Origins: those that an operator names, and those that requests come from (docs/battery.md, H19)."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from merlind.core.origin import is_foreign, read_origin
from tests.unit.web.support import checked

FOREIGN, OWN = True, False


class ReadingTests(SynchronousTestCase):
    """What an operator writes."""

    def test_as_browsers_write_it(self) -> None:
        """Small letters, and no port that is the scheme's own; * stays."""
        for text, origin in (
            ("https://app.example.org", "https://app.example.org"),
            ("HTTPS://App.Example.org:443", "https://app.example.org"),
            ("http://localhost:80", "http://localhost"),
            ("http://localhost:443", "http://localhost:443"),
            ("http://localhost:3000", "http://localhost:3000"),
            ("http://[2001:DB8::1]:8000", "http://[2001:db8::1]:8000"),
            ("https://xn--e1afmkfd.example", "https://xn--e1afmkfd.example"),
            ("chrome-extension://abcdefgh", "chrome-extension://abcdefgh"),
            ("capacitor://localhost", "capacitor://localhost"),
            ("*", "*"),
        ):
            self.assertEqual(read_origin(text), origin)

    def test_refused(self) -> None:
        """What no browser sends as an origin, or what may be anybody, is refused, and named."""
        for text in ("", "null", "app.example.org", "https://", "https://a/", "https://a/path", "https://a?x",
                     "https://u@a", "https://*.example.org", "https://a:0", "https://a:65536", "https://a:x",
                     "https://a:", "https://a b", "https://пример.example", "https://a\n", "//a", "**",
                     "https://[::1", "https://a,https://b"):  # fmt: skip
            self.assertIn(repr(text), str(self.assertRaises(ValueError, read_origin, text)))


class ForeignTests(SynchronousTestCase):
    """Whether another origin's page sent a request."""

    def test_sec_fetch_site(self) -> None:
        """Where a browser says how a page stands to us, that alone counts; a word that we don't know is a no."""
        for site, foreign in (
            ("same-origin", OWN), ("none", OWN), ("same-site", FOREIGN), ("cross-site", FOREIGN), ("", FOREIGN),
            ("Same-Origin", FOREIGN), ("other", FOREIGN),
        ):  # fmt: skip
            for origin in (None, "null", "http://a", "https://b.example"):
                self.assertEqual(is_foreign(site, origin, ["a"]), foreign, (site, origin))

    def test_programs(self) -> None:
        """What has neither Sec-Fetch-Site nor Origin is no page's."""
        self.assertFalse(is_foreign(None, None, ["a"]))
        self.assertFalse(is_foreign(None, None, []))

    def test_origin_and_host(self) -> None:
        """Without Sec-Fetch-Site the origin must be one of the hosts: the name and the port, with http or https."""
        for origin, hosts, foreign in (
            ("http://a", ["a"], OWN),
            ("http://a", ["A"], OWN),
            ("http://a", ["a:80"], OWN),
            ("http://a", ["a:"], OWN),
            ("http://a:8000", ["a:8000"], OWN),
            ("http://192.168.1.5:8000", ["192.168.1.5:8000"], OWN),
            ("http://[fd00::1]:8000", ["[FD00::1]:8000"], OWN),
            # A proxy takes the TLS away.
            ("https://a", ["a"], OWN),
            ("https://a", ["a:443"], OWN),
            ("https://a:8443", ["a:8443"], OWN),
            # A proxy that asks by a name of its own, and tells the one that it was asked by.
            ("https://a", ["127.0.0.1:8000", "a"], OWN),
            ("https://a", ["127.0.0.1:8000", "a", "inner"], OWN),
            ("https://a", ["127.0.0.1:8000"], FOREIGN),
            ("https://a", [], FOREIGN),
            ("http://a:8000", ["a"], FOREIGN),
            ("http://a", ["a:8000"], FOREIGN),
            ("https://a", ["a:80"], FOREIGN),
            ("http://a:8000", ["a:8001"], FOREIGN),
            ("http://b", ["a"], FOREIGN),
            ("http://a.b", ["b"], FOREIGN),
            ("http://b", ["a.b"], FOREIGN),
            ("http://a", ["a/b"], FOREIGN),
            ("null", ["a"], FOREIGN),
            ("null", ["null"], FOREIGN),
            ("", [""], FOREIGN),
            ("chrome-extension://a", ["a"], FOREIGN),
            ("ftp://a", ["a"], FOREIGN),
            ("http://a, http://b", ["a"], FOREIGN),
            ("http://a/", ["a"], FOREIGN),
            ("http://u@a", ["a"], FOREIGN),
        ):  # fmt: skip
            self.assertEqual(is_foreign(None, origin, hosts), foreign, (origin, hosts))

    @checked
    @given(st.text(), st.text())
    def test_anything(self, origin: str, host: str) -> None:
        """Nothing that a client may write raises, and no origin is ours but by its host's name."""
        if not is_foreign(None, origin, [host]):
            self.assertIn(host.lower().rpartition(":")[0] or host.lower(), origin.lower())

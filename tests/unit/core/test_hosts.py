"""The hosts that the admin listener may be asked by."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from merlind.core.hosts import is_own_host

OWN = (
    "127.0.0.1",
    "127.0.0.1:8001",
    "[::1]",
    "[fe80::1]:8001",
    "localhost:8001",
    "LOCALHOST",
    "merlind:8001",
    "a.localhost",
    "ops.example.org",
    "OPS.example.org.:1",
    "",
)
OTHERS = ("evil.example", "evil.example:8001", "127.0.0.1.evil.example", "1.2.3", "a.b.", "ops.example.org.evil")


class HostTests(SynchronousTestCase):
    """Which Host can be meant for this machine."""

    def test_allowed(self) -> None:
        """Addresses, names without a dot, names below localhost, and the names that are set."""
        for host in OWN:
            self.assertTrue(is_own_host(host.encode("ascii"), {"ops.example.org"}), host)

    def test_refused(self) -> None:
        """Names with a dot that a stranger could own, and what isn't quite an address."""
        for host in OTHERS:
            self.assertFalse(is_own_host(host.encode("ascii"), {"ops.example.org"}), host)

    @given(st.binary(max_size=40))
    def test_any_bytes(self, host: bytes) -> None:
        """Nothing makes it fail."""
        is_own_host(host, ())

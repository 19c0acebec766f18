"""Who a client is, directly and behind proxies (docs/battery.md, A7)."""

from ipaddress import IPv6Network, ip_address, ip_network
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from merlind.core.clients import (
    LOOPBACK,
    MAX_HOPS,
    NO_ADDRESS,
    ClientAddresses,
    client_key,
    is_local,
    is_user,
    read_network,
    user_key,
)
from merlind.core.forwarded import read_address
from tests.unit.core.test_forwarded import junk
from tests.unit.web.support import checked

PROXIES = (*LOOPBACK, ip_network("10.0.0.0/8"), ip_network("2001:db8:ffff::/48"))

addresses = ClientAddresses(PROXIES)
peers = st.one_of(st.none(), st.text(max_size=50), st.ip_addresses().map(str))
headers = st.lists(junk, max_size=4)
strangers = st.ip_addresses().map(str).filter(lambda text: not addresses.is_trusted(text))
proxies = st.sampled_from(PROXIES).flatmap(lambda network: st.ip_addresses(network=network)).map(str)


def behind(peer: str | None, *x_forwarded_for: bytes, forwarded: tuple[bytes, ...] = ()) -> str:
    """The client that a peer's headers tell."""
    return addresses.client_of(peer, forwarded, x_forwarded_for)


def key_of(text: str) -> str:
    """The key of a client that comes without a proxy."""
    return client_key(read_address(text))


class KeyTests(SynchronousTestCase):
    """Which addresses are one client."""

    def test_keys(self) -> None:
        """An IPv4 address is one client; in IPv6 it is a /64, but for this machine's own address."""
        for text, key in (
            ("192.0.2.1", "192.0.2.1"),
            ("127.0.0.2", "127.0.0.2"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("64:ff9b::192.0.2.1", "192.0.2.1"),
            ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
            ("2001:db8:0:1:ffff:ffff:ffff:ffff", "2001:db8:0:1::/64"),
            ("2001:db8:0:2::1", "2001:db8:0:2::/64"),
            ("fe80::1%eth0", "fe80::/64"),
            ("::1", "::1"),
            ("", NO_ADDRESS),
            ("nonsense", NO_ADDRESS),
        ):
            self.assertEqual(key_of(text), key, text)

    @checked
    @given(st.ip_addresses(v=6), st.integers(0, 2**64 - 1))
    def test_one_client_a_prefix(self, address: Any, host: int) -> None:
        """Whoever has a /64 has one key, whatever address in it is used, and the neighbour has another."""
        mapped = IPv6Network("::/64"), IPv6Network("64:ff9b::/64")  # there each address may stand for an IPv4 client
        if not any(address in network for network in mapped):
            other = ip_address(int(address) >> 64 << 64 | host)
            self.assertEqual(client_key(address), client_key(other))
            self.assertIn(address, IPv6Network(client_key(address)))
            self.assertNotEqual(client_key(address), client_key(ip_address(int(address) ^ 1 << 64)))

    def test_this_machine(self) -> None:
        """The keys of this machine's own clients are known as such."""
        for key, local in ((NO_ADDRESS, True), ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True),
                           ("192.0.2.1", False), ("2001:db8::/64", False), ("::/64", False)):  # fmt: skip
            self.assertEqual(is_local(key), local, key)


class ProxyTests(SynchronousTestCase):
    """Clients behind proxies."""

    def test_trusted(self) -> None:
        """The proxies' networks are trusted, in any spelling; a unix socket is, if this machine's addresses are."""
        for peer, trusted in (("127.0.0.1", True), ("127.1.2.3", True), ("::1", True), ("::ffff:127.0.0.1", True),
                              ("10.1.2.3", True), ("::ffff:10.1.2.3", True), ("2001:db8:ffff::1%x", True), (None, True),
                              ("", True), ("11.0.0.1", False), ("2001:db8::1", False), ("x", False)):  # fmt: skip
            self.assertEqual(addresses.is_trusted(peer), trusted, peer)
        nobody = ClientAddresses(())
        self.assertEqual([nobody.is_trusted(peer) for peer in ("127.0.0.1", "::1", None, "")], [False] * 4)

    def test_first_stranger_from_the_right(self) -> None:
        """The client is the first address from the right that is no trusted proxy's."""
        for lines, client in (
            ([b"192.0.2.1"], "192.0.2.1"),
            ([b"192.0.2.9, 192.0.2.1"], "192.0.2.1"),
            ([b"192.0.2.1, 10.0.0.7"], "192.0.2.1"),
            ([b"192.0.2.9, 192.0.2.1", b"10.0.0.7:99, 127.0.0.1"], "192.0.2.1"),
            ([b"[2001:db8:0:1::5]:8080, 2001:db8:ffff::2"], "2001:db8:0:1::/64"),
            ([b"10.0.0.8, 10.0.0.7"], "10.0.0.8"),
        ):
            for peer in ("127.0.0.1", "10.0.0.1", None):
                self.assertEqual(behind(peer, *lines), client, lines)

    def test_forwarded(self) -> None:
        """Forwarded works as well, where there is no X-Forwarded-For."""
        line = b'for=192.0.2.9, for="[2001:db8:0:1::5]:8080";proto=https, for=10.0.0.7;by="a,b"'
        self.assertEqual(behind("127.0.0.1", forwarded=(line,)), "2001:db8:0:1::/64")
        self.assertEqual(behind("127.0.0.1", b"192.0.2.1", forwarded=(line,)), "192.0.2.1")

    def test_nothing_of_use(self) -> None:
        """A trusted proxy that says nothing of use is itself the client."""
        for lines, client in (
            ([], "127.0.0.1"),
            ([b""], "127.0.0.1"),
            ([b"unknown"], "127.0.0.1"),
            ([b"192.0.2.1, unknown"], "127.0.0.1"),
            ([b"192.0.2.1, _hidden, 10.0.0.7"], "10.0.0.7"),
        ):
            self.assertEqual(behind("127.0.0.1", *lines), client, lines)
        self.assertEqual(behind(None), NO_ADDRESS)

    def test_bounded(self) -> None:
        """Only so many proxies in a row are followed."""
        line = b"192.0.2.1" + b", 10.0.0.7" * MAX_HOPS
        self.assertEqual(behind("127.0.0.1", line), "10.0.0.7")
        self.assertEqual(behind("127.0.0.1", line[: -len(b", 10.0.0.7")]), "192.0.2.1")

    def test_strangers_say_what_they_like(self) -> None:
        """Of whoever is no trusted proxy, the headers count for nothing."""
        for peer, client in (("192.0.2.1", "192.0.2.1"), ("2001:db8:0:1::1", "2001:db8:0:1::/64"), ("x", NO_ADDRESS)):
            self.assertEqual(behind(peer, b"198.51.100.1"), client)
            self.assertEqual(behind(peer, b"198.51.100.1, 127.0.0.1"), client)
            self.assertEqual(behind(peer, forwarded=(b"for=198.51.100.1",)), client)
        self.assertEqual(ClientAddresses(()).client_of("127.0.0.1", [], [b"198.51.100.1"]), "127.0.0.1")

    @checked
    @given(peers, headers, headers)
    def test_anything_has_a_key(self, peer: str | None, forwarded: list[bytes], x_forwarded_for: list[bytes]) -> None:
        """Whatever a peer and its headers are, there is a short key."""
        key = addresses.client_of(peer, forwarded, x_forwarded_for)
        self.assertTrue(0 < len(key) <= 43 and key.isascii(), key)

    @checked
    @given(strangers, headers, headers)
    def test_strangers_are_not_believed(self, peer: str, forwarded: list[bytes], x_forwarded_for: list[bytes]) -> None:
        """Whoever is no trusted proxy has the key of its own address, whatever it says."""
        self.assertEqual(addresses.client_of(peer, forwarded, x_forwarded_for), key_of(peer))

    @checked
    @given(proxies, strangers, headers, junk, headers, st.lists(proxies, max_size=3))
    def test_no_escape_through_x_forwarded_for(
        self, peer: str, client: str, lines: list[bytes], start: bytes, forwarded: list[bytes], between: list[str]
    ) -> None:
        """A client behind proxies that add to X-Forwarded-For has one key, whatever either header said before."""
        added = b", ".join(text.encode() for text in (client, *between))
        self.assertEqual(addresses.client_of(peer, forwarded, [*lines, start + b", " + added]), key_of(client))
        self.assertEqual(addresses.client_of(peer, forwarded, [*lines, start, added]), key_of(client))

    @checked
    @given(proxies, strangers, headers, junk, st.lists(proxies, max_size=3))
    def test_no_escape_through_forwarded(
        self, peer: str, client: str, lines: list[bytes], start: bytes, between: list[str]
    ) -> None:
        """The same with Forwarded, where the proxy lets no X-Forwarded-For through."""
        added = b", ".join(b'for="%s"' % (f"[{a}]" if ":" in a else a).encode() for a in (client, *between))
        self.assertEqual(addresses.client_of(peer, [*lines, start + b", " + added], []), key_of(client))
        self.assertEqual(addresses.client_of(peer, [*lines, start, added], []), key_of(client))


class NetworkTests(SynchronousTestCase):
    """The networks of proxies as an operator writes them."""

    def test_users(self) -> None:
        """A user is a client of their own, whatever they are called; no address is one."""
        for user in ("ann", "192.0.2.1", "local", "user:x"):
            key = user_key(user)
            self.assertEqual((is_user(key), is_local(key)), (True, False))
            self.assertNotEqual(key, user)
        self.assertFalse(any(map(is_user, (NO_ADDRESS, "192.0.2.1", "2001:db8::/64"))))

    def test_networks(self) -> None:
        """A network, or one address; IPv4 that is written as IPv6 is IPv4."""
        for text, network in (("10.0.0.0/8", "10.0.0.0/8"), ("10.1.2.3", "10.1.2.3/32"), ("2001:db8::/32",) * 2,
                              ("::1", "::1/128"), ("::ffff:10.0.0.0/104", "10.0.0.0/8"), ("0.0.0.0/0", "0.0.0.0/0"),
                              ("::/0", "::/0")):  # fmt: skip
            self.assertEqual(str(read_network(text)), network)

    def test_no_networks(self) -> None:
        """Anything else is refused, also a network with bits behind its prefix: it is a slip, and which one is open."""
        for text in ("", "x", "10.0.0.0/33", "10.0.0.1/8", "10.0.0.0-10.0.0.9", "localhost", "10.0.0.0/8,::1"):
            self.assertRaises(ValueError, read_network, text)

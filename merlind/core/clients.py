"""Who a client is, for the limits by client: the user that signed in, or an address, or what a proxy says of it."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_network
from itertools import islice

from merlind.core.forwarded import Address, read_address, told_addresses

Network = IPv4Network | IPv6Network

LOOPBACK: tuple[Network, ...] = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))
"""Where the proxies on this machine are."""

NO_ADDRESS = "local"
"""The one client that all are who have no address, such as those of a unix socket."""

_USER = "user:"

MAX_HOPS = 16
"""How many entries of a header are looked at, from the right."""

_THIS_MACHINE = IPv4Address("127.0.0.1")
_IPV4_MAPPED = IPv6Network("::ffff:0:0/96")


def client_key(address: Address | None) -> str:
    """Return whom the limits take an address for: in IPv6 its /64, since a client has all of one at least."""
    if address is None:
        return NO_ADDRESS
    if address.version == 4 or address.is_loopback:
        return str(address)
    return str(IPv6Network((int(address) >> 64 << 64, 64)))


def user_key(user: str) -> str:
    """Return whom the limits take a user that signed in for: the same client from every address."""
    return _USER + user


def is_user(client: str) -> bool:
    """Whether a client is a user that signed in."""
    return client.startswith(_USER)


def is_local(client: str) -> bool:
    """Whether a client is somebody on this machine: maybe a proxy that doesn't tell whom it asks for."""
    if client == NO_ADDRESS:
        return True
    address = read_address(client)
    return address is not None and address.is_loopback


def read_network(text: str) -> Network:
    """Return the network, or the one address, that a text names. Raises ValueError."""
    network = ip_network(text)
    if isinstance(network, IPv6Network) and network.subnet_of(_IPV4_MAPPED):
        return IPv4Network((int(network.network_address) & 0xFFFFFFFF, network.prefixlen - 96))
    return network


class ClientAddresses:
    """Finds the client of a request. ``trusted`` are the networks of proxies; a unix socket counts as loopback."""

    def __init__(self, trusted: Sequence[Network]) -> None:
        self._trusted = tuple(trusted)

    def is_trusted(self, peer: str | None) -> bool:
        """Whether to believe what a peer says of its client. None, or nothing, is the peer of a unix socket."""
        return self._trusts(read_address(peer) if peer else _THIS_MACHINE)

    def client_of(self, peer: str | None, forwarded: Sequence[bytes], x_forwarded_for: Sequence[bytes]) -> str:
        """Return the key of the client whose request a peer sent with these headers, one item for each line.

        It is the first address from the right that is not a trusted proxy's. If a trusted one tells nothing of use, it
        is itself the client.
        """
        client = read_address(peer) if peer else None
        if self._trusts(client if peer else _THIS_MACHINE):
            for told in islice(told_addresses(forwarded, x_forwarded_for), MAX_HOPS):
                if told is None:
                    break
                client = told
                if not self._trusts(told):
                    break
        return client_key(client)

    def _trusts(self, address: Address | None) -> bool:
        return address is not None and any(address in network for network in self._trusted)

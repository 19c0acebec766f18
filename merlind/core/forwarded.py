"""What proxies say of the client before them: the headers Forwarded (RFC 7239) and X-Forwarded-For.

Each proxy adds the address that it was asked from at the right. Whatever stands to the left may be a client's
invention, so both headers are read from the right, and only as far as the reader wants.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

Address = IPv4Address | IPv6Address

MAX_ELEMENT = 256
"""The longest entry of a header that is read, in bytes."""

_TRANSLATED = IPv6Network("64:ff9b::/96")
"""IPv4 clients before an IPv6-only network (RFC 6052): their address is the last 32 bits."""

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED = rb'"(?:[^"\\]|\\.)*"'
_PAIR = re.compile(rb"[ \t]*(%s)=(?:(%s)|(%s))[ \t]*" % (_TOKEN, _TOKEN, _QUOTED))
_ESCAPED = re.compile(rb"\\(.)")


def read_address(text: str) -> Address | None:
    """Return the address that a text is, or None. A zone is dropped, and an IPv4 address within IPv6 is IPv4."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _TRANSLATED:
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def told_addresses(forwarded: Sequence[bytes], x_forwarded_for: Sequence[bytes]) -> Iterator[Address | None]:
    """Yield the addresses that proxies told, from the nearest on; None for one that says nothing.

    The arguments are the header's lines in their order. Where there is an X-Forwarded-For, Forwarded doesn't count:
    most proxies set only the former, and pass on whatever a client sends as the latter.
    """
    if any(line.strip(b" \t,") for line in x_forwarded_for):
        return _read(x_forwarded_for, _node)
    return _read(forwarded, _for)


def _read(lines: Sequence[bytes], read: Callable[[bytes], Address | None]) -> Iterator[Address | None]:
    return (read(element) for line in reversed(lines) for element in _from_the_right(line))


def _from_the_right(line: bytes) -> Iterator[bytes]:
    """Yield the entries of a list, the last one first, without the empty ones. A comma in quotes parts nothing."""
    while line := line.rstrip(b", \t"):
        start = line.rfind(b",")
        quotes = _count_quotes(line, start + 1, len(line))
        while quotes % 2 and start >= 0 and len(line) - start <= MAX_ELEMENT:
            # The comma is in quotes that open further to the left.
            end, start = start, line.rfind(b",", 0, start)
            quotes += _count_quotes(line, start + 1, end)
        yield line[start + 1 :].strip(b" \t")
        line = line[: max(start, 0)]


def _count_quotes(line: bytes, start: int, end: int) -> int:
    return line.count(b'"', start, end) - line.count(b'\\"', start, end)


def _for(element: bytes) -> Address | None:
    """Return the address of a Forwarded header's element, such as ``for="[2001:db8::1]:4711";proto=https``."""
    if len(element) > MAX_ELEMENT:
        return None
    nodes, at = [], 0
    while at <= len(element):
        if (pair := _PAIR.match(element, at)) is None or element[pair.end() : pair.end() + 1] not in (b"", b";"):
            return None
        if pair[1].lower() == b"for":
            nodes.append(pair[2] or _ESCAPED.sub(rb"\1", pair[3][1:-1]))
        at = pair.end() + 1
    return _node(nodes[0]) if len(nodes) == 1 else None


def _node(node: bytes) -> Address | None:
    """Return the address of a node, with or without a port; None for ``unknown`` and names (RFC 7239, section 6)."""
    if len(node) > MAX_ELEMENT or not node.isascii():
        return None
    text = node.decode("ascii")
    if text.startswith("["):
        host, closed, port = text[1:].partition("]")
        return read_address(host) if closed and (not port or port.startswith(":")) else None
    if text.count(":") == 1:
        text = text.partition(":")[0]
    return read_address(text)

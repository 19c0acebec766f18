"""What is read of Forwarded and X-Forwarded-For (docs/battery.md, A7)."""

from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from merlind.core.forwarded import MAX_ELEMENT, read_address, told_addresses
from tests.unit.web.support import checked

junk = st.one_of(
    st.binary(max_size=80),
    st.text('for=by";,:[]\\ 1.a_', max_size=80).map(str.encode),
    st.ip_addresses().map(lambda address: str(address).encode()),
    st.ip_addresses().map(lambda address: b'for="[%s]"' % str(address).encode()),
)
"""Header lines that a client makes up: garbage, nearly right, and right."""


def told(*lines: bytes, header: str = "x_forwarded_for") -> list[str | None]:
    """The addresses in one of the headers, from the right."""
    other = {"x_forwarded_for": "forwarded", "forwarded": "x_forwarded_for"}[header]
    found = told_addresses(**{header: lines, other: []})
    return [None if address is None else str(address) for address in found]


class AddressTests(SynchronousTestCase):
    """Texts that are addresses."""

    def test_addresses(self) -> None:
        """A zone is dropped; IPv4 that is written as IPv6 is IPv4."""
        for text, expected in (
            ("192.0.2.1", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("2001:DB8:0:0::0001", "2001:db8::1"),
            ("fe80::1%eth0", "fe80::1"),
            ("fe80::1%25eth0", "fe80::1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("::ffff:c000:201%1", "192.0.2.1"),
            ("64:ff9b::192.0.2.1", "192.0.2.1"),
        ):
            self.assertEqual(str(read_address(text)), expected, text)

    def test_no_addresses(self) -> None:
        """Anything else is no address."""
        for text in ("", "x", "unknown", "1.2.3", "1.2.3.4.5", "01.2.3.4", "256.1.1.1", "1.2.3.4/8", "::1::", "%", "%1",
                     " 1.2.3.4", "١.٢.٣.٤", "12345", "\0"):  # fmt: skip
            self.assertIsNone(read_address(text), text)


class XForwardedForTests(SynchronousTestCase):
    """X-Forwarded-For: addresses, with or without ports."""

    def test_from_the_right(self) -> None:
        """The last entry comes first, over several lines too; blank and empty entries don't count."""
        self.assertEqual(told(b"1.1.1.1, 2.2.2.2", b"3.3.3.3"), ["3.3.3.3", "2.2.2.2", "1.1.1.1"])
        self.assertEqual(told(b" , 1.1.1.1 ,,\t2.2.2.2, ", b"", b" ,"), ["2.2.2.2", "1.1.1.1"])

    def test_ports(self) -> None:
        """A port is dropped; an IPv6 address needs brackets to have one."""
        for text, expected in (
            (b"192.0.2.1:8080", "192.0.2.1"),
            (b"[2001:db8::1]", "2001:db8::1"),
            (b"[2001:db8::1]:443", "2001:db8::1"),
            (b"2001:db8::1", "2001:db8::1"),
            (b"[fe80::1%eth0]:1", "fe80::1"),
            (b"[192.0.2.1]:1", "192.0.2.1"),
        ):
            self.assertEqual(told(text), [expected], text)

    def test_unusable(self) -> None:
        """What is no address says nothing."""
        for text in (b"unknown", b"_hidden", b"localhost", b"[::1", b"[::1]x", b"::1]", b"[]", b":80", b'"192.0.2.1"',
                     b"192.0.2.1 192.0.2.2", b"\xd9\xa1.1.1.1", b"1" * 10_000):  # fmt: skip
            self.assertEqual(told(text), [None], text)


class ForwardedTests(SynchronousTestCase):
    """Forwarded (RFC 7239)."""

    def test_examples_of_the_rfc(self) -> None:
        """The examples of RFC 7239, sections 4, 6 and 7.1."""
        for line, expected in (
            (b'for="_gazonk"', [None]),
            (b'For="[2001:db8:cafe::17]:4711"', ["2001:db8:cafe::17"]),
            (b"for=192.0.2.60;proto=http;by=203.0.113.43", ["192.0.2.60"]),
            (b"for=192.0.2.43, for=198.51.100.17", ["198.51.100.17", "192.0.2.43"]),
            (b'for=192.0.2.43, for="[2001:db8:cafe::17]";proto=http', ["2001:db8:cafe::17", "192.0.2.43"]),
            (b"for=unknown", [None]),
            (b'for="192.0.2.43:47011"', ["192.0.2.43"]),
            (b'for="192.0.2.43:_port"', ["192.0.2.43"]),
            (b"for=_hidden, for=_SEVKISEK", [None, None]),
        ):
            self.assertEqual(told(line, header="forwarded"), expected, line)

    def test_quoted_strings(self) -> None:
        """A comma, a semicolon or an escaped quote in a quoted string parts nothing."""
        for line, expected in (
            (b'by=",";for=1.1.1.1, for=2.2.2.2;by="a,b;for=3.3.3.3,"', ["2.2.2.2", "1.1.1.1"]),
            (b'by="a\\"b,c";for=1.1.1.1', ["1.1.1.1"]),
            (b'for="1\\.1.1.1"', ["1.1.1.1"]),
        ):
            self.assertEqual(told(line, header="forwarded"), expected, line)

    def test_unusable(self) -> None:
        """An element that is malformed, or doesn't have one ``for``, says nothing."""
        for line in (b"for", b"for=", b"for=1.1.1.1;", b";for=1.1.1.1", b"proto=http", b"for=1.1.1.1;for=1.1.1.1",
                     b'for="1.1.1.1', b"for= 1.1.1.1", b"for=[::1]", b"for=1.1.1.1 x", b'for="1.1.1.1"x', b"1.1.1.1",
                     b"for=1.1.1.1;by=" + b"x" * MAX_ELEMENT, b"for=\xff", b'for="\xff"'):  # fmt: skip
            self.assertEqual(told(line, header="forwarded"), [None], line)

    def test_x_forwarded_for_wins(self) -> None:
        """With both, X-Forwarded-For counts: most proxies pass on a Forwarded that a client made up."""
        for x_forwarded_for, expected in (([b"1.1.1.1"], ["1.1.1.1"]), ([], ["2.2.2.2"]), ([b" ,", b""], ["2.2.2.2"])):
            found = told_addresses([b"for=2.2.2.2"], x_forwarded_for)
            self.assertEqual([str(address) for address in found], expected)

    @checked
    @given(st.lists(junk, max_size=4), junk, st.ip_addresses())
    def test_nothing_before_it_changes_an_entry(self, lines: list[bytes], start: bytes, address: object) -> None:
        """What a proxy adds is read as it is, whatever it is added to: unbalanced quotes, half an element, garbage."""
        node = b'"[%s]"' if ":" in str(address) else b"%s"
        for added, header in ((b"%s", "x_forwarded_for"), (b"proto=http;for=" + node, "forwarded")):
            entry = added % str(address).encode()
            expected = str(read_address(str(address)))
            self.assertEqual(told(*lines, start + b", " + entry, header=header)[0], expected)
            self.assertEqual(told(*lines, start, entry, header=header)[0], expected)

    @checked
    @given(st.lists(junk, max_size=4), st.lists(junk, max_size=4))
    def test_reads_anything(self, forwarded: list[bytes], x_forwarded_for: list[bytes]) -> None:
        """Whatever the headers are, reading them ends, and yields addresses or None."""
        for address in told_addresses(forwarded, x_forwarded_for):
            self.assertTrue(address is None or address == ip_address(str(address)))

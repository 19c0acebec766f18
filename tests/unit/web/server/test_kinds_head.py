"""Headers of all kinds: names, values, sizes and numbers, Host, Connection, Expect and Upgrade.

Codes such as (H1) are rows of docs/battery.md.
"""

import itertools
import string
from typing import Any

from tests.unit.web.server.kinds import BAD, KindCase, refused, request, same, served, with_header
from tests.unit.web.support import chunked, form, get, message, post

CONTROLS = [byte for byte in [*range(0x20), 0x7F] if byte not in b"\t\r\n"]
"""Control characters that no header may have (RFC 9110, section 5.5)."""

MAX_HEADERS = 100
MAX_NAME = 256
"""How many headers there may be, and how many bytes a name may have."""

TINY = [bytes(name) for name in itertools.product(string.ascii_letters.encode("ascii"), repeat=2)]
"""Some thousands of different names, as short as they come."""


class SyntaxTests(KindCase):
    """What a header line looks like: RFC 9112, section 5."""

    def test_control_characters(self) -> None:
        """Control characters in a value are refused, wherever they are (H1)."""
        rows = [
            with_header(name + b": " + before + bytes([byte]) + after)
            for byte in CONTROLS
            for name in (b"X", b"Accept", b"Connection", b"Host")
            for before, after in ((b"", b""), (b"a", b"b"))
        ]
        self.check(same(rows, BAD))

    def test_line_ends(self) -> None:
        """Bare CR and LF are refused (H1), or run into the deadline if the headers never end (H6)."""
        rows = [with_header(line) for line in (
            b"X: a\rb", b"X: a\nb", b"X: a\r", b"X: a\n", b"X: \ra", b"X\r: a", b"X\n: a", b"X: a\r\rY: b",
            b"X: a\n\rY: b", b"X: a\n\nY: b", b"\rX: a", b"X: a\r\r",
        )]  # fmt: skip
        self.check(same(rows, BAD))
        line_feeds = [
            b"GET /?task_id=5 HTTP/1.1\nHost: a\n\n", b"GET /?task_id=5 HTTP/1.1\r\nHost: a\n\n",
            b"GET /?task_id=5 HTTP/1.1\r\nHost: a\r\n\n", b"GET /?task_id=5 HTTP/1.1\rHost: a\r\r",
        ]  # fmt: skip
        self.check(same(line_feeds, refused(400, 408, 505)))

    def test_names(self) -> None:
        """A name is a token, with its colon right behind it (RFC 9112, section 5.1)."""
        wrong = [*range(0x21), *range(0x7F, 0x100), *b'"(),/;<=>?@[\\]{}']
        names = [bytes([byte]) + b"X" for byte in wrong] + [
            b"X" + bytes([byte]) for byte in wrong if byte not in b"\r\n"
        ]
        self.check(same([with_header(name + b": a") for name in names if name[:1] not in (b"\r", b"\n")], BAD))
        self.check(
            same([with_header(line) for line in (b": a", b":", b"no colon", b"x", b"X a: b", b"\xc3\xa9: a")], BAD)
        )
        self.check(
            same([with_header(name + b": a") for name in (b"!#$%&'*+-.^_`|~0", b"X", b"x" * MAX_NAME)], served(404))
        )

    def test_folding(self) -> None:
        """A folded line is refused: RFC 9112, section 5.2 (H4)."""
        for fold in (b" a", b"\ta", b" ", b"\t", b"  X: a", b" Content-Length: 5"):
            self.check({with_header(b"X: a", fold): BAD, with_header(fold): BAD, with_header(b"X:", fold): BAD})
            self.check({b"GET /?task_id=5 HTTP/1.1\r\n" + fold + b"\r\nHost: a\r\n\r\n": BAD})

    def test_values(self) -> None:
        """Any other value is taken, with white space around it or without."""
        values = (
            b"",
            b" ",
            b"\t",
            b" \t a \t ",
            b"a\tb",
            b"\x80",
            b"\xff\xfe",
            "é".encode(),
            b'"',
            b'"a',
            b"a:b",
            b": :",
            b",,",
        )
        self.check(same([with_header(b"X:" + value) for value in values], served(404)))
        self.check(same([with_header(b"Accept:" + value) for value in values], served(404)))

    def test_underscores(self) -> None:
        """A name with underscores isn't the one with hyphens."""
        for line in (
            b"Transfer_Encoding: chunked",
            b"Content_Length: 9",
            b"Transfer-Encoding_: chunked",
            b"XContent-Length: 9",
        ):
            self.check({with_header(line): served(404)})


class SizeTests(KindCase):
    """How many headers there may be, and how long: docs/contract.md, "Connection behaviour"."""

    def test_number(self) -> None:
        """A hundred headers are taken, one more isn't, however short they are."""
        for name, value in ((b"X%d", b": a"), (b"X", b":"), (b"%d", b":")):
            lines = [(name % i if b"%" in name else name) + value for i in range(MAX_HEADERS)]
            self.check({with_header(*lines[1:]): served(404), with_header(*lines): refused(431)})

    def test_tiny(self) -> None:
        """Thousands of the shortest headers are refused, though they are few bytes."""
        lines = [name + b":" for name in TINY]
        for number in (200, 1000, 2500):
            self.check({with_header(*lines[:number]): refused(431), with_header(*[b"a:"] * number): refused(431)})

    def test_long_names(self) -> None:
        """A name has at most 256 bytes."""
        for length in (MAX_NAME + 1, 1000, 15_000):
            self.check(
                {with_header(b"X" * length + b": a"): refused(431), with_header(b"X" * length + b":"): refused(431)}
            )

    def test_together(self) -> None:
        """What is too much together is refused, in however many headers and pieces it comes (H10)."""
        for lines in (
            [b"X-%05d: " % i + b"v" * 80 for i in range(640)],  # 60 KB
            [b"X-%02d: " % i + b"v" * 300 for i in range(90)],  # 27 KB, and few enough
            [b"X: " + b"v" * 30_000],
            [b"X: " + b"v" * 9000, b"Y: " + b"v" * 9000],
            [b"X:" + b" " * 30_000 + b"a"],
            [b"Host: " + b"v" * 30_000],
            [b"Cookie: " + b"v" * 30_000],
        ):
            self.check({with_header(*lines): refused(431), b"\r\n" + with_header(*lines): refused(431)})

    def test_much_and_taken(self) -> None:
        """What proxies and browsers send is taken: some kilobytes in some dozens of headers."""
        self.check({with_header(*[b"X-%02d: " % i + b"v" * 150 for i in range(90)]): served(404)})
        self.check({with_header(b"Cookie: " + b"v" * 12_000): served(404)})

    def test_never_ending(self) -> None:
        """Headers that are too large are refused before they end."""
        for line in (b"X: " + b"v" * 20_000, b"X" * 20_000, b"\r\n".join([b"X: a"] * 5000)):
            client = self.connect().drip(b"GET /?task_id=5 HTTP/1.1\r\nHost: a\r\n" + line, 1000)
            self.assert_problem(client.reply(), 431, "headers_too_large")


class HostTests(KindCase):
    """Host: RFC 9112, section 3.2 (H3)."""

    def hosted(self, *lines: bytes, version: bytes = b"1.1", target: bytes = b"/?task_id=5") -> bytes:
        """A request with these lines for a Host."""
        return b"\r\n".join([b"GET " + target + b" HTTP/" + version, *lines, b"", b""])

    def test_number(self) -> None:
        """There is exactly one, unless it is HTTP/1.0; a URL doesn't make up for it."""
        for lines in (
            (), (b"Host: a", b"Host: a"), (b"Host: a", b"HOST: b"), (b"host:", b"Host: a"),
            (b"Host: a", b"X: y", b"host: a"), (b"Hosts: a",), (b"X-Host: a",),
        ):  # fmt: skip
            self.check({self.hosted(*lines): BAD, self.hosted(*lines, target=b"http://a/?task_id=5"): BAD})
        self.check({self.hosted(version=b"1.0"): refused(404), self.hosted(b"Host: a", version=b"1.0"): refused(404)})
        self.check(
            {self.hosted(b"Host: a", b"Host: a", version=b"1.0"): BAD, self.hosted(b"Host: /", version=b"1.0"): BAD}
        )

    def test_malformed(self) -> None:
        """It is a name or an address, and a port."""
        hosts = (
            b"a b", b"a/b", b"/", b"a?b", b"a#b", b"user@a", b"@a", b"a@", b"u:p@a", b"a:b", b"a:80:80", b"a:-1",
            b"a:+1", b"a: 80", b"a:123456", b"[::1", b"::1]", b"::1", b"[::1]x", b"[x]", b"a[::1]", b"a\\b",
            b"\xc3\xa9", b"a\tb", b"http://a", b'"a"', b"<a>", b"a|b", b"a^b", b"a`b", b"{a}", b"a b:80",
            b"[::1]:80:80", b"[ ::1]",
        )  # fmt: skip
        self.check(same([self.hosted(b"Host: " + host) for host in hosts], BAD))

    def test_taken(self) -> None:
        """White space around it doesn't count, and there may be nothing."""
        hosts = (
            b"a", b" a", b"\ta", b"a ", b"a\t ", b"", b" ", b"a:80", b"a:", b":80", b"[::1]", b"[::1]:8000",
            b"a_b.c", b"a..b", b"-a", b"127.0.0.1:65535", b"xn--e1afmkfd.example", b"a%20b", b"A.EXAMPLE",
            b"a" * 255,
        )  # fmt: skip
        self.check(same([self.hosted(b"Host:" + host) for host in hosts], served(404)))


class ConnectionTests(KindCase):
    """Connection, Expect and Upgrade."""

    def test_close(self) -> None:
        """Close, anywhere in the list, ends the connection with the response (RFC 9112, section 9.6)."""
        lines = (
            (b"Connection: close",), (b"connection:CLOSE",), (b"Connection: close, TE",), (b"Connection: x,close",),
            (b"Connection: ,close,",), (b"Connection: x", b"Connection: close"),
            (b"Connection: close", b"Connection: x"), (b"Connection: keep-alive, close",),
            (b"Connection: close, keep-alive",), (b"Connection: x \t,\tclose ",),
            (b"Connection: close, upgrade", b"Upgrade: h2c"),
        )  # fmt: skip
        self.check(same([with_header(*some) for some in lines], refused(404)))

    def test_kept(self) -> None:
        """Anything else leaves it open."""
        lines = (
            b"Connection: keep-alive", b"Connection: closed", b"Connection: x-close", b"Connection:",
            b"Connection: ,", b"Connection: close=1", b'Connection: "close"', b"Proxy-Connection: close",
            b"Keep-Alive: timeout=1", b"Connection: TE, keep-alive", b"X-Connection: close",
        )  # fmt: skip
        self.check(same([with_header(line) for line in lines], served(404)))

    def test_expect(self) -> None:
        """100-continue is known; any other expectation is 417, or ignored (RFC 9110, section 10.1.1)."""
        body = form()
        for expect in (b"100-continue", b"100-Continue", b" 100-CONTINUE "):
            self.check({with_header(b"Expect: " + expect): served(404)})
            self.check({post(body, Expect=expect.decode("ascii")): served(202)})
        for expect in (b"tea", b"", b"100-continue, tea", b"200-ok", b"100-continue=1", b'"100-continue"', b"100"):
            self.check({with_header(b"Expect: " + expect): served(404, 417) | refused(417)})
            self.check({post(body, Expect=expect.decode("ascii")): served(202, 417) | refused(417)})

    def test_upgrade(self) -> None:
        """An upgrade is ignored: the request and the next one are HTTP/1.1's (RFC 9110, section 7.8)."""
        h2c: dict[str, Any] = {
            "Connection": "Upgrade, HTTP2-Settings",
            "Upgrade": "h2c",
            "HTTP2_Settings": "AAMAAABkAAQ",
        }
        websocket: dict[str, Any] = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec_WebSocket_Version": "13"}
        others: list[dict[str, Any]] = [
            {"Upgrade": "h2c"},
            {"Connection": "Upgrade"},
            {"Connection": "upgrade", "Upgrade": ""},
        ]
        for headers in (h2c, websocket, *others):
            self.check({get(5, **headers): served(404), get(5, "HEAD", **headers): served(404)})
            self.check({message("OPTIONS", "*", **headers): served(204)})

    def test_upgrade_with_a_body(self) -> None:
        """The body of such a request, as ``curl --http2 -F`` sends it, is a body, and never the next request."""
        erase = self.erase
        for upgrade in ("h2c", "websocket", "TLS/1.0, HTTP/2.0"):
            headers: dict[str, Any] = {
                "Connection": "Upgrade, HTTP2-Settings",
                "Upgrade": upgrade,
                "HTTP2_Settings": "AAMAAABkAAQ",
            }
            self.check({post(**headers): served(202), post(Expect="100-continue", **headers): served(202)})
            self.check({post(b"", Transfer_Encoding="chunked", **headers) + chunked(form(), 9): served(202)})
            self.check(
                {
                    message("PUT", "/", erase, **headers): served(405),
                    message("GET", "/x", erase, **headers): served(404),
                }
            )
            smuggled = message("PUT", "/", Transfer_Encoding="chunked", **headers) + chunked(erase, 1000)
            self.check({smuggled: served(405)})
            self.assertEqual(len(self.stored()), 1)

    def test_upgrade_with_doubtful_framing(self) -> None:
        """Nothing that is refused otherwise is taken because of an upgrade."""
        for line in (
            b"Transfer-Encoding: identity", b"Transfer-Encoding: gzip, chunked", b"Content-Length: +5", b"X : y",
            b"Host: b", b"Content-Length: 5\r\nTransfer-Encoding: chunked",
            b"Content-Length: 5\r\nContent-Length: 5",
        ):  # fmt: skip
            row = request(b"POST / HTTP/1.1", b"Connection: Upgrade", b"Upgrade: h2c", line, body=b"0\r\n\r\n")
            self.check({row: BAD})

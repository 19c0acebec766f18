"""Request lines of all kinds: methods, versions and targets that are odd, wrong, or another protocol's.

Codes such as (H1) are rows of docs/battery.md.
"""

from merlind.web.response import ALLOW
from tests.unit.web.server.kinds import BAD, KindCase, refused, request, same, served
from tests.unit.web.support import chunked, message

UNKNOWN = (
    b"BREW",
    b"GETS",
    b"GE",
    b"G",
    b"get",
    b"Get",
    b"post",
    b"XGET",
    b"A|b~c",
    b"G'|~`^%s",
    b"DELETED",
    b"CONNEC",
)
"""Methods that HTTP doesn't know. Methods are case-sensitive (RFC 9110, section 9.1)."""

KNOWN = (
    b"PUT", b"PATCH", b"TRACE", b"COPY", b"LOCK", b"MKCOL", b"MOVE", b"PROPFIND", b"PROPPATCH", b"SEARCH", b"UNLOCK",
    b"BIND", b"REBIND", b"UNBIND", b"ACL", b"REPORT", b"MKACTIVITY", b"CHECKOUT", b"MERGE", b"M-SEARCH", b"NOTIFY",
    b"SUBSCRIBE", b"UNSUBSCRIBE", b"PURGE", b"MKCALENDAR", b"LINK", b"UNLINK",
)  # fmt: skip
"""Methods that are registered and that merlind doesn't have."""

GARBAGE = (
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(32)),  # TLS
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"SSH-2.0-OpenSSH_9.6\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 80\r\n",
    b"\r\n\r\n\x00\r\nQUIT\n!\x11\x00\x0c" + bytes(12),  # the binary PROXY protocol
    b"EHLO localhost\r\n",
    b"*1\r\n$4\r\nPING\r\n",
    b'{"task_id":5}\r\n\r\n',
    b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    bytes(range(255, 0, -1)),
)
"""What clients of other protocols send."""


class MethodTests(KindCase):
    """Methods."""

    def test_unknown(self) -> None:
        """A method that isn't registered is 501, and the connection closes (RFC 9110, section 15.6.2)."""
        self.check(same([request(method + b" / HTTP/1.1") for method in UNKNOWN], refused(501)))

    def test_malformed(self) -> None:
        """What can't be a method is refused."""
        methods = (b"G\0T", b"G\xffT", b"GET\t", b"GET/", b"", b"(GET)", b"\xffGET", b"GET,POST", b"{level}", b"G T")
        self.check(same([request(method + b" / HTTP/1.1") for method in methods], refused(400, 501)))
        # These are registered, for RTSP.
        rtsp = [request(method + b" / HTTP/1.1") for method in (b"DESCRIBE", b"PLAY", b"ANNOUNCE", b"FLUSH")]
        self.check(same(rtsp, refused(400, 501)))

    def test_not_allowed(self) -> None:
        """A registered method that merlind doesn't have is 405 with Allow; its body is read (H13)."""
        rows = [request(method + b" / HTTP/1.1") for method in KNOWN]
        rows += [message("PUT", "/", b"a body"), message("PATCH", "/?task_id=5", b"x" * 5000)]
        rows += [message("PROPFIND", "/", Transfer_Encoding="chunked") + chunked(b"a body")]
        self.check(same(rows, served(405)))
        for row in rows:
            self.assertEqual(self.connect().send(row).reply().get("Allow"), ALLOW.decode("ascii"))

    def test_connect(self) -> None:
        """CONNECT is refused, whatever its target: what follows it is no request."""
        rows = [
            request(b"CONNECT " + target + b" HTTP/1.1", *lines)
            for target in (b"a:443", b"a", b"/", b"*", b"http://a/", b"[::1]:443", b"/?task_id=5")
            for lines in ((), (b"Connection: keep-alive",), (b"Upgrade: h2c", b"Connection: Upgrade"))
        ]
        rows.append(request(b"CONNECT a:443 HTTP/1.1", b"Content-Length: 5", body=b"hello"))
        rows.append(request(b"CONNECT a:443 HTTP/1.1", b"Transfer-Encoding: chunked", body=chunked(b"hello")))
        self.check(same(rows, refused(400, 405, 501)))

    def test_garbage(self) -> None:
        """Other protocols are refused."""
        self.check(same(GARBAGE, refused(400, 501, 505)))

    def test_long(self) -> None:
        """A method of many kilobytes is refused, and neither logged nor counted by its name."""
        for size in (300, 5000, 15_000):
            self.lines.clear()
            self.check({request(b"M" * size + b" / HTTP/1.1"): refused(501)})
            self.assertEqual([line for line in self.lines if "MM" in line], [])
        self.assertNotIn(b"MM", self.metrics.exposition())


class VersionTests(KindCase):
    """Versions."""

    def test_refused(self) -> None:
        """Whatever isn't HTTP/1.1 or HTTP/1.0, to the letter, is refused."""
        versions = (
            b"HTTP/0.9", b"HTTP/2.0", b"HTTP/3.0", b"HTTP/1.2", b"HTTP/1.9", b"HTTP/1.10", b"HTTP/11.1",
            b"HTTP/01.1", b"HTTP/1", b"HTTP/1.", b"HTTP/.1", b"HTTP/2", b"HTTP/", b"HTTP", b"http/1.1", b"Http/1.1",
            b"HTTPS/1.1", b"HTTP/1.1 ", b"HTTP/1.1\t", b"HTTP/1.1x", b"HTTP 1.1", b"HTTP/1,1", b"HTTP/x.1",
            b"HTTP/-1.1", b"HTTP/1.1\0", b"RTSP/1.0", b"ICE/1.0", b"XTTP/1.1", b"",
        )  # fmt: skip
        self.check(same([request(b"GET /?task_id=5 " + version) for version in versions], refused(400, 505)))
        for line in (b"GET /?task_id=5", b"OPTIONS rtsp://a RTSP/1.0", b"SOURCE / ICE/1.0", b"SOURCE / RTSP/1.0"):
            self.check({request(line): refused(400, 501, 505)})

    def test_white_space(self) -> None:
        """The parts of the line have one space between them, and none around them (RFC 9112, section 3)."""
        for line in (
            b"GET  / HTTP/1.1", b"GET /  HTTP/1.1", b" GET / HTTP/1.1", b"\tGET / HTTP/1.1", b"GET / x HTTP/1.1",
            b"GET\t/ HTTP/1.1", b"GET /\tHTTP/1.1", b"GET\x0b/ HTTP/1.1", b"GET /\x0cHTTP/1.1", b"GET /\rHTTP/1.1",
            b"GET", b"GET ", b"GET HTTP/1.1", b"GET  HTTP/1.1", b"GET / HTTP/1.1\r", b"GET\r",
            b"GET /?task_id=5 6 HTTP/1.1",
        ):  # fmt: skip
            self.check({request(line): refused(400, 501)})

    def test_http_1_0(self) -> None:
        """HTTP/1.0 has one request a connection."""
        for lines in ((), (b"Connection: keep-alive",), (b"Keep-Alive: 5",), (b"Connection: close",)):
            self.check({request(b"GET /?task_id=5 HTTP/1.0", *lines): refused(404)})


class TargetTests(KindCase):
    """Targets: RFC 9112, section 3.2."""

    def rows(self, *targets: bytes) -> list[bytes]:
        """A GET of each target, and a DELETE, which must not erase the task."""
        task = b"%d" % self.task
        return [
            request(method + b" " + target.replace(b"N", task) + b" HTTP/1.1")
            for target in targets
            for method in (b"GET", b"DELETE")
        ]

    def test_neither_form(self) -> None:
        """What is neither a path nor a URL is refused: no byte of it is dropped to make it one."""
        targets = (
            b"x?task_id=N", b"?task_id=N", b"*", b"*?task_id=N", b"*/?task_id=N", b"**", b"a", b"a:80",
            b"a:80/?task_id=N", b"task_id=N", b"&task_id=N", b"#/?task_id=N", b";/?task_id=N", b".?task_id=N",
            b"./?task_id=N", b"..", b"\\?task_id=N", b"%2f?task_id=N", b"@/?task_id=N", b"localhost/?task_id=N",
            b"[::1]/?task_id=N", b"+", b"-/", b"1?task_id=N", b"x/?task_id=N",
        )  # fmt: skip
        self.check(same(self.rows(*targets), BAD))

    def test_broken_urls(self) -> None:
        """A URL with the wrong number of slashes, or a host that isn't one, is refused."""
        targets = (
            b"http:", b"http:/", b"http://", b"http:/?task_id=N", b"http:?task_id=N", b"http:///?task_id=N",
            b"http://?task_id=N", b"http:a/?task_id=N", b"://a/?task_id=N", b"1://a/?task_id=N",
            b"http://:80:80/?task_id=N", b"http://a:x/?task_id=N", b"http://a:123456/?task_id=N",
            b"http://[::1/?task_id=N", b"http://::1/?task_id=N", b"http://a]/?task_id=N", b"http://a\\b/?task_id=N",
            b"http//a/?task_id=N",
        )  # fmt: skip
        self.check(same(self.rows(*targets), BAD))

    def test_user_in_a_url(self) -> None:
        """A user in a URL is refused: it is there to deceive (RFC 9110, section 4.2.4)."""
        targets = (
            b"http://u:p@a/?task_id=N", b"http://u@a/?task_id=N", b"http://@a/?task_id=N",
            b"http://a@b@c/?task_id=N", b"https://a:80@b:80/?task_id=N",
        )  # fmt: skip
        self.check(same(self.rows(*targets), BAD))

    def test_other_schemes(self) -> None:
        """A URL of another scheme is nothing that merlind serves."""
        targets = (b"ftp://a/?task_id=N", b"ws://a/?task_id=N", b"file:///?task_id=N", b"httpx://a/?task_id=N")
        self.check(same(self.rows(*targets), refused(400, 404, 421) | served(404, 421)))

    def test_fragments(self) -> None:
        """A target has no fragment."""
        targets = (b"/?task_id=N#f", b"/#?task_id=N", b"/#", b"/#/?task_id=N", b"http://a/?task_id=N#f", b"http://a#f")
        self.check(same(self.rows(*targets), BAD))

    def test_bytes(self) -> None:
        """Spaces, control characters and bytes beyond ASCII are refused, wherever in the target."""
        wrong = [*range(0x21), *range(0x7F, 0x100)]
        for target in (b"/%b?task_id=N", b"/?task_id=N%b", b"/?x=%b&task_id=N", b"http://a%b/?task_id=N"):
            for byte in wrong:
                row = request(
                    b"DELETE " + target.replace(b"N", b"%d" % self.task).replace(b"%b", bytes([byte])) + b" HTTP/1.1"
                )
                # After a line feed or carriage return the rest is another line.
                self.check({row: refused(400, 408, 505) if byte in b"\r\n" else BAD})

    def test_paths(self) -> None:
        """A path other than / is 404, however it is written; none is made to be /."""
        for path in (
            b"/else", b"/;x", b"/.", b"/..", b"/%2e", b"/%00", b"/%", b"/%zz", b"/%ff", b"/x/", b"/x//", b"/http://a/",
            b"/%c3%a9", b"/*", b"/a:80", b"/@", b"/index.html",
        ):  # fmt: skip
            self.check(same(self.rows(path + b"?task_id=N", path), served(404, 405) | refused(400)))
        self.check({request(b"GET //?task_id=5 HTTP/1.1"): served(404), request(b"GET ///else HTTP/1.1"): served(404)})

    def test_urls(self) -> None:
        """A URL of http or https is served like its path, whatever its host (H12)."""
        for prefix in (
            b"http://localhost:8000/", b"HTTP://a/", b"https://a.example/", b"http://a", b"http://[::1]:8000/",
            b"http://a:/", b"http://127.0.0.1/", b"hTTp://a-b_c.d~e/", b"http://a:80",
        ):  # fmt: skip
            self.check({request(b"GET " + prefix + b"?task_id=5 HTTP/1.1"): served(404)})
        reply = self.ask(request(b"GET http://elsewhere/?task_id=%d HTTP/1.1" % self.task))
        self.assertEqual(reply.code, 202)

    def test_asterisk(self) -> None:
        """OPTIONS for * asks about the server as a whole (RFC 9110, section 9.3.7); no other method has it."""
        for target in (b"*", b"http://a", b"http://a:8000", b"/"):
            self.check({request(b"OPTIONS " + target + b" HTTP/1.1"): served(204)})
        for method in (b"GET", b"HEAD", b"POST", b"DELETE", b"PUT", b"TRACE"):
            self.check({request(method + b" * HTTP/1.1", b"Content-Length: 0"): refused(400)})
        self.check(
            same([request(b"OPTIONS " + x + b" HTTP/1.1") for x in (b"**", b"*x", b"*?a", b"x", b"?", b"*#")], BAD)
        )

    def test_sizes(self) -> None:
        """A target that is too long is 414, however it comes in (H10)."""
        for target in (b"/" + b"a" * 20_000, b"/?task_id=" + b"1" * 60_000, b"http://a/" + b"b" * 20_000):
            self.check({request(b"GET " + target + b" HTTP/1.1"): refused(414)})
        self.check({request(b"GET /" + b"a" * 7000 + b" HTTP/1.1"): served(404)})
        self.check({request(b"GET /?task_id=5&x=" + b"a" * 7000 + b" HTTP/1.1"): served(404)})

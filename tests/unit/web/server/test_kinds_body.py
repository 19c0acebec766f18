"""Bodies of all kinds: how long they are, in chunks or not, with trailers, and what may come between two requests.

Codes such as (H1) are rows of docs/battery.md.
"""

from tests.unit.web.server.kinds import BAD, KindCase, refused, request, same, served
from tests.unit.web.support import FORM_TYPE, LIMIT, chunked, form, get, message, photo_of, post

FORM = b"Content-Type: " + FORM_TYPE.encode("ascii")
MAX_TRAILERS = 8192
MAX_OVERHEAD = 65536
"""How many bytes trailers may have, and chunks beyond what is in them and as much again."""


class LengthTests(KindCase):
    """Content-Length and Transfer-Encoding: RFC 9112, section 6."""

    def framed(self, *lines: bytes, body: bytes = b"", method: bytes = b"POST", version: bytes = b"1.1") -> bytes:
        """A request whose body is framed as the lines say."""
        return request(method + b" / HTTP/" + version, FORM, *lines, body=body)

    def test_one_coding(self) -> None:
        """The one coding is chunked, named once: anything else is refused (H2), as proxies differ in what it means."""
        codings = (
            b"identity", b"Identity", b"identity, chunked", b"chunked, identity", b"identity;q=1", b"gzip",
            b"gzip, chunked", b"chunked, gzip", b"gzip,chunked", b"deflate", b"compress", b"x", b"xchunked",
            b"chunkedx", b"x-chunked", b"chunk", b"chunked chunked", b"chunked, chunked", b"chunked,chunked",
            b"chunked,", b",chunked", b", ,chunked", b",", b"", b" ", b"\t", b"chunked;", b"chunked;q=1",
            b"chunked; a=b", b'"chunked"', b"'chunked'", b"(chunked)", b"chun ked", b"chunked\x0b", b"\x0bchunked",
            b"\x0cchunked", b"chunked\x0c", b"chunked\0", b"\0chunked", b"chunked\x7f", b"chunked\xa0",
            b"\xa0chunked", b"\x85chunked", b"chunked=", b"chunked/1", b"trailers", b"chunked, trailers",
            b"chunked\r\n gzip", b"chu\r\n nked", b"\r\n chunked",
        )  # fmt: skip
        bodies = (chunked(form()), b"0\r\n\r\n", b"")
        rows = [self.framed(b"Transfer-Encoding: " + coding, body=body) for coding in codings for body in bodies]
        rows += [self.framed(b"Transfer-Encoding: " + coding, method=b"GET") for coding in codings]
        self.check(same(rows, BAD))

    def test_codings_in_two_lines(self) -> None:
        """Two lines are no better than a list."""
        for pair in (
            (b"chunked", b"chunked"), (b"identity", b"chunked"), (b"chunked", b"identity"), (b"", b"chunked"),
            (b"chunked", b""), (b"gzip", b"chunked"), (b"chunked", b"x"),
        ):  # fmt: skip
            lines = [b"Transfer-Encoding: " + coding for coding in pair]
            self.check({self.framed(*lines, body=chunked(form())): BAD})
            self.check({self.framed(lines[0], b"X: y", lines[1], body=chunked(form())): BAD})

    def test_a_body_that_is_a_request(self) -> None:
        """A request where the body would be, if its framing were believed, doesn't run."""
        for lines in (
            (b"Transfer-Encoding: identity",),
            (b"Transfer-Encoding: identity", b"Content-Length: %d" % len(self.erase)),
            (b"Content-Length: 0", b"Transfer-Encoding: identity"),
            (b"Content-Length: 0", b"Content-Length: %d" % len(self.erase)),
            (b"Content-Length: %d" % len(self.erase), b"Transfer-Encoding: chunked"),
        ):
            for method in (b"GET", b"POST", b"DELETE", b"OPTIONS"):
                self.check({self.framed(*lines, body=self.erase, method=method): BAD})

    def test_chunked(self) -> None:
        """White space around the coding and its case don't matter."""
        for coding in (b"chunked", b"Chunked", b"CHUNKED", b"chUnKeD", b" \t chunked"):
            self.check({self.framed(b"Transfer-Encoding:" + coding, body=chunked(form())): served(202)})
        for coding in (b"chunked ", b"chunked\t", b"chunked \t "):  # some parsers can't tell it from a fault
            self.check({self.framed(b"Transfer-Encoding: " + coding, body=chunked(form())): served(202) | BAD})

    def test_both(self) -> None:
        """A length and chunks together are refused, in either order, even if they agree (H1)."""
        body = chunked(form())
        for length in (b"0", b"3", b"%d" % len(body), b"%d" % len(form()), b"x", b"9" * 20):
            for coding in (b"chunked", b"identity", b"gzip", b""):
                lines = [b"Content-Length: " + length, b"Transfer-Encoding: " + coding]
                code = refused(400, 413) if len(length) > 15 else BAD
                self.check({self.framed(*lines, body=body): code, self.framed(*reversed(lines), body=body): code})

    def test_lengths(self) -> None:
        """A length is digits, once, and nothing else (H1)."""
        body = form()
        size = b"%d" % len(body)
        for length in (
            b"", b" ", b"+" + size, b"-" + size, b"-1", b"-0", size + b"," + size, size + b", " + size, size + b",",
            b"," + size, b"0x10", b"0b1", b"1e2", b"1_0", size + b".0", size + b";", size + b" " + size, b"3 3",
            size + b"\x0b", b"\x0b" + size, b'"' + size + b'"', "３".encode(), b"\xb2", b"NaN", b"x", size + b"x",
            b"\0" + size, size + b"\0", b"*", b"%33", size + b"\r\n 0", b"\r\n " + size,
        ):  # fmt: skip
            self.check({self.framed(b"Content-Length: " + length, body=body): BAD})
        for pair in ((size, size), (size, b"0"), (b"0", size), (b"0", b"0"), (size, b"x"), (b"", size)):
            self.check({self.framed(*[b"Content-Length: " + length for length in pair], body=body): BAD})
        for line in (
            b"Content-Length : " + size,
            b"Content-Length\t: " + size,
            b" Content-Length: " + size,
            b"Content-Length" + size,
        ):
            self.check({self.framed(line, body=body): refused(400, 411)})

    def test_lengths_that_are_taken(self) -> None:
        """Leading zeros, and white space around it, don't matter."""
        body = form()
        for before, after in ((b"", b""), (b"0", b""), (b"0" * 100, b""), (b" \t", b""), (b"", b" "), (b"", b"\t ")):
            self.check({self.framed(b"Content-Length:" + before + b"%d" % len(body) + after, body=body): served(202)})
        self.check(
            {request(b"GET /?task_id=5 HTTP/1.1", b"Content-Length: " + zeros): served(404) for zeros in (b"0", b"00")}
        )

    def test_large(self) -> None:
        """A length that is too large is 413 at once, however many digits it has; none overflows (H7, H8)."""
        for digits in (
            b"9" * 8,
            b"9" * 15,
            b"9" * 16,
            b"9" * 19,
            b"1" + b"0" * 15,
            b"4294967301",
            b"18446744073709551615",
        ):
            self.check({self.framed(b"Content-Length: " + digits): refused(413)})
        for digits in (b"18446744073709551616", b"18446744073709551621", b"9" * 20, b"9" * 40, b"9" * 5000):
            self.check({self.framed(b"Content-Length: " + digits): refused(400, 413)})

    def test_http_1_0(self) -> None:
        """HTTP/1.0 has no Transfer-Encoding (H5), and a POST without a length is refused."""
        for lines in (
            (b"Transfer-Encoding: chunked",), (b"Transfer-Encoding: identity",),
            (b"Transfer-Encoding: chunked", b"Connection: keep-alive"),
            (b"Transfer-Encoding: chunked", b"Content-Length: 5"),
        ):  # fmt: skip
            self.check({self.framed(*lines, body=chunked(form()), version=b"1.0"): BAD})
        self.check({self.framed(body=form(), version=b"1.0"): refused(411), self.framed(body=form()): refused(411)})

    def test_unwanted(self) -> None:
        """A small body where none is expected is read, and is never the next request."""
        for method in ("GET", "HEAD", "DELETE", "OPTIONS", "PUT", "PATCH"):
            code = {"OPTIONS": 204, "PUT": 405, "PATCH": 405}.get(method, 404)
            self.check({message(method, "/?task_id=5", self.erase): served(code)})
            self.check(
                {message(method, "/?task_id=5", Transfer_Encoding="chunked") + chunked(self.erase, 7): served(code)}
            )


class ChunkTests(KindCase):
    """Chunks: RFC 9112, section 7.1."""

    def chunks(self, body: bytes, target: str = "/else") -> bytes:
        """A POST with this body, which says that it is in chunks."""
        return (
            post(b"", Transfer_Encoding="chunked").replace(b"POST / ", b"POST " + target.encode("ascii") + b" ") + body
        )

    def test_malformed(self) -> None:
        """A size that isn't one, and data that doesn't end where it must, are refused (H1)."""
        for body in (
            b"0x3\r\nabc\r\n", b"-3\r\nabc\r\n", b"+3\r\nabc\r\n", b"g\r\n", b"\r\n", b"\r\n3\r\nabc\r\n",
            b" 3\r\nabc\r\n", b"3\0\r\nabc\r\n", b"3 3\r\nabc\r\n", b"3_0\r\nabc\r\n", b"3.\r\nabc\r\n",
            b"3h\r\nabc\r\n", "３\r\n".encode(), b";a\r\n", b"3\nabc\r\n", b"3\rabc\r\n", b"3\r\nabc\n",
            b"3\r\nabc0\r\n", b"3\r\nabcd\r\n", b"3\r\nabc\r\r\n", b"3\r\nabc\r0\r\n\r\n", b"3\r\nab\r\n0\r\n\r\n",
            b"3\r\n\r\nabc\r\n", b"0\n\r\n", b"0\n\n", b"0\r\n\n", b"0\r\r\n", b"0\r\n\rX", b"00x\r\n\r\n",
            b"f" * 17 + b"\r\n", b"1" * 2000,
        ):  # fmt: skip
            self.check({self.chunks(body): BAD, self.chunks(b"3\r\nabc\r\n" + body): BAD})

    def test_sizes(self) -> None:
        """A size may be in either case and have zeros; a huge one is refused at once, and none overflows."""
        for size, last in (
            (b"a", b"0"),
            (b"A", b"0"),
            (b"0a", b"00"),
            (b"0000000000000000000A", b"0000000000000000000000"),
        ):
            self.check({self.chunks(size + b"\r\n0123456789\r\n" + last + b"\r\n\r\n"): served(404)})
        for size in (
            b"7fffffff", b"80000000", b"ffffffff", b"100000003", b"7fffffffffffffff", b"8000000000000000",
            b"ffffffffffffffff", b"10000000000000003", b"f" * 40,
        ):  # fmt: skip
            client = self.connect().send(self.chunks(size + b"\r\nabc\r\n0\r\n\r\n") + self.erase)
            client.send(b"x" * 66_000)
            self.assertIn(client.reply().code, (400, 404, 413), size)
            self.assertTrue(client.closed or client.lingers)
        self.assertEqual(len(self.stored()), 1)

    def test_extensions(self) -> None:
        """Extensions are ignored (RFC 9112, section 7.1.1); malformed ones are refused."""
        for extension in (b";a", b";a=b", b';a="b"', b';a="b;c"', b';a="b\\"c"', b';a="\t "', b";a;b=c;d", b";a=b;a=b"):
            self.check({self.chunks(b"3%b\r\nabc\r\n0%b\r\n\r\n" % (extension, extension)): served(404)})
        for extension in (
            b';a="b', b';a=b"', b';a="b"c', b';"a"=b"', b';a="b\\"', b";a\0", b";a=\0", b';a="\0"', b";a\x01b",
            b";a=\x7f", b";a\x80", b";a\n", b";a=b\n", b';a="b\n"', b";a\rb", b';a="\r"', b";a b", b";(a)",
            b";a=(b)", b" a", b"=a", b",a",
        ):  # fmt: skip
            self.check(
                {self.chunks(b"3%b\r\nabc\r\n0\r\n\r\n" % extension): BAD, self.chunks(b"0%b\r\n\r\n" % extension): BAD}
            )
        for extension in (b" ;a", b"; a", b";a =b", b" ", b"\t", b";", b";;a", b";=b", b";a=", b';a=""'):
            self.check({self.chunks(b"3%b\r\nabc\r\n0\r\n\r\n" % extension): served(404) | BAD})

    def test_overhead(self) -> None:
        """What chunks add to the body is bounded; that of small ones is fine."""
        self.check({self.chunks(chunked(form(photo=photo_of(LIMIT)), 1), "/"): served(202)})
        for line, data in (
            (b";" + b"a" * 1000, b"x"),
            (b";a=" + b"b" * 15_000, b"x"),
            (b";" + b"a" * 100_000, b"x"),
            (b";a=b", b"x"),
        ):
            count = 2 * MAX_OVERHEAD // len(line) + 2 if len(line) > 10 else 2 * MAX_OVERHEAD
            body = (b"%x%b\r\n%b\r\n" % (len(data), line, data)) * count
            client = self.connect()
            for start in range(0, len(body), 20_000):
                client.send(body[start : start + 20_000] if start else self.chunks(body[:20_000]))
            self.assertIn(client.reply().code, (400, 413, 431))
            self.assertTrue(client.closed or client.lingers)

    def test_trailers(self) -> None:
        """Trailers are read and ignored."""
        lines = (
            (b"X: y",),
            (b"X:",),
            (b"X: y", b"Y: z"),
            (b"X: \xff",),
            (b"x" * 200 + b": y",),
            (b"X: " + b"y" * 4000,),
        )
        rows = [self.chunks(chunked(b"abc")[:-2] + b"\r\n".join([*some, b"", b""])) for some in lines]
        self.check(same(rows, served(404)))
        rows = [self.chunks(chunked(form())[:-2] + b"\r\n".join([*some, b"", b""]), "/") for some in lines]
        self.check(same(rows, served(202)))

    def test_trailers_that_change_nothing(self) -> None:
        """What frames or routes a message has no meaning in a trailer (RFC 9110, section 6.5.1)."""
        for line in (
            b"Content-Length: 5", b"Content-Length: 0", b"Content-Length: x", b"Transfer-Encoding: chunked",
            b"Host: b", b"Host: /", b"Connection: close", b"Connection: Upgrade", b"Upgrade: h2c",
            b"Expect: 100-continue", b"Prefer: wait=9",
        ):  # fmt: skip
            self.check({self.chunks(chunked(b"abc")[:-2] + line + b"\r\n\r\n"): served(404) | BAD})

    def test_malformed_trailers(self) -> None:
        """Trailers are checked like headers."""
        lines = [
            b"no colon", b": a", b":", b"X : a", b"X\t: a", b" X: a", b"\tX: a", b" folded", b"X: a\r\n folded",
            b"X: a\r\n\tfolded", b"X: a\rb", b"X: a\nb", b"X: a\n", b"X\n", b"a\0b: c", b"a b: c", b"(a): b",
            b"\xc3\xa9: a", b"X: a\0b", b" ", b"\r", b"0", b"GET / HTTP/1.1",
        ]  # fmt: skip
        lines += [b"X: a" + bytes([byte]) + b"b" for byte in range(0x20) if byte not in b"\t\r\n"] + [b"X: \x7f"]
        for line in lines:
            for before in (b"", b"X: y\r\n"):
                self.check({self.chunks(chunked(b"abc")[:-2] + before + line + b"\r\n\r\n"): BAD})
            self.check({self.chunks(chunked(form())[:-2] + line + b"\r\n\r\n", "/"): BAD})
        self.assertEqual(len(self.core.files()), 1)  # the photo of the one task

    def test_many_trailers(self) -> None:
        """Trailers are bounded in size and number, before they end."""
        for trailers in (
            b"X: y\r\n" * 2000, b"a:\r\n" * 4000, b"a\r\n" * 21_800, b"X: " + b"y" * 9000, b"X: " + b"y" * 100_000,
            b"".join(b"X-%d: y\r\n" % i for i in range(1500)), b"X" * 9000, b"X: y\r\n" * 101 + b"\r\n",
            b"x" * 257 + b": y\r\n\r\n",
        ):  # fmt: skip
            for size in (500, 100_000):
                client = self.connect().drip(self.chunks(b"0\r\n" + trailers), size)
                self.assertIn(client.reply().code, (400, 413, 431), trailers[:20])
                self.assertTrue(client.closed or client.lingers)


class BetweenTests(KindCase):
    """What comes between two requests."""

    def test_empty_lines(self) -> None:
        """An empty line before a request is ignored (RFC 9112, section 2.2)."""
        for lines in (b"\r\n", b"\r\n\r\n"):
            self.check({lines + get(5): served(404), lines + post(): served(202), get(5)[:-2] + b"\r\n": served(404)})
            client = self.connect().drip(lines + get(5) + lines + post() + lines + get(6))
            self.assertEqual([reply.code for reply in client.replies()], [404, 202, 404])
        for lines in (b"\n", b"\r", b"\n\r", b"\r\n" * 50, b"\r\n" * 50_000):
            self.check({lines + get(5): served(404) | refused(400, 408, 414, 431, 501)})

    def test_empty_line_behind_a_body(self) -> None:
        """The CRLF that old clients send behind a body gets no response of its own."""
        for body in (post(), message("PUT", "/", b"a body"), post(b"", Transfer_Encoding="chunked") + chunked(form())):
            client = self.connect().send(body + b"\r\n")
            codes = [reply.code for reply in client.replies()]
            self.reactor.run_for(15)
            client.send(get(5))
            self.assertEqual([reply.code for reply in client.replies()], [*codes, 404])
            client = self.connect().send(body + b"\r\n")
            self.reactor.run_for(100)
            self.assertEqual([reply.code for reply in client.replies()], codes)
            self.assertTrue(client.closed)

    def test_empty_lines_hold_no_connection(self) -> None:
        """Who sends nothing but empty lines is closed like one who sends nothing."""
        for first in (b"", get(5)):
            client = self.connect().send(first)
            client.transport.clear()
            for _ in range(40):
                self.reactor.run_for(5)
                client.send(b"\r\n")
            self.assertTrue(client.closed or client.lingers or client.aborted)
            self.assertNotIn(b"HTTP/1.1 2", client.transport.value())

    def test_white_space(self) -> None:
        """Anything else is no request."""
        for junk in (b" ", b"\t", b"\0", b"\r\n ", b"0\r\n\r\n", b"\xef\xbb\xbf"):
            self.check({junk + get(5): refused(400, 501)})
            client = self.connect().send(get(5) + junk + self.erase)
            self.assertEqual(client.replies()[0].code, 404)
            self.assertIn(client.replies()[1].code, (400, 501))
            self.assertEqual(len(self.stored()), 1)

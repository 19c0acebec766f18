"""Limits by client in real processes: one client takes what it may, and others are served (docs/battery.md, A7)."""

import contextlib
import http.client
import socket
import struct
import tempfile
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

from tests.client import Reply, ask, form, png
from tests.processes import HOST, Merlind, ProcessCase, free_port, until

SILENT = 520
"""More connections than there may be uploads."""


def proxy_v1(address: str) -> bytes:
    """The header of the PROXY protocol, version 1, for a client with this address."""
    family = f"TCP{ip_address(address).version}"
    return f"PROXY {family} {address} {address} 56324 443\r\n".encode("ascii")


def proxy_v2(address: str | None) -> bytes:
    """The same in version 2; without an address, that of a proxy that asks for itself."""
    command, family, addresses = 0x20, 0, b""
    if address is not None:
        packed = ip_address(address).packed
        command, family = 0x21, 0x11 if len(packed) == 4 else 0x21
        addresses = packed * 2 + struct.pack("!2H", 56324, 443)
    return b"\r\n\r\n\0\r\nQUIT\n" + struct.pack("!BBH", command, family, len(addresses)) + addresses


@contextlib.contextmanager
def connected(port: int, header: bytes = b"", source: str = HOST) -> Iterator[http.client.HTTPConnection]:
    """A connection from an address of this machine, on which ``header`` comes before HTTP."""
    connection = http.client.HTTPConnection(HOST, port, timeout=60, source_address=(source, 0))
    try:
        connection.connect()
        if header:
            connection.sock.sendall(header)
        yield connection
    finally:
        connection.close()


def upload(connection: http.client.HTTPConnection, name: str) -> Reply:
    """Upload a photo with a name."""
    sent = form(name, png())
    return ask(connection, "POST", "/", sent.body, {"Content-Type": sent.content_type})


def announce(connection: http.client.HTTPConnection, length: int = 400) -> None:
    """Begin an upload, and send none of it."""
    head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=B\r\n"
    connection.sock.sendall(f"{head}Content-Length: {length}\r\n\r\n".encode("ascii"))


def open_connections(port: int) -> int:
    """How many connections to a port of this machine have an open end there."""
    established, half_closed = "01", "08"
    lines = [line.split() for line in Path("/proc/net/tcp").read_text("ascii").splitlines()[1:]]
    return sum(line[1].endswith(f":{port:04X}") and line[3] in (established, half_closed) for line in lines)


class SilentClientTest(ProcessCase):
    """A client that announces uploads and sends nothing."""

    def test_others_upload_meanwhile(self) -> None:
        """Beside 520 silent uploads from one address, others upload, and so does that one when they have ended."""
        merlind = self.merlind().start()
        with contextlib.ExitStack() as stack:
            for _ in range(SILENT):
                announce(stack.enter_context(connected(merlind.port)))
            refused = 'merlind_refused_total{by="client",limit="uploads"}'
            until(lambda: merlind.metric("merlind_active_uploads") + merlind.metric(refused) >= SILENT, "all of them")
            active = merlind.metric("merlind_active_uploads")
            self.assertTrue(0 < active < SILENT / 2, active)
            with connected(merlind.port, source="127.0.0.2") as other:
                for number in range(20):
                    self.assertEqual(upload(other, f"Ada {number}").code, 202)
            with connected(merlind.port) as again:
                reply = upload(again, "Bob")
                self.assertEqual((reply.code, reply.json()["code"]), (429, "too_many_uploads"))
                self.assertIn("X-Forwarded-For", reply.json()["detail"])
        until(lambda: merlind.metric("merlind_active_uploads") == 0, "the uploads to end")
        with connected(merlind.port) as again:
            self.assertEqual(upload(again, "Bob").code, 202)
        self.assertNotIn("127.0.0.2", merlind.log())
        self.assert_no_traceback(merlind)
        self.figures(silent=SILENT, active=int(active))


class ClientRateTest(ProcessCase):
    """Clients that submit faster than they may."""

    def burst(
        self, port: int, count: int, header: bytes = b"", source: str = HOST, forged: str | None = None
    ) -> list[Reply]:
        """The responses to so many submissions, a connection each."""
        replies = []
        for number in range(count):
            with connected(port, header, source) as connection:
                sent = form(f"Ada {number}", png())
                fields = {"Content-Type": sent.content_type}
                if forged is not None:
                    fields["X-Forwarded-For"] = forged
                replies.append(ask(connection, "POST", "/", sent.body, fields))
        return replies

    def test_burst(self) -> None:
        """A client is refused past its rate, before it has sent its photo; others and status requests are served."""
        merlind = self.merlind("--client-rate=5/600", "--trusted-proxy=none").start()
        replies = self.burst(merlind.port, 5)
        self.assertEqual([reply.code for reply in replies], [202] * 5)
        self.assertEqual(
            [reply.headers["RateLimit"][:13] for reply in replies], [f'"default";r={n}' for n in range(4, -1, -1)]
        )
        with connected(merlind.port) as again:
            announce(again)
            again.sock.settimeout(30)
            refusal = again.sock.recv(4096)
            self.assertTrue(refusal.startswith(b"HTTP/1.1 429 "), refusal)
            self.assertIn(b"too_many_requests", refusal)
            self.assertIn(b'RateLimit-Policy: "default";q=5;w=600\r\n', refusal)
        self.assertEqual([reply.code for reply in self.burst(merlind.port, 5, source="127.0.0.2")], [202] * 5)
        for _ in range(20):
            self.assertEqual(merlind.get(replies[0].json()["task"]).code // 100, 2)
        self.assertEqual(merlind.metric('merlind_refused_total{by="client",limit="requests"}'), 1)
        self.assert_no_traceback(merlind)

    def test_forged_header(self) -> None:
        """A header that a stranger sends about its client makes it nobody else; that of a trusted proxy counts."""
        merlind = self.merlind("--client-rate=2/600", "--trusted-proxy=none", "--trusted-proxy=127.0.0.9").start()
        for source, codes in ((HOST, [202, 202, 429, 429]), ("127.0.0.9", [202, 202, 202, 202])):
            found = []
            for number in range(4):
                found += self.burst(merlind.port, 1, source=source, forged=f"198.51.100.{number}")
            self.assertEqual([reply.code for reply in found], codes)

    def test_behind_a_proxy(self) -> None:
        """With the PROXY protocol each client has a rate of its own."""
        port = free_port()
        self.merlind(f"--listen=haproxy:tcp:{port}:interface={HOST}", "--client-rate=2/600").start()
        for address in ("192.0.2.1", "192.0.2.2"):
            codes = [reply.code for reply in self.burst(port, 3, proxy_v1(address))]
            self.assertEqual(codes, [202, 202, 429])


class ProxyProtocolTest(ProcessCase):
    """Behind a proxy that speaks the PROXY protocol."""

    def start(self, *options: str) -> tuple[Merlind, int]:
        """Start merlind with such a port; return it with the port."""
        port = free_port()
        merlind = self.merlind(f"--listen=haproxy:tcp:{port}:interface={HOST}", *options).start()
        return merlind, port

    def test_client_is_who_the_header_names(self) -> None:
        """The client is the one in the header, of either version and in IPv4 and IPv6; others have their own limit."""
        merlind, port = self.start("--max-uploads-per-client=1")
        for header, address, other in (
            (proxy_v1, "192.0.2.1", "192.0.2.2"),
            (proxy_v2, "198.51.100.1", "198.51.100.2"),
            (proxy_v1, "2001:db8:0:1::1", "2001:db8:0:2::1"),
            (proxy_v2, "2001:db8:0:3::1", "2001:db8:0:4::1"),
        ):
            with connected(port, header(address)) as silent:
                announce(silent)
                until(lambda: merlind.metric("merlind_active_uploads") == 1, "the upload to begin")
                with connected(port, header(address)) as again:
                    reply = upload(again, "Ada")
                    self.assertEqual((reply.code, reply.json()["code"]), (429, "too_many_uploads"), address)
                    self.assertNotIn("proxy", reply.json()["detail"])
                with connected(port, header(other)) as another:
                    self.assertEqual(upload(another, address).code, 202)
            until(lambda: merlind.metric("merlind_active_uploads") == 0, "the upload to end")
        for address in ("192.0.2.", "198.51.100.", "2001:db8:"):
            self.assertNotIn(address, merlind.log())
        self.assert_no_traceback(merlind)

    def test_proxy_asks_for_itself(self) -> None:
        """A header that names nobody, as a proxy's health check sends it, leaves the proxy as the client."""
        _, port = self.start()
        for header in (b"PROXY UNKNOWN ::1 ::1 1 2\r\n", proxy_v2(None)):
            with connected(port, header) as connection:
                self.assertEqual(ask(connection, "GET", "/?task_id=1").code, 404)

    def test_no_header(self) -> None:
        """A client that comes without a header is hung up on; the plain port beside it serves."""
        merlind, port = self.start()
        with connected(port) as connection, self.assertRaises((http.client.HTTPException, OSError)):
            ask(connection, "GET", "/?task_id=1")
        self.assertTrue(merlind.serves())

    def test_past_the_most_connections(self) -> None:
        """Past ``--max-connections`` connections are refused behind the wrapper too, and leave nothing open."""
        merlind, port = self.start("--max-connections=4", "--max-connections-per-client=0")
        with contextlib.ExitStack() as stack:
            for number in range(20):
                connection = connected(port, proxy_v1(f"192.0.2.{number}"))
                with contextlib.suppress(OSError):
                    stack.enter_context(connection)
            with connected(port, proxy_v1("192.0.2.99")) as late:
                late.sock.settimeout(30)
                with contextlib.suppress(ConnectionError):
                    received = late.sock.recv(4096)
                    self.assertTrue(not received or received.startswith(b"HTTP/1.1 503 "), received)
        until(lambda: open_connections(port) == 0, "the connections to be closed")
        self.assert_no_traceback(merlind)


class UnixSocketTest(ProcessCase):
    """Behind a proxy that comes by a unix socket."""

    def test_served(self) -> None:
        """A client without an address is served, within the limits of one."""
        folder = tempfile.TemporaryDirectory()  # the test's own folder has too long a path for a socket
        self.addCleanup(folder.cleanup)
        path = Path(folder.name) / "socket"
        self.merlind(f"--listen=unix:{path}").start()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.settimeout(30)
            client.sendall(b"GET /?task_id=1 HTTP/1.1\r\nHost: a\r\n\r\n")
            self.assertTrue(client.recv(4096).startswith(b"HTTP/1.1 404 "))

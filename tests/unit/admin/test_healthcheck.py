"""The image's HEALTHCHECK: whom it asks, and what it makes of the answer."""

import http.server
import io
import os
import re
import socket
import socketserver
import sys
from pathlib import Path
from threading import Thread

from twisted.trial.unittest import SynchronousTestCase

from merlind import tap
from merlind.admin import healthcheck
from merlind.admin.healthcheck import Address, main, parse

ROOT = Path(__file__).parents[3]


class ParseTests(SynchronousTestCase):
    """Where an endpoint can be asked."""

    def test_endpoints(self) -> None:
        """At the interface that it names, or at loopback; at a path; with TLS."""
        for endpoint, address in (
            ("tcp:8001", Address("127.0.0.1", 8001)),
            ("tcp:8001:interface=10.0.0.7", Address("10.0.0.7", 8001)),
            ("tcp:8001:10.0.0.7", Address("10.0.0.7", 8001)),
            ("tcp:interface=localhost:port=8001:backlog=5", Address("localhost", 8001)),
            ("tcp:8001:interface=0.0.0.0", Address("127.0.0.1", 8001)),
            (r"tcp:8001:interface=\:\:", Address("::1", 8001)),
            (r"tcp:8001:interface=fe80\:\:1", Address("fe80::1", 8001)),
            ("tcp6:8001", Address("::1", 8001)),
            ("unix:/run/merlind.sock", Address("localhost", path="/run/merlind.sock")),
            (r"unix:address=/a\:b\=c:mode=660", Address("localhost", path="/a:b=c")),
            ("ssl:8001:privateKey=key.pem:certKey=cert.pem", Address("127.0.0.1", 8001, tls=True)),
        ):
            self.assertEqual(parse(endpoint), address, endpoint)

    def test_other_endpoints(self) -> None:
        """An endpoint of another kind, or none, is refused."""
        for endpoint in ("systemd:domain=INET:index=0", "tcp", "tcp:x", "unix", "", ":", "haproxy:tcp:8001"):
            self.assertRaises(ValueError, parse, endpoint)


class Handler(http.server.BaseHTTPRequestHandler):
    """An admin listener that answers with the status that its server has."""

    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, Server)
        server.asked.append((self.path, self.headers["Host"]))
        self.send_response(server.status)
        self.end_headers()

    def address_string(self) -> str:
        return "a client"

    def log_message(self, *_: object) -> None:
        """Log nothing."""


class Server(socketserver.TCPServer):
    """It serves one request, in a thread."""

    status = 200
    timeout = 10

    def __init__(self, test: SynchronousTestCase, family: socket.AddressFamily, address: object) -> None:
        self.address_family = family
        self.asked: list[tuple[str, str]] = []
        super().__init__(address, Handler)  # type: ignore[arg-type]
        thread = Thread(target=self.handle_request)
        thread.start()
        test.addCleanup(self.server_close)
        test.addCleanup(thread.join)


class MainTests(SynchronousTestCase):
    """The command."""

    def setUp(self) -> None:
        self.output = io.StringIO()
        self.patch(sys, "stdout", self.output)

    def run_main(self, default: str = "tcp:8001", **environment: str) -> int:
        """Run it; return its exit status."""
        error = self.assertRaises(SystemExit, main, default, environment)
        self.assertEqual(self.output.getvalue().count("\n"), 1)
        assert isinstance(error.code, int)
        return error.code

    def listener(self) -> Server:
        return Server(self, socket.AF_INET, ("127.0.0.1", 0))

    def test_alive(self) -> None:
        """A merlind that answers is healthy; it is asked without a proxy, whatever the environment says (D17)."""
        server = self.listener()
        port = server.server_address[1]
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            self.patch(os, "environ", {**os.environ, name: "http://127.0.0.1:9"})
        self.assertEqual(self.run_main(f"tcp:{port}"), 0)
        self.assertEqual(server.asked, [("/health/live", f"127.0.0.1:{port}")])
        self.assertEqual(self.output.getvalue(), f"tcp:{port}: HTTP 200\n")

    def test_environment(self) -> None:
        """It asks where MERLIND_ADMIN says, a unix socket too (D17)."""
        path = f"{os.path.relpath(self.mktemp())}"
        server = Server(self, socket.AF_UNIX, path)
        self.assertEqual(self.run_main("tcp:1", MERLIND_ADMIN=f"unix:{path}"), 0)
        self.assertEqual(server.asked, [("/health/live", "localhost")])

    def test_admin_none(self) -> None:
        """If there is no admin listener there is nobody to ask, and that is no illness."""
        self.assertEqual(self.run_main("tcp:1", MERLIND_ADMIN="none"), 0)
        self.assertIn("nobody to ask", self.output.getvalue())

    def test_another_answer(self) -> None:
        """Any other status is ill."""
        server = self.listener()
        server.status = 500
        self.assertEqual(self.run_main(f"tcp:{server.server_address[1]}"), 1)
        self.assertIn("HTTP 500", self.output.getvalue())

    def test_no_answer(self) -> None:
        """Nobody there, nobody who answers in time, and an endpoint that can't be asked are ill, with the reason."""
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            port = closed.getsockname()[1]
            self.assertEqual(self.run_main(f"tcp:{port}"), 1)
            self.assertIn("Connection refused", self.output.getvalue())
            self.output.truncate(0)
            closed.listen()
            self.patch(healthcheck, "TIMEOUT", 0.01)
            self.assertEqual(self.run_main(f"tcp:{port}"), 1)
            self.assertIn("timed out", self.output.getvalue())
        self.output.truncate(0)
        self.assertEqual(self.run_main("systemd:domain=INET:index=0"), 1)


class ImageTests(SynchronousTestCase):
    """The Dockerfile."""

    def test_command(self) -> None:
        """Its HEALTHCHECK is this command, and its default is the port where merlind has the admin listener."""
        found = re.search(r'CMD \["python", "-c", "(.*)"\]', (ROOT / "Dockerfile").read_text())
        assert found is not None
        asked: list[str] = []
        self.patch(healthcheck, "main", asked.append)
        exec(found[1])
        (default,) = (option.default for option in tap.Options.declared if option.name == "admin")
        self.assertEqual([parse(endpoint) for endpoint in asked], [parse(default)])

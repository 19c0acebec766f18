"""deploy/nginx.conf and deploy/Caddyfile, tried in a real nginx and Caddy. Where these aren't installed, it skips."""

import re
import shutil
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from twisted.trial.unittest import SkipTest

from merlind.web.api import MAX_WAIT
from tests.client import form, jpeg, png, request
from tests.processes import HOST, Merlind, ProcessCase, free_port, until

DEPLOY = Path(__file__).parents[2] / "deploy"
MB = 1_000_000

ROOT = ("merlind.example.org", "/")
BELOW = ("www.example.org", "/merlin/")
"""The two names that the examples serve merlind at, and the paths."""


class ProxyCase(ProcessCase):
    """A proxy; the tests are those of each."""

    program: str

    def setUp(self) -> None:
        super().setUp()
        path = shutil.which(self.program, path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
        if path is None:
            raise SkipTest(f"{self.program} is not installed")
        self.path = path
        self.port = free_port()

    def command(self, backend: int) -> list[str]:
        """Write the configuration for a merlind on a port of this machine; return what starts the proxy."""
        raise NotImplementedError

    def start(self, backend: int) -> None:
        with (self.folder / "proxy.log").open("wb") as log:
            process = subprocess.Popen(self.command(backend), stdout=log, stderr=log, cwd=self.folder)
        self.addCleanup(process.wait)
        self.addCleanup(process.terminate)

        def listens() -> bool:
            assert process.poll() is None, (self.folder / "proxy.log").read_text()
            with socket.socket() as probe:
                return probe.connect_ex((HOST, self.port)) == 0

        until(listens, "the proxy to listen")

    def before_merlind(self) -> Merlind:
        """Start it in front of a merlind."""
        merlind = self.merlind().start()
        self.start(merlind.port)
        return merlind


if TYPE_CHECKING:
    Base = ProxyCase
else:
    Base = object  # no test case by itself: trial would run it without a proxy


class ProxyTests(Base):
    """What holds behind each proxy."""

    def test_photo_and_score(self) -> None:
        """A photo gets its score at the root and below a path, by the links that merlind gives."""
        self.before_merlind()
        for name, path in (ROOT, BELOW):
            sent = form(f"Ada at {name}", png())
            headers = {"Content-Type": sent.content_type, "Host": f"{name}:{self.port}"}
            accepted = request(self.port, "POST", path, sent.body, headers)
            self.assertEqual((accepted.code, accepted.headers["Location"][:9]), (202, "?task_id="))
            found = request(
                self.port, "GET", path + accepted.headers["Location"], headers={**headers, "Prefer": "wait=30"}
            )
            self.assertEqual((found.code, found.json()["status"]), (200, "ready"))

    def test_large_photos(self) -> None:
        """The largest photos that merlind takes get through."""
        self.before_merlind()
        name, path = ROOT
        sent = form("Ada", jpeg() + b"\0" * 10 * MB)
        headers = {"Content-Type": sent.content_type, "Host": name}
        self.assertEqual(request(self.port, "POST", path, sent.body, headers).code, 202)

    def test_head_and_body(self) -> None:
        """The head has the client's Host, with its port, and its address alone; the body is passed on as it comes."""
        with socket.create_server((HOST, 0)) as backend:
            backend.settimeout(30)
            self.start(backend.getsockname()[1])
            for name, path in (ROOT, BELOW):
                head = (
                    f"POST {path}?task_id=5 HTTP/1.1\r\nHost: {name}:{self.port}\r\nX-Forwarded-For: 192.0.2.1\r\n"
                    "Content-Length: 100000\r\n\r\n"
                )
                with socket.create_connection((HOST, self.port)) as client:
                    client.sendall(head.encode() + b"x" * 1000)
                    connection, _ = backend.accept()
                    with connection:
                        connection.settimeout(30)
                        received = b""
                        while not received.endswith(b"\r\n\r\n" + b"x" * 1000):
                            received += connection.recv(65536)
                lines = received.decode().lower().split("\r\n")
                self.assertEqual(lines[0], "post /?task_id=5 http/1.1")
                self.assertIn(f"host: {name}:{self.port}", lines)
                self.assertEqual([x for x in lines if x.startswith("x-forwarded-for")], [f"x-forwarded-for: {HOST}"])


class NginxTest(ProxyTests, ProxyCase):
    """nginx."""

    program = "nginx"

    def command(self, backend: int) -> list[str]:
        text = (DEPLOY / "nginx.conf").read_text("utf-8")
        text = text.replace("127.0.0.1:8000", f"{HOST}:{backend}").replace("listen 80;", f"listen {HOST}:{self.port};")
        folders = "".join(
            f"{kind}_temp_path {self.folder / kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        file = self.folder / "nginx.conf"
        file.write_text(
            f"daemon off; pid {self.folder / 'pid'}; error_log stderr; events {{}}\n"
            f"http {{ access_log off; {folders}\n{text}}}\n",
            "utf-8",
        )
        return [self.path, "-p", str(self.folder), "-c", str(file), "-e", "stderr"]

    def test_too_large(self) -> None:
        """What is far too large for merlind is refused by its length."""
        self.before_merlind()
        head = f"POST / HTTP/1.1\r\nHost: {ROOT[0]}\r\nContent-Length: {12 * MB}\r\n\r\n"
        with socket.create_connection((HOST, self.port), timeout=30) as client:
            client.sendall(head.encode() + b"x")
            self.assertEqual(client.recv(12), b"HTTP/1.1 413")

    def test_waits_longer_than_merlind(self) -> None:
        """nginx waits longer for a response than the longest long poll takes."""
        seconds = re.findall(r"proxy_read_timeout (\d+)s;", (DEPLOY / "nginx.conf").read_text("utf-8"))
        self.assertEqual(len(seconds), 2)
        self.assertTrue(all(int(found) > MAX_WAIT + 10 for found in seconds))


class CaddyTest(ProxyTests, ProxyCase):
    """Caddy."""

    program = "caddy"

    def command(self, backend: int) -> list[str]:
        text = (DEPLOY / "Caddyfile").read_text("utf-8").replace("127.0.0.1:8000", f"{HOST}:{backend}")
        # Without certificates, which come from elsewhere.
        text = re.sub(r"^(\w+\.example\.org) \{", rf"http://\1:{self.port} {{\n\tbind {HOST}", text, flags=re.MULTILINE)
        file = self.folder / "Caddyfile"
        file.write_text("{\n\tadmin off\n}\n" + text, "utf-8")
        return ["env", f"HOME={self.folder}", self.path, "run", "--adapter", "caddyfile", "--config", str(file)]

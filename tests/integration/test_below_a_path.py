"""merlind below a path of a real nginx: what it says of places is right there, too."""

import os
import shutil
import signal
import socket
import subprocess
from unittest import skipUnless
from urllib.parse import urljoin, urlsplit

from tests.client import Reply, jpeg, png, request
from tests.client import form as encode
from tests.processes import HOST, ProcessCase, free_port, until

NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")

CONFIG = """
{user}
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen {host}:{port};
        location /face/ {{
            proxy_pass http://{host}:{merlind}/;
            proxy_http_version 1.1;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_request_buffering off;
            client_max_body_size 11m;
            proxy_read_timeout 75s;
        }}
    }}
}}
"""


@skipUnless(NGINX, "nginx is not installed")
class BelowAPathTest(ProcessCase):
    """``location /face/``, whose path nginx takes away before merlind sees it."""

    def setUp(self) -> None:
        super().setUp()
        merlind = self.merlind().start()
        self.port = free_port()
        self.url = f"http://{HOST}:{self.port}/face/"
        config = self.folder / "nginx.conf"
        user = "user root;" if os.getuid() == 0 else ""
        config.write_text(CONFIG.format(user=user, folder=self.folder, host=HOST, port=self.port, merlind=merlind.port))
        assert NGINX is not None
        command = [NGINX, "-p", str(self.folder), "-c", str(config), "-e", "stderr"]
        with (self.folder / "nginx.log").open("wb") as log:
            nginx = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log)

        def stop() -> None:
            nginx.send_signal(signal.SIGTERM)
            nginx.wait(10)

        self.addCleanup(stop)

        def listens() -> bool:
            assert nginx.poll() is None, (self.folder / "nginx.log").read_text()
            with socket.socket() as probe:
                return probe.connect_ex((HOST, self.port)) == 0

        until(listens, "nginx to listen")

    def ask(self, method: str, url: str, body: bytes | None = None, **headers: str) -> Reply:
        """Ask nginx for an absolute URL."""
        parts = urlsplit(url)
        self.assertEqual(parts.port, self.port)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        return request(self.port, method, target, body, fields)

    def post(self, photo: bytes) -> Reply:
        """Upload a photo."""
        form = encode("Анна", photo)
        return self.ask("POST", self.url, form.body, Content_Type=form.content_type)

    def test_locations(self) -> None:
        """Location and Content-Location, taken relative to the URL, lead to the task."""
        photo = jpeg(b"below")
        received = self.post(photo)
        self.assertEqual(received.code, 202, received.body)
        task = received.json()["task"]
        location = urljoin(self.url, received.headers["Location"])
        self.assertEqual(location, f"{self.url}?task_id={task}")

        ready = self.ask("GET", location, Prefer="wait=30")
        self.assertEqual((ready.code, ready.json()["status"]), (200, "ready"))

        again = self.post(photo)
        self.assertEqual((again.code, urljoin(self.url, again.headers["Content-Location"])), (200, location))
        self.assertEqual(self.ask("DELETE", location).code, 204)
        self.assertEqual(self.ask("GET", location).code, 404)

    def test_description(self) -> None:
        """The link of an error leads to the description, from below the path, too."""
        for url in (self.url, f"{self.url}nothing", f"{self.url}a/b", f"{self.url}?task_id=x"):
            link = self.ask("GET", url).headers["Link"]
            described = urljoin(url, link[1:].partition(">")[0])
            reply = self.ask("GET", described, Accept="application/openapi+json")
            self.assertEqual((reply.code, reply.json()["openapi"]), (200, "3.1.0"), url)

    def test_large_photo(self) -> None:
        """A photo that nginx buffers nothing of comes through."""
        self.assertEqual(self.post(png(1800)).code, 202)

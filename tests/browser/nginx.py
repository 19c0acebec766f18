"""A real nginx before merlind, as many will run it. Tests that need it are skipped where it is not installed."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.client import GONE_AWAY, request
from tests.processes import HOST, free_port, until

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
"""The program, or None."""

_CONFIG = """
{user}
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen {host}:{port};
        client_max_body_size {largest};
        location {path} {{
            proxy_pass http://{host}:{behind}/;
            proxy_read_timeout {patience}s;
            proxy_set_header Host {name};
        }}
    }}
}}
"""


class Nginx:
    """nginx on a free ``port``, which passes what is below ``path`` on to the port ``behind``.

    ``largest`` is the largest body, in nginx's notation, ``patience`` how long a response may take, in seconds, and
    ``name`` the Host that merlind gets. These are nginx's own defaults, as all else is, but for ``largest``.
    """

    def __init__(
        self,
        cleanup: Callable[..., Any],
        folder: Path,
        behind: int,
        path: str = "/",
        largest: str = "20m",
        patience: int = 60,
        name: str = "$proxy_host",
    ) -> None:
        assert NGINX is not None
        self.port = free_port()
        self.path = path
        folder.mkdir(parents=True, exist_ok=True)
        config = folder / "nginx.conf"
        user = "user root;" if os.getuid() == 0 else ""
        values = {"folder": folder.absolute(), "host": HOST, "port": self.port, "user": user, "behind": behind}
        config.write_text(_CONFIG.format(**values, path=path, largest=largest, patience=patience, name=name))
        command = [NGINX, "-p", str(folder.absolute()), "-e", str(folder.absolute() / "nginx.log")]
        self._process = subprocess.Popen([*command, "-c", str(config.absolute())], stdin=subprocess.DEVNULL)
        cleanup(self.stop)
        until(self._responds, "nginx to respond")

    def stop(self) -> None:
        """End it, and its worker with it."""
        self._process.terminate()
        self._process.wait()

    def _responds(self) -> bool:
        assert self._process.poll() is None, "nginx ended"
        try:
            return request(self.port, "OPTIONS", "/").code > 0
        except GONE_AWAY:
            return False

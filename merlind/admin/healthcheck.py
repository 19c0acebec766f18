"""Asks a running merlind whether it is alive: ``python -m merlind.admin.healthcheck``, for the image's HEALTHCHECK.

It imports nothing but the standard library, so that it is quick to start, and goes through no proxy.
"""

import http.client
import os
import re
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

DEFAULT = "tcp:8001"
"""Where the admin listener is if nothing else is said."""

TIMEOUT = 4.0
"""Seconds for each step of the request."""

_PATH = "/health/live"


@dataclass(frozen=True)
class Address:
    """Where to ask: a host and a port, or the path of a unix socket. ``tls`` is whether TLS is spoken there."""

    host: str
    port: int | None = None
    path: str = ""
    tls: bool = False


def main(default: str = DEFAULT, environment: Mapping[str, str] = os.environ) -> NoReturn:
    """Ask at MERLIND_ADMIN, or at ``default``; print one line, and exit with 0 if merlind is alive, else with 1."""
    endpoint = environment.get("MERLIND_ADMIN", default)
    if endpoint == "none":
        print("MERLIND_ADMIN is none: there is nobody to ask")
        raise SystemExit(0)
    try:
        code = ask(parse(endpoint))
    except (OSError, ValueError, http.client.HTTPException) as error:
        print(f"{endpoint}: {error or type(error).__name__}")
        raise SystemExit(1) from None
    print(f"{endpoint}: HTTP {code}")
    raise SystemExit(0 if code == 200 else 1)


def parse(endpoint: str) -> Address:
    """Return where a server endpoint of Twisted can be asked. Raises ValueError if it can't."""
    kind, *fields = re.findall(r"(?:\\.|[^:\\])+", endpoint) or [""]
    order = iter(("address",) if kind == "unix" else ("port", "interface"))
    values: dict[str, str] = {}
    for field in fields:
        named = re.match(r"(\w+)=", field)
        name, value = (named[1], field[named.end() :]) if named else (next(order, ""), field)
        values[name] = re.sub(r"\\(.)", r"\1", value)
    if kind == "unix" and "address" in values:
        return Address("localhost", path=values["address"])
    if kind not in ("tcp", "tcp6", "ssl") or not values.get("port", "").isdecimal():
        raise ValueError("such an endpoint can't be asked")
    interface = values.get("interface", "::" if kind == "tcp6" else "")
    # Where merlind listens on all addresses, this one is always there.
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(interface, interface)
    return Address(host, int(values["port"]), tls=kind == "ssl")


def ask(address: Address) -> int:
    """Return the status of the response. Raises OSError and HTTPException."""
    connection = http.client.HTTPConnection(address.host, address.port, timeout=TIMEOUT)
    connection.sock = _connect(address)
    try:
        connection.request("GET", _PATH, headers={"Connection": "close"})
        return connection.getresponse().status
    finally:
        connection.close()


def _connect(address: Address) -> socket.socket:
    if address.path:
        connected = socket.socket(socket.AF_UNIX)
        connected.settimeout(TIMEOUT)
        connected.connect(address.path)
        return connected
    connected = socket.create_connection((address.host, address.port), TIMEOUT)
    if not address.tls:
        return connected
    # The certificate is for a public name, and this asks the same machine.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(connected)


if __name__ == "__main__":
    main()

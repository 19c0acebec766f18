"""How a connection closes so that a client that still sends can read the response."""

from typing import Any

LINGER_BYTES = 64 * 1024 * 1024
"""Bytes that a refused client may go on sending."""


def linger(transport: Any) -> None:
    """Close our direction only and go on reading, so that a client that still sends can read the response.

    RFC 9112, section 9.6. A transport that can't close one direction, such as TLS, is closed whole.
    """
    if hasattr(transport, "loseWriteConnection"):
        transport.loseWriteConnection()
    else:
        transport.loseConnection()

"""Clients that pipeline status requests as fast as they can: ``python -m harness.flood PORT TASK CLIENTS READS``.

They read the responses, or, if READS is False, nothing. A connection that is closed is opened again.
"""

import asyncio
import sys
from contextlib import suppress
from typing import Any

import uvloop

from harness.client import HOST, get_status


class Client(asyncio.Protocol):
    """One connection, which always has requests to send."""

    transport: Any

    def __init__(self, packet: bytes, reads: bool) -> None:
        self._packet = packet
        self._reads = reads
        self._full = False
        self.closed = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        if not self._reads:
            self.transport.pause_reading()
        self._send()

    def _send(self) -> None:
        if not self._full and not self.closed.done():
            self.transport.write(self._packet)
            asyncio.get_running_loop().call_soon(self._send)

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(None)


async def flood(port: int, task: int, clients: int, reads: bool) -> None:
    """Send until ended from outside."""
    one = b"".join(get_status(task))
    packet = one * (65536 // len(one))

    async def run() -> None:
        while True:
            with suppress(OSError):
                _, client = await asyncio.get_running_loop().create_connection(
                    lambda: Client(packet, reads), HOST, port
                )
                await client.closed
            await asyncio.sleep(0.01)

    await asyncio.gather(*(run() for _ in range(clients)))


if __name__ == "__main__":
    port, task, clients, reads = sys.argv[1:]
    uvloop.run(flood(int(port), int(task), int(clients), reads == "True"))

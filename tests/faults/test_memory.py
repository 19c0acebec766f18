"""Memory that runs out (D14). The codes are rows of docs/battery.md."""

import re
import resource
import socket
from pathlib import Path

from tests.client import png
from tests.processes import HOST, Merlind, ProcessCase
from tests.upstream import Upstream, UpstreamRequest

MEGABYTE = 2**20


def limit_memory(merlind: Merlind, room: int) -> None:
    """Let the address space of a running process grow by ``room`` bytes at most."""
    status = Path(f"/proc/{merlind.pid}/status").read_text("ascii")
    found = re.search(r"^VmSize:\s+(\d+) kB$", status, re.MULTILINE)
    assert found is not None
    limit = int(found[1]) * 1024 + room
    resource.prlimit(merlind.pid, resource.RLIMIT_AS, (limit, limit))


class OutOfMemoryTest(ProcessCase):
    """The process may have no more memory than it has, and clients make it want more (D14)."""

    def fill(self, merlind: Merlind) -> None:
        """Begin 300 uploads of 200 KB that are kept in memory, and end none; stop when merlind has gone."""
        head = (
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n"
            "Content-Length: 220000\r\n\r\n"
            '--b\r\nContent-Disposition: form-data; name="photo"; filename="p"\r\n\r\n'
        )
        for _ in range(300):
            if not merlind.running:
                return
            try:
                client = socket.create_connection((HOST, merlind.port), 5)
                self.addCleanup(client.close)
                client.settimeout(1)
                client.sendall(head.encode() + png() + bytes(200_000))
            except OSError:
                continue

    def test_out_of_memory_ends_the_process_and_loses_nothing(self) -> None:
        """It ends by itself, as a failure, and says why; the next start has every task that was acknowledged."""
        upstream = Upstream(self.addCleanup, UpstreamRequest.keep_silent)
        ledger = self.ledger()
        merlind = self.merlind(upstream=upstream.url)
        statuses = []
        for room in (2, 4, 8, 12, 20):
            merlind.start()
            for number in range(10):
                ledger.post(merlind.port, f"{room}-{number}", png())
            limit_memory(merlind, room * MEGABYTE)
            self.fill(merlind)
            statuses.append(merlind.wait(30))
            self.assertIn("merlind: out of memory", merlind.log().splitlines()[-1])
        merlind.start()
        self.assertEqual(statuses, [1] * 5)
        self.assertEqual(ledger.losses(merlind.port), [])
        self.figures(ends=len(statuses), tasks=50, losses=0)

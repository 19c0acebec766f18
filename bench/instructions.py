"""Counts the instructions that merlind takes for a photo, a poll and a status request: counts repeat, times don't.

``python bench/instructions.py`` needs merlind's dependencies and valgrind. It prints the counts beside those in
instructions.json and never fails because of them; ``--write`` replaces those. All happens in memory in one process:
the network, the reactor's clock and the database's thread are simulated. A path's count is the difference of two runs
under callgrind, one with more rounds of that path.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
COMMITTED = HERE / "instructions.json"

WARM = {"accept": 20, "poll": 20, "status": 20}
MORE = {"accept": 100, "poll": 200, "status": 500}
PHOTO = 100_000  # bytes


def count(rounds: dict[str, int]) -> int:
    """The instructions of a process that does so many rounds of each path."""
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
    command += [sys.executable, str(HERE / "instructions.py"), "--drive", json.dumps(rounds)]
    environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": str(HERE.parent)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode != 0 or found is None:
        raise SystemExit(f"callgrind failed:\n{done.stderr[-3000:]}")
    return int(found[1])


def measure() -> dict[str, int]:
    """The instructions of one round of each path."""
    runs = [WARM, *({**WARM, path: WARM[path] + more} for path, more in MORE.items())]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        base, *counts = pool.map(count, runs)
    return {path: (n - base) // more for n, (path, more) in zip(counts, MORE.items(), strict=True)}


def main() -> None:
    if shutil.which("valgrind") is None:
        print("instructions: not counted, there is no valgrind here")
        return
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    figures = measure()
    committed: dict[str, Any] = json.loads(COMMITTED.read_text("utf-8")) if COMMITTED.exists() else {}
    before = committed.get("instructions", {})
    print(f"instructions for one of each, Python {python} (committed: Python {committed.get('python', '-')})")
    for path, now in figures.items():
        then = before.get(path)
        change = f"{then:>12,} {100 * (now - then) / then:+8.1f} %" if then else f"{'-':>12}"
        print(f"  {path:8} {now:>12,} {change}")
    if "--write" in sys.argv:
        COMMITTED.write_text(json.dumps({"python": python, "instructions": figures}, indent=2) + "\n", "utf-8")


def drive(rounds: dict[str, int], folder: Path) -> None:
    """The process under callgrind: one merlind that does so many rounds of each path."""
    from twisted.enterprise.adbapi import ConnectionPool
    from twisted.internet.testing import MemoryReactorClock, StringTransport

    from merlind.daemon.datadir import DataDir
    from merlind.service import MerlindService
    from merlind.settings import Settings
    from merlind.storage import pairing

    class Reactor(MemoryReactorClock):
        def callFromThread(self, function: Any, *args: Any, **kwargs: Any) -> None:
            function(*args, **kwargs)

    class OneThread:
        """The database's thread: runs its work when the clock advances."""

        def start(self) -> None:
            pass

        def callInThreadWithCallback(self, report: Any, function: Any, *args: Any, **kwargs: Any) -> None:
            reactor.callLater(0, lambda: report(True, function(*args, **kwargs)))

    def make_pool(*args: Any, **kwargs: Any) -> Any:
        pool = ConnectionPool(*args, **kwargs)
        pool.threadpool = OneThread()
        return pool

    reactor = Reactor()
    directory = DataDir(folder / "data")
    directory.acquire()
    pairing.prepare(directory.database, directory.spool, directory.last_commit)
    settings = Settings(
        listen=["tcp:8000"],
        admin=None,
        admin_host=[],
        upstream="http://127.0.0.1:9/api/",
        data_dir=directory.path,
        poll_interval=2.0,
        upstream_timeout=30.0,
        upstream_concurrency=32,
        give_up_after=1e9,
        max_attempts=100,
        retention=1e9,
        max_photo_bytes=10_000_000,
        max_pending=100_000,
        max_connections=1000,
        max_uploads=512,
        max_upload_bytes=2**30,
        max_connections_per_client=0,
        max_uploads_per_client=0,
        max_pending_per_client=0,
        max_long_polls_per_client=0,
        trusted_proxy=[],
        min_rate=8192,
        upload_timeout=900.0,
        min_free_bytes=0,
        auth=[],
        names=[],
        keep_failed=0.0,
        client_rate=None,
        cors_origin=[],
    )
    merlind = MerlindService(reactor, settings, directory, sys.exit, make_pool)
    merlind.privilegedStartService()
    merlind.startService()
    reactor.advance(1.0)
    upstream: list[tuple[Any, StringTransport]] = []

    def settle() -> None:
        """Run all that is due now, and make the connections that merlind asked for."""
        for _ in range(4):
            reactor.advance(0)
        while reactor.tcpClients:
            protocol = reactor.tcpClients.pop()[2].buildProtocol(None)
            transport = StringTransport()
            protocol.makeConnection(transport)
            upstream.append((protocol, transport))
            reactor.advance(0)

    def answer(code: bytes, body: bytes) -> int:
        """Let the upstream respond to all requests; returns how many those were."""
        requests = 0
        for protocol, transport in upstream:
            while transport.producer is not None and not transport.value().endswith(b"--\r\n"):
                transport.producer.resumeProducing()
            if transport.value():
                requests += 1
                transport.clear()
                head = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
                protocol.dataReceived(head % (code, len(body)) + body)
        settle()
        return requests

    def browse() -> tuple[Any, StringTransport]:
        protocol, transport = merlind.parts.site.buildProtocol(None), StringTransport()
        protocol.makeConnection(transport)
        return protocol, transport

    def ask(request: bytes, code: bytes) -> bytes:
        for at in range(0, len(request), 65536):
            browser.dataReceived(request[at : at + 65536])
        settle()
        response = client.value()
        client.clear()
        if client.producer is not None:
            client.producer.resumeProducing()  # the kernel has taken the response
        if not response.startswith(b"HTTP/1.1 " + code):
            raise SystemExit(f"instructions: an unexpected response: {response[:500]!r}")
        return response

    def accept(number: int) -> bytes:
        boundary = b"bench-0123456789abcdef"
        form = (
            b'--%b\r\nContent-Disposition: form-data; name="name"\r\n\r\nMerlin\r\n--%b\r\n'
            b'Content-Disposition: form-data; name="photo"; filename="photo.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
            b"\xff\xd8\xff\xe0%016d%b\r\n--%b--\r\n"
        ) % (boundary, boundary, number, b"\1" * (PHOTO - 20), boundary)
        head = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=%b\r\n" % boundary
        return ask(head + b"Content-Length: %d\r\n\r\n" % len(form) + form, b"202")

    wait = b"202 Accepted", b'{"status":"wait","result":null,"retry_id":"3f8c863e-00a5-11eb-9b94","errors":[]}'
    done = b"200 OK", b'{"status":"success","result":0.5,"errors":[]}'
    settle()
    browser, client = browse()
    # One task that is ready, for the status requests; one that waits, for the polls; then the many.
    number = int(json.loads(accept(1).partition(b"\r\n\r\n")[2])["task"])
    answer(*done)
    status = b"GET /?task_id=%d HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\nUser-Agent: bench\r\n\r\n" % number
    ask(status, b"200")
    accept(2)
    answer(*wait)
    polls = 0
    for _ in range(rounds["poll"]):
        reactor.advance(2.1)
        polls += answer(*wait)
    if polls < rounds["poll"]:
        raise SystemExit(f"instructions: {polls} polls instead of {rounds['poll']}")
    browser, client = browse()  # the first connection was idle for too long meanwhile
    for _ in range(rounds["status"]):
        ask(status, b"200")
    for n in range(rounds["accept"]):
        accept(3 + n)
        answer(*wait)


if __name__ == "__main__":
    if "--drive" in sys.argv:
        with tempfile.TemporaryDirectory() as folder:
            drive(json.loads(sys.argv[sys.argv.index("--drive") + 1]), Path(folder))
    else:
        main()

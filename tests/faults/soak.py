"""Runs merlind under mixed load, with faults on both sides: ``python -m tests.faults.soak --minutes 10``.

The stand-in fails a share of its requests. Some clients go away, send malformed forms, or erase what they sent. Memory,
open files, timers, the spool and the gauges are sampled. At the end all tasks must finish, none may be lost, and the
samples must be back where they began.
"""

import argparse
import contextlib
import http.client
import random
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.client import GONE_AWAY, Ledger, Load, form, png, post, request
from tests.processes import HOST, Merlind, MerlinFace, until
from tests.upstream import reset

GAUGES = ("merlind_connections", "merlind_active_uploads", "merlind_long_polls", "merlind_upstream_in_flight")
"""Metrics that must be zero when no client is there and no task is unfinished."""


class Nuisance:
    """Misbehaving clients, a thread for each kind, until they are stopped; ``done`` counts what each kind did."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._stopped = threading.Event()
        self.done: Counter[str] = Counter()
        self._kinds: dict[str, Callable[[], None]] = {
            "gone in mid-upload": self.go_away,
            "malformed": self.malformed,
            "erased": self.erase,
            "long poll": self.long_poll,
            "slow": self.slow,
        }
        self._threads = [threading.Thread(target=self._run, args=(kind,), daemon=True) for kind in self._kinds]

    def __enter__(self) -> "Nuisance":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _run(self, kind: str) -> None:
        while not self._stopped.is_set():
            with contextlib.suppress(*GONE_AWAY):
                self._kinds[kind]()
                self.done[kind] += 1
            time.sleep(random.uniform(0, 0.1))

    def connect(self) -> socket.socket:
        return socket.create_connection((HOST, self._port), timeout=30)

    def go_away(self) -> None:
        sent = form("gone", png(200))
        with self.connect() as client:
            head = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: {sent.content_type}\r\n"
            client.sendall(f"{head}Content-Length: {len(sent.body)}\r\n\r\n".encode())
            client.sendall(sent.body[: random.randrange(len(sent.body))])
            if random.random() < 0.5:
                reset(client)

    def malformed(self) -> None:
        sent = form(random.choice(("", "x" * 300, "fine")), random.choice((b"", b"GIF8", png())))
        body = bytearray(sent.body)
        body[random.randrange(len(body))] = random.randrange(256)
        request(self._port, "POST", "/", bytes(body[:-2]), {"Content-Type": sent.content_type})

    def erase(self) -> None:
        reply = post(self._port, "erased", png(random.randrange(8, 200)))
        if reply.code in (200, 202):
            time.sleep(random.choice((0, 0.1, 1)))
            erased = request(self._port, "DELETE", f"/?task_id={reply.json()['task']}")
            assert erased.code == 204, erased.code

    def long_poll(self) -> None:
        sent = form("long poll", png())
        connection = http.client.HTTPConnection(HOST, self._port, timeout=random.choice((0.05, 1)))
        headers = {"Content-Type": sent.content_type, "Prefer": "wait=30"}
        with contextlib.closing(connection):
            connection.request("POST", "/", sent.body, headers)
            connection.getresponse().read()

    def slow(self) -> None:
        sent = form("slow", png(100))
        with self.connect() as client:
            head = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: {sent.content_type}\r\n"
            client.sendall(f"{head}Content-Length: {len(sent.body)}\r\n\r\n".encode())
            for start in range(0, len(sent.body), 500):
                client.sendall(sent.body[start : start + 500])
                self._stopped.wait(0.05)
            client.recv(4096)


def sample(merlind: Merlind) -> dict[str, float]:
    """Sample what must not grow."""
    return {
        "memory, MB": round(merlind.memory() / 2**20, 1),
        "open files": merlind.open_files(),
        "spool files": len(merlind.spooled()),
        "spool bytes": merlind.metric("merlind_spool_bytes"),
        "unfinished": merlind.unfinished(),
        "timers": merlind.metric("merlind_timers"),
        **{name.removeprefix("merlind_"): merlind.metric(name) for name in GAUGES},
    }


def report(when: str, figures: dict[str, float]) -> None:
    print(f"{when:>8}: " + ", ".join(f"{name} {value:g}" for name, value in figures.items()), flush=True)


def soak(merlind: Merlind, ledger: Ledger, minutes: float) -> list[str]:
    """Run the load for so many minutes, and return what is wrong at the end, one sentence each."""
    # Warm up before the first sample: what is loaded or cached once is no leak.
    for number in range(300):
        ledger.post(merlind.port, f"warm {number}", png())
    until(lambda: merlind.unfinished() == 0, "the first tasks to finish", 300)
    start = sample(merlind)
    report("start", start)
    end = time.monotonic() + minutes * 60
    with Load(merlind.port, ledger, clients=4) as load, Nuisance(merlind.port) as nuisance:
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(30.0, left))
            report(f"{minutes * 60 - max(0.0, end - time.monotonic()):.0f} s", sample(merlind))
    until(lambda: merlind.unfinished() == 0, "all tasks to finish", 600)
    until(lambda: merlind.metric("merlind_connections") == 0, "the connections to end")
    time.sleep(20)  # longer than an idle connection to the upstream is kept
    last = sample(merlind)
    report("end", last)
    print(f"requests tried {load.tried}, acknowledged {len(ledger.promises)}, refused {load.refused}")
    print("misbehaving clients: " + ", ".join(f"{kind} {count}" for kind, count in nuisance.done.items()))
    wrong = load.broken + ledger.losses(merlind.port, finished=True)
    for name, value in last.items():
        if name in ("open files", "timers"):
            # Connections to the upstream may have been opened, or closed, since the first sample.
            if value > start[name] + 2:
                wrong.append(f"{name} grew from {start[name]:g} to {value:g}")
        elif name != "memory, MB" and value:
            wrong.append(f"{name}: {value:g} instead of 0")
    # The result cache may grow: some hundred bytes for each finished task.
    if last["memory, MB"] > 1.5 * start["memory, MB"] + len(ledger.promises) / 1000:
        wrong.append("memory has grown")
    if "Traceback" in merlind.log():
        wrong.append("a traceback was logged")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long to run the load [default: %(default)s]")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        face = MerlinFace(stack.callback, folder, "--delay=0.5", "--waits=1", "--trouble=0.1").start()
        merlind = Merlind(stack.callback, folder, upstream=face.url).start()
        ledger = Ledger(folder / "ledger")
        stack.callback(ledger.close)
        wrong = soak(merlind, ledger, options.minutes)
        for fault in wrong[:20]:
            print(f"wrong: {fault}")
        print("verdict: " + ("failed" if wrong else "passed"))
        return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

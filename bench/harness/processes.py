"""The servers under test and the fake upstream: started on free ports, watched through /proc, ended by their ids."""

import asyncio
import compileall
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

from harness.client import HOST, PATIENCE, fetch, get

BENCH = Path(__file__).resolve().parent.parent
NEVER = -1  # as the number of the poll at which the upstream succeeds


class Process:
    """A child process that listens on a port; ``started`` and ``answered`` are times of the monotonic clock."""

    def __init__(self, port: int, command: list[str], env: dict[str, str], log: Path) -> None:
        self.port = port
        self._log = log
        self.started = monotonic()
        self.answered = 0.0
        with log.open("ab") as out:
            self._child = subprocess.Popen(
                command, env={**os.environ, **env}, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=log.parent
            )

    def cpu(self) -> float:
        """Processor seconds used so far."""
        fields = Path(f"/proc/{self._child.pid}/stat").read_text("ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss(self) -> int:
        """Resident memory, in bytes."""
        pages = Path(f"/proc/{self._child.pid}/statm").read_text("ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    async def until_it_answers(self, target: str, code: int) -> None:
        """Wait until a GET is answered with this code, and note when. Raises RuntimeError when it never is."""
        while monotonic() < self.started + PATIENCE and self._child.poll() is None:
            with suppress(OSError):
                if (await fetch(self.port, get(target), PATIENCE))[0] == code:
                    self.answered = monotonic()
                    return
            await asyncio.sleep(0.01)
        raise RuntimeError(f"the process doesn't answer: {self._log.read_text('utf-8', 'replace')[-1500:]}")

    def stop(self) -> None:
        """Send SIGTERM, and SIGKILL when that takes more than 12 seconds."""
        self._child.terminate()
        try:
            self._child.wait(12.0)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()


class Upstream(Process):
    """The fake upstream: succeeds at poll number ``polls``; 0 is at the upload."""

    def __init__(self, folder: Path, polls: int) -> None:
        port = free_port()
        self.url = f"http://{HOST}:{port}/api/"
        command = [sys.executable, "-m", "harness.upstream", str(port), str(polls)]
        super().__init__(port, command, {"PYTHONPATH": str(BENCH)}, folder / "upstream.log")

    async def command(self, target: str = "/stats") -> dict[str, Any]:
        """Do what the target says; returns the counts of uploads, polls and successes (``done``) so far."""
        return dict(json.loads((await fetch(self.port, get(target)))[1]))


@dataclass(frozen=True)
class Kind:
    """A server to measure: its name in the tables, and the tree of merlind to run; without one it is a peer."""

    name: str
    tree: Path | None = None
    env: dict[str, str] = field(default_factory=dict)

    @property
    def photos(self) -> str:
        """The folder of photos in the data directory."""
        return "spool" if self.tree else "photos"

    def command(self, port: int, data: Path, upstream: str, poll: float) -> list[str]:
        if self.tree is None:
            program = BENCH / "peers" / f"{self.name}_app.py"
            return [sys.executable, str(program), str(port), str(data), upstream, str(poll)]
        return [
            sys.executable, "-c", "from twisted.scripts.twistd import run; run()",
            "-n", "--pidfile=", "merlind",
            f"--listen=tcp:{port}:interface={HOST}", f"--admin=tcp:{free_port()}:interface={HOST}",
            f"--data-dir={data}", f"--upstream={upstream}", f"--poll-interval={poll:g}",
        ]  # fmt: skip


_ONE_CLIENT = {f"MERLIND_MAX_{what}_PER_CLIENT": "0" for what in ("CONNECTIONS", "UPLOADS", "PENDING", "LONG_POLLS")}
"""No limits by client: the load has one address, and stands for many. As variables, which older versions ignore."""


class Server(Process):
    """A server of a kind, with its upstream; its data is in ``folder / "data"``."""

    def __init__(self, kind: Kind, folder: Path, upstream: Upstream, poll: float) -> None:
        self.upstream = upstream
        self.data = folder / "data"
        port = free_port()
        command = kind.command(port, self.data, upstream.url, poll)
        env = {"PYTHONPATH": str(kind.tree or BENCH), **_ONE_CLIENT, **kind.env}
        super().__init__(port, command, env, folder / "server.log")


@asynccontextmanager
async def running(
    kind: Kind, folder: Path, polls: int, poll: float = 2.0, target: str = "/?task_id=1", code: int = 404
) -> AsyncIterator[Server]:
    """Run a server with an upstream of its own; the block begins once it answers a GET of ``target`` with ``code``.

    The server polls every ``poll`` seconds, and the upstream succeeds at poll number ``polls``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    upstream = Upstream(folder, polls)
    try:
        await upstream.until_it_answers("/stats", 200)
        server = Server(kind, folder, upstream, poll)
        try:
            await server.until_it_answers(target, code)
            yield server
        finally:
            server.stop()
    finally:
        upstream.stop()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def snapshot(tree: Path, to: Path) -> Path:
    """Copy merlind's sources, so that a run measures one state of the tree."""
    for part in ("merlind", "twisted"):
        shutil.copytree(tree / part, to / part, ignore=shutil.ignore_patterns("__pycache__", "dropin.cache"))
        compileall.compile_dir(to / part, quiet=1)  # as an installation does
    return to

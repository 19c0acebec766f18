"""The processes under test and the fake upstream: started on free ports, watched through /proc, ended by their ids."""

import asyncio
import compileall
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from harness.client import HOST, fetch, get

BENCH = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


class Process:
    """A child, and what it uses."""

    def __init__(self, command: list[str], env: dict[str, str], log: Path) -> None:
        with log.open("ab") as out:
            self._child = subprocess.Popen(
                command, env={**os.environ, **env}, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=log.parent
            )
        self.pid = self._child.pid
        self._log = log

    def cpu(self) -> float:
        """Processor seconds used so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text("ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss(self) -> int:
        """Resident memory, in bytes."""
        return int(Path(f"/proc/{self.pid}/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def ended(self) -> bool:
        return self._child.poll() is not None

    def tail(self) -> str:
        return self._log.read_text("utf-8", "replace")[-1500:]

    def stop(self, patience: float = 12.0) -> None:
        """SIGTERM, and SIGKILL when it takes too long."""
        if self._child.poll() is None:
            self._child.terminate()
            try:
                self._child.wait(patience)
            except subprocess.TimeoutExpired:
                self._child.kill()
        self._child.wait()

    def kill(self) -> None:
        """End it at once."""
        self._child.kill()
        self._child.wait()


async def answers(process: Process, port: int, target: str = "/?task_id=1", patience: float = 120.0) -> float:
    """Wait for the first answer; returns the time of the monotonic clock at which it came."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        if process.ended():
            raise RuntimeError(f"it ended: {process.tail()}")
        try:
            await fetch(port, get(target), patience)
        except OSError:
            await asyncio.sleep(0.01)
        else:
            return time.monotonic()
    raise RuntimeError(f"no answer in {patience} s: {process.tail()}")


class Upstream(Process):
    """The fake upstream."""

    def __init__(self, folder: Path, polls: int) -> None:
        self.port = free_port()
        self.url = f"http://{HOST}:{self.port}/api/"
        command = [sys.executable, "-m", "harness.upstream", str(self.port), str(polls)]
        super().__init__(command, {"PYTHONPATH": str(BENCH)}, folder / "upstream.log")

    async def command(self, target: str = "/stats") -> dict[str, Any]:
        """Its counts, after doing what the target says."""
        return dict(json.loads((await fetch(self.port, get(target)))[1]))


@dataclass
class Kind:
    """A server to measure: its name in the tables, and how it is run: a tree of merlind's, or a peer's program."""

    name: str
    tree: Path | None = None
    program: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)

    def command(self, port: int, admin: int, data: Path, upstream: str, poll: float) -> list[str]:
        if self.tree is None:
            return [*self.program, str(port), str(data), upstream, str(poll)]
        return [
            sys.executable, "-c", "from twisted.scripts.twistd import run; run()",
            "-n", "--pidfile=", "merlind",
            f"--listen=tcp:{port}:interface={HOST}", f"--admin=tcp:{admin}:interface={HOST}",
            f"--data-dir={data}", f"--upstream={upstream}", f"--poll-interval={poll:g}",
        ]  # fmt: skip

    def environment(self) -> dict[str, str]:
        return {"PYTHONPATH": str(self.tree or BENCH), **self.env}

    def seed(self, data: Path, finished: int, unfinished: int) -> None:
        """Make a data directory with so many tasks in it, as the server itself would have left it."""
        what = "merlind" if self.tree else "peer"
        command = [sys.executable, str(BENCH / "harness" / "seed.py"), what, str(data)]
        path = os.pathsep.join([str(self.tree or BENCH / "peers"), str(BENCH)])
        subprocess.run([*command, str(finished), str(unfinished)], check=True, env={**os.environ, "PYTHONPATH": path})


class Server(Process):
    """A server of a kind, with its upstream, in a folder of its own."""

    def __init__(self, kind: Kind, folder: Path, data: Path, poll: float, upstream: Upstream) -> None:
        self.kind, self.folder, self.upstream = kind, folder, upstream
        self.port = free_port()
        self.data = data
        self.started = time.monotonic()
        command = kind.command(self.port, free_port(), data, upstream.url, poll)
        super().__init__(command, kind.environment(), folder / "server.log")

    @classmethod
    async def start(cls, kind: Kind, folder: Path, polls: int, poll: float = 2.0, data: Path | None = None) -> Self:
        """Start both and wait until they answer."""
        folder.mkdir(parents=True, exist_ok=True)
        upstream = Upstream(folder, polls)
        try:
            await answers(upstream, upstream.port, "/stats")
            server = cls(kind, folder, data or folder / "data", poll, upstream)
            try:
                await answers(server, server.port)
            except BaseException:
                server.kill()
                raise
        except BaseException:
            upstream.kill()
            raise
        return server

    def end(self) -> None:
        """End both."""
        self.stop()
        self.upstream.kill()


def peer(name: str) -> Kind:
    """The peer of a name."""
    return Kind(name, program=(sys.executable, str(BENCH / "peers" / f"{name}_app.py")))


def snapshot(tree: Path, to: Path) -> Path:
    """A copy of merlind's sources, so that a run measures one state of the tree."""
    shutil.rmtree(to, ignore_errors=True)
    for part in ("merlind", "twisted"):
        shutil.copytree(tree / part, to / part, ignore=shutil.ignore_patterns("__pycache__", "dropin.cache"))
        compileall.compile_dir(to / part, quiet=1)  # as an installation does
    return to

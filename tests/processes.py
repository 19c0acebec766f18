"""Runs real twistd processes on loopback: on free ports, measured through /proc, ended by their own process ids."""

import os
import random
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from twisted.trial.unittest import SynchronousTestCase

from merlind.storage.pairing import MARK
from tests.client import GONE_AWAY, Ledger, Reply, request
from tests.upstream import Upstream, UpstreamRequest

TWISTD = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "-n", "--pidfile="]
"""Runs twistd with the interpreter that runs the tests, wherever its scripts are installed."""

PATIENCE = 60.0
"""How many seconds ``until`` waits before the test fails; far longer than anything here takes."""

HOST = "127.0.0.1"


def free_port() -> int:
    """Return a port that nobody listens on.

    It lies below the range that the kernel takes ports of outgoing connections from, so none of those can take it
    before the test does.
    """
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port


def until(condition: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
    """Wait until ``condition`` returns something true, and return that; fail, naming ``what``, after ``seconds``."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"timed out waiting for {what}"
        time.sleep(0.02)
    return found


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return an environment for a process under test, with no option of ours in it and an absolute PYTHONPATH."""
    found = {name: value for name, value in os.environ.items() if not name.startswith("MERLIN")}
    if "PYTHONPATH" in found:
        paths = found["PYTHONPATH"].split(os.pathsep)
        found["PYTHONPATH"] = os.pathsep.join(os.path.abspath(path) for path in paths)
    return {**found, **(more or {})}


class Daemon:
    """One ``twistd -n PLUGIN OPTIONS`` after another, all with the same log, a file in ``folder``.

    ``cleanup`` is a test's addCleanup, or works like it: it gets ``kill``. ``files`` limits the open files, and
    ``memory`` the address space, in bytes.
    """

    def __init__(
        self,
        cleanup: Callable[..., Any],
        plugin: str,
        folder: Path,
        options: list[str],
        env: Mapping[str, str] | None = None,
        files: int | None = None,
        memory: int | None = None,
    ) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder = folder.absolute()
        self.command = [*TWISTD, plugin, *options]
        self.env = dict(env or {})
        self._limits = {resource.RLIMIT_NOFILE: files, resource.RLIMIT_AS: memory}
        self._log = self.folder / f"{plugin}.log"
        self._process: subprocess.Popen[bytes] | None = None
        cleanup(self.kill)

    def spawn(self, stdout: int | None = None) -> Self:
        """Start the process; the one before must have ended. ``stdout`` is a descriptor to use instead of the log."""
        assert not self.running, "it is already running"

        def limit() -> None:
            for what, most in self._limits.items():
                if most is not None:
                    resource.setrlimit(what, (most, most))

        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                cwd=self.folder,
                env=environment(self.env),
                stdin=subprocess.DEVNULL,
                stdout=log if stdout is None else stdout,
                stderr=subprocess.STDOUT,
                preexec_fn=limit,
            )
        return self

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._process is not None, "it was never started"
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process is running."""
        return self._process is not None and self._process.poll() is None

    def log(self) -> str:
        """Return the log of all runs so far."""
        return self._log.read_text("utf-8", "replace") if self._log.exists() else ""

    def signal(self, number: int) -> None:
        """Send a signal, if the process is running."""
        if self.running:
            os.kill(self.pid, number)

    def wait(self, seconds: float = PATIENCE) -> int:
        """Wait for the end, and return the exit status: minus the number of the signal if one ended the process."""
        assert self._process is not None, "it was never started"
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it did not end; its log: {self.log()[-2000:]}") from None

    def kill(self) -> None:
        """End the process with SIGKILL, if it is running."""
        self.signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def stop(self) -> int:
        """End the process with SIGTERM, and return the exit status."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def cpu_seconds(self) -> float:
        """Return the processor time used so far, in seconds."""
        fields = Path(f"/proc/{self.pid}/stat").read_text("ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> int:
        """Return the resident memory, in bytes."""
        return int(Path(f"/proc/{self.pid}/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def open_files(self) -> int:
        """Return the number of open files."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def _await_port(self, port: int) -> None:
        def listens() -> bool:
            assert self.running, f"it ended: {self.log()[-2000:]}"
            with socket.socket() as probe:
                return probe.connect_ex((HOST, port)) == 0

        until(listens, f"port {port} to be open")


class MerlinFace(Daemon):
    """The scoring API in a process of its own."""

    def __init__(self, cleanup: Callable[..., Any], folder: Path, *options: str) -> None:
        self.port = free_port()
        self.url = f"http://{HOST}:{self.port}/api/"
        super().__init__(cleanup, "merlinface", folder, [f"--listen=tcp:{self.port}:interface={HOST}", *options])

    def start(self) -> Self:
        """Start it, and wait until it serves."""
        self.spawn()
        self._await_port(self.port)
        return self


class Merlind(Daemon):
    """merlind on ``port``, with the admin listener on ``admin`` and its data in ``data``.

    It polls ten times a second unless an option says otherwise.
    """

    def __init__(
        self,
        cleanup: Callable[..., Any],
        folder: Path,
        *options: str,
        upstream: str = "embedded:stand-in",
        data: Path | None = None,
        env: Mapping[str, str] | None = None,
        files: int | None = None,
        memory: int | None = None,
    ) -> None:
        self.port, self.admin = free_port(), free_port()
        self.data = (data or folder / "data").absolute()
        fixed = [
            f"--listen=tcp:{self.port}:interface={HOST}",
            f"--admin=tcp:{self.admin}:interface={HOST}",
            f"--data-dir={self.data}",
            f"--upstream={upstream}",
            "--poll-interval=0.1",
        ]
        super().__init__(cleanup, "merlind", folder, [*fixed, *options], env, files, memory)

    def start(self) -> Self:
        """Start it, and wait until it serves."""
        self.spawn()
        self._await_port(self.port)
        if "--admin=none" not in self.command:
            self._await_port(self.admin)
        return self

    def serves(self) -> bool:
        """Whether merlind responds at this moment."""
        try:
            return request(self.port, "OPTIONS").code == 204
        except GONE_AWAY:
            return False

    def get(self, task: int, wait: int | None = None) -> Reply:
        """Ask for a task; with ``wait``, long-poll for up to so many seconds."""
        headers = {} if wait is None else {"Prefer": f"wait={wait}"}
        return request(self.port, "GET", f"/?task_id={task}", headers=headers)

    def health(self) -> Reply:
        """Ask whether merlind is ready."""
        return request(self.admin, "GET", "/health/ready")

    def metric(self, name: str) -> float:
        """Read one metric, such as ``merlind_tasks{state="ready"}``; zero if it isn't there yet."""
        text = request(self.admin, "GET", "/metrics").body.decode("ascii")
        found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    def unfinished(self) -> int:
        """Return the number of unfinished tasks, according to the metrics."""
        return int(sum(self.metric(f'merlind_tasks{{state="{state}"}}') for state in ("upload", "poll")))

    def spooled(self) -> list[Path]:
        """Return the photos in the spool, those of uploads in progress included."""
        return [path for path in (self.data / "spool").rglob("*") if path.is_file() and path.name != MARK]


class ProcessCase(SynchronousTestCase):
    """A test with processes and a folder of its own."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir(mode=0o700, parents=True)

    def merlind(self, *options: str, upstream: str | None = None, **more: Any) -> Merlind:
        """Make a merlind, not yet started; its upstream scores every upload at once unless the test names another."""
        url = upstream or Upstream(self.addCleanup, UpstreamRequest.score).url
        return Merlind(self.addCleanup, self.folder / "merlind", *options, upstream=url, **more)

    def merlinface(self, *options: str, scorer: str = "stand-in") -> MerlinFace:
        """Make the scoring API with a scorer, by default the stand-in; it is not yet started."""
        return MerlinFace(self.addCleanup, self.folder / "merlinface", f"--scorer={scorer}", *options)

    def ledger(self) -> Ledger:
        """Make a ledger outside of the data directory."""
        ledger = Ledger(self.folder / "ledger")
        self.addCleanup(ledger.close)
        return ledger

    def drain(self, merlind: Merlind, ledger: Ledger, seconds: float = PATIENCE) -> None:
        """Wait until all tasks are finished, then check that each is ready with its own result, and the spool empty."""
        until(lambda: merlind.unfinished() == 0, "all tasks to finish", seconds)
        self.assertEqual(ledger.losses(merlind.port, finished=True), [])
        until(lambda: merlind.spooled() == [], "the spool to be empty")

    def assert_no_traceback(self, daemon: Daemon) -> None:
        """Check that the daemon logged no unexpected error."""
        before, found, after = daemon.log().partition("Traceback")
        self.assertFalse(found, f"{before[-1000:]}{found}{after[:3000]}")

    def figures(self, **figures: object) -> None:
        """Print what the test did, on one line."""
        summary = ", ".join(f"{name.replace('_', ' ')} {figure}" for name, figure in figures.items())
        print(f"\n    {self.id().rpartition('.')[2]}: {summary}")

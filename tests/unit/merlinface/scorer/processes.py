"""Workers without processes: a reactor that spawns nothing, and what a test makes of each worker."""

import json
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure

from merlind.merlinface.scorer.frames import read_request
from merlind.merlinface.scorer.process import WorkerProcess


class FakeWorker:
    """The other end of a WorkerProcess: what it was sent, and what the test makes it do."""

    def __init__(self, protocol: WorkerProcess) -> None:
        self._protocol = protocol
        self.written = b""
        self.signals: list[str] = []
        self.stdin_closed = False
        self.ended = False
        protocol.makeConnection(self)

    # What the protocol calls.

    def writeSequence(self, pieces: Sequence[bytes]) -> None:
        self.written += b"".join(pieces)

    def closeStdin(self) -> None:
        self.stdin_closed = True

    def signalProcess(self, name: str) -> None:
        if self.ended:
            raise ProcessExitedAlready
        self.signals.append(name)
        if name == "KILL":
            self.die(signal=9)

    # What the test calls.

    def requests(self) -> list[tuple[dict[str, Any], bytes]]:
        """The requests that it was sent so far."""
        pipe = BytesIO(self.written)
        return [request for request in iter(lambda: read_request(pipe.read), None) if request is not None]

    def photos(self) -> list[bytes]:
        return [photo for _, photo in self.requests() if photo]

    def ready(self) -> "FakeWorker":
        self._protocol.outReceived(b"ready\n")
        return self

    def answer(self, **fields: object) -> None:
        self.say(json.dumps(fields).encode() + b"\n")

    def say(self, data: bytes) -> None:
        self._protocol.outReceived(data)

    def complain(self, data: bytes) -> None:
        self._protocol.errReceived(data)

    def die(self, status: int = 1, signal: int | None = None) -> None:
        self.ended = True
        done = status == 0 and signal is None
        reason = ProcessDone(0) if done else ProcessTerminated(None if signal else status, signal, status)
        self._protocol.processEnded(Failure(reason))


class ProcessReactor(MemoryReactorClock):
    """A reactor whose processes are FakeWorkers, in the order in which they were spawned.

    ``spawn_error`` is raised instead, if it is set.
    """

    def __init__(self) -> None:
        super().__init__()
        self.spawned: list[FakeWorker] = []
        self.commands: list[tuple[str, Sequence[str], Mapping[str, str]]] = []
        self.spawn_error: OSError | None = None

    def spawnProcess(self, protocol: Any, executable: str, args: Sequence[str], env: Mapping[str, str]) -> None:
        if self.spawn_error is not None:
            raise self.spawn_error
        self.commands.append((executable, args, env))
        self.spawned.append(FakeWorker(protocol))

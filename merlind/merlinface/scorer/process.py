"""One worker as its parent sees it: it starts, becomes ready, answers one request at a time, and ends."""

from collections.abc import Callable
from contextlib import suppress
from enum import Enum

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready, ProcessTerminated
from twisted.internet.interfaces import IDelayedCall, IProcessTransport, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from merlind.merlinface.scorer.frames import READY, Answer, Request, read_answer

START_SECONDS = 60.0
"""How long a worker may take to become ready."""

STOP_SECONDS = 1.0
"""How long a worker may take to end when it is told to; it is killed then."""

MAX_LINE = 4096
"""The longest line of a worker, in bytes."""

MAX_WORDS = 500
"""How much is kept of the last things that a worker said on its standard error, in bytes."""


class WorkerEnded(Exception):
    """The worker ended before it answered; the message says why."""


class Phase(Enum):
    """What a worker is doing."""

    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    ENDING = "ending"
    ENDED = "ended"


class WorkerProcess(ProcessProtocol):
    """One worker, of which the pool gets to know when it is free and when it has ended.

    Give it to ``spawnProcess``. ``on_idle`` is called each time it is free for a request, ``on_ended`` with the reason
    once it has ended.
    """

    def __init__(
        self,
        clock: IReactorTime,
        photo_seconds: float,
        on_idle: Callable[["WorkerProcess"], None],
        on_ended: Callable[["WorkerProcess", str], None],
    ) -> None:
        self._clock = clock
        self._on_idle = on_idle
        self._on_ended = on_ended
        self._seconds = {Phase.STARTING: START_SECONDS, Phase.BUSY: photo_seconds, Phase.ENDING: STOP_SECONDS}
        self._late = {
            Phase.STARTING: f"not ready after {START_SECONDS:g} s",
            Phase.BUSY: f"no answer after {photo_seconds:g} s",
            Phase.ENDING: "did not end when it was told to",
        }
        self._deadline: IDelayedCall | None = None
        self._said = b""
        self._words = b""
        self._why = ""
        self._answer: Deferred[Answer] | None = None
        self.requests = 0
        """How many requests it was given."""
        self._enter(Phase.STARTING)

    @property
    def serves(self) -> bool:
        """Whether it became ready and goes on."""
        return self.phase in (Phase.IDLE, Phase.BUSY)

    def ask(self, request: Request) -> Deferred[Answer]:
        """Send a request to an idle worker. The Deferred fails with WorkerEnded if the worker ends first."""
        self._enter(Phase.BUSY)
        self.requests += 1
        self._answer = Deferred()
        self._transport.writeSequence(request)
        return self._answer

    def stop(self) -> None:
        """End it, unless it has; it is killed if that takes too long."""
        if self.phase is Phase.ENDED:
            return
        self._enter(Phase.ENDING)
        self._transport.closeStdin()
        self._signal("TERM")

    @property
    def _transport(self) -> IProcessTransport:
        assert self.transport is not None, "spawnProcess has set it"
        return self.transport

    def _enter(self, phase: Phase) -> None:
        self.phase = phase
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if phase in self._seconds:
            self._deadline = self._clock.callLater(self._seconds[phase], self._overdue)

    def _overdue(self) -> None:
        self._deadline = None
        self._kill(self._late[self.phase])

    def _kill(self, why: str) -> None:
        self._why = self._why or why
        self._signal("KILL")

    def _signal(self, name: str) -> None:
        with suppress(ProcessExitedAlready):
            self._transport.signalProcess(name)

    def outReceived(self, data: bytes) -> None:
        """Take what the worker says. One that says anything but an answer to its request is killed."""
        *lines, self._said = (self._said + data).split(b"\n")
        for line in lines:
            self._take(line)
        if len(self._said) > MAX_LINE:
            self._kill("it said what is no answer")
            self._said = b""

    def _take(self, line: bytes) -> None:
        if self._why or self.phase is Phase.ENDING:
            return  # it is killed or stopped: what it still says is too late
        if self.phase is Phase.STARTING and line == READY:
            self._enter(Phase.IDLE)
            self._on_idle(self)
            return
        done = self._answer
        try:
            answer = read_answer(line)
        except ValueError:
            done = None
        if done is None:
            self._kill("it said what is no answer")
            return
        self._answer = None
        self._enter(Phase.IDLE)
        done.callback(answer)
        if self.phase is Phase.IDLE:
            self._on_idle(self)

    def errReceived(self, data: bytes) -> None:
        """Keep the end of what the worker says in words: it may tell why it ends."""
        self._words = (self._words + data)[-MAX_WORDS:]

    def processEnded(self, reason: Failure) -> None:
        """Tell whoever waits for an answer, then the pool."""
        stopped = self.phase is Phase.ENDING
        self._enter(Phase.ENDED)
        why = "stopped" if stopped else self._describe(reason)
        if (done := self._answer) is not None:
            self._answer = None
            done.errback(WorkerEnded(why))
        self._on_ended(self, why)

    def _describe(self, reason: Failure) -> str:
        words = self._words.decode("utf-8", "replace").strip().splitlines()
        why = self._why or _status(reason.value)
        return f"{why}: {words[-1]}" if words else why


def _status(error: BaseException | None) -> str:
    if isinstance(error, OSError):
        return str(error.strerror)  # it could not even be spawned
    if isinstance(error, ProcessTerminated):
        return f"signal {error.signal}" if error.signal is not None else f"status {error.exitCode}"
    return "status 0"

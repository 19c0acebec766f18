"""The public HTTP server: connections up to a cap, requests that stream, and a line of log for each answer."""

from typing import Any, Protocol
from urllib.parse import unquote_to_bytes

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import IResource
from twisted.web.server import Request, Site

from merlind.daemon.metrics import Metrics
from merlind.web.response import NO_STORAGE, HTTPError, Response, problem
from merlind.web.server.channel import EdgeChannel, TurnedAway

MAX_TURNED_AWAY = 128
"""How many connections past the cap are answered at a time, if the cap is not lower; more are closed without a word."""

MAX_IGNORED_BODY = 65536
"""The longest body that is read and ignored where none is asked for, in bytes."""


class BodyReceiver(Protocol):
    """What takes a request's body as it comes. ``write`` raises Refusal; ``discard`` may come at any time."""

    def write(self, data: bytes) -> None: ...
    def discard(self) -> None: ...


class IgnoredBody:
    """A body that nobody asked for, of ``length`` bytes if that was announced. Raises Refusal if it is too long."""

    def __init__(self, length: int | None) -> None:
        self._size = 0
        self._grow(length or 0)
        self._size = 0

    def write(self, data: bytes) -> None:
        """Drop it."""
        self._grow(len(data))

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > MAX_IGNORED_BODY:
            raise HTTPError(problem(413, "too_large", "this request takes no body"))

    def discard(self) -> None:
        """There is nothing to discard."""


class EdgeRequest(Request):
    """One request: its body goes to a receiver as it comes, its answer is written at once."""

    site: "EdgeSite"
    channel: EdgeChannel
    query = b""
    receiver: BodyReceiver | None = None
    began = 0.0

    def begin(self, method: bytes, target: bytes, version: bytes, length: int | None) -> None:
        """All headers are here; ``length`` is the body's in bytes, None if it is not announced. Raises Refusal."""
        self.site = self.channel.site
        self.began = self.site.reactor.seconds()
        self.method, self.uri, self.clientproto = method, target, version
        self.path, _, self.query = target.partition(b"?")
        self.receiver = self.site.entry.receive(self, length)

    def gotLength(self, length: int | None) -> None:
        """Nothing: ``begin`` does more."""

    def handleContentChunk(self, data: bytes) -> None:
        if self.receiver is None:
            return
        try:
            self.receiver.write(data)
        except HTTPError as refusal:
            self.channel.refuse(refusal.answer)
        except OSError as error:
            self._log.error("a photo could not be written: {why}", why=error.strerror)
            self.channel.refuse(NO_STORAGE)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        self.args = {}
        self.process()

    def process(self) -> None:
        answer = self.site.entry.before_routing(self)
        if isinstance(answer, Deferred):
            answer.addCallback(self.send).addErrback(lambda failure: _done(self.processingFailed(failure)))
            return
        if answer is not None:
            self.send(answer)
            return
        self.prepath = []
        self.postpath = [unquote_to_bytes(segment) for segment in self.path[1:].split(b"/")]
        try:
            b"/".join(self.postpath).decode("utf-8")
        except UnicodeDecodeError:
            self.send(problem(404, "not_found", "there is nothing here"))
            return
        self.render(self.site.resource)

    def getRequestHostname(self) -> bytes:
        # There is one host whatever the client calls it; a router need not make sense of the client's word.
        return b"localhost"

    def processingFailed(self, reason: Failure) -> Failure:
        """A fault of ours: its traceback is for the log alone."""
        self._log.failure("a request failed", failure=reason)
        self.send(problem(500, "internal_error", "the server failed"))
        return reason

    def send(self, answer: Response) -> None:
        """Response, and be done with it. A client that has gone away gets nothing."""
        self.abandon()
        if self._disconnected or self.finished:
            return
        self.code = answer.code
        self.startedWriting = 1
        self.channel.transport.write(answer.to_bytes(self.method == b"HEAD", not self.channel.persistent))
        self.finish()

    def finish(self) -> None:
        # Klein finishes once more what an error handler has sent.
        if not self.finished:
            super().finish()

    def abandon(self) -> None:
        """Let go of what came in and nobody took."""
        if self.receiver is not None:
            self.receiver.discard()
            self.receiver = None

    def connectionLost(self, reason: Failure) -> None:
        self.abandon()
        super().connectionLost(reason)


def _done(_: Failure) -> None:
    """The failure has been answered and logged."""


class Entry(Protocol):
    """What the requests are for, asked in this order; the first that answers does."""

    resource: IResource

    def at_once(self, request: bytes) -> Response | None:
        """The answer to the bytes of what may be one whole request, if it needs no parsing: GETs alone."""

    def receive(self, request: EdgeRequest, length: int | None) -> BodyReceiver | None:
        """What takes the body, when the headers are in. Raises Refusal."""

    def before_routing(self, request: EdgeRequest) -> "Response | Deferred[Response] | None":
        """The answer, when the body is in; if there is none, the resource is asked."""


class EdgeSite(Site):
    """The factory of the public listener's connections; ``entry`` knows what they are for."""

    noisy = False
    protocol: Any = EdgeChannel
    _logger = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        entry: Entry,
        metrics: Metrics,
        max_connections: int,
        min_rate: int,
    ) -> None:
        super().__init__(
            entry.resource, requestFactory=EdgeRequest, timeout=None, reactor=reactor, parsePOSTFormSubmission=False
        )
        self.entry = entry
        self.min_rate = min_rate
        self.draining = False
        self.turned_away = 0
        self._metrics = metrics
        self._max_connections = max_connections
        self._open: set[EdgeChannel] = set()
        self._drained: Deferred[None] | None = None

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._open)

    def buildProtocol(self, addr: IAddress | None) -> Any:
        if len(self._open) < self._max_connections:
            return super().buildProtocol(addr)
        if self.turned_away < min(MAX_TURNED_AWAY, self._max_connections):
            self.turned_away += 1
            return TurnedAway(self)
        return None

    def opened(self, channel: EdgeChannel) -> None:
        """A connection began."""
        self._open.add(channel)

    def closed(self, channel: EdgeChannel) -> None:
        """A connection ended."""
        self._open.discard(channel)
        if self._drained is not None and not self._open and not self._drained.called:
            self._drained.callback(None)

    def drain(self) -> "Deferred[None]":
        """Close what is idle; the rest closes with its answer. Fires when no connection is open."""
        self.draining = True
        self._drained = Deferred()
        for channel in list(self._open):
            channel.close_if_idle()
        return self._drained if self._open else succeed(None)

    def log(self, request: Any) -> None:
        self.answered(request.method, request.code, self.reactor.seconds() - request.began)

    def answered(self, method: bytes, code: int, seconds: float = 0.0) -> None:
        """Count and log an answer. The log knows no addresses, no queries and no names."""
        self._metrics.request(method, code)
        self._logger.info("{method} {code} {ms} ms", method=method.decode("ascii"), code=code, ms=int(seconds * 1000))

    def startFactory(self) -> None:
        """No log file and no clock for one: the log is Twisted's."""

    def stopFactory(self) -> None:
        """Nothing to close."""

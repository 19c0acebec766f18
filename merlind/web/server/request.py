"""One request: its body streams into a receiver, and its response is written in one piece."""

from urllib.parse import unquote_to_bytes

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.web.server import Request

from merlind.web.response import NO_STORAGE, HTTPError, Response, problem
from merlind.web.server.channel import EdgeChannel
from merlind.web.server.interfaces import BodyReceiver


class EdgeRequest(Request):
    """A request on an EdgeChannel. Handlers respond with ``send``."""

    channel: EdgeChannel
    query = b""
    receiver: BodyReceiver | None = None
    client = ""
    """Who asks, for the limits by client: an address, or a network."""
    began = 0.0
    """When the headers were in, in the reactor's seconds."""

    def begin(self, method: bytes, target: bytes, version: bytes, length: int | None) -> None:
        """Start the request, when its headers are in. Raises HTTPError.

        ``length`` is the body's size in bytes, or None if it comes in chunks.
        """
        self.began = self.channel.site.reactor.seconds()
        self.method, self.uri, self.clientproto = method, target, version
        self.path, _, self.query = target.partition(b"?")
        self.client = getattr(self.channel.getPeer(), "host", "")
        self.receiver = self.channel.site.entry.open_body(self, length)

    def gotLength(self, length: int | None) -> None:
        """Do nothing: Twisted would prepare to collect the whole body."""

    def handleContentChunk(self, data: bytes) -> None:
        if self.receiver is None:
            return
        try:
            self.receiver.write(data)
        except HTTPError as error:
            self.channel.refuse(error.response)
        except OSError as error:
            self._log.error("a photo could not be written: {why}", why=error.strerror)
            self.channel.refuse(NO_STORAGE)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        self.args: dict[bytes, list[bytes]] = {}
        self.process()

    def process(self) -> None:
        response = self.channel.site.entry.before_routing(self)
        if isinstance(response, Deferred):
            response.addCallback(self.send).addErrback(self._failed)
        elif response is not None:
            self.send(response)
        else:
            self._route()

    def _route(self) -> None:
        self.prepath = []
        self.postpath = [unquote_to_bytes(segment) for segment in self.path[1:].split(b"/")]
        try:
            b"/".join(self.postpath).decode("utf-8")
        except UnicodeDecodeError:
            # Klein would respond with a page of its own.
            self.send(problem(404, "not_found", "there is nothing here"))
            return
        self.render(self.channel.site.entry.resource)

    def getRequestHostname(self) -> bytes:
        # Klein gives the Host to its router, which fails on some that HTTP allows. There is one host in any case.
        return b"localhost"

    def processingFailed(self, reason: Failure) -> Failure:
        """Respond 500 to an unexpected error. Its traceback goes to the log only."""
        self._failed(reason)
        return reason

    def _failed(self, failure: Failure) -> None:
        self._log.failure("unexpected error in a request", failure=failure)
        self.send(problem(500, "internal_error", "the server failed"))

    def send(self, response: Response) -> None:
        """Write the response and finish the request. Does nothing if the client has gone away."""
        self.abandon()
        if self._disconnected or self.finished:
            return
        self.code = response.code
        self.startedWriting = 1
        self.channel.transport.write(response.to_bytes(self.method == b"HEAD", not self.channel.persistent))
        self.finish()

    def finish(self) -> None:
        # Klein finishes a request again after one of its error handlers has responded.
        if not self.finished:
            super().finish()

    def abandon(self) -> None:
        """Discard a body that no handler has taken."""
        if self.receiver is not None:
            self.receiver.discard()
            self.receiver = None

    def connectionLost(self, reason: Failure) -> None:
        self.abandon()
        super().connectionLost(reason)

"""The client of merlinface, over treq: one upload or poll, bounded in time and size, and what its answer means.

An exchange always ends with an outcome. Redirects are not followed, answers not decompressed, cookies not kept, and
nothing is sent twice on its own: whether to try again is the scheduler's to decide.
"""

import os
import secrets
from typing import IO, Any

from treq.client import HTTPClient
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IConsumer, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from merlind.clock import ServiceClock
from merlind.metrics import Metrics
from merlind.reply import interpret
from merlind.scheduler import PhotoLost
from merlind.spool import Spool
from merlind.task import Outcome, Task, Trouble

MAX_ANSWER = 65536
"""The most bytes of an answer's body that are read."""

_PIECE = 65536
_EXTENSIONS = {
    "image/jpeg": "jpg",
    "image/png": "png",
    "image/webp": "webp",
    "image/gif": "gif",
    "image/heic": "heic",
    "image/avif": "avif",
    "image/bmp": "bmp",
    "image/tiff": "tiff",
}


class AnswerTooLarge(Exception):
    """The upstream's answer is over the limit."""


class MerlinfaceClient:
    """Speaks the upstream contract with the API at ``url``; ``timeout`` bounds one whole exchange, in seconds."""

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        clock: ServiceClock,
        agent: IAgent,
        url: str,
        spool: Spool,
        metrics: Metrics,
        timeout: float,
    ) -> None:
        self._reactor: Any = reactor
        self._clock = clock
        self._treq = HTTPClient(agent)
        self._url = url
        self._spool = spool
        self._metrics = metrics
        self._timeout = timeout
        self._boundary = secrets.token_hex(16).encode("ascii")
        self._headers = Headers(
            {
                b"Content-Type": [b"multipart/form-data; boundary=" + self._boundary],
                b"Accept": [b"application/json"],
                b"User-Agent": [b"merlind"],
            }
        )

    def upload(self, task: Task) -> "Deferred[Outcome]":
        """Send name and photo. Fails with PhotoLost if the photo isn't in the spool whole."""
        try:
            photo = open(self._spool.path(task.id), "rb", buffering=0)  # noqa: SIM115 (the body closes it)
            size = os.fstat(photo.fileno()).st_size
        except OSError as error:
            return fail(PhotoLost(error.strerror))
        if size != task.photo.size:
            photo.close()
            return fail(PhotoLost(f"{size} bytes of {task.photo.size}"))
        body = FormBody(
            head=b"".join(
                (
                    self._part(b'name="name"'),
                    task.name.encode("utf-8"),
                    b"\r\n",
                    self._part(
                        b'name="photo"; filename="photo.%s"' % _EXTENSIONS[task.photo.media_type].encode("ascii"),
                        b"Content-Type: %s\r\n" % task.photo.media_type.encode("ascii"),
                    ),
                )
            ),
            file=photo,
            file_size=size,
            tail=b"\r\n--%s--\r\n" % self._boundary,
        )

        def close(outcome: Outcome) -> Outcome:
            body.stopProducing()
            return outcome

        return self._exchange("upload", body).addBoth(close)

    def poll(self, task: Task) -> "Deferred[Outcome]":
        """Ask again, with the retry_id alone."""
        assert task.retry_id is not None, "a task to poll for has a retry_id"
        retry_id = task.retry_id.encode("ascii")
        body = b"%s%s\r\n--%s--\r\n" % (self._part(b'name="retry_id"'), retry_id, self._boundary)
        return self._exchange("poll", FormBody(body))

    def _part(self, disposition: bytes, more: bytes = b"") -> bytes:
        return b"--%s\r\nContent-Disposition: form-data; %s\r\n%s\r\n" % (self._boundary, disposition, more)

    def _exchange(self, kind: str, body: "FormBody") -> "Deferred[Outcome]":
        began = self._reactor.seconds()
        ended = False

        def end(label: str) -> bool:
            nonlocal ended
            if ended:
                return False
            ended = True
            if deadline.active():
                deadline.cancel()
            self._metrics.exchange(kind, label, self._reactor.seconds() - began)
            return True

        def finish(outcome: Outcome) -> None:
            if end(_label(outcome)):
                done.callback(outcome)

        def cancel(_: object) -> None:
            if end("cancelled"):
                answer.cancel()

        def time_out() -> None:
            finish(Trouble("timed out"))
            answer.cancel()

        def answered(result: tuple[IResponse, bytes]) -> Outcome:
            response, content = result
            values = response.headers.getRawHeaders("Retry-After")
            return interpret(kind == "poll", response.code, content, values[0] if values else None, self._clock.wall())

        def failed(failure: Failure) -> Outcome:
            kind = type(failure.value).__name__
            if not ended:
                self._log.debug("an exchange failed: {why}", why=failure.getErrorMessage())
            return Trouble(_FAILURES.get(kind, kind))

        done: Deferred[Outcome] = Deferred(cancel)
        deadline = self._reactor.callLater(self._timeout, time_out)
        answer = self._treq.request(
            "POST", self._url, headers=self._headers, data=body, allow_redirects=False, unbuffered=True,
            reactor=self._reactor,
        ).addCallback(_read_answer)  # fmt: skip
        outcome: Deferred[Any] = answer.addCallback(answered).addErrback(failed)
        outcome.addCallback(finish)
        return done


def _read_answer(response: IResponse) -> "Deferred[tuple[IResponse, bytes]]":
    collector = _Collector()
    response.deliverBody(collector)
    return collector.done.addCallback(lambda content: (response, content))


def _label(outcome: Outcome) -> str:
    """The outcome as a metric's label: of trouble there are too many kinds for it."""
    return type(outcome).__name__.lower()


_FAILURES = {
    "ConnectionRefusedError": "connection refused",
    "DNSLookupError": "name not found",
    "TimeoutError": "could not connect in time",
    "ConnectError": "could not connect",
    "ResponseNeverReceived": "no answer, outcome unknown",
    "RequestTransmissionFailed": "connection lost while sending, outcome unknown",
    "ResponseFailed": "answer cut short, outcome unknown",
}


class _Collector(Protocol):
    """Collects an answer's body up to MAX_ANSWER bytes; past it, or when cancelled, the connection is closed."""

    def __init__(self) -> None:
        self.done: Deferred[bytes] = Deferred(lambda _: self._close())
        self._pieces: list[bytes] = []
        self._size = 0

    def dataReceived(self, data: bytes) -> None:
        self._size += len(data)
        if self._size <= MAX_ANSWER:
            self._pieces.append(data)
        elif not self.done.called:
            self._pieces.clear()
            self._close()
            self.done.errback(AnswerTooLarge())

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.done.called:
            return
        # Without a length, the end of the connection is the end of the body; that it is whole, strict JSON shows.
        if reason.check(ResponseDone, PotentialDataLoss):
            self.done.callback(b"".join(self._pieces))
        else:
            self.done.errback(reason)

    def _close(self) -> None:
        if self.transport is not None:
            self.transport.loseConnection()


@implementer(IBodyProducer)
class FormBody:
    """A request body of a few bytes, and for an upload a file of ``file_size`` bytes and a few bytes more.

    The file is read in pieces, as fast as the connection takes them.
    """

    def __init__(self, head: bytes, file: IO[bytes] | None = None, file_size: int = 0, tail: bytes = b"") -> None:
        self.length = len(head) + file_size + len(tail)
        self._head = head
        self._file = file
        self._tail = tail
        self._paused = False
        self._consumer: IConsumer | None = None
        self._done: Deferred[None] | None = None

    def startProducing(self, consumer: IConsumer) -> "Deferred[None]":
        if self._file is None:
            consumer.write(self._head)
            return succeed(None)
        self._consumer = consumer
        done = self._done = Deferred(lambda _: self.stopProducing())
        consumer.write(self._head)
        self.resumeProducing()
        return done

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        while not self._paused and self._consumer is not None and self._file is not None:
            piece = self._file.read(_PIECE)
            if piece:
                self._consumer.write(piece)
                continue
            self._consumer.write(self._tail)
            done, self._done = self._done, None
            self.stopProducing()
            if done is not None:
                done.callback(None)

    def stopProducing(self) -> None:
        self._consumer = None
        if self._file is not None:
            self._file.close()
            self._file = None

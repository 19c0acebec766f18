"""The client of merlinface, over treq: one upload or poll, bounded in time and size, and what its answer means.

An exchange always ends with an outcome; whether to try again is the scheduler's to decide.
"""

import errno
import os
import secrets
from functools import cached_property
from typing import IO, TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IConsumer, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

from merlind.core.interfaces import PhotoMissing
from merlind.core.outcome import HandleExpired, Outcome, Pending, Rejected, Scored, TransientError
from merlind.core.task import Task
from merlind.daemon.clock import ServiceClock
from merlind.daemon.metrics import Metrics
from merlind.storage.photos.spool import Spool
from merlind.upstream.agent import KeepAliveAgent, OutcomeUnknown
from merlind.upstream.reply import interpret
from merlind.upstream.response_parser import BadResponse, UpstreamResponse

if TYPE_CHECKING:
    from merlind.upstream.sender import FormSender

PIECE = 262144
"""How much of a photo is read from its file at a time, in bytes; what is no larger is sent in one piece."""

_SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
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


class MerlinfaceClient:
    """Speaks the upstream contract with the API at ``url``; ``timeout`` bounds one whole exchange, in seconds."""

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        clock: ServiceClock,
        agent: KeepAliveAgent,
        url: str,
        spool: Spool,
        metrics: Metrics,
        timeout: float,
    ) -> None:
        self._reactor = reactor
        self._clock = clock
        self._agent = agent
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
        lines = [name + b": " + value for name, values in self._headers.getAllRawHeaders() for value in values]
        self._opening = f"POST {agent.target} HTTP/1.1\r\nHost: {agent.host}\r\nContent-Length: ".encode("ascii")
        self._ending = b"\r\n".join((b"", *lines, b"", b""))

    @cached_property
    def _sender(self) -> "FormSender":
        from merlind.upstream.sender import FormSender

        return FormSender(self._agent, self._url, self._headers)

    def load(self) -> None:
        """Get ready for exchanges now, and not with the first of them."""
        self._agent.load()
        self._sender  # noqa: B018

    def upload(self, task: Task) -> "Deferred[Outcome]":
        """Send name and photo. Fails with PhotoMissing if the photo isn't in the spool whole."""
        try:
            photo = open(self._spool.path(task.id), "rb", buffering=0)  # noqa: SIM115 (closed with what is sent)
            size = os.fstat(photo.fileno()).st_size
        except OSError as error:
            if error.errno in _SHORTAGES:
                return succeed(TransientError("too few open files"))
            return fail(PhotoMissing(error.strerror))
        if size != task.photo.size:
            photo.close()
            return fail(PhotoMissing(f"{size} bytes of {task.photo.size}"))
        before, after = self._around(task)
        answer = (self._send_whole if size <= PIECE else self._send_in_pieces)(before, photo, size, after)
        return self._exchange("upload", answer)

    def _send_whole(self, before: bytes, photo: IO[bytes], size: int, after: bytes) -> "Deferred[UpstreamResponse]":
        # Past treq, byte for byte what it sends: its layers cost a tenth of the photos that can be taken.
        try:
            with photo:
                content = photo.read(size)
        except OSError as error:
            return fail(PhotoMissing(error.strerror))
        if len(content) < size:
            return fail(PhotoMissing("it became shorter"))
        return self._send(before, content, after)

    def _send_in_pieces(self, before: bytes, photo: IO[bytes], size: int, after: bytes) -> "Deferred[UpstreamResponse]":
        body = FormBody(before, photo, size, after)

        def close(answer: "UpstreamResponse | Failure") -> "UpstreamResponse | Failure":
            body.stopProducing()
            return answer

        return self._sender.send(body).addBoth(close)

    def _around(self, task: Task) -> tuple[bytes, bytes]:
        """A form with name and photo, but for the photo: what comes before it, and what after it."""
        media_type = task.photo.media_type
        file = b'name="photo"; filename="photo.%s"' % _EXTENSIONS[media_type].encode("ascii")
        photo = self._part(file, b"Content-Type: %s\r\n" % media_type.encode("ascii"))
        before = b"%s%s\r\n%s" % (self._part(b'name="name"'), task.name.encode("utf-8"), photo)
        return before, b"\r\n--%s--\r\n" % self._boundary

    def poll(self, task: Task) -> "Deferred[Outcome]":
        """Ask again, with the retry_id alone."""
        assert task.retry_id is not None, "a task to poll for has a retry_id"
        retry_id = task.retry_id.encode("ascii")
        body = b"%s%s\r\n--%s--\r\n" % (self._part(b'name="retry_id"'), retry_id, self._boundary)
        return self._exchange("poll", self._send(body))

    def _send(self, *form: bytes) -> "Deferred[UpstreamResponse]":
        """Send a form that is in memory. Not through treq: all of its request but the length was made beforehand."""
        length = b"%d" % sum(map(len, form))
        return self._agent.exchange((self._opening, length, self._ending, *form))

    def _part(self, disposition: bytes, more: bytes = b"") -> bytes:
        return b"--%s\r\nContent-Disposition: form-data; %s\r\n%s\r\n" % (self._boundary, disposition, more)

    def _exchange(self, kind: str, answer: "Deferred[UpstreamResponse]") -> "Deferred[Outcome]":
        """What the answer means, when it is there or was waited for long enough."""
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
            finish(TransientError("timed out"))
            answer.cancel()

        def photo_lost(failure: Failure) -> None:
            if end("photo_missing"):
                done.errback(failure)

        def answered(answer: UpstreamResponse) -> Outcome:
            return interpret(kind == "poll", answer.code, answer.body, answer.retry_after, self._clock.wall())

        def failed(failure: Failure) -> "Outcome | Failure":
            if failure.check(PhotoMissing):
                return failure
            if not ended:
                self._log.debug("an exchange failed: {why}", why=failure.getErrorMessage())
            return TransientError(_trouble(failure.value))

        done: Deferred[Outcome] = Deferred(cancel)
        deadline = self._reactor.callLater(self._timeout, time_out)
        outcome: Deferred[Any] = answer.addCallback(answered).addErrback(failed)
        outcome.addCallbacks(finish, photo_lost)
        return done


_LABELS: dict[type, str] = {
    Scored: "scored",
    Pending: "pending",
    Rejected: "rejected",
    HandleExpired: "handle_expired",
    TransientError: "transient_error",
}


def _label(outcome: Outcome) -> str:
    """The outcome as a metric's label."""
    return _LABELS[type(outcome)]


def _trouble(error: BaseException | None) -> str:
    """A failure in a few words that are the same each time."""
    match error:
        case BadResponse():
            return f"{error}, outcome unknown"
        case OutcomeUnknown():
            return "connection lost, outcome unknown"
        case _:
            return f"no connection: {type(error).__name__}"


@implementer(IBodyProducer)
class FormBody:
    """A request body with a file of ``file_size`` bytes in it, read in pieces as fast as the connection takes them.

    Fails with PhotoMissing if the file can't be read, or ends too soon.
    """

    def __init__(self, head: bytes, file: IO[bytes], file_size: int, tail: bytes) -> None:
        self.length = len(head) + file_size + len(tail)
        self._head = head
        self._file: IO[bytes] | None = file
        self._file_left = file_size
        self._tail = tail
        self._paused = False
        self._consumer: IConsumer | None = None
        self._done: Deferred[None] | None = None

    def startProducing(self, consumer: IConsumer) -> "Deferred[None]":
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
            try:
                piece = self._file.read(min(PIECE, self._file_left))
            except OSError as error:
                self._end(Failure(PhotoMissing(error.strerror)))
                return
            if not piece:
                self._end(Failure(PhotoMissing("it became shorter")))
                return
            self._file_left -= len(piece)
            self._consumer.write(piece)
            if self._file_left == 0 and self._consumer is not None:
                # With the last piece, so that most photos go out at once.
                self._consumer.write(self._tail)
                self._end(None)

    def _end(self, result: Failure | None) -> None:
        done, self._done = self._done, None
        self.stopProducing()
        if done is not None:
            done.callback(result)

    def stopProducing(self) -> None:
        self._consumer = None
        if self._file is not None:
            self._file.close()
            self._file = None

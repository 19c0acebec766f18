"""The multipart forms that the upstream takes (docs/contract.md, "Upstream side"; RFC 7578)."""

from typing import IO

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer
from twisted.python.failure import Failure
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

from merlind.core.interfaces import PhotoMissing
from merlind.core.task import Photo

PIECE = 262144
"""How much of a photo is read from its file at a time, in bytes. A smaller photo goes out in one write."""

EXTENSIONS = {
    "image/jpeg": "jpg",
    "image/png": "png",
    "image/webp": "webp",
    "image/gif": "gif",
    "image/heic": "heic",
    "image/avif": "avif",
    "image/bmp": "bmp",
    "image/tiff": "tiff",
}
"""The extension of the filename that is sent, by the photo's media type."""


def poll_form(boundary: bytes, retry_id: str) -> bytes:
    """Return the form of a poll: the plain field ``retry_id``."""
    return _part(boundary, b'name="retry_id"') + retry_id.encode("ascii") + _closing(boundary)


def upload_form(boundary: bytes, name: str, file: IO[bytes], photo: Photo) -> "FormBody":
    """Return the form of an upload: the plain field ``name``, and ``file`` as the file ``photo``."""
    media_type = photo.media_type.encode("ascii")
    disposition = b'name="photo"; filename="photo.%s"' % EXTENSIONS[photo.media_type].encode("ascii")
    head = b"".join(
        (
            _part(boundary, b'name="name"'),
            name.encode("utf-8"),
            b"\r\n",
            _part(boundary, disposition, b"Content-Type: %s\r\n" % media_type),
        )
    )
    return FormBody(head, file, photo.size, _closing(boundary))


def _part(boundary: bytes, disposition: bytes, headers: bytes = b"") -> bytes:
    return b"--%s\r\nContent-Disposition: form-data; %s\r\n%s\r\n" % (boundary, disposition, headers)


def _closing(boundary: bytes) -> bytes:
    return b"\r\n--%s--\r\n" % boundary


@implementer(IBodyProducer)
class FormBody:
    """A request body: ``head``, ``file_size`` bytes of ``file``, and ``tail``.

    It reads the file in pieces, as fast as the connection takes them, and closes it as soon as it needs it no more. It
    fails with PhotoMissing if the file can't be read, or ends too soon.
    """

    def __init__(self, head: bytes, file: IO[bytes], file_size: int, tail: bytes) -> None:
        self.length = len(head) + file_size + len(tail)
        self._head = head
        self._file = file
        self._file_left = file_size
        self._tail = tail
        self._paused = False
        self._consumer: IConsumer | None = None
        self._done: Deferred[None] = Deferred(lambda _: self.stopProducing())

    def startProducing(self, consumer: IConsumer) -> "Deferred[None]":
        self._consumer = consumer
        self.resumeProducing()
        return self._done

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        while self._consumer is not None and not self._paused:
            try:
                piece = self._next_piece()
            except PhotoMissing:
                self.stopProducing()
                self._done.errback(Failure())
                return
            self._consumer.write(piece)
            # The consumer may have stopped us while it took that piece.
            if self._file_left == 0 and self._consumer is not None:
                self.stopProducing()
                self._done.callback(None)

    def _next_piece(self) -> bytes:
        """Return the next bytes, with the head before the first and the tail behind the last. Raises PhotoMissing."""
        try:
            piece = self._file.read(min(PIECE, self._file_left))
        except OSError as error:
            raise PhotoMissing(error.strerror) from error
        if not piece:
            raise PhotoMissing("it became shorter")
        self._file_left -= len(piece)
        head, self._head = self._head, b""
        return b"".join((head, piece, b"" if self._file_left else self._tail))

    def stopProducing(self) -> None:
        self._consumer = None
        self._file.close()

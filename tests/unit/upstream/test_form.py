"""The multipart forms, and the body that streams a photo."""

import errno
import io
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.iweb import IBodyProducer
from zope.interface.verify import verifyObject

from merlind.core.images import image_type
from merlind.core.interfaces import PhotoMissing
from merlind.core.task import Photo
from merlind.upstream.form import EXTENSIONS, PIECE, FormBody, poll_form, upload_form
from tests.unit.support import failing

LARGE = bytes(range(256)) * 4096
"""A photo of a megabyte: more than one piece."""

SAMPLES = (
    b"\xff\xd8\xff\xe0" + bytes(20),
    b"\x89PNG\r\n\x1a\n" + bytes(20),
    b"RIFF\0\0\0\0WEBP" + bytes(20),
    b"GIF89a" + bytes(20),
    b"\0\0\0\x18ftypheic" + bytes(20),
    b"\0\0\0\x18ftypavif" + bytes(20),
    b"BM" + bytes(40),
    b"II*\0" + bytes(20),
)
"""The first bytes of each kind of image that is accepted."""


class FormTests(SynchronousTestCase):
    """The forms, byte for byte."""

    def test_poll(self) -> None:
        """The one plain field ``retry_id``: no filename, no photo, no name."""
        self.assertEqual(
            poll_form(b"xyz", "3f8c-?&="),
            b'--xyz\r\nContent-Disposition: form-data; name="retry_id"\r\n\r\n3f8c-?&=\r\n--xyz--\r\n',
        )

    def test_media_types(self) -> None:
        """The photo has its image type, and a filename to go with it; there is one for each type that is accepted."""
        self.assertEqual({image_type(sample) for sample in SAMPLES}, set(EXTENSIONS))
        for media_type, extension in EXTENSIONS.items():
            body = upload_form(b"xyz", "Anna", io.BytesIO(b"photo"), Photo(b"", 5, media_type))
            sent = io.BytesIO()
            self.successResultOf(body.startProducing(sent))  # type: ignore[arg-type]
            wanted = f'filename="photo.{extension}"\r\nContent-Type: {media_type}\r\n\r\nphoto\r\n--xyz--\r\n'
            self.assertTrue(sent.getvalue().endswith(wanted.encode()))
            self.assertEqual(body.length, len(sent.getvalue()))


class FormBodyTests(SynchronousTestCase):
    """A body in pieces."""

    def setUp(self) -> None:
        self.path = self.mktemp()
        with open(self.path, "wb") as file:
            file.write(LARGE)
        self.file = open(self.path, "rb", buffering=0)  # noqa: SIM115
        self.addCleanup(self.file.close)
        self.body = FormBody(b"head", self.file, len(LARGE), b"tail")
        self.sent: list[bytes] = []

    def write(self, data: bytes) -> None:
        """The consumer's side: it takes one piece at a time."""
        self.sent.append(data)
        self.body.pauseProducing()

    def test_interface(self) -> None:
        """It is a body producer, and knows its length."""
        self.assertTrue(verifyObject(IBodyProducer, self.body))
        self.assertEqual(self.body.length, len(LARGE) + 8)

    def test_in_pieces(self) -> None:
        """It pauses when told to, goes on when told to, and closes the file at its end."""
        done = self.body.startProducing(self)  # type: ignore[arg-type]
        self.assertEqual(self.sent, [b"head" + LARGE[:PIECE]])
        for _ in range(1000):
            if done.called:
                break
            before = len(self.sent)
            self.body.resumeProducing()
            self.assertEqual(len(self.sent), before + 1)
        self.successResultOf(done)
        self.assertEqual(b"".join(self.sent), b"head" + LARGE + b"tail")
        self.assertTrue(max(map(len, self.sent)) <= PIECE + 4)
        self.assertTrue(self.file.closed)
        self.body.resumeProducing()
        self.body.stopProducing()
        self.assertEqual(b"".join(self.sent), b"head" + LARGE + b"tail")

    def test_at_once(self) -> None:
        """A photo of one piece goes out in one write, together with what is around it."""
        self.body = FormBody(b"head", self.file, PIECE, b"tail")
        self.successResultOf(self.body.startProducing(self))  # type: ignore[arg-type]
        self.assertEqual(self.sent, [b"head" + LARGE[:PIECE] + b"tail"])

    def test_unreadable(self) -> None:
        """It fails if the file can't be read, or ends too soon, and closes it."""

        class Unreadable(io.BytesIO):
            read = failing(errno.EIO)

        for file, why in ((Unreadable(), "Input/output error"), (io.BytesIO(b"short"), "it became shorter")):
            self.sent.clear()
            self.body = FormBody(b"head", file, PIECE, b"tail")
            done = self.body.startProducing(self)  # type: ignore[arg-type]
            self.body.resumeProducing()
            self.assertEqual(self.failureResultOf(done, PhotoMissing).getErrorMessage(), why)
            self.assertTrue(file.closed)
            self.assertNotIn(b"tail", b"".join(self.sent))

    def test_stopped_in_a_write(self) -> None:
        """A consumer that stops it while it takes the last piece gets nothing more; it isn't done then."""

        class Stopping:
            def write(consumer, data: bytes) -> None:
                self.body.stopProducing()

        self.body = FormBody(b"head", self.file, PIECE, b"tail")
        done: Any = self.body.startProducing(Stopping())  # type: ignore[arg-type]
        self.assertNoResult(done)
        self.assertTrue(self.file.closed)

    def test_stopped(self) -> None:
        """When stopped it writes no more, and closes the file."""
        done = self.body.startProducing(self)  # type: ignore[arg-type]
        self.body.stopProducing()
        self.assertTrue(self.file.closed)
        before = len(self.sent)
        self.body.resumeProducing()
        self.assertEqual(len(self.sent), before)
        self.assertNoResult(done)

    def test_cancelled(self) -> None:
        """Cancelling it stops it."""
        done = self.body.startProducing(self)  # type: ignore[arg-type]
        done.cancel()
        self.failureResultOf(done, CancelledError)
        self.assertTrue(self.file.closed)

    def test_grown(self) -> None:
        """Of a file that has grown no more is sent than was announced."""
        self.body = FormBody(b"head", self.file, 70_000, b"tail")
        done = self.body.startProducing(self)  # type: ignore[arg-type]
        while not done.called:
            self.body.resumeProducing()
        self.assertEqual(b"".join(self.sent), b"head" + LARGE[:70_000] + b"tail")

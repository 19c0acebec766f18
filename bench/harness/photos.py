"""Forms with photos for the load: a JPEG's first bytes, and contents of which no two are alike."""

import itertools
import os
from collections.abc import Callable

from harness.client import HOST, Request

_BOUNDARY = b"----merlinbench7d1f0c2a9e"
_JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"
_serial = itertools.count(int.from_bytes(os.urandom(6), "big"))


def photo_maker(size: int) -> Callable[[], Request]:
    """A maker of POST requests, each with a photo of ``size`` bytes that differs from all others."""
    head = b"".join(
        (
            b'--%b\r\nContent-Disposition: form-data; name="name"\r\n\r\nMerlin\r\n' % _BOUNDARY,
            b'--%b\r\nContent-Disposition: form-data; name="photo"; filename="photo.jpg"\r\n' % _BOUNDARY,
            b"Content-Type: image/jpeg\r\n\r\n",
            _JPEG,
        )
    )
    filling = os.urandom(max(0, size - len(_JPEG) - 16))
    tail = filling + b"\r\n--%b--\r\n" % _BOUNDARY
    request = (
        b"POST / HTTP/1.1\r\nHost: %b\r\nAccept: application/json\r\n"
        b"Content-Type: multipart/form-data; boundary=%b\r\nContent-Length: %d\r\n\r\n"
    ) % (HOST.encode(), _BOUNDARY, len(head) + 16 + len(tail))
    begin = request + head

    def make() -> Request:
        return begin, b"%016x" % next(_serial), tail

    return make

"""A body that nobody needs."""

from merlind.web.response import HTTPError, Response, problem

MAX_IGNORED_BODY = 65536
"""The longest body to read and ignore where none is expected, in bytes."""

TAKES_NO_BODY = problem(413, "too_large", "this request takes no body")


class IgnoredBody:
    """Reads and drops a body. ``length`` is its announced size in bytes, or None.

    Making it and ``write`` raise HTTPError with ``too_long`` if the body is too long.
    """

    def __init__(self, length: int | None, too_long: Response = TAKES_NO_BODY) -> None:
        self._too_long = too_long
        self._received = 0
        self._check(length or 0)

    def write(self, data: bytes) -> None:
        """Drop the next bytes."""
        self._received += len(data)
        self._check(self._received)

    def _check(self, size: int) -> None:
        if size > MAX_IGNORED_BODY:
            raise HTTPError(self._too_long)

    def discard(self) -> None:
        """Do nothing: nothing is kept."""

"""Reads the form by which a browser without JavaScript erases a task: HTML forms have no DELETE."""

from merlind.web.accept import prefers_html
from merlind.web.query import task_id_in
from merlind.web.response import HTTPError, problem
from merlind.web.server.head import Head

MAX_BODY = 1024
"""The longest form, in bytes: it has one field, ``erase``, with a task's number."""


def is_erase_form(head: Head) -> bool:
    """Whether a POST brings such a form. Programs send DELETE instead, and for them it is not a form at all."""
    media_type = (head.get(b"content-type") or b"").partition(b";")[0].strip(b" \t").lower()
    return media_type == b"application/x-www-form-urlencoded" and prefers_html(head)


class EraseForm:
    """One form as it comes in. ``length`` is its announced size in bytes, or None.

    Making it and ``write`` raise HTTPError, 413, if it is too long.
    """

    def __init__(self, length: int | None) -> None:
        _check(length or 0)
        self._body = bytearray()

    def write(self, data: bytes) -> None:
        """Take the next bytes."""
        _check(len(self._body) + len(data))
        self._body += data

    def finish(self) -> int:
        """Return the number of the task to erase. Raises HTTPError, 400, if there is none."""
        return task_id_in(bytes(self._body), "erase")

    def discard(self) -> None:
        """Do nothing: nothing is kept."""


def _check(size: int) -> None:
    if size > MAX_BODY:
        raise HTTPError(problem(413, "fields_too_large", "the form is too long"))

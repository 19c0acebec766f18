"""The parameters of a request to the admin listener: in the query of a GET, in the body of a POST."""

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from merlind.core.listing import Position, read_position
from merlind.core.task import MAX_TASK_ID
from merlind.web.response import HTTPError, problem
from merlind.web.server.interfaces import HandledRequest

T = TypeVar("T")

MAX_BODY = 262_144
"""The longest body, in bytes: the numbers of some ten thousand tasks."""

_MAX_FIELDS = 16_384

_JSON = re.compile(rb"application/json(?:[ \t]*;.*)?", re.IGNORECASE)
_FORM = re.compile(rb"application/x-www-form-urlencoded(?:[ \t]*;.*)?", re.IGNORECASE)

Parameters = Mapping[str, Any]
"""Parameters by name: a text, or whatever JSON has; a list where one was sent more than once."""


class ParametersBody:
    """Keeps a body of up to MAX_BODY bytes. Making it, with the announced length, and ``write`` raise HTTPError."""

    def __init__(self, length: int | None) -> None:
        self.content = bytearray()
        self._check(length or 0)

    def write(self, data: bytes) -> None:
        """Take the next bytes."""
        self._check(len(self.content) + len(data))
        self.content += data

    def _check(self, size: int) -> None:
        if size > MAX_BODY:
            raise HTTPError(problem(413, "too_large", f"this request takes no more than {MAX_BODY} bytes"))

    def discard(self) -> None:
        """Drop what came in."""
        self.content = bytearray()


def read_query(request: HandledRequest, known: Iterable[str]) -> Parameters:
    """Return the parameters in a request's query. Raises HTTPError, 400, for one that isn't ``known``."""
    return _checked(_pairs(request.head.query), known)


def read_body(request: HandledRequest, known: Iterable[str]) -> Parameters:
    """Return the parameters in a POST's body: a JSON object, or a form as a browser or curl sends it; or nothing.

    Raises HTTPError, 400 or 415, for anything else, and for a parameter that isn't ``known``.
    """
    if request.head.query:
        raise HTTPError(problem(400, "bad_parameter", "send the parameters in the body"))
    body = request.receiver
    content = bytes(body.content) if isinstance(body, ParametersBody) else b""
    if not content.strip():
        return {}
    media_type = request.head.get(b"content-type") or b""
    if _JSON.fullmatch(media_type):
        return _checked(_object(content), known)
    if _FORM.fullmatch(media_type):
        return _checked(_pairs(content), known)
    raise HTTPError(
        problem(415, "unknown_media_type", "send application/json or application/x-www-form-urlencoded, or no body")
    )


def _object(content: bytes) -> Parameters:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise HTTPError(problem(400, "malformed_body", "the body is not a JSON object"))
    return found


def _pairs(text: bytes) -> Parameters:
    try:
        pairs = parse_qsl(
            text.decode("utf-8"), keep_blank_values=True, strict_parsing=bool(text), max_num_fields=_MAX_FIELDS
        )
    except ValueError:
        raise HTTPError(problem(400, "malformed_parameters", "the parameters are not name=value&name=value")) from None
    found: dict[str, Any] = {}
    for name, value in pairs:
        before = found.get(name)
        found[name] = value if before is None else [*(before if isinstance(before, list) else [before]), value]
    return found


def _checked(found: Parameters, known: Iterable[str]) -> Parameters:
    known = sorted(known)
    for name in found:
        if name not in known:
            which = f"this takes {', '.join(known)}" if known else "this takes no parameters"
            raise HTTPError(problem(400, "bad_parameter", f"unknown parameter {name[:32]!a}: {which}"))
    return found


def take(found: Parameters, name: str, read: Callable[[Any], T], what: str) -> T | None:
    """Return a parameter as ``read`` returns it, None if it isn't there or is empty.

    Raises HTTPError, 400, which says ``what`` it should be, where ``read`` raises ValueError.
    """
    value = found.get(name)
    if value is None or value == "":
        return None
    try:
        return read(value)
    except ValueError:
        raise HTTPError(problem(400, "bad_parameter", f"{name} is not {what}")) from None


def number(lowest: float, highest: float) -> Callable[[Any], float]:
    """Return a function that reads a finite number in these bounds. It raises ValueError."""

    def read(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError
        try:
            found = float(value)
        except OverflowError:
            raise ValueError from None
        if not (math.isfinite(found) and lowest <= found <= highest):
            raise ValueError
        return found

    return read


def whole_number(lowest: int, highest: int) -> Callable[[Any], int]:
    """Return a function that reads a whole number in these bounds. It raises ValueError."""

    def read(value: Any) -> int:
        if isinstance(value, str):
            if not re.fullmatch("[0-9]{1,16}", value):
                raise ValueError
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
            raise ValueError
        return value

    return read


def word(*allowed: str) -> Callable[[Any], str]:
    """Return a function that reads one of these words. It raises ValueError."""

    def read(value: Any) -> str:
        if not isinstance(value, str) or value not in allowed:
            raise ValueError
        return value

    return read


def code(value: Any) -> str:
    """Read an error's code. Raises ValueError."""
    if not isinstance(value, str) or not re.fullmatch("[a-z0-9_]{1,64}", value):
        raise ValueError
    return value


def position(value: Any) -> Position:
    """Read a cursor. Raises ValueError."""
    if not isinstance(value, str):
        raise ValueError
    return read_position(value)


def task_ids(value: Any) -> list[int]:
    """Read the numbers of tasks: one, a list, or a text with commas between them. Raises ValueError."""
    values = value if isinstance(value, list) else value.split(",") if isinstance(value, str) else [value]
    if not values:
        raise ValueError
    read = whole_number(1, MAX_TASK_ID)
    return [read(one.strip() if isinstance(one, str) else one) for one in values]

"""What an upstream says of an error, in words for people: on one line, printable, and short.

Nothing that an upstream can send makes these functions raise.
"""

import html
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

MAX_TEXT = 300
"""How much is kept of what an upstream says, in characters."""

_API_FIELDS = ("errors", "detail", "message", "error", "title")
"""Where an error response says what is wrong, the most telling field first."""

_OBJECT_FIELDS = ("detail", "message", "msg", "error", "title", "description", "reason", "code")
"""The same for an object inside an error response; its other fields say nothing more then."""

_MAX_DEPTH = 5
_MAX_ITEMS = 10
_MAX_PAGE = 2000  # characters of a page, in which its first words are looked for
_TITLE = re.compile(r"<title[^<>]*>([^<]{1,1000})", re.IGNORECASE)
_TAG = re.compile(r"<[^<>]*>")


def error_text(reply: Mapping[str, Any]) -> str:
    """Return what an error response in JSON says, or an empty string."""
    return _first(_words(reply.get(field), 0) for field in _API_FIELDS)


def page_text(body: bytes) -> str:
    """Return the title of a page, or else its first words; an empty string if there are none."""
    page = body.decode("utf-8", "ignore")
    title = _TITLE.search(page)
    words = _TAG.sub(" ", page[:_MAX_PAGE])[: 2 * MAX_TEXT]
    return _first(html.unescape(text) for text in (title[1] if title else "", words))


def redirect_target(location: str) -> str:
    """Return where a Location leads, without what may be secret in it: a user, a password, a query, a fragment."""
    try:
        parts = urlsplit(location)
        target = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    except ValueError:
        return "an unreadable address"
    return one_line(target + ("?…" if parts.query else ""))


def one_line(text: str) -> str:
    """Return ``text`` on one line, without unprintable characters, shortened to MAX_TEXT characters."""
    printable = "".join(c for c in text if c.isprintable() or c.isspace())
    line = " ".join(printable.split())
    return line if len(line) <= MAX_TEXT else line[: MAX_TEXT - 1] + "…"


def _first(texts: Iterable[str]) -> str:
    return next((line for text in texts if (line := one_line(text))), "")


def _words(value: object, depth: int) -> str:
    """Return the words in any JSON value; in an object that isn't itself an error, each with its field's name."""
    if depth > _MAX_DEPTH or value is None or isinstance(value, bool):
        return ""
    if isinstance(value, list):
        return _join(_words(item, depth + 1) for item in value[:_MAX_ITEMS])
    if isinstance(value, dict):
        own = _first(text for field in _OBJECT_FIELDS if isinstance(text := value.get(field), str))
        return own or _join(_field(name, inner, depth + 1) for name, inner in list(value.items())[:_MAX_ITEMS])
    return one_line(str(value)[: 2 * MAX_TEXT])


def _field(name: str, value: object, depth: int) -> str:
    words, name = _words(value, depth), one_line(name[:MAX_TEXT])
    return f"{name}: {words}" if words and name else words


def _join(texts: Iterable[str]) -> str:
    return "; ".join(text for text in texts if text)[: 2 * MAX_TEXT]

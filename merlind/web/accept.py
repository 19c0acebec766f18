"""What a client prefers to get: HTML or JSON, in which language, and how encoded (RFC 9110, section 12.5)."""

from collections.abc import Sequence
from urllib.parse import parse_qsl

from werkzeug.http import parse_accept_header

from merlind.web.server.head import Head

MAX_ACCEPT = 1024
"""The longest Accept or Accept-Language that is looked at, in bytes: browsers send some 150, and a long one takes
milliseconds."""

MAX_PARAMETERS = 32
"""The most query parameters that are looked at."""


def prefers_html(head: Head) -> bool:
    """Whether the client prefers text/html to application/json, or likes both the same.

    Wildcards don't count: curl sends ``*/*``, and programs that send it get JSON.
    """
    field = _field(head, b"accept")
    if "html" not in field.lower():
        return False  # nearly all programs, and parsing takes longer
    accept = parse_accept_header(field)
    # Highest quality comes first, and should win.
    quality = {media_type.partition(";")[0].lower(): q for media_type, q in reversed(accept)}
    html = quality.get("text/html", 0)
    return html > 0 and html >= quality.get("application/json", 0)


def accepts_gzip(head: Head) -> bool:
    """Whether the client takes a response in gzip (RFC 9110, section 12.5.3)."""
    return parse_accept_header(_field(head, b"accept-encoding"))["gzip"] > 0


def language_in_query(head: Head, languages: Sequence[str]) -> str | None:
    """Return the language that the query asks for, ``?lang=en``, if it is one of ``languages``."""
    asked = parameters(head.query).get("lang")
    return asked if asked in languages else None


def preferred_language(head: Head, languages: Sequence[str]) -> str:
    """Return the one of ``languages`` that the query asks for, else what Accept-Language likes best, else the first."""
    if asked := language_in_query(head, languages):
        return asked
    # werkzeug's own choice takes "ru" in "en-GB, ru;q=0.5": there an exact match goes before a preferred one.
    for tag, quality in parse_accept_header(_field(head, b"accept-language")):
        language = tag.partition("-")[0].lower()
        if quality > 0 and language in languages:
            return language
    return languages[0]


def parameters(query: bytes) -> dict[str, str]:
    """Return a query's parameters, the last one of those with the same name; none if there are too many."""
    try:
        pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=MAX_PARAMETERS)
    except ValueError:
        return {}
    return dict(pairs)


def _field(head: Head, name: bytes) -> str:
    """Return a header field's value; nothing if it is too long."""
    value = head.get(name) or b""
    return "" if len(value) > MAX_ACCEPT else value.decode("latin-1")

"""Reads the Content-Disposition of a form's part (RFC 7578, section 4.2), whatever a client writes in a filename.

A filename may be in any charset, and in some (Shift JIS, GBK, Big5) the second byte of a character may be a backslash.
Clients don't agree on whether a backslash escapes a quotation mark. The name must be told exactly all the same.
"""

import re

from multipart import content_disposition_unquote  # type: ignore[import-untyped]

_KEY = re.compile(r"[ \t]*;[ \t]*([!#$%&'*+.^_`|~0-9a-z-]+)[ \t]*=[ \t]*", re.IGNORECASE | re.ASCII)
_LITERAL = re.compile(r'"[^"]*"|(?!")[^;"]*')
"""A value in which a backslash is a character like others: so do browsers write it."""
_ESCAPED = re.compile(r'"(?:[^"\\]|\\.)*"|(?!")[^;"]*', re.DOTALL)
"""A value in which a backslash escapes the character behind it: so did curl before 7.81."""


class AmbiguousDisposition(Exception):
    """The name of the part can't be told."""


def parse_disposition(value: str) -> tuple[str | None, str | None]:
    """Return the name and the filename in a header's value, decoded as ISO 8859-1; None for one that is missing.

    Both are taken for UTF-8, and what isn't UTF-8 becomes U+FFFD. The filename is only good for a look at whether there
    is one. Raises AmbiguousDisposition.
    """
    readings = [reading for style in (_LITERAL, _ESCAPED) if (reading := _read(value, style)) is not None]
    if len({(name, filename is None) for name, filename in readings}) != 1:
        raise AmbiguousDisposition
    name, filename = readings[0]
    return _text(name), _text(filename)


def _read(value: str, style: re.Pattern[str]) -> tuple[str | None, str | None] | None:
    """Read the parameters as they stand, or return None if they can't be read in this style."""
    name = filename = None
    at = len(value.partition(";")[0])
    while key := _KEY.match(value, at):
        parameter, start = key[1].lower(), key.end()
        found = style.match(value, start)
        is_filename = parameter in ("filename", "filename*")
        if is_filename and name is not None:
            # The rest is the filename's business, whatever its bytes.
            return name, found[0] if found else value[start:]
        if found is None or (parameter == "name" and name is not None):
            return None
        if parameter == "name":
            name = found[0]
        elif is_filename:
            filename = found[0]
        at = found.end()
    return None if value[at:].strip(" \t;") else (name, filename)


def _text(parameter: str | None) -> str | None:
    """Take a parameter out of its quotation marks, and decode it."""
    if parameter is None:
        return None
    unquoted: str = content_disposition_unquote(parameter.strip(" \t"))
    return unquoted.encode("latin-1").decode("utf-8", "replace")

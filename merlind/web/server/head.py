"""A request's head as a value: its line and its fields, with the checks that llhttp leaves to a server."""

import re

from merlind.web.response import NOT_ALLOWED, HTTPError, problem

MAX_TARGET = 8192
"""The longest request target, in bytes."""

MAX_FIELDS = 100
"""The most header fields of a request, and the most trailer fields."""

MAX_FIELD_NAME = 256
"""The longest name of a field, in bytes."""

MAX_TOKENS = 32
"""How many elements of a list in a header are looked at."""

_MAX_LENGTH_DIGITS = 15

# RFC 9110, section 7.2, and RFC 3986, section 3.2.2: a name or an address, and a port.
_AUTHORITY = rb"(?:[A-Za-z0-9._~%!$&'()*+,;=-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?"
_HOST = re.compile(_AUTHORITY)
# RFC 9112, section 3: one space each. llhttp takes more of them, and the versions of other protocols.
_REQUEST_LINE = re.compile(rb"([!-~]+) ([!-~]+) HTTP/1\.([01])")
# RFC 9110, section 4.2.1: no empty host.
_ABSOLUTE = re.compile(rb"https?://(?=[^:/?])" + _AUTHORITY + rb"(?:(/.*)|(\?.*))?", re.IGNORECASE)

Field = tuple[bytes, bytes]
"""A field's name and value, as they came in."""


class Head:
    """A request's method, target and header fields.

    Making one raises HTTPError for a head that llhttp takes and a server must refuse.
    """

    __slots__ = ("__weakref__", "_fields", "length", "method", "path", "query", "target", "version")

    def __init__(self, line: bytes, fields: list[Field]) -> None:
        """``line`` is the request line without its end."""
        found = _REQUEST_LINE.fullmatch(line)
        if found is None:
            raise HTTPError(MALFORMED)
        self.method: bytes = found[1]
        self.version = b"HTTP/1." + found[3]
        self.target = _origin_form(self.method, found[2])
        self.path, _, self.query = self.target.partition(b"?")
        check_fields(fields)
        self._fields: dict[bytes, bytes | list[bytes]] = {}
        for name, value in fields:
            name, value = name.lower(), value.strip(b" \t")
            before = self._fields.get(name)
            if before is None:
                self._fields[name] = value
            else:
                self._fields[name] = [*before, value] if isinstance(before, list) else [before, value]
        self._check_host()
        self.length = self._body_length()
        """The body's size in bytes, or None if it comes in chunks."""

    def get(self, name: bytes) -> bytes | None:
        """Return a field's value, the last one if it was sent more than once. ``name`` is in lower case."""
        value = self._fields.get(name)
        return value[-1] if isinstance(value, list) else value

    def get_all(self, name: bytes) -> list[bytes]:
        """Return all values of a field, in order. ``name`` is in lower case."""
        value = self._fields.get(name)
        if value is None:
            return []
        return value if isinstance(value, list) else [value]

    def tokens(self, name: bytes) -> list[bytes]:
        """Return the elements of a field that is a list of tokens, in lower case (RFC 9110, section 5.6.1).

        Only the first MAX_TOKENS of each line: to split 16 KB of commas would take a millisecond.
        """
        lines = self.get_all(name)
        return [token.strip(b" \t").lower() for line in lines for token in line.split(b",", MAX_TOKENS)[:MAX_TOKENS]]

    @property
    def persistent(self) -> bool:
        """Whether the client wants to go on with this connection (RFC 9112, section 9.3); in HTTP/1.0, never."""
        return self.version == b"HTTP/1.1" and b"close" not in self.tokens(b"connection")

    def _check_host(self) -> None:
        # RFC 9112, section 3.2: exactly one Host in HTTP/1.1, and a valid one.
        host = self._fields.get(b"host")
        if isinstance(host, list) or (host is None and self.version == b"HTTP/1.1"):
            raise HTTPError(problem(400, "bad_host", "a request has exactly one Host"))
        if host is not None and not _HOST.fullmatch(host):
            raise HTTPError(problem(400, "bad_host", "the Host is malformed"))

    def _body_length(self) -> int | None:
        # llhttp has refused Content-Length beside Transfer-Encoding, and lengths that aren't one number.
        coding = self._fields.get(b"transfer-encoding")
        if coding is not None:
            # RFC 9112, section 6.1: faulty framing in HTTP/1.0.
            if self.version != b"HTTP/1.1":
                raise HTTPError(problem(400, "bad_framing", "HTTP/1.0 has no Transfer-Encoding"))
            if isinstance(coding, list) or coding.lower() != b"chunked":
                raise HTTPError(problem(400, "bad_framing", "the only Transfer-Encoding is chunked, and only once"))
            return None
        digits = (self.get(b"content-length") or b"0").lstrip(b"0")
        # RFC 9110, section 8.6: anticipate large numbers.
        if len(digits) > _MAX_LENGTH_DIGITS:
            raise HTTPError(problem(413, "too_large", "the body is too large"))
        return int(digits or b"0")


def check_fields(fields: list[Field]) -> None:
    """Raise HTTPError, 431, if these header or trailer fields are too many, or a name is too long."""
    if len(fields) > MAX_FIELDS:
        raise HTTPError(problem(431, "headers_too_large", f"there are more than {MAX_FIELDS} headers"))
    for name, _ in fields:
        if len(name) > MAX_FIELD_NAME:
            raise HTTPError(problem(431, "headers_too_large", "the name of a header is too long"))


def _origin_form(method: bytes, target: bytes) -> bytes:
    """Return a path and a query, whichever form the target has (RFC 9112, section 3.2). Raises HTTPError."""
    if len(target) > MAX_TARGET:
        raise HTTPError(URI_TOO_LONG)
    if method == b"CONNECT":
        raise HTTPError(NOT_ALLOWED)  # RFC 9112, section 3.2.3: its target has a form of its own
    if b"#" not in target:
        if target.startswith(b"/"):
            return target
        if found := _ABSOLUTE.fullmatch(target):
            return found[1] or b"/" + (found[2] or b"")
        if target == b"*" and method == b"OPTIONS":
            return b"/"  # about the server as a whole, which has one entry point
    raise HTTPError(problem(400, "bad_target", "the request target is malformed"))


MALFORMED = problem(400, "bad_request", "the request is malformed")
URI_TOO_LONG = problem(414, "uri_too_long", "the request line is too long")

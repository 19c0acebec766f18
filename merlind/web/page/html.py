"""HTML from tags, and the Content-Security-Policy that a page goes out with."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from hashlib import sha256

from twisted.web.template import Tag, flattenString

_DIRECTIVES = (
    "form-action 'self'",
    "base-uri 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
)


def flatten(tag: Tag) -> bytes:
    """Return a tag as HTML, with everything escaped."""
    result: list[bytes] = []
    # It waits for nothing, so it fires at once.
    flattenString(None, tag).addCallback(result.append).addErrback(lambda failure: failure.raiseException())
    return result[0]


def hash_source(content: bytes) -> str:
    """Return the hash of a style sheet or a script as a policy names it."""
    return f"'sha256-{b64encode(sha256(content).digest()).decode('ascii')}'"


def security_policy(allowed: Mapping[str, Sequence[str]]) -> str:
    """Return a policy that allows these sources by directive, forms to the same origin, and nothing else."""
    directives = [f"{name} {' '.join(sources)}" for name, sources in allowed.items() if sources]
    return "; ".join(["default-src 'none'", *directives, *_DIRECTIVES])

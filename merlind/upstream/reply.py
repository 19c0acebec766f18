"""What a response of the upstream means: pure functions from status, Retry-After and body to an outcome.

The rules are the table in docs/contract.md, "Upstream side". Nothing that an upstream can send makes them raise.
"""

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

from merlind.core.outcome import Fault, HandleExpired, Outcome, Pending, Rejected, Scored, TaskError, TransientError

MAX_RETRY_ID = 512
"""The longest retry_id that is accepted, in characters."""

MAX_RETRY_AFTER = 3600.0
"""The longest wait that an upstream can ask for, in seconds; longer ones are clamped to it."""

MAX_DETAIL = 300
"""How much is kept of the reason for a rejection, in characters."""

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,400})(?:\.[0-9]{1,400})?(?:[eE][+-]?[0-9]{1,5})?")
_RETRY_ID = re.compile(rf"[\x21-\x7e]{{1,{MAX_RETRY_ID}}}")
_REJECTIONS = frozenset({400, 413, 415, 422})
_EXPIRIES = frozenset({404, 410})
_MISCONFIGURATIONS = frozenset({401, 403, 404, 405, 410})
_UNAVAILABLE = frozenset({408, 425, 429, 502, 503, 504})


class _NotStrict(ValueError):
    """JSON that a strict reader doesn't accept."""


def interpret(polled: bool, status: int, body: bytes, retry_after: str | None, wall: float) -> Outcome:
    """Return what the response to an upload means, or to a poll if ``polled``.

    ``retry_after`` is the header's value, ``wall`` the present time in seconds since the epoch, to read a date by.
    """
    after = parse_retry_after(retry_after, wall)
    if 200 <= status < 300:
        return _interpret_body(polled, body, after)
    if status in _REJECTIONS:
        return Rejected(TaskError(f"upstream_{status}", _detail(_object(body)) or f"the upstream answered {status}"))
    if polled and status in _EXPIRIES:
        return HandleExpired()
    return TransientError(f"http {status}", after, _fault(status))


def _fault(status: int) -> Fault:
    if status in _MISCONFIGURATIONS:
        return Fault.MISCONFIGURED
    return Fault.UNAVAILABLE if status in _UNAVAILABLE else Fault.RESPONSE


def _interpret_body(polled: bool, body: bytes, after: float) -> Outcome:
    reply = _object(body)
    if reply is None:
        return TransientError("not json", after)
    match reply.get("status"):
        case "ready" | "success":
            result = _finite(reply.get("result"))
            return TransientError("no finite result", after) if result is None else Scored(result)
        case "wait":
            given = reply.get("retry_id")
            retry_id = _retry_id(given)
            if retry_id is None and not (polled and given is None):
                return TransientError("no usable retry_id", after)
            return Pending(retry_id, after)
        case "error":
            return Rejected(TaskError("upstream_error", _detail(reply) or "the upstream refused it"))
        case _:
            return TransientError("unknown status", after)


def _object(body: bytes) -> dict[str, Any] | None:
    """Return the JSON object in ``body``, or None. Strict: UTF-8, no duplicate keys, no NaN or infinity."""
    try:
        parsed = _decoder.decode(body.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    return parsed if isinstance(parsed, dict) else None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _NotStrict("duplicate keys")
    return found


def _no_constant(text: str) -> float:
    raise _NotStrict(text)


def _integer(text: str) -> int:
    # int() takes quadratic time on long digit strings, and Python refuses more than 4,300 of them.
    if len(text) > MAX_RETRY_ID:
        raise _NotStrict("an integer too long")
    return int(text)


_decoder = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant, parse_int=_integer)


def _finite(value: object) -> float | None:
    """Return ``value`` as a float if it is a finite number, or a string that is one in JSON's grammar; or None."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and _NUMBER.fullmatch(value) is None:
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _retry_id(value: object) -> str | None:
    """Return a usable retry_id: an integer, or a string of printable ASCII that no path could be made of; or None."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or _RETRY_ID.fullmatch(value) is None or "../" in value:
        return None
    return value


def _detail(reply: Mapping[str, Any] | None) -> str:
    """Return what ``errors`` says, on one line of printable characters, shortened; or an empty string."""
    errors = (reply or {}).get("errors")
    if isinstance(errors, str):
        errors = [errors]
    if not isinstance(errors, list):
        return ""
    said = "; ".join(str(error)[:MAX_DETAIL] for error in errors[:10] if isinstance(error, str | int | float))
    clean = "".join(c for c in said if c.isprintable())
    return clean if len(clean) <= MAX_DETAIL else clean[: MAX_DETAIL - 1] + "…"


def parse_retry_after(value: str | None, wall: float) -> float:
    """Return the wait that a Retry-After asks for, in seconds, clamped; 0 if it is neither a number nor a date.

    ``wall`` is the present time in seconds since the epoch (RFC 9110, section 10.2.3).
    """
    if value is None:
        return 0.0
    text = value.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:20]), MAX_RETRY_AFTER)
    try:
        date = parsedate_to_datetime(text)
        # HTTP's dates are in GMT, also in the obsolete form that doesn't name the zone (RFC 9110, section 5.6.7).
        seconds = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - wall
    except (ValueError, TypeError, IndexError, OverflowError):
        return 0.0
    return min(max(seconds, 0.0), MAX_RETRY_AFTER)

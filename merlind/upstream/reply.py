"""What a response of the upstream means: pure functions from a response to an outcome.

The rules are the table in docs/contract.md, "Upstream side". Nothing that an upstream can send makes them raise.
"""

import json
import math
import re
from collections.abc import Collection
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

from merlind.core.outcome import Fault, HandleExpired, Outcome, Pending, Rejected, Scored, TaskError, TransientError
from merlind.upstream.error_text import error_text, page_text, redirect_target
from merlind.upstream.response_parser import UpstreamResponse

MAX_RETRY_ID = 512
"""The longest retry_id that is accepted, in characters."""

MAX_RETRY_AFTER = 3600.0
"""The longest wait that an upstream can ask for, in seconds; longer ones are clamped to it."""

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,400})(?:\.[0-9]{1,400})?(?:[eE][+-]?[0-9]{1,5})?")
_RETRY_ID = re.compile(rf"[\x21-\x7e]{{1,{MAX_RETRY_ID}}}")
_REJECTIONS = frozenset({400, 413, 415, 422})
_EXPIRIES = frozenset({404, 410})
_MISCONFIGURATIONS = frozenset({401, 403, 404, 405, 410})
_UNAVAILABLE = frozenset({408, 425, 429, 502, 503, 504})
_API_FIELDS = frozenset({"errors", "error", "detail", "message"})


class _NotStrict(ValueError):
    """JSON that a strict reader doesn't accept."""


def interpret(polled: bool, response: UpstreamResponse, wall: float, private: Collection[str] = ()) -> Outcome:
    """Return what the response to an upload means, or to a poll if ``polled``.

    ``wall`` is the present time in seconds since the epoch, to read a date by. ``private`` are texts that no
    TransientError repeats, because its reason gets into the log.
    """
    status, after = response.status, parse_retry_after(response.retry_after, wall)
    if 200 <= status < 300:
        return _interpret_success(polled, response.body, after)
    if 300 <= status < 400:
        return TransientError(_redirect(response), after, Fault.MISCONFIGURED)
    if status in _REJECTIONS or (polled and status in _EXPIRIES):
        reply = _object(response.body)
        # Anything in between may respond with these too, and its page says nothing about the one photo.
        if reply is None or not _is_api_error(reply):
            reason = _with_words(f"http {status}, not in the API's form", response.body, private)
            return TransientError(reason, after, Fault.MISCONFIGURED)
        if status in _EXPIRIES:
            return HandleExpired()
        return Rejected(TaskError(f"upstream_{status}", error_text(reply) or f"the upstream answered {status}"))
    if status in _MISCONFIGURATIONS:
        reason = _with_words(f"http {status}", response.body, private)
        return TransientError(reason, after, Fault.MISCONFIGURED)
    return TransientError(f"http {status}", after, Fault.UNAVAILABLE if status in _UNAVAILABLE else Fault.RESPONSE)


def _is_api_error(reply: dict[str, Any]) -> bool:
    """Whether this is an error response of the API itself, and not of something in front of it."""
    return reply.get("status") == "error" or not _API_FIELDS.isdisjoint(reply)


def _redirect(response: UpstreamResponse) -> str:
    """Describe a redirect, which is never followed."""
    target = redirect_target(response.location or "")
    return f"http {response.status}, a redirect " + (f"to {target}" if target else "without a Location")


def _with_words(reason: str, body: bytes, private: Collection[str]) -> str:
    """Return ``reason`` with what the body says, if it says anything, and nothing private."""
    reply = _object(body)
    words = (error_text(reply) if reply else "") or page_text(body)
    return reason if not words or any(text in words for text in private) else f"{reason}: {words}"


def _interpret_success(polled: bool, body: bytes, after: float) -> Outcome:
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
            return Rejected(TaskError("upstream_error", error_text(reply) or "the upstream refused it"))
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

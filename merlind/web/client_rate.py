"""Limits how often a client submits, and tells it how much it has left: docs/contract.md, "Rate limits".

The fields RateLimit-Policy and RateLimit are those of draft-ietf-httpapi-ratelimit-headers-11, sections 3 and 4: ``q``
submissions in ``w`` seconds, and ``r`` that are left for the next ``t`` seconds.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from weakref import WeakKeyDictionary

from merlind.core.rate import ClientRates, Quota, Rate
from merlind.tasks.refusals import ClientTooFast
from merlind.web.refusals import over_limit
from merlind.web.response import HTTPError, Response
from merlind.web.server.head import Head


class SubmissionRate:
    """Checks each submission before its body is read, and adds the fields to its response, whatever that is.

    ``now`` returns the time in seconds; ``on_refused(limit, by)`` is called for each submission that is too many.
    """

    def __init__(self, rate: Rate, now: Callable[[], float], on_refused: Callable[[str, str], None]) -> None:
        self._rates = ClientRates(rate)
        self._now = now
        self._on_refused = on_refused
        self._policy = (b"RateLimit-Policy", b'"default";q=%d;w=%d' % (rate.times, rate.seconds))
        self._clients: WeakKeyDictionary[Head, str] = WeakKeyDictionary()
        """Who sent the submissions that have no response yet."""

    def check(self, head: Head, client: str) -> None:
        """Count a submission for a client. Raises HTTPError, 429, if it is too many."""
        if not _is_submission(head):
            return
        self._clients[head] = client
        now = self._now()
        if not self._rates.take(client, now):
            rate = self._rates.rate
            error = ClientTooFast(rate.times, rate.seconds, client)
            self._on_refused(error.limit, error.by)
            raise HTTPError(over_limit(error, _more_after(self._rates.quota(client, now))))

    def adapt(self, head: Head, response: Response) -> Response:
        """Return the response with what its client has left now."""
        client = self._clients.pop(head, None)
        if client is None:
            return response
        left = _left(self._rates.quota(client, self._now()))
        return replace(response, headers=(*response.headers, self._policy, left))


def _is_submission(head: Head) -> bool:
    """Whether a request may bring a photo: other forms carry none."""
    return head.method == b"POST" and (head.get(b"content-type") or b"").lower().startswith(b"multipart/")


def _left(quota: Quota) -> tuple[bytes, bytes]:
    value = b'"default";r=%d' % quota.left
    if quota.more_after > 0:
        value += b";t=%d" % _more_after(quota)
    return b"RateLimit", value


def _more_after(quota: Quota) -> int:
    """Return in how many whole seconds there is more; what is a rounding error above one counts as that."""
    return max(1, math.ceil(round(quota.more_after, 3)))

"""The response to a client that is past one of its limits."""

from merlind.tasks.refusals import ClientOverLimit, ClientTooFast
from merlind.web.response import Response, too_many


def over_limit(error: ClientOverLimit | ClientTooFast, after: float = 5.0) -> Response:
    """Make a 429 that names the limit, and says to try again in ``after`` seconds."""
    return too_many(f"too_many_{error.limit}", str(error), after)

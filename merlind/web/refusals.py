"""The response to a client that has as much of something as one may have."""

from merlind.tasks.refusals import ClientOverLimit
from merlind.web.response import Response, too_many


def over_limit(error: ClientOverLimit) -> Response:
    """Make a 429 that names the limit."""
    return too_many(f"too_many_{error.limit}", str(error))

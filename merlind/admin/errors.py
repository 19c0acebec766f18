"""What the admin listener responds when something can't be done."""

from typing import Any

from twisted.python.failure import Failure

from merlind.web.entry import no_storage
from merlind.web.response import HTTPError, Response, problem

NO_SUCH_PATH = problem(404, "not_found", "there is nothing here")


def not_allowed(allow: bytes) -> Response:
    """Make the response to a method that a path doesn't have; ``allow`` are those that it has."""
    return problem(405, "method_not_allowed", "this method is not allowed here", (b"Allow", allow))


def refuse(failure: Failure) -> Any:
    """Return the response to a request that a handler refused, or that the disk made fail; or any other failure."""
    match failure.value:
        case HTTPError() as error:
            return error.response
        case _:
            return no_storage(failure)

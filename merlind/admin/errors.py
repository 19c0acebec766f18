"""What the admin listener responds when something can't be done."""

from typing import Any

from twisted.python.failure import Failure

from merlind.web.entry import no_storage
from merlind.web.response import HTTPError


def refuse(failure: Failure) -> Any:
    """Return the response to a request that a handler refused, or that the disk made fail; or any other failure."""
    match failure.value:
        case HTTPError() as error:
            return error.response
        case _:
            return no_storage(failure)

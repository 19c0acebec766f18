"""How a task stands, and the response that says so: docs/contract.md, "Requests"."""

from twisted.internet.defer import Deferred

from merlind.core.users import ANONYMOUS
from merlind.tasks.results import Results, Status
from merlind.web.response import Response, json_response, retry_after

NOT_FOUND = json_response(404, {"status": "not_found", "result": None})
"""There is no such task, or it is another user's."""


class StatusResponses:
    """Looks up tasks and makes the responses to a GET. ``poll_interval`` is in seconds."""

    def __init__(self, results: Results, poll_interval: float) -> None:
        self._results = results
        self.again = retry_after(poll_interval)
        """The header that says when to ask again."""
        self._waiting = json_response(202, {"status": "wait", "result": None}, self.again)

    def respond(self, status: Status | None) -> Response:
        """Make the response for a status; None is a task that doesn't exist."""
        if status is None:
            return NOT_FOUND
        if status.result is not None:
            # Most responses are this one, and json takes ten times as long: the repr of a finite float is its JSON.
            return Response(200, b'{"status":"ready","result":%a}' % status.result)
        if status.error is not None:
            error = {"code": status.error.code, "detail": status.error.detail, "source": status.error.source}
            return json_response(200, {"status": "failed", "result": None, "error": error})
        return self._waiting

    def peek(self, task_id: int) -> Response | None:
        """Return the response for a task of the anonymous user if memory has it, or None."""
        status = self._results.peek(task_id)
        return None if status is None or status.user != ANONYMOUS else self.respond(status)

    def find(self, user: str, task_id: int) -> "Deferred[Status | None]":
        """Look up a user's task; fires with None if there is none. Fails with StoreUnavailable or StoreBroken."""

        def owned(status: Status | None) -> Status | None:
            return status if status is not None and status.user == user else None

        return self._results.find(task_id).addCallback(owned)

"""The admin listener's route to retry failed tasks."""

from klein import Klein

from merlind.admin.errors import NO_SUCH_PATH, not_allowed, refuse
from merlind.admin.parameters import code, number, read_body, take, task_ids, word
from merlind.admin.tasks import A_CODE, A_TIME
from merlind.core.listing import TaskFilter
from merlind.core.task import State
from merlind.tasks.retrier import Retrier
from merlind.web.response import HTTPError, Response, json_response, problem
from merlind.web.router import Router
from merlind.web.server.interfaces import HandledRequest

_WHICH = problem(
    400, "bad_parameter", "say which: ids (their numbers), or state=failed for all, perhaps with a code and since"
)


class RetryRoutes:
    """``POST /tasks/retry``: docs/contract.md, "Admin side"."""

    app = Klein()

    def __init__(self, retrier: Retrier) -> None:
        self._retrier = retrier
        self.respond = Router(self.app, refuse, not_allowed(b"POST"), NO_SUCH_PATH)
        """Returns the response to a request, or what fires with it."""

    @app.route("/tasks/retry", methods=["POST"])  # type: ignore[type-var]
    async def retry(self, request: HandledRequest) -> Response:
        """Start tasks anew, by their numbers or by what they have in common; respond when all are durable."""
        found = read_body(request, ["ids", "state", "code", "since"])
        ids = take(found, "ids", task_ids, "numbers of tasks: a list, or with commas between them")
        state = take(found, "state", word(State.FAILED), "failed: no others can be retried")
        wanted = TaskFilter(
            State.FAILED, take(found, "code", code, A_CODE), take(found, "since", number(0.0, 1e11), A_TIME)
        )
        some = state is not None or wanted.code is not None or wanted.since is not None
        if some == (ids is not None):
            raise HTTPError(_WHICH)
        retried = await (self._retrier.retry_matching(wanted) if ids is None else self._retrier.retry(ids))
        return json_response(200, {"retried": retried.count, "complete": retried.complete})

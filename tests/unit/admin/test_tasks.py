"""Tasks as operators see them, and retrying them, through the admin listener."""

from typing import Any

from merlind.admin.retry import RetryRoutes
from merlind.admin.tasks import MAX_LIMIT, TaskList, TaskRoutes
from merlind.core.outcome import Outcome, Pending, Rejected, Scored, TaskError, TransientError
from merlind.core.task import Task
from merlind.tasks.retrier import Retrier
from merlind.web.router import Router
from tests.unit.admin.support import AdminCase
from tests.unit.support import EPOCH, JPEG

OUTCOMES: dict[str, Outcome] = {
    "Ready": Scored(0.5),
    "Poll": Pending("id-1", 5.0),
    "Rejected": Rejected(TaskError("upstream_422", "no face")),
}


class TasksCase(AdminCase):
    """A merlind that gives up after 100 s; its upstream has an outcome for each name, and otherwise fails."""

    settings = {"give_up_after": 100.0, "keep_failed": 1000.0}  # noqa: RUF012 (no test changes it)

    def routers(self) -> list[Router]:
        core = self.core
        core.upstream.script = lambda request: (0.0, OUTCOMES.get(request.task.name, TransientError("http 503")))
        retrier = Retrier(core.reactor, core.store, core.counts, core.results, core.scheduler, 100_000)
        return [TaskRoutes(TaskList(core.task_clock, core.store, core.queue)).respond, RetryRoutes(retrier).respond]

    def submit(self, name: str) -> Task:
        """A task, a second after it was submitted."""
        task = self.core.submit(name)
        self.core.reactor.run_for(1.0)
        return task

    def listed(self, query: str = "") -> list[dict[str, Any]]:
        reply = self.get(f"/tasks{query}")
        self.assertEqual(reply.code, 200, reply.body)
        tasks: list[dict[str, Any]] = reply.json["tasks"]
        return tasks

    def numbers(self, query: str = "") -> list[int]:
        return [task["task"] for task in self.listed(query)]


class ListTests(TasksCase):
    """``GET /tasks``."""

    def test_finished(self) -> None:
        """Of a finished task it tells what became of it; of a rejected one why, and that its photo is gone."""
        rejected, ready = self.submit("Rejected"), self.submit("Ready")
        common = {"attempts": 0, "last_error": None, "next_attempt": None, "size": len(JPEG), "type": "image/jpeg"}
        error = {"code": "upstream_422", "detail": "no face", "source": "upstream"}
        self.assertEqual(
            self.get("/tasks").json,
            {
                "tasks": [
                    {**common, "task": ready.id, "received": EPOCH + 1, "age": 1.0, "state": "ready", "error": None,
                     "photo_kept_for": None},
                    {**common, "task": rejected.id, "received": EPOCH, "age": 2.0, "state": "failed", "error": error,
                     "photo_kept_for": None},
                ],
                "cursor": None,
            },
        )  # fmt: skip

    def test_unfinished(self) -> None:
        """Of an unfinished one it tells the last error and the next attempt, also what isn't stored yet."""
        polled, failing = self.submit("Poll"), self.submit("Failing")
        found = {task["task"]: task for task in self.listed()}
        self.assertEqual(self.core.stored(failing.id).attempts, 0)
        known = self.core.queue.get(failing.id)
        assert known is not None
        tried = found[failing.id]
        self.assertEqual((tried["state"], tried["last_error"]), ("upload", "http 503"))
        self.assertEqual((tried["attempts"], tried["attempts"] > 0), (known.attempts, True))
        self.assertAlmostEqual(tried["next_attempt"], known.due - self.core.clock.now(), places=2)
        waiting = found[polled.id]
        self.assertEqual((waiting["state"], waiting["next_attempt"], waiting["error"]), ("poll", 3.0, None))

    def test_given_up(self) -> None:
        """Of one that was given up it tells for how long its photo is still kept."""
        task = self.submit("Failing")
        self.core.reactor.run_for(100.0)
        (found,) = self.listed("?state=failed")
        self.assertEqual((found["task"], found["error"]["code"]), (task.id, "gave_up"))
        self.assertAlmostEqual(found["photo_kept_for"], 999.0, places=1)

    def test_no_names(self) -> None:
        """It shows neither names nor what a photo is known by."""
        self.submit("Rumpelstilzchen")
        body = self.get("/tasks").body
        self.assertNotIn(b"Rumpel", body)
        self.assertNotIn(b"sha", body)

    def test_filters(self) -> None:
        """By state, by code, by when they were received, and by whether they can be retried."""
        failing, rejected, ready = (self.submit(name).id for name in ("Failing", "Rejected", "Ready"))
        self.core.reactor.run_for(100.0)
        for query, found in (
            ("", [ready, rejected, failing]),
            ("?state=failed", [rejected, failing]),
            ("?state=", [ready, rejected, failing]),
            ("?state=poll", []),
            ("?code=gave_up", [failing]),
            (f"?since={EPOCH + 1}", [ready, rejected]),
            (f"?state=failed&since={EPOCH + 1:.0f}&code=upstream_422", [rejected]),
            ("?retryable=true", [failing]),
            ("?retryable=false", [ready, rejected, failing]),
            ("?state=ready&code=gave_up", []),
        ):
            self.assertEqual(self.numbers(query), found, query)

    def test_pages(self) -> None:
        """A full page has a cursor to the next, and the last one has none."""
        ids = [self.submit(f"Ready {number}").id for number in range(5)]
        found: list[int] = []
        query = "?limit=2"
        while True:
            reply = self.get(f"/tasks{query}").json
            found += [task["task"] for task in reply["tasks"]]
            if reply["cursor"] is None:
                break
            query = f"?limit=2&cursor={reply['cursor']}"
        self.assertEqual(found, ids[::-1])
        self.assertEqual(len(reply["tasks"]), 1)

    def test_unknown_time(self) -> None:
        """Of a task from before that was recorded it is unknown when it was received."""
        self.core.epoch = -self.core.reactor.seconds()
        self.core.accept()
        self.core.epoch = EPOCH
        self.assertEqual([(task["received"], task["age"]) for task in self.listed()], [(None, None)])

    def test_wrong(self) -> None:
        """Each parameter says what it should be; none is ignored."""
        for query, words in (
            ("?state=lost", "state is not one of upload, poll, ready, failed"),
            ("?state=ready&state=failed", "state is not one of"),
            ("?code=no%20face", "code is not an error's code"),
            ("?since=yesterday", "since is not a time in seconds"),
            ("?since=-1", "since is not a time in seconds"),
            ("?limit=0", f"limit is not a number from 1 to {MAX_LIMIT}"),
            (f"?limit={MAX_LIMIT + 1}", "limit is not a number"),
            ("?limit=1.5", "limit is not a number"),
            ("?cursor=x", "cursor is not the cursor of an earlier response"),
            ("?retryable=maybe", "retryable is not true or false"),
            ("?name=Anna", "unknown parameter 'name': this takes code, cursor, limit, retryable, since, state"),
        ):
            self.assert_refused(self.get(f"/tasks{query}"), 400, "bad_parameter", words)
        self.assert_refused(self.get("/tasks?state"), 400, "malformed_parameters")

    def test_methods(self) -> None:
        """It is read, and HEAD is allowed."""
        self.assertEqual(self.ask("POST", "/tasks").get("Allow"), "GET, HEAD")


class RetryTests(TasksCase):
    """``POST /tasks/retry``."""

    def setUp(self) -> None:
        super().setUp()
        self.failed = [self.submit(f"Failing {number}").id for number in range(3)]
        self.rejected = self.submit("Rejected").id
        self.core.reactor.run_for(100.0)
        self.core.upstream.script = lambda request: (0.5, Scored(0.5))

    def states(self) -> list[str]:
        """Let what was retried be scored."""
        self.core.reactor.run_for(1.0)
        return [str(self.core.stored(task_id).state) for task_id in (*self.failed, self.rejected)]

    def test_by_number(self) -> None:
        """Those with these numbers, however they are written; one that can't be retried stays as it is."""
        first, second, third = self.failed
        for reply, count in (
            (self.post_json("/tasks/retry", {"ids": [first, 99]}), 1),
            (self.post_json("/tasks/retry", {"ids": second}), 1),
            (self.post_form("/tasks/retry", ids=f"{third}, {third},{self.rejected}"), 1),
            (self.post_form("/tasks/retry", ids=self.failed), 0),
        ):
            self.assertEqual((reply.code, reply.json), (200, {"retried": count, "complete": True}))
        self.assertEqual(self.states(), ["ready", "ready", "ready", "failed"])

    def test_by_filter(self) -> None:
        """All that failed, or those with a code, or since a time."""
        reply = self.post_json("/tasks/retry", {"state": "failed", "code": "upstream_422"})
        self.assertEqual(reply.json, {"retried": 0, "complete": True})
        self.assertEqual(self.post_json("/tasks/retry", {"since": EPOCH + 2}).json["retried"], 1)
        self.assertEqual(self.post_form("/tasks/retry", code="gave_up").json["retried"], 2)
        self.assertEqual(self.states(), ["ready", "ready", "ready", "failed"])

    def test_all(self) -> None:
        """All that failed and can be retried."""
        self.assertEqual(self.post_form("/tasks/retry", state="failed").json["retried"], 3)
        self.assertEqual(self.states(), ["ready", "ready", "ready", "failed"])

    def test_wrong(self) -> None:
        """It must say which, and either numbers or a filter; nothing is retried otherwise."""
        for value, words in (
            ({}, "say which"),
            ({"ids": None}, "say which"),
            ({"ids": self.failed, "state": "failed"}, "say which"),
            ({"state": "ready"}, "state is not failed"),
            ({"ids": []}, "ids is not numbers of tasks"),
            ({"ids": ["x"]}, "ids is not numbers of tasks"),
            ({"ids": [1.5]}, "ids is not numbers of tasks"),
            ({"ids": [2**53]}, "ids is not numbers of tasks"),
            ({"ids": {"a": 1}}, "ids is not numbers of tasks"),
            ({"code": 5}, "code is not an error's code"),
            ({"since": "1h"}, "since is not a time"),
            ({"names": ["Anna"]}, "unknown parameter 'names'"),
        ):
            self.assert_refused(self.post_json("/tasks/retry", value), 400, "bad_parameter", words)
        self.assertEqual(self.states(), ["failed"] * 4)

    def test_strangers(self) -> None:
        """A page of another origin can't have them retried."""
        reply = self.ask("POST", "/tasks/retry", b"state=failed", Sec_Fetch_Site="cross-site")
        self.assert_refused(reply, 403, "cross_site")
        self.assertEqual(self.states(), ["failed"] * 4)

    def test_disk_full(self) -> None:
        """What can't be stored is refused."""
        self.fill_disk()
        self.assert_refused(self.post_form("/tasks/retry", state="failed"), 503, "storage")
        self.core.watch.fault = lambda sql: None
        self.assertEqual(self.states(), ["failed"] * 4)

"""The admin side as merlinctl sees it: pages, health, figures, and what it makes of errors."""

import json
from collections.abc import Coroutine
from typing import Any, TypeVar, cast

from treq.client import HTTPClient
from treq.testing import StubTreq
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource

from merlind.cli.admin import PAGE, Admin, Health
from merlind.cli.exits import CommandError, Exit
from merlind.cli.http import Server, TryLater, Unreachable
from merlind.cli.operations import plural, size_of
from merlind.cli.report import option_names, without_words
from merlind.cli.stats import Stats, read_metrics, to_table, to_values

T = TypeVar("T")


class FakeAdmin(Resource):
    """An admin listener that gives the responses of a test, one after the other."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.responses: list[tuple[int, bytes]] = []
        self.asked: list[tuple[str, bytes]] = []

    def render(self, request: Any) -> bytes:
        self.asked.append((f"{request.method.decode()} {request.uri.decode()}", request.content.read()))
        code, body = self.responses.pop(0)
        request.setResponseCode(code)
        return body


class AdminCase(SynchronousTestCase):
    """merlinctl with an admin listener that the test plays."""

    def setUp(self) -> None:
        self.server = FakeAdmin()
        self.treq = StubTreq(self.server)
        self.admin = Admin(Server(Clock(), "http://a:1", http=cast(HTTPClient, self.treq)))

    def give(self, code: int, value: Any) -> None:
        self.server.responses.append((code, value if isinstance(value, bytes) else json.dumps(value).encode()))

    def run_until_done(self, asked: "Coroutine[Any, Any, T]") -> "Deferred[T]":
        running = Deferred.fromCoroutine(asked)
        for _ in range(5):
            self.treq.flush()
        return running


class AdminTests(AdminCase):
    """Requests and responses."""

    def test_pages(self) -> None:
        """As many pages are asked for as are needed, and no more."""
        self.give(200, {"tasks": [{"task": n} for n in range(PAGE)], "cursor": "c 1"})
        self.give(200, {"tasks": [{"task": PAGE}], "cursor": None})
        found = self.successResultOf(self.run_until_done(self.admin.tasks({"state": "failed", "since": 1.5}, 2000)))
        self.assertEqual([task["task"] for task in found], list(range(PAGE + 1)))
        self.assertEqual(
            [asked for asked, _ in self.server.asked],
            ["GET /tasks?state=failed&since=1.5&limit=500", "GET /tasks?state=failed&since=1.5&limit=500&cursor=c+1"],
        )

    def test_limit(self) -> None:
        """The last page has only what is still wanted."""
        self.give(200, {"tasks": [{"task": n} for n in range(3)], "cursor": "c"})
        self.assertEqual(len(self.successResultOf(self.run_until_done(self.admin.tasks({}, 3)))), 3)
        self.assertEqual(self.server.asked, [("GET /tasks?limit=3", b"")])

    def test_actions(self) -> None:
        """What is sent, and what comes back."""
        for asked, sent, body in (
            (self.admin.retry({"ids": [1, 2]}), "POST /tasks/retry", {"ids": [1, 2]}),
            (self.admin.pause(1800.0), "POST /pause", {"seconds": 1800.0}),
            (self.admin.pause(None), "POST /pause", {}),
            (self.admin.resume(), "POST /resume", {}),
        ):
            self.give(200, {"done": True})
            self.assertEqual(self.successResultOf(self.run_until_done(asked)), {"done": True})
            request, content = self.server.asked.pop()
            self.assertEqual((request, json.loads(content)), (sent, body))

    def test_health(self) -> None:
        """A 503 of merlind's is an answer; one of a proxy is none."""
        self.give(200, {"status": "working", "reasons": [], "notes": ["slow"]})
        self.assertEqual(
            self.successResultOf(self.run_until_done(self.admin.health("working"))), Health(True, [], ["slow"])
        )
        self.give(503, {"status": "not_ready", "reasons": ["stopping"]})
        self.assertEqual(
            self.successResultOf(self.run_until_done(self.admin.health("ready"))), Health(False, ["stopping"], [])
        )
        self.give(503, b"<html>")
        self.failureResultOf(self.run_until_done(self.admin.health("ready")), TryLater)

    def test_errors(self) -> None:
        """What is wrong with the command line, with the URL, and with the server."""
        problem = {"detail": "why", "code": "x"}
        for code, value, kind, status, said in (
            (400, problem, CommandError, Exit.USAGE, "why"),
            (421, problem, CommandError, Exit.USAGE, "why"),
            (404, problem, CommandError, Exit.UNREACHABLE, "http://a:1/ is no admin listener"),
            (405, b"", CommandError, Exit.UNREACHABLE, "http://a:1/ is no admin listener"),
            (403, problem, CommandError, Exit.NOT_ALLOWED, "why"),
            (500, problem, Unreachable, None, "why"),
            (503, problem, TryLater, None, "why"),
        ):
            self.give(code, value)
            error = self.failureResultOf(self.run_until_done(self.admin.resume()), kind).value
            self.assertIn(said, str(error))
            self.assertEqual(getattr(error, "status", None), status)


METRICS = """\
# HELP merlind_tasks Tasks by state.
# TYPE merlind_tasks gauge
merlind_tasks{state="failed"} 2.0
# TYPE merlind_upstream_limit gauge
merlind_upstream_limit 32.0
# TYPE merlind_oldest_unfinished_seconds gauge
merlind_oldest_unfinished_seconds 61.25
# TYPE merlind_spool_bytes gauge
merlind_spool_bytes 66489.0
"""


class StatsTests(SynchronousTestCase):
    """Figures for people and for programs."""

    def setUp(self) -> None:
        working = Health(False, ["paused", "stopping"], ["slow"])
        self.stats = Stats(Health(False, ["stopping"], []), working, read_metrics(METRICS))

    def test_for_programs(self) -> None:
        """Whole numbers are whole, each reason comes once, and what merlind doesn't have is left out."""
        expected = {
            "ready": False, "working": False, "reasons": ["stopping", "paused"], "notes": ["slow"],
            "tasks_failed": 2, "oldest_seconds": 61.25, "limit": 32, "photo_bytes": 66489,
        }  # fmt: skip
        self.assertEqual(dict(to_values(self.stats)), expected)
        self.assertNotIn(".0", json.dumps(to_values(self.stats)))

    def test_for_people(self) -> None:
        """First whether all is well, then why not, then the figures."""
        rows = list(to_table(self.stats).rows)
        self.assertEqual(
            rows[:4], [("takes photos", "NO"), ("tasks get on", "NO"), ("why not", "stopping"), ("why not", "paused")]
        )
        self.assertIn(("oldest unfinished task", "1m 1s"), rows)
        self.assertIn(("photos kept", "66.5 kB"), rows)

    def test_words(self) -> None:
        self.assertEqual([plural(n, "task") for n in (0, 1, 2)], ["0 tasks", "1 task", "2 tasks"])
        sizes = [size_of(n) for n in (0, 999, 1000, 999_600, 2_400_000, 5e9, 7.25e12)]
        self.assertEqual(sizes, ["0 B", "999 B", "1 kB", "1 MB", "2.4 MB", "5 GB", "7.25 TB"])


class ReportTests(SynchronousTestCase):
    """A report tells nothing of anybody."""

    def test_options(self) -> None:
        """The names of options, whatever else is in the command, and none of another program."""
        command = [
            "python",
            "/opt/twistd",
            "-n",
            "--pidfile=",
            "merlind",
            "--auth=tokens:/secret",
            "--upstream",
            "http://u:p@a",
        ]
        self.assertEqual(option_names(command), ["--auth", "--upstream"])
        for other in (["twistd", "merlinface", "--listen=x"], ["vi", "merlind", "--x"], ["merlind"], [""], []):
            self.assertEqual(option_names(other), [])

    def test_reasons(self) -> None:
        """Why, but neither where on the disk nor what the upstream said."""
        for reason, told in (
            ("paused: no requests", "paused: no requests"),
            (
                "upstream: an outage for 31 s (http 503: Anna (b) is busy); the next request in 4 s",
                "upstream: an outage for 31 s (http 503 …)",
            ),
            ("upstream: no good response for 301 s (timed out)", "upstream: no good response for 301 s (timed out …)"),
            ("storage: /home/anna/data/tasks.sqlite-wal was deleted", "storage: … was deleted"),
        ):
            self.assertEqual(without_words(reason), told)

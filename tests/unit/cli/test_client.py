"""What merlinctl makes of a server's responses."""

import json
from typing import Any

from treq.client import HTTPClient
from treq.testing import RequestTraversalAgent
from twisted.internet.defer import Deferred, TimeoutError, fail
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource

from merlind.cli.client import Client, Status
from merlind.cli.exits import CommandError, Exit
from merlind.cli.http import MAX_RESPONSE, Refused, Server, TryLater, Unreachable


class FakeServer(Resource):
    """A server that always gives the same response."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.code, self.body = 200, b""
        self.headers: dict[str, str] = {}
        self.asked: list[tuple[bytes, bytes, dict[str, str | None]]] = []

    def render(self, request: Any) -> bytes:
        names = ("Accept", "Prefer", "Authorization")
        self.asked.append((request.method, request.uri, {name: request.getHeader(name) for name in names}))
        request.setResponseCode(self.code)
        for name, value in self.headers.items():
            request.setHeader(name, value)
        return self.body


class ClientTests(SynchronousTestCase):
    """A client with a server that the test plays."""

    def setUp(self) -> None:
        self.server = FakeServer()
        self.agent = RequestTraversalAgent(self.server)

    def client(self, url: str = "http://a/face", authorization: str | None = None, agent: Any = None) -> Client:
        return Client(Server(Clock(), url, authorization, HTTPClient(agent or self.agent)))

    def give(self, code: int, value: Any, **headers: str) -> None:
        self.server.code, self.server.headers = code, {name.replace("_", "-"): text for name, text in headers.items()}
        self.server.body = value if isinstance(value, bytes) else json.dumps(value).encode()

    def status(self, client: Client | None = None, wait: int = 0) -> "Deferred[Status]":
        asked = Deferred.fromCoroutine((client or self.client()).status(5, wait))
        self.agent.flush()
        return asked

    def test_statuses(self) -> None:
        """Every word of the contract."""
        error = {"code": "gave_up", "detail": "no score in time", "source": "upstream"}
        for code, value, status in (
            (202, {"status": "wait", "result": None}, Status("wait")),
            (200, {"status": "ready", "result": 0.83}, Status("ready", None, 0.83)),
            (200, {"status": "failed", "result": None, "error": error}, Status("failed", error="no score in time")),
            (404, {"status": "not_found", "result": None}, Status("not_found")),
        ):
            self.give(code, value)
            self.assertEqual(self.successResultOf(self.status()), status)

    def test_request(self) -> None:
        """The path stays, and a wait is asked for in the way of RFC 7240."""
        self.give(202, {"status": "wait"})
        self.successResultOf(self.status(wait=25))
        headers = {"Accept": "application/json", "Prefer": "wait=25", "Authorization": None}
        self.assertEqual(self.server.asked, [(b"GET", b"/face/?task_id=5", headers)])

    def test_sign_in(self) -> None:
        """A user in the URL signs in and is not sent as part of it; a token wins."""
        self.give(202, {"status": "wait"})
        for url, token, sent in (
            ("http://anna:p%40ss@a/", None, "Basic YW5uYTpwQHNz"),
            ("http://a/", "Bearer t", "Bearer t"),
            ("http://anna:pw@a/", "Bearer t", "Bearer t"),
        ):
            self.successResultOf(self.status(self.client(url, token)))
            _, uri, headers = self.server.asked.pop()
            self.assertEqual((uri, headers["Authorization"]), (b"/?task_id=5", sent))

    def test_errors(self) -> None:
        """What another try can mend, what it can't, and what concerns all photos."""
        problem = {"detail": "why", "code": "x"}
        for code, value, kind in (
            (429, problem, TryLater),
            (503, b"<html>", TryLater),
            (500, problem, Unreachable),
            (502, b"<html>", Unreachable),
            (422, problem, Refused),
            (413, problem, Refused),
            (404, problem, CommandError),
            (413, b"<html>", CommandError),
            (404, b"<html>", CommandError),
            (301, b"", CommandError),
            (401, problem, CommandError),
            (403, b"", CommandError),
            (200, b"<html>", CommandError),
            (200, [], CommandError),
        ):
            self.give(code, value)
            error = self.failureResultOf(self.status(), kind).value
            if value is problem:
                self.assertIn("why", str(error))
            if code in (401, 403):
                self.assertEqual(error.status, Exit.NOT_ALLOWED)

    def test_when_to_try_again(self) -> None:
        """Retry-After in seconds, within bounds; five seconds without."""
        for headers, after in (({}, 5.0), ({"Retry_After": "7"}, 7.0), ({"Retry_After": "99999"}, 300.0)):
            self.give(503, {"code": "full", "detail": "why"}, **headers)
            self.assertEqual(self.failureResultOf(self.status(), TryLater).value.after, after)
        self.give(503, b"", Retry_After="Wed, 21 Oct 2099 07:28:00 GMT")
        self.assertEqual(self.failureResultOf(self.status(), TryLater).value.after, 5.0)

    def test_erase(self) -> None:
        """Whether there was something to erase."""
        for code, value, found in ((204, b"", True), (404, {"status": "not_found"}, False)):
            self.give(code, value)
            erased = Deferred.fromCoroutine(self.client().erase(5))
            self.agent.flush()
            self.assertIs(self.successResultOf(erased), found)

    def test_no_response(self) -> None:
        """A server that isn't there is named."""

        class Dead:
            def __init__(self, error: Exception) -> None:
                self.error = error

            def request(self, *arguments: Any, **more: Any) -> "Deferred[None]":
                return fail(self.error)

        for error in (ConnectionRefusedError(), TimeoutError(), OSError("no route")):
            asked = self.status(self.client(agent=Dead(error)))
            self.assertIn("http://a/face/ can't be reached", str(self.failureResultOf(asked, Unreachable).value))

    def test_endless_response(self) -> None:
        """Not more of a response is read than any of merlind's has."""
        self.give(200, b" " * (MAX_RESPONSE + 1))
        self.assertIn("can't be reached", str(self.failureResultOf(self.status(), Unreachable).value))

    def test_no_url(self) -> None:
        """A URL that is none ends the command before anything is sent."""
        for url in ("localhost:8000", "ftp://a/", "http://", "", "http://[::1", "http://a:b/"):
            self.assertRaises(CommandError, self.client, url)

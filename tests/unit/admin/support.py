"""The admin listener over a real store and a fake upstream."""

import json
from typing import Any
from urllib.parse import urlencode

from twisted.trial.unittest import SynchronousTestCase

from merlind.admin.entry import CONNECTION_LIMITS, AdminEntry
from merlind.admin.page.document import for_people
from merlind.admin.routes import AdminRoutes
from merlind.core.client_limit import ClientLimit
from merlind.core.clients import ClientAddresses
from merlind.web.router import Router
from merlind.web.server.admission import Admission
from merlind.web.server.site import EdgeSite
from tests.unit.support import Core, fail_on, sqlite_error
from tests.unit.web.support import Client, Reply, message

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"


def ignore(*_: object) -> None:
    """Take no notice."""


def encoded(fields: dict[str, Any]) -> bytes:
    """A form, as a browser sends it."""
    return urlencode(fields, doseq=True).encode("ascii")


class AdminCase(SynchronousTestCase):
    """Routes at wire level; ``settings`` are the core's."""

    settings: dict[str, Any] = {}  # noqa: RUF012 (no test changes it)

    def setUp(self) -> None:
        self.core = Core(self, **self.settings)
        self.serve(*self.routers())
        self.core.start()
        self.core.settle()

    def routers(self) -> list[Router]:
        """The routers to test."""
        raise NotImplementedError

    def serve(self, *routers: Router) -> None:
        entry = AdminEntry(AdminRoutes(*routers), [], for_people)
        nobody = Admission(ClientAddresses(()), ClientLimit(0))
        self.site = EdgeSite(self.core.reactor, entry, CONNECTION_LIMITS, nobody, ignore, ignore)

    def begin(self, method: str, target: str, body: bytes = b"", **headers: str | None) -> Client:
        """Send a request; the response may be yet to come."""
        return Client(self.site, lambda: None).send(message(method, target, body, Connection="close", **headers))

    def ask(self, method: str, target: str, body: bytes = b"", **headers: str | None) -> Reply:
        """Send a request, and wait for the response as long as no time passes."""
        client = self.begin(method, target, body, **headers)
        for _ in range(10):
            self.core.settle()
        return client.reply()

    def get(self, target: str) -> Reply:
        return self.ask("GET", target)

    def post_json(self, target: str, value: Any = None) -> Reply:
        body = b"" if value is None else json.dumps(value).encode("utf-8")
        return self.ask("POST", target, body, Content_Type=JSON)

    def post_form(self, target: str, **fields: Any) -> Reply:
        return self.ask("POST", target, encoded(fields), Content_Type=FORM)

    def assert_refused(self, reply: Reply, status: int, code: str, *words: str) -> None:
        """Assert that a problem says what is wrong."""
        self.assertEqual((reply.code, reply.get("Content-Type")), (status, "application/problem+json"), reply.body)
        self.assertEqual(reply.json["code"], code)
        for word in words:
            self.assertIn(word, reply.json["detail"])

    def fill_disk(self) -> None:
        """Let nothing be written any more."""
        self.core.watch.fault = fail_on("BEGIN", sqlite_error("SQLITE_FULL", "full"))

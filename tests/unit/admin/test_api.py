"""The admin listener at wire level; the test plays what it asks."""

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from merlind.admin.api import Admin
from merlind.admin.entry import CONNECTION_LIMITS, AdminEntry
from merlind.admin.health import Progress
from merlind.core.client_limit import ClientLimit
from merlind.core.clients import ClientAddresses
from merlind.daemon.metrics import Metrics
from merlind.web.server.admission import Admission
from merlind.web.server.site import EdgeSite
from tests.unit.support import Reactor
from tests.unit.web.support import Client, message, read_replies


def ignore(*_: object) -> None:
    """Take no notice."""


class AdminTests(SynchronousTestCase):
    """Health and metrics."""

    def setUp(self) -> None:
        self.reactor = Reactor()
        self.metrics = Metrics()
        self.reasons: Deferred[list[str]] = succeed([])
        self.refreshed = 0
        self.progress = Progress()
        admin = Admin(self.metrics, lambda: self.reasons, lambda: self.progress, self.refresh)
        entry = AdminEntry(admin.respond, ["merlind.example.org"])
        nobody = Admission(ClientAddresses(()), ClientLimit(0))
        self.site = EdgeSite(self.reactor, entry, CONNECTION_LIMITS, nobody, ignore, ignore)

    async def refresh(self) -> None:
        self.refreshed += 1

    def ask(self, path: str, method: str = "GET") -> Client:
        return Client(self.site, lambda: None).send(message(method, path, Connection="close"))

    def test_live(self) -> None:
        """/health/live responds as long as the process runs."""
        reply = self.ask("/health/live").reply()
        self.assertEqual((reply.code, reply.json), (200, {"status": "ok"}))
        self.assertEqual((reply.get("Content-Type"), reply.get("Cache-Control")), ("application/json", "no-store"))
        self.assertEqual((reply.get("X-Content-Type-Options"), reply.all("Server")), ("nosniff", []))

    def test_description(self) -> None:
        """/openapi.json describes the public side."""
        reply = self.ask("/openapi.json").reply()
        self.assertEqual((reply.code, reply.get("Content-Type")), (200, "application/json"))
        self.assertEqual((reply.json["openapi"], list(reply.json["paths"])), ("3.1.0", ["/"]))

    def test_ready(self) -> None:
        """/health/ready is 200 if there is no reason against it."""
        reply = self.ask("/health/ready").reply()
        self.assertEqual((reply.code, reply.json), (200, {"status": "ready", "reasons": []}))

    def test_not_ready(self) -> None:
        """/health/ready is 503 with all reasons, once they are known."""
        self.reasons = Deferred()
        client = self.ask("/health/ready")
        self.assertTrue(client.silent)
        self.reasons.callback(["storage: full", "stopping"])
        reply = client.reply()
        self.assertEqual(reply.code, 503)
        self.assertEqual(reply.json, {"status": "not_ready", "reasons": ["storage: full", "stopping"]})

    def test_working(self) -> None:
        """/health/working is 200 while tasks get on, with notes on what slows them down, and 503 with the reasons."""
        reply = self.ask("/health/working").reply()
        self.assertEqual((reply.code, reply.json), (200, {"status": "working", "reasons": [], "notes": []}))
        for reasons, code, status in (([], 200, "working"), (["upstream: away"], 503, "not_working")):
            self.progress = Progress(reasons, ["tasks: 2 keep failing while others succeed"])
            reply = self.ask("/health/working").reply()
            self.assertEqual((reply.code, reply.json["status"], reply.json["reasons"]), (code, status, reasons))
            self.assertEqual(reply.json["notes"], ["tasks: 2 keep failing while others succeed"])

    def test_metrics(self) -> None:
        """/metrics shows the metrics, after a lookup of what is not in memory."""
        self.metrics.request("GET", 404)
        self.metrics.gauge("merlind_age", "Age.", lambda: float(self.refreshed))
        reply = self.ask("/metrics").reply()
        self.assertEqual(reply.code, 200)
        self.assertTrue((reply.get("Content-Type") or "").startswith("text/plain"))
        self.assertIn(b'merlind_http_requests_total{code="404",method="GET"} 1.0\n', reply.body)
        self.assertIn(b"merlind_age 1.0\n", reply.body)

    def test_nothing_else(self) -> None:
        """There is no other path and no other method."""
        refused = (("/metrics", "POST", 405), ("/health/ready", "DELETE", 405), ("/health/working", "POST", 405))
        for path, method, code in (("/", "GET", 404), *refused):
            data = self.ask(path, method).transport.value()
            self.assertTrue(data.startswith(b"HTTP/1.1 %d " % code), data)

    def test_head(self) -> None:
        """HEAD works like GET, for probes that use it."""
        (reply,) = read_replies(self.ask("/health/live", "HEAD").transport.value(), ["HEAD"])
        self.assertEqual((reply.code, reply.body), (200, b""))

    def test_hosts(self) -> None:
        """A name that a stranger's page could have led here is refused; addresses, and the names set, aren't."""
        for host, code in (("127.0.0.1:8001", 200), ("merlind.example.org", 200), ("evil.example.org", 421)):
            reply = (
                Client(self.site, lambda: None).send(message("GET", "/metrics", Host=host, Connection="close")).reply()
            )
            self.assertEqual(reply.code, code, host)
        self.assertEqual(reply.json["code"], "wrong_host")
        old = Client(self.site, lambda: None).send(b"GET /health/live HTTP/1.0\r\n\r\n")
        self.assertEqual(old.reply().code, 200)

    def test_bodies(self) -> None:
        """A large body is refused, and not read."""
        client = Client(self.site, lambda: None).send(message("POST", "/metrics", Content_Length="300000000"))
        self.assertEqual((client.reply().code, client.lingers), (413, True))
        client.leave()

    def test_connections(self) -> None:
        """There are not more connections than the listener needs."""
        clients = [Client(self.site, lambda: None) for _ in range(CONNECTION_LIMITS.connections)]
        self.assertIsNone(self.site.buildProtocol(None))
        for client in clients:
            client.leave()

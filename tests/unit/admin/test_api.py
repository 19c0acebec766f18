"""The admin listener at wire level; the test plays what it asks."""

from twisted.internet.defer import Deferred, succeed
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.server import Site

from merlind.admin.api import Admin
from merlind.admin.health import Progress
from merlind.daemon.metrics import Metrics
from tests.unit.web.support import Client, message, read_replies


class AdminTests(SynchronousTestCase):
    """Health and metrics."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.metrics = Metrics()
        self.reasons: Deferred[list[str]] = succeed([])
        self.refreshed = 0
        self.progress = Progress()
        admin = Admin(self.metrics, lambda: self.reasons, lambda: self.progress, self.refresh)
        self.site = Site(admin.app.resource(), reactor=self.reactor)

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

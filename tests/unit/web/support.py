"""What the tests of the public side share: the listener on a reactor without time, at wire level.

Bytes go into the protocol that ``site.buildProtocol`` returns, and what it writes is read as a strict client would.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import settings
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IPushProducer
from twisted.internet.testing import StringTransport
from twisted.logger import LogLevel, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from merlind.core.client_limit import ClientLimit
from merlind.core.clients import LOOPBACK, ClientAddresses
from merlind.core.task import Task
from merlind.daemon.metrics import Metrics
from merlind.tasks.intake import Limits
from merlind.web.access_log import AccessLog
from merlind.web.api import Routes
from merlind.web.auth.sign_in import SignIn
from merlind.web.cross_site import CrossSite
from merlind.web.entry import Adapter, Check, EntryPoint
from merlind.web.page.facts import Facts
from merlind.web.page.form_page import FormPage
from merlind.web.page.plain import PlainPages
from merlind.web.server.admission import Admission
from merlind.web.server.interfaces import ConnectionLimits
from merlind.web.server.site import EdgeSite
from merlind.web.status import StatusResponses
from tests.unit.support import JPEG, Core, Reactor

BOUNDARY = b"----merlind-7MA4YWxk"
"""The boundary of all forms."""

UNIX = "unix"
"""The peer of a client that comes by a unix socket."""

LIMIT = 4096
"""The largest photo that the listener accepts, in bytes."""

FACTS = Facts("url", "faces.example.org", 2592000.0, 172800.0, 10485760)
"""What the pages say."""

FORM_PAGE = FormPage(FACTS).respond
PLAIN_PAGES = PlainPages(FACTS).adapt

checked = settings(max_examples=300, deadline=None, derandomize=True, database=None)
"""How hypothesis runs here: the same way each time."""


class WireTransport(StringTransport):
    """The server's end of a client's connection; like a socket, it can close one direction, and close twice."""

    bufferSize = 65536
    half_closed = False
    client_reads = True
    proxied = False
    """Whether it has an address of its own, which the PROXY protocol told."""
    reactor: Reactor
    _flushing: Any = None

    def __init__(self) -> None:
        super().__init__(lenient=True)

    def loseWriteConnection(self) -> None:
        self.half_closed = True

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Call a pull producer at once, as a socket does, and then when the kernel has taken what there is."""
        self.producer, self.streaming = producer, streaming
        if not streaming:
            producer.resumeProducing()
            self.flush()

    def flush(self) -> None:
        """Let the kernel take what there is, if the client reads."""
        if self.client_reads and self.producer is not None:
            self._flushing = self.reactor.callLater(0, self.producer.resumeProducing)

    def unregisterProducer(self) -> None:
        self.producer = None

    def stop(self) -> None:
        """End the connection: nothing is written any more."""
        self.producer = None
        if self._flushing is not None and self._flushing.active():
            self._flushing.cancel()

    def pauseProducing(self) -> None:
        self.producerState = "paused"

    def resumeProducing(self) -> None:
        self.producerState = "producing"


class WholeTransport(WireTransport):
    """A transport that can't close one direction, such as TLS."""

    loseWriteConnection: Any = property()


@dataclass(frozen=True)
class Reply:
    """A response as a client reads it; header names in lower case, in their order."""

    code: int
    reason: str
    headers: list[tuple[str, str]]
    body: bytes

    def all(self, name: str) -> list[str]:
        """All values of a header."""
        return [value for key, value in self.headers if key == name.lower()]

    def get(self, name: str) -> str | None:
        """The one value of a header, or None."""
        values = self.all(name)
        assert len(values) <= 1, (name, values)
        return values[0] if values else None

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def read_replies(data: bytes, methods: Iterable[str] = ()) -> list[Reply]:
    """All responses in what a server wrote, read strictly: whole, with nothing between or behind them.

    ``methods`` are those of the requests, in order: a response to HEAD has no body.
    """
    replies = []
    method: Iterator[str] = iter(methods)
    while data:
        head, separator, data = data.partition(b"\r\n\r\n")
        assert separator, f"a response is cut short: {head!r}"
        status, *lines = head.decode("ascii").split("\r\n")
        version, code, reason = status.split(" ", 2)
        assert version == "HTTP/1.1" and len(code) == 3 and reason, status
        headers = []
        for line in lines:
            name, colon, value = line.partition(": ")
            assert colon and name.strip() == name and value.strip() == value != "", line
            headers.append((name.lower(), value))
        length = 0
        if code not in ("204", "100"):
            (announced,) = [value for name, value in headers if name == "content-length"]
            length = 0 if next(method, "") == "HEAD" else int(announced)
        assert len(data) >= length, f"a body is cut short: {data!r}"
        replies.append(Reply(int(code), reason, headers, data[:length]))
        data = data[length:]
    return replies


def without_date(response: bytes) -> list[bytes]:
    """A response's lines, without its date."""
    return [line for line in response.split(b"\r\n") if not line.startswith(b"Date: ")]


def part(name: str, content: bytes, *more: str, filename: str | None = None) -> bytes:
    """One field of a form, without its boundary; ``more`` are further header lines."""
    disposition = f'Content-Disposition: form-data; name="{name}"'
    if filename is not None:
        disposition += f'; filename="{filename}"'
    return "\r\n".join([disposition, *more, "", ""]).encode("utf-8") + content


def form_of(*parts: bytes, boundary: bytes = BOUNDARY) -> bytes:
    """The body with these parts."""
    return b"".join(b"--" + boundary + b"\r\n" + p + b"\r\n" for p in parts) + b"--" + boundary + b"--\r\n"


def form(name: str | bytes = "Anna", photo: bytes = JPEG) -> bytes:
    """A good form."""
    text = name if isinstance(name, bytes) else name.encode("utf-8")
    return form_of(part("name", text), part("photo", photo, "Content-Type: image/jpeg", filename="me.jpg"))


def photo_of(size: int) -> bytes:
    """Bytes that pass for a JPEG of ``size`` bytes."""
    return JPEG[:4] + b"x" * (size - 4)


FORM_TYPE = "multipart/form-data; boundary=" + BOUNDARY.decode("ascii")


def message(method: str, target: str, body: bytes = b"", **headers: str | None) -> bytes:
    """A request; ``headers`` have _ for -, and None leaves one out. The body's length is announced."""
    fields: dict[str, str | None] = {"Host": "localhost:8000"}
    if body:
        fields["Content-Length"] = str(len(body))
    fields.update({name.replace("_", "-"): value for name, value in headers.items()})
    lines = [f"{method} {target} HTTP/1.1"] + [
        f"{name}: {value}" for name, value in fields.items() if value is not None
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def post(body: bytes | None = None, **headers: str | None) -> bytes:
    """A POST of a form."""
    return message("POST", "/", form() if body is None else body, **{"Content_Type": FORM_TYPE, **headers})


def get(task_id: int | str, method: str = "GET", **headers: str | None) -> bytes:
    """A request for a task."""
    return message(method, f"/?task_id={task_id}", b"", **headers)


def chunked(body: bytes, size: int = 50) -> bytes:
    """A body in HTTP's chunks."""
    pieces = [body[i : i + size] for i in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


class Client:
    """A client and its connection."""

    def __init__(
        self,
        site: Any,
        settle: Callable[[], None],
        transport: WireTransport | None = None,
        peer: str = "192.0.2.1",
    ) -> None:
        self.transport = transport or WireTransport()
        address: Any = UNIXAddress(b"/client") if peer == UNIX else IPv4Address("TCP", peer, 1024)
        if not self.transport.proxied:
            self.transport.peerAddr = address
        self._settle = settle
        self.transport.reactor = site.reactor
        self.protocol = site.buildProtocol(address)
        self.protocol.makeConnection(self.transport)
        self.gone = False

    def send(self, *pieces: bytes) -> "Client":
        """Send pieces and let everything happen that needs no time; once the connection is closed, nothing arrives."""
        for piece in pieces:
            if not (self.transport.disconnecting or self.gone):
                self.protocol.dataReceived(piece)
        self._settle()
        return self

    def drip(self, data: bytes, size: int = 1) -> "Client":
        """Send it in pieces of ``size`` bytes."""
        return self.send(*(data[i : i + size] for i in range(0, len(data), size)))

    def replies(self, *methods: str) -> list[Reply]:
        """All responses so far; give the ``methods`` of the requests if HEAD is among them."""
        return read_replies(self.transport.value(), methods)

    def reply(self, *methods: str) -> Reply:
        """The one response so far."""
        replies = self.replies(*methods)
        assert len(replies) == 1, replies
        return replies[0]

    @property
    def silent(self) -> bool:
        """Whether there is no response yet."""
        return not self.transport.value()

    @property
    def closed(self) -> bool:
        """Whether the server has closed the connection."""
        return self.transport.disconnecting

    @property
    def aborted(self) -> bool:
        """Whether the server has cut it off."""
        return self.transport.disconnected

    @property
    def lingers(self) -> bool:
        """Whether the server has closed its own direction only."""
        return self.transport.half_closed and not self.transport.disconnecting

    @property
    def reads(self) -> bool:
        """Whether the server reads what comes."""
        return self.transport.producerState == "producing"

    def end_input(self) -> "Client":
        """Close the client's direction; responses may still come."""
        if not self.closed:
            self.protocol.readConnectionLost()
        self._settle()
        return self

    def leave(self, clean: bool = False) -> None:
        """The end of the connection, from either side."""
        if not self.gone:
            self.gone = True
            self.transport.stop()
            self.protocol.connectionLost(Failure(ConnectionDone() if clean else ConnectionLost()))
            self._settle()


class EdgeCase(SynchronousTestCase):
    """The public listener over a real database and spool, with an upstream that the test plays."""

    max_connections = 100
    max_photo_bytes = LIMIT
    min_rate = 1024
    upload_timeout = 600.0
    limits = Limits(max_pending=1000, min_free_bytes=0, max_uploads=100, max_upload_bytes=2**30)
    max_connections_per_client = 0
    max_pending_per_client = 0
    max_long_polls_per_client = 0
    adapters: Sequence[Adapter] = (PLAIN_PAGES,)
    checks: Sequence[Check] = (CrossSite(()),)

    def sign_in(self) -> SignIn | None:
        """How users sign in; nobody needs to unless a test wants it."""
        return None

    def setUp(self) -> None:
        self.core = Core(
            self,
            limits=self.limits,
            max_pending_per_client=self.max_pending_per_client,
            max_long_polls_per_client=self.max_long_polls_per_client,
        )
        self.reactor = self.core.reactor
        self.metrics = Metrics()
        status = StatusResponses(self.core.results, 2.0)
        self.routes = Routes(
            self.reactor, self.core.intake, self.core.results, self.core.eraser, self.metrics, status, FORM_PAGE
        )
        entry = EntryPoint(
            self.core.intake,
            status,
            self.max_photo_bytes,
            self.routes.respond,
            self.adapters,
            self.checks,
            self.sign_in(),
        )
        self.site = EdgeSite(
            self.reactor,
            entry,
            ConnectionLimits(self.max_connections, 128, self.min_rate, self.upload_timeout),
            Admission(ClientAddresses(LOOPBACK), ClientLimit(self.max_connections_per_client)),
            AccessLog(self.metrics),
            self.metrics.refused,
        )
        self.clients: list[Client] = []
        self.core.start()
        self.settle()

    def tearDown(self) -> None:
        """Whatever the test did, no error was logged and nothing warned of, and no timer or upload is left."""
        for client in self.clients:
            client.leave()
        self.core.scheduler.stop(0)
        self.reactor.run_for(0.1)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertEqual(
            (self.core.intake.active_uploads, self.core.intake.active_bytes, self.core.results.waiting), (0, 0, 0)
        )
        self.assertEqual(self.site.connections, 0)
        self.assertEqual([path for path in self.core.files() if path.startswith("incoming/")], [])
        self.assertEqual(self.flushLoggedErrors(), [])
        self.assertEqual([w["message"] for w in self.flushWarnings()], [])

    def settle(self) -> None:
        """Let everything happen that needs no time: what is written goes out, and the next request has its turn."""
        self.reactor.run_for(0)

    def connect(self, transport: WireTransport | None = None, peer: str = "192.0.2.1") -> Client:
        """A client with a connection of its own."""
        client = Client(self.site, self.settle, transport, peer)
        self.clients.append(client)
        return client

    def ask(self, *pieces: bytes) -> Reply:
        """The response to one request on a connection of its own, which stays open."""
        method = pieces[0].partition(b" ")[0].decode("latin-1")
        return self.connect().send(*pieces).reply(method)

    def accepted(self, name: str = "Anna", photo: bytes = JPEG) -> int:
        """The number of a new task."""
        reply = self.ask(post(form(name, photo)))
        self.assertEqual(reply.code, 202, reply.body)
        return int(reply.json["task"])

    def stored(self) -> list[Task]:
        """All tasks in the database."""

        def ids_of(connection: Any) -> list[tuple[int]]:
            ids: list[tuple[int]] = connection.cursor().execute("SELECT id FROM task ORDER BY id").fetchall()
            return ids

        ids = self.core.now(self.core.pool.runWithConnection(ids_of))
        tasks = [self.core.stored(task_id) for (task_id,) in ids]
        return [task for task in tasks if task is not None]

    def sent(self) -> list[int]:
        """The numbers of the tasks whose photos were uploaded."""
        return [request.task.id for request in self.core.upstream.begun]

    def assert_problem(self, reply: Reply, status: int, code: str, method: str = "", closed: bool = True) -> None:
        """A response is an error as docs/contract.md words all of them."""
        self.assertEqual((reply.code, reply.get("Content-Type")), (status, "application/problem+json"), reply.body)
        if method != "HEAD":
            self.assertEqual(list(reply.json), ["type", "title", "status", "detail", "code"])
            self.assertEqual((reply.json["status"], reply.json["code"]), (status, code))
            self.assertEqual(reply.json["title"], reply.reason)
            self.assertEqual(reply.get("Content-Length"), str(len(reply.body)))
        self.assert_safe(reply)
        self.assertEqual(reply.get("Connection"), "close" if closed else None)

    def assert_safe(self, reply: Reply) -> None:
        """A response has the headers that each has, and none that none has."""
        self.assertEqual(reply.get("Cache-Control"), "no-store")
        self.assertEqual(reply.get("X-Content-Type-Options"), "nosniff")
        self.assertEqual((reply.all("Server"), reply.all("Transfer-Encoding")), ([], []))
        self.assertEqual(len(reply.all("Date")), 1)

    def assert_nothing_kept(self) -> None:
        """There is no row and no file, and nothing was uploaded."""
        self.assertEqual((self.stored(), self.core.files(), self.sent()), ([], [], []))


@dataclass
class LogLines:
    """The lines that merlind logs from now on."""

    lines: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, test: SynchronousTestCase) -> "LogLines":
        lines = cls()

        def observe(event: dict[str, Any]) -> None:
            if event.get("log_format") and event["log_level"] >= LogLevel.info:
                lines.lines.append(event["log_format"].format_map(event))

        observer: Any = observe
        globalLogPublisher.addObserver(observer)
        test.addCleanup(globalLogPublisher.removeObserver, observer)
        return lines


def fired(deferred: "Deferred[Any]") -> list[Any]:
    """A list that gets the result once there is one."""
    results: list[Any] = []
    deferred.addBoth(results.append)
    return results


assert IPushProducer.implementedBy(WireTransport), "the channel needs it"

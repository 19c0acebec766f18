"""A lost connection leaves no object behind, whatever it was doing, and neither does a request that was answered.

Not even garbage: what is cyclic waits for a collection, and until then holds all the memory that the client made us
use. So all of this happens without a collection.
"""

import gc
import itertools
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from twisted.logger import Logger

from merlind.tasks import intake
from tests.unit.web.auth.support import LateCase, signed
from tests.unit.web.support import (
    Client,
    EdgeCase,
    WholeTransport,
    WireTransport,
    chunked,
    form,
    form_of,
    get,
    message,
    part,
    photo_of,
    post,
)

ROUNDS = 10
"""How often a connection is opened and closed; an object that each one leaves is there so often."""


class UnreadTransport(WireTransport):
    """A transport whose peer doesn't read: each write fills it up, and its producer is paused."""

    def write(self, data: bytes) -> None:
        super().write(data)
        if self.producer is not None:
            self.producer.pauseProducing()


@dataclass(frozen=True)
class Life:
    """What happens on a connection before it is lost."""

    sent: bytes = b""
    seconds: float = 0.0
    more: bytes = b""
    """What is sent after the seconds have passed."""
    half_closed: bool = False
    at_once: bool = False
    """Whether it is lost before the database has done anything."""
    transport: type[WireTransport] = WireTransport


BUSY = "TASK"
"""Stands for the number of an unfinished task."""

POLL = get(BUSY, Prefer="wait=60")
CHUNKS = post(b"", Transfer_Encoding="chunked")
PHOTO = form("Bo", photo_of(2000))
UPGRADE: dict[str, Any] = {"Connection": "Upgrade", "Upgrade": "h2c"}

LIVES = {
    "silent from the start": Life(),
    "silent, and closed by us": Life(seconds=100),
    "idle": Life(get(5)),
    "idle, and being closed by us": Life(get(5), 62),
    "idle, and closed by us": Life(get(5), 100),
    "idle after an upload": Life(post()),
    "idle after a long poll": Life(get(BUSY, Prefer="wait=1"), 2),
    "an empty line sent": Life(get(5) + b"\r\n"),
    "half a method": Life(b"GE"),
    "half a target": Life(b"GET /?task"),
    "half a header's name": Life(get(5)[:-12]),
    "half a header's value": Life(get(5)[:-6]),
    "half of the empty line": Life(get(5)[:-1]),
    "many headers, and no end": Life(get(5)[:-2] + b"X: y\r\n" * 90),
    "before the body": Life(post()[: -len(form())]),
    "told to continue": Life(post(b"", Content_Length="400", Expect="100-continue")),
    "in the body": Life(post(PHOTO)[:-100]),
    "in the name": Life(post(PHOTO)[:-2100]),
    "in a body that is ignored": Life(message("PUT", "/", Content_Length="400") + b"x"),
    "before the first chunk": Life(CHUNKS),
    "in a chunk's size": Life(CHUNKS + chunked(PHOTO, 100) + b"6"),
    "in a chunk's extension": Life(CHUNKS + b'6;a="b'),
    "in a chunk": Life(CHUNKS + chunked(PHOTO, 100)[:1000]),
    "in chunks of one byte": Life(CHUNKS + chunked(PHOTO, 1)[:-99]),
    "in the trailers": Life(CHUNKS + chunked(PHOTO)[:-2] + b"X: y\r\n" * 50 + b"Z"),
    "an upgrade": Life(get(5, **UPGRADE)),
    "in the body of an upgrade": Life(post(PHOTO, **UPGRADE)[:-100]),
    "in the chunks of an upgrade": Life(post(b"", Transfer_Encoding="chunked", **UPGRADE) + b"9\r\nabc"),
    "looking up a task": Life(get(6), at_once=True),
    "looking up a task the long way": Life(get(6, Accept="text/plain", Prefer="wait=9"), at_once=True),
    "storing an upload": Life(post(), at_once=True),
    "erasing": Life(message("DELETE", "/?task_id=6"), at_once=True),
    "a long poll": Life(POLL),
    "a long poll of an upload": Life(post(Prefer="wait=60"), 1),
    "a long poll with requests behind it": Life(POLL + get(5) * 100 + get(5)[:9]),
    "a long poll with an upload behind it": Life(POLL, 1, post(PHOTO)[:-100]),
    "a long poll with a flood behind it": Life(POLL, 1, b"G" * 100_000),
    "a long poll of a client that closed its direction": Life(POLL, half_closed=True),
    "long polls one after the other": Life(get(BUSY, Prefer="wait=1") * 3, 1.5),
    "half a head, and its direction closed": Life(get(5)[:9], half_closed=True),
    "in the body, and its direction closed": Life(post(PHOTO)[:-100], half_closed=True),
    "closing with the response": Life(get(5, Connection="close")),
    "closing with the response, requests behind it": Life(get(5, Connection="close") + get(5) * 9),
    "closing an HTTP/1.0 connection": Life(b"GET /?task_id=5 HTTP/1.0\r\n\r\n"),
    "refused for its first line": Life(b"BREW / HTTP/1.1\r\n\r\n"),
    "refused for its first line, requests behind it": Life(b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n" + get(5) * 9),
    "refused for a header": Life(get(5, Host="a b")),
    "refused for its size": Life(b"GET / HTTP/1.1\r\nX: " + b"y" * 40_000),
    "refused for its framing": Life(post(PHOTO, Transfer_Encoding="chunked")),
    "refused for its length": Life(post(b"", Content_Length="99999999999")),
    "refused for its media type": Life(post(Content_Type="text/plain")),
    "refused in a chunk": Life(CHUNKS + chunked(PHOTO, 100)[:1000] + b"zz\r\n"),
    "refused in the trailers": Life(CHUNKS + chunked(PHOTO)[:-2] + b"no colon\r\n\r\n"),
    "refused for its photo": Life(post(form(photo=b"text"))),
    "refused for its name": Life(post(form("\x07"))),
    "refused for a field that is missing": Life(post(form_of(part("name", b"Anna")))),
    "refused in the form": Life(post(b"x" * 300)[:-9]),
    "refused in a photo that is too large": Life(CHUNKS + b"fffff\r\n" + form("Bo", photo_of(9000))),
    "refused, and sending on": Life(post(Content_Type="text/plain"), 1, b"x" * 1000),
    "refused, and cut off": Life(b"BREW / HTTP/1.1\r\n\r\n", 100),
    "refused, on a transport that closes whole": Life(b"BREW / HTTP/1.1\r\n\r\n", transport=WholeTransport),
    "refused for slow headers": Life(get(5)[:-1], 22),
    "refused for a slow body": Life(post(PHOTO)[:-100], 30),
    "with responses unread": Life(get(5) * 50, transport=UnreadTransport),
    "with an upload's response unread": Life(post() + get(5) * 50, transport=UnreadTransport),
    "refused behind responses unread": Life(get(5) * 3 + b"BREW / HTTP/1.1\r\n\r\n", transport=UnreadTransport),
    "half a head behind responses unread": Life(get(5) * 3 + get(5)[:20], transport=UnreadTransport),
    "pipelined": Life(get(5) * 20 + post() + get(5, "HEAD") + get(BUSY)),
}

ROUTES = {
    "a plain status request": get(5),
    "one for a task in memory": get(BUSY),
    "one with a header that matters": get(5, Prefer="foo"),
    "HEAD": get(5, "HEAD"),
    "a bad number": get("x"),
    "no number": message("GET", "/"),
    "the page": message("GET", "/", Accept="text/html"),
    "another path": message("GET", "/else"),
    "a path that isn't UTF-8": message("GET", "/%ff"),
    "another method": message("PUT", "/", b"ignored"),
    "OPTIONS": message("OPTIONS", "*"),
    "erasing": message("DELETE", "/?task_id=6"),
    "an upload": post(),
    "an upload in chunks": CHUNKS + chunked(form(), 9),
    "an upload that waits": post(Prefer="wait=0"),
    "an upgrade": get(5, **UPGRADE),
    "an upload with an upgrade": post(**UPGRADE),
    "trailers": message("PUT", "/", Transfer_Encoding="chunked") + b"0\r\nX: y\r\n\r\n",
    "a name of its own for a header": get(5, X_Something="y"),
}
"""Requests whose connection stays open."""


def objects() -> "Counter[type]":
    """How many objects of each type the collector knows of that are new since the test began."""
    counts = Counter(map(type, gc.get_objects()))
    del counts[weakref.ReferenceType]  # SQLite's module keeps one for each statement, and drops them by the hundred
    return counts


class NothingLeftCase(EdgeCase):
    """The public listener, without a collector."""

    def setUp(self) -> None:
        super().setUp()
        self.busy = b"%d" % self.accepted("Busy")
        self.clients.pop().leave()
        gc.collect()
        gc.freeze()
        self.patch(Logger, "emit", lambda *_args, **_event: None)  # trial's workers keep what is logged
        gc.disable()
        self.addCleanup(gc.enable)
        self.addCleanup(gc.unfreeze)

    def live(self, life: Life) -> "weakref.ref[object]":
        """Open a connection, let it live, and lose it. Returns what is left of it."""
        client = Client(self.site, self.settle, life.transport())
        sent = life.sent.replace(BUSY.encode("ascii"), self.busy)
        if life.at_once:
            client.protocol.dataReceived(sent)
        else:
            for data, seconds in ((sent, life.seconds), (life.more, 0)):
                if data:
                    client.send(data)
                self.reactor.run_for(seconds)
        if life.half_closed:
            client.end_input()
        client.leave()
        client.transport.producer = None  # a socket drops it too
        self.settle()
        return weakref.ref(client.protocol)

    def grown(self, do: Callable[[], object]) -> dict[str, int]:
        """The types of which each round of something leaves at least one object.

        It is done twice, since the interpreter makes some objects of its own just once.
        """
        grown = []
        for _ in range(2):
            before = objects()
            for _ in range(ROUNDS):
                do()
            grown.append({kind: count for kind, count in (objects() - before).items() if count >= ROUNDS})
        return {kind.__qualname__: count for kind, count in grown[1].items() if kind in grown[0]}


class ConnectionTests(NothingLeftCase):
    """Connections that are lost."""

    lives = LIVES

    def check_lives(self) -> None:
        """Nothing is left of any of them."""
        faults = []
        for life in self.lives.values():
            self.live(life)  # what is made once is made now
        for name, life in self.lives.items():
            alive: list[bool] = []
            if (grown := self.grown(partial(self.check_gone, life, alive))) or any(alive):
                faults.append(f"{name}: {sum(alive)} of {len(alive)} connections, and {grown}")
            gc.collect()
        if faults:
            self.fail("\n".join(faults))

    def check_gone(self, life: Life, alive: list[bool]) -> None:
        alive.append(self.live(life)() is not None)

    def test_lost(self) -> None:
        """A connection that is lost leaves nothing, whatever it was doing."""
        self.check_lives()

    def test_lost_with_photos_in_files(self) -> None:
        """The same with photos that are too large for memory."""
        self.patch(intake, "SMALL_UPLOAD", 0)
        self.check_lives()

    def test_draining(self) -> None:
        """The same for connections that end with the server."""
        lives = (b"", get(5), get(5)[:9], post()[:-9], b"BREW / HTTP/1.1\r\n\r\n", POLL.replace(b"TASK", self.busy))
        clients = [Client(self.site, self.settle).send(sent or get(5)) for sent in lives]
        self.site.drain()
        self.reactor.run_for(100)
        left = [weakref.ref(client.protocol) for client in clients]
        for client in clients:
            client.leave()
            client.transport.producer = None
        del client, clients
        self.assertEqual([ref() for ref in left], [None] * len(left))


class SignedInTests(LateCase, ConnectionTests):
    """The same where it takes a moment to find out who asks."""

    lives = {name: replace(life, sent=signed(life.sent), more=signed(life.more)) for name, life in LIVES.items()} | {
        "signing in": Life(signed(get(5)), at_once=True),
        "signing in, an upload behind it": Life(signed(post(PHOTO)), at_once=True),
        "signing in, for ever": Life(signed(post(PHOTO), "never"), 5),
        "signing in, and its direction closed": Life(signed(post(PHOTO), "never"), half_closed=True),
        "signing in, with a flood behind it": Life(signed(get(5), "never"), 1, b"G" * 100_000),
        "signing in took too long": Life(signed(post(PHOTO), "never"), 21),
        "signing in took too long, and cut off": Life(signed(post(PHOTO), "never"), 30),
        "not signed in": Life(get(5)),
        "not signed in, in the body": Life(post(PHOTO)[:-100]),
        "not known": Life(signed(get(5), "bob")),
        "not known, in the body": Life(signed(post(PHOTO)[:-100], "bob")),
    }  # fmt: skip

    def test_draining(self) -> None:
        """A stop while it is not known who asks leaves nothing either."""
        client = Client(self.site, self.settle).send(signed(post(PHOTO), "never"))
        self.site.drain()
        self.reactor.run_for(100)
        left = weakref.ref(client.protocol)
        client.leave()
        client.transport.producer = None
        del client
        self.assertIsNone(left())


class RefusedConnectionTests(NothingLeftCase):
    """Connections past the limit."""

    max_connections = 1

    def test_refused(self) -> None:
        """A connection that is refused as such leaves nothing."""
        self.connect()
        for life in (Life(), Life(get(5)), Life(get(5), 0.5, get(5)), Life(seconds=10)):
            self.assertEqual([self.live(life)() for _ in range(ROUNDS)], [None] * ROUNDS)


class RequestTests(NothingLeftCase):
    """Requests on a connection that stays open."""

    def test_answered(self) -> None:
        """A request that was answered leaves nothing, and nothing grows with what it was."""
        faults = []
        for name, request in ROUTES.items():
            client = self.connect()
            data = request.replace(BUSY.encode("ascii"), self.busy)
            for _ in range(3):
                client.send(data)
            client.transport.clear()
            if grown := self.grown(partial(self.ask_again, client, data, itertools.count())):
                faults.append(f"{name}: {grown}")
            client.leave()
            gc.collect()
        if faults:
            self.fail("\n".join(faults))

    def ask_again(self, client: Client, data: bytes, numbers: "Iterator[int]") -> None:
        """Send a request on a connection, with the name of a header that was never there before."""
        client.send(data.replace(b"X-Something", b"X-Something-%d" % next(numbers)))
        self.assertTrue(client.transport.value(), data)
        client.transport.clear()

"""What the tables of requests share: each row is sent in several ways, and must end in the same way each time.

A row is the bytes of one request, however odd, and what must become of it. Another request follows it on the same
connection. That one must not run if it isn't certain where the first one ends.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tests.unit.web.support import Client, EdgeCase, LogLines, Reply, get, message

LONGEST_LINE = 300
"""No line of the log is longer than this, in characters, whatever a client sends."""


@dataclass(frozen=True)
class Ending:
    """How a request may end: with one of these statuses, on a connection that stays open, or on one that closes."""

    open: frozenset[int] = frozenset()
    closed: frozenset[int] = frozenset()

    def __or__(self, other: "Ending") -> "Ending":
        return Ending(self.open | other.open, self.closed | other.closed)


def served(*statuses: int) -> Ending:
    """The connection stays open, and the next request is served."""
    return Ending(open=frozenset(statuses))


def refused(*statuses: int) -> Ending:
    """The connection closes, and the next request doesn't run."""
    return Ending(closed=frozenset(statuses))


BAD = refused(400)

Table = Mapping[bytes, Ending]


def same(rows: Iterable[bytes], ending: Ending) -> Table:
    """A table whose rows all end in the same way."""
    return {row: ending for row in rows}


def request(line: bytes, *lines: bytes, body: bytes = b"") -> bytes:
    """A request with this request line, a Host, and these header lines, each as it is."""
    return b"\r\n".join([line, b"Host: localhost", *lines, b"", b""]) + body


def with_header(*lines: bytes) -> bytes:
    """A status request with these header lines more."""
    return request(b"GET /?task_id=5 HTTP/1.1", *lines)


def ways(data: bytes) -> list[list[bytes]]:
    """The data in one piece, in two, and in many."""
    size = 1 if len(data) < 3000 else 977
    halves = [data[: len(data) // 2], data[len(data) // 2 :]]
    return [[data], halves, [data[i : i + size] for i in range(0, len(data), size)], [data[:-3], data[-3:]]]


class KindCase(EdgeCase):
    """The public listener, with one task that a request behind a refused one must not erase."""

    def setUp(self) -> None:
        super().setUp()
        self.lines = LogLines.of(self).lines
        self.task = self.accepted()
        self.erase = message("DELETE", f"/?task_id={self.task}")
        self._release()

    def _release(self) -> None:
        for client in self.clients:
            client.leave()
        self.clients.clear()

    def check(self, table: Table) -> None:
        """Every row ends as it must; the message of a failure lists all rows that don't."""
        faults = []
        for row, ending in table.items():
            # Where the next request may run, it changes nothing.
            behind = get(6) if ending.open else self.erase
            outcomes = [self._ended([*pieces, behind], ending) for pieces in ways(row)]
            outcomes.append(self._ended([row + behind], ending))
            if len(set(outcomes)) > 1:
                faults.append(f"{shortened(row)}: depends on how it is cut: {outcomes}")
            elif outcomes[0].startswith("not "):
                faults.append(f"{shortened(row)}: {outcomes[0]}")
        if not self.stored():
            faults.append("a request behind one of these was run")
        faults += [f"a long line in the log: {line[:100]}…" for line in self.lines if len(line) > LONGEST_LINE]
        if faults:
            self.fail("\n".join(faults))

    def _ended(self, pieces: list[bytes], ending: Ending) -> str:
        """How the request in ``pieces`` ended; begins with "not " if that isn't as it must be."""
        client = self.connect().send(*pieces)
        self.reactor.run_for(1)
        if client.silent:
            self.reactor.run_for(30)  # refused at a deadline, perhaps
        replies = [reply for reply in replies_of(client, pieces) if reply.code != 100]
        outcome = self._verdict(client, replies, ending)
        self._release()
        return outcome

    def _verdict(self, client: Client, replies: list[Reply], ending: Ending) -> str:
        codes = [reply.code for reply in replies]
        if not replies:
            return "not answered"
        closed = client.closed or client.lingers or client.aborted
        if replies[0].get("Connection") == "close":
            expected = codes[0] in ending.closed and codes[1:] == [] and closed
        else:
            expected = codes[0] in ending.open and codes[1:] == [404] and not closed
        for reply in replies:
            self.assert_safe(reply)
        return f"{'' if expected else 'not as it must be: '}{codes}, {'closed' if closed else 'open'}"


def replies_of(client: Client, pieces: list[bytes]) -> list[Reply]:
    """The responses to what was sent in pieces."""
    return client.replies(b"".join(pieces).lstrip().partition(b" ")[0].decode("latin-1"))


def shortened(row: bytes) -> str:
    """A row as it can be read in a message."""
    return repr(row) if len(row) < 160 else f"{row[:110]!r}… ({len(row)} bytes) …{row[-40:]!r}"

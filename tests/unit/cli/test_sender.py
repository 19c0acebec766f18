"""Sending: bounded uploads, waits, patience, and what a second run does."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, FirstError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from merlind.cli.client import Status
from merlind.cli.http import Refused, TryLater, Unreachable
from merlind.cli.jobs import Job
from merlind.cli.journal import Journal
from merlind.cli.record import Record, Stage
from merlind.cli.sender import PAUSES, WAIT, Sender

Answer = Status | Exception


class FakeClient:
    """A server that the test plays. ``submits`` and ``polls`` are the requests in flight."""

    def __init__(self) -> None:
        self.submits: list[tuple[str, Deferred[Status]]] = []
        self.polls: list[tuple[int, int, Deferred[Status]]] = []
        self.sent: list[str] = []

    def submit(self, photo: Path, name: str) -> "Deferred[Status]":
        self.sent.append(name)
        answer: Deferred[Status] = Deferred()
        self.submits.append((name, answer))
        return answer

    def status(self, task: int, wait: int = 0) -> "Deferred[Status]":
        answer: Deferred[Status] = Deferred()
        self.polls.append((task, wait, answer))
        return answer

    def answer_submit(self, answer: Answer) -> None:
        self._answer(self.submits.pop(0)[-1], answer)

    def answer_poll(self, answer: Answer) -> None:
        self._answer(self.polls.pop(0)[-1], answer)

    def _answer(self, waiting: "Deferred[Status]", answer: Answer) -> None:
        if isinstance(answer, Exception):
            waiting.errback(answer)
        else:
            waiting.callback(answer)


def ready(result: float = 0.5) -> Status:
    return Status("ready", None, result)


class SenderTests(SynchronousTestCase):
    """A sender on a clock, with a server that the test plays."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.client = FakeClient()
        self.reported: list[Record] = []
        self.path = Path(self.mktemp())
        self.photo = Path(self.mktemp())
        self.photo.write_bytes(b"photo")

    def send(
        self, *names: str, uploads: int = 4, wait: bool = True, timeout: float | None = None
    ) -> "Deferred[list[Record]]":
        deadline = None if timeout is None else self.clock.seconds() + timeout
        client: Any = self.client
        report: Callable[[Record], None] = self.reported.append
        sender = Sender(self.clock, client, Journal(self.path), uploads, wait, deadline, report)
        return sender.run([Job(self.photo, name) for name in names])

    def stages(self, run: "Deferred[list[Record]]") -> list[Stage]:
        return [record.stage for record in self.successResultOf(run)]

    def test_from_photo_to_score(self) -> None:
        """A photo is sent, its task followed by long polls, and each step noted."""
        run = self.send("Anna")
        self.client.answer_submit(Status("received", 5))
        self.assertEqual(self.client.polls[0][:2], (5, WAIT))
        self.client.answer_poll(Status("wait"))
        self.client.answer_poll(ready(0.83))
        (record,) = self.successResultOf(run)
        self.assertEqual((record.task, record.stage, record.result), (5, Stage.READY, 0.83))
        self.assertEqual([known.stage for known in self.reported], [Stage.WAITING, Stage.READY])
        self.assertEqual(Journal(self.path).find(record.key), record)

    def test_uploads_are_bounded_and_waits_are_not(self) -> None:
        """So many photos are sent at once; those that wait make room for the next."""
        run = self.send(*"ABCDEF", uploads=2)
        self.assertEqual(self.client.sent, ["A", "B"])
        for task in range(1, 7):
            self.assertLessEqual(len(self.client.submits), 2)
            self.client.answer_submit(Status("received", task))
        self.assertEqual(len(self.client.polls), 6)
        for _ in range(6):
            self.client.answer_poll(ready())
        self.assertEqual(self.stages(run), [Stage.READY] * 6)

    def test_second_run(self) -> None:
        """A second run sends what wasn't sent, follows what was, and sends what failed again."""
        first = self.send("A", "B", "C", "D", uploads=3)
        self.client.answer_submit(Status("ready", 1, 0.1))
        self.client.answer_submit(Status("received", 2))
        self.client.answer_submit(Status("received", 3))
        self.client.answer_poll(Status("wait"))
        self.client.answer_poll(Status("failed", None, None, "gone wrong"))
        first.addErrback(lambda failure: None)
        self.client = FakeClient()
        run = self.send("A", "B", "C", "D")
        self.assertEqual(self.client.sent, ["C", "D"])
        self.assertEqual([poll[0] for poll in self.client.polls], [2])
        self.client.answer_poll(ready())
        self.client.answer_submit(ready())
        self.client.answer_submit(ready())
        self.assertEqual(self.stages(run), [Stage.READY] * 4)

    def test_forgotten_task(self) -> None:
        """A task of the journal that the server no longer knows is sent again."""
        Journal(self.path).note(Record("x", "A", self.digest(), 9, Stage.WAITING))
        run = self.send("A")
        self.client.answer_poll(Status("not_found"))
        self.assertEqual(self.client.sent, ["A"])
        self.client.answer_submit(Status("ready", 10, 0.5))
        self.assertEqual([record.task for record in self.successResultOf(run)], [10])

    def digest(self) -> str:
        from merlind.cli.sender import sha256_of

        return sha256_of(self.photo)

    def test_told_to_wait(self) -> None:
        """Retry-After is honoured, for uploads and for polls."""
        run = self.send("A")
        self.client.answer_submit(TryLater("full", 7.0))
        self.clock.advance(6.9)
        self.assertEqual(self.client.submits, [])
        self.clock.advance(0.1)
        self.client.answer_submit(Status("received", 5))
        self.client.answer_poll(TryLater("busy", 3.0))
        self.clock.advance(3.0)
        self.client.answer_poll(ready())
        self.assertEqual(self.stages(run), [Stage.READY])

    def test_refused(self) -> None:
        """A photo that isn't taken is told, and others go on."""
        run = self.send("A", "B")
        self.client.answer_submit(Refused("no image"))
        self.client.answer_submit(ready())
        first, second = self.successResultOf(run)
        self.assertEqual((first.stage, first.error, second.stage), (Stage.REFUSED, "no image", Stage.READY))

    def test_never_there(self) -> None:
        """A server that was never there ends the run at once."""
        run = self.send("A")
        self.client.answer_submit(Unreachable("refused"))
        self.failureResultOf(run, FirstError)

    def test_starts_anew(self) -> None:
        """A server that was there may be starting anew: it gets a few tries."""
        run = self.send("A")
        self.client.answer_submit(Status("received", 5))
        for pause in PAUSES:
            self.client.answer_poll(Unreachable("reset"))
            self.assertNoResult(run)
            self.clock.advance(pause)
        self.client.answer_poll(Unreachable("reset"))
        self.failureResultOf(run, FirstError)

    def test_time_is_up(self) -> None:
        """After the timeout, what is unfinished stays so, and polls don't outlast it."""
        run = self.send("A", "B", uploads=1, timeout=10.0)
        self.client.answer_submit(Status("received", 5))
        self.assertEqual(self.client.polls[0][1], 10)
        self.client.answer_submit(TryLater("full", 60.0))
        self.clock.advance(10.0)
        self.client.answer_poll(Status("wait"))
        self.assertEqual(self.stages(run), [Stage.WAITING, Stage.NEW])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_without_waiting(self) -> None:
        """Without a wait the run ends when everything is sent."""
        run = self.send("A", wait=False)
        self.client.answer_submit(Status("received", 5))
        self.assertEqual(self.stages(run), [Stage.WAITING])
        self.assertEqual(self.client.polls, [])

    def test_lost_photo(self) -> None:
        """A file that has gone meanwhile ends the run."""
        self.photo.unlink()
        self.assertIsInstance(self.failureResultOf(self.send("A"), FirstError).value.subFailure.value, OSError)

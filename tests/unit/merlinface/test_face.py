"""The face scorer behind the API, with workers that are no processes."""

from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from merlind.merlinface.api import AT_ONCE, HOLD_SECONDS, make_site
from merlind.merlinface.face import FaceScorer
from merlind.merlinface.form import MAX_PHOTO
from merlind.merlinface.scorer.cache import KEEP_SECONDS
from merlind.merlinface.scorer.pool import PoolSettings
from merlind.merlinface.stand_in import StandInScorer
from tests.unit.merlinface.scorer.processes import FakeWorker, ProcessReactor
from tests.unit.merlinface.support import (
    PHOTO,
    Reply,
    form,
    name_part,
    numbered,
    numbered_ids,
    photo_part,
    poll_form,
    post,
    read_reply,
)


class Connection:
    """A client's connection to the API."""

    def __init__(self, site: Any) -> None:
        self.transport = StringTransport()
        self.protocol = site.buildProtocol(None)
        self.protocol.makeConnection(self.transport)

    def send(self, request: bytes) -> "Connection":
        self.transport.clear()
        self.protocol.dataReceived(request)
        return self

    @property
    def waits(self) -> bool:
        return self.transport.value() == b""

    def reply(self) -> Reply:
        return read_reply(self.transport.value())


class FaceCase(SynchronousTestCase):
    """The API with one ready worker."""

    def setUp(self) -> None:
        self.start()

    def start(self, max_waiting: int = 1000, max_photo_memory: int = 2**30) -> None:
        self.reactor = ProcessReactor()
        self.patch(FaceScorer, "max_photo_memory", max_photo_memory)
        self.scorer = FaceScorer(self.reactor, PoolSettings(1, max_waiting=max_waiting), ["worker"])
        self.site = make_site(self.reactor, AT_ONCE, new_id=numbered_ids(), scorer=self.scorer)
        make_request: Any = self.site.requestFactory
        self.memory = make_request.keywords["memory"]
        self.scorer.start()
        self.worker.ready()

    @property
    def worker(self) -> FakeWorker:
        return self.reactor.spawned[-1]

    def upload(self, name: str = "Anna", photo: bytes = PHOTO) -> Connection:
        return Connection(self.site).send(post(form(name_part(name), photo_part(photo))))

    def poll(self, number: int) -> Reply:
        return Connection(self.site).send(post(poll_form(numbered(number)))).reply()


class ScoreTests(FaceCase):
    """Scores and refusals."""

    def test_score(self) -> None:
        """The upload waits for its score: the photo is judged, then the name is scored for what was seen."""
        client = self.upload("Зоя")
        self.worker.answer(female=0.98, age=34.5)
        self.assertTrue(client.waits)
        self.worker.answer(score=0.712345, known_name=True)
        self.assertEqual(
            self.worker.requests(),
            [({"do": "look"}, PHOTO), ({"do": "score", "name": "Зоя", "female": 0.98, "age": 34.5}, b"")],
        )
        reply = client.reply()
        self.assertEqual(
            (reply.code, reply.body), (200, b'{"status":"success","result":0.7123,"errors":[],"known_name":true}')
        )
        self.assertEqual(reply.headers["Server"], "merlinface-face")
        self.assertIn("no evidence about anyone", reply.headers["X-Merlinface"])
        self.assertEqual(self.memory.used, 0)

    def test_wait_and_poll(self) -> None:
        """An upload whose score takes longer gets a retry_id, and a poll the score."""
        client = self.upload()
        self.reactor.advance(HOLD_SECONDS)
        wait: dict[str, object] = {"status": "wait", "result": None, "retry_id": numbered(1), "errors": []}
        self.assertEqual((client.reply().code, client.reply().json), (202, wait))
        self.assertEqual(self.poll(1).json, wait)
        self.worker.answer(female=0.98, age=34.5)
        self.worker.answer(score=0.5, known_name=False)
        for _ in range(2):
            self.assertEqual(self.poll(1).json, {"status": "success", "result": 0.5, "errors": [], "known_name": False})

    def test_refusals(self) -> None:
        """A refusal says why, whether the photo or the name is to blame."""
        client = self.upload()
        self.worker.answer(refused="no face found")
        self.assertEqual((client.reply().code, client.reply().json["errors"]), (422, ["no face found"]))
        client = self.upload("7", b"other")
        self.worker.answer(female=0.98, age=34.5)
        self.worker.answer(refused="the name has no letters")
        self.assertEqual((client.reply().code, client.reply().json["status"]), (422, "error"))

    def test_same_photo_is_looked_at_once(self) -> None:
        """Several names with one photo cost one look, at the same time and later; the second photo isn't held."""
        clients = [self.upload("Anna"), self.upload("Otto")]
        self.assertEqual(self.memory.used, len(PHOTO))
        self.worker.answer(female=0.98, age=34.5)
        for score in (0.9, 0.1):
            self.worker.answer(score=score, known_name=True)
        self.assertEqual([client.reply().json["result"] for client in clients], [0.9, 0.1])
        later = self.upload("Eva")
        self.worker.answer(score=0.8, known_name=True)
        self.assertEqual(later.reply().json["result"], 0.8)
        self.assertEqual(self.worker.photos(), [PHOTO])
        self.reactor.advance(KEEP_SECONDS)
        self.upload("Ida")
        self.assertEqual(self.worker.photos(), [PHOTO, PHOTO])

    def test_client_goes_away(self) -> None:
        """A client that goes away while it waits leaves no error behind; its photo is judged all the same."""
        client = self.upload()
        client.protocol.connectionLost(Failure(ConnectionDone()))
        self.worker.answer(female=0.98, age=34.5)
        self.worker.answer(score=0.5, known_name=True)
        self.assertEqual((self.memory.used, self.flushLoggedErrors()), (0, []))


class TroubleTests(FaceCase):
    """No score now."""

    def assert_trouble(self, reply: Reply, reason: str) -> None:
        self.assertEqual((reply.code, reply.headers["Retry-After"]), (503, "2"))
        self.assertEqual(reply.json, {"status": "error", "result": None, "errors": [reason]})

    def test_photo_that_crashes_twice(self) -> None:
        """A photo that ends two workers is trouble, and the photo's memory is free again."""
        client = self.upload()
        self.worker.die()
        self.worker.ready().die()
        self.assert_trouble(client.reply(), "the photo makes the scorer fail")
        self.assertEqual(self.memory.used, 0)

    def test_poll_of_trouble(self) -> None:
        """A poll is told of trouble once; then its retry_id is unknown, so that the photo is sent again."""
        self.upload()
        self.reactor.advance(HOLD_SECONDS)
        self.worker.die()
        self.worker.ready().die()
        self.assert_trouble(self.poll(1), "the photo makes the scorer fail")
        self.assertEqual(self.poll(1).code, 404)

    def test_too_many_wait(self) -> None:
        """Past the most photos that may wait, an upload is turned away for now."""
        self.start(max_waiting=1)
        first = self.upload(photo=b"in work")
        self.upload(photo=b"waits")
        self.assert_trouble(self.upload(photo=b"too many").reply(), "too many photos wait")
        self.worker.answer(refused="no face found")
        self.assertEqual(first.reply().code, 422)
        self.assertTrue(self.upload(photo=b"room again").waits)

    def test_too_many_bytes(self) -> None:
        """Past the memory for photos an upload is turned away, while it still comes in; the connection is usable."""
        self.start(max_photo_memory=100)
        waiting = self.upload(photo=bytes(60))
        client = self.upload(photo=bytes(41))
        self.assert_trouble(client.reply(), "too many photos wait")
        self.assertEqual(self.memory.used, 60)
        self.worker.answer(refused="no face found")
        self.assertEqual((waiting.reply().code, self.memory.used), (422, 0))
        self.assertTrue(client.send(post(form(name_part("Anna"), photo_part(bytes(41))))).waits)

    def test_broken_uploads_hold_nothing(self) -> None:
        """A photo whose upload ends, is malformed or too large gives its memory back."""
        half = post(form(name_part("Anna"), photo_part(bytes(1000))))[:-500]
        client = Connection(self.site).send(half)
        self.assertGreater(self.memory.used, 0)
        client.protocol.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.memory.used, 0)
        for body in (form(photo_part(bytes(1000))), form(photo_part(bytes(1000)), name_part("")),
                     form(name_part("Anna"), photo_part(bytes(MAX_PHOTO + 1)))):  # fmt: skip
            self.assertEqual(Connection(self.site).send(post(body)).reply().code, 400)
            self.assertEqual(self.memory.used, 0)
        self.assertEqual(Connection(self.site).send(post(form(photo_part()), path=b"/x")).reply().code, 404)
        self.assertEqual(self.memory.used, 0)

    def test_nonsense(self) -> None:
        """A worker whose answer lacks what it should have is trouble, and told in the log."""
        client = self.upload()
        with capturedLogs() as logs:
            self.worker.answer(female="yes")
        self.assert_trouble(client.reply(), "internal error")
        self.assertIn("a worker's answer has no female", [log.get("why") for log in logs])

    def test_stop(self) -> None:
        """A stop ends the workers, and clients that wait are told."""
        client = self.upload()
        stopped = self.scorer.stop()
        self.assertEqual(self.worker.signals, ["TERM"])
        self.worker.die(signal=15)
        self.successResultOf(stopped)
        self.assert_trouble(client.reply(), "the scorer is stopping")
        self.assert_trouble(self.upload().reply(), "the scorer is stopping")


class StandInTests(SynchronousTestCase):
    """The stand-in as a scorer."""

    def test_needs_nothing(self) -> None:
        """It has nothing to start or stop, and takes no memory for photos."""
        scorer = StandInScorer()
        scorer.start()
        self.assertIsNone(self.successResultOf(scorer.stop()))
        self.assertIsNone(scorer.max_photo_memory)

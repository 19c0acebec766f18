"""The worker's side of the pipes: what it reads, and what it says."""

import signal
import sys
from io import BytesIO, StringIO

from twisted.trial.unittest import SynchronousTestCase

from merlind.merlinface.scorer.frames import (
    NameScore,
    Request,
    look_request,
    read_answer,
    read_judgement,
    read_score,
    score_request,
)
from merlind.merlinface.scorer.judgement import NO_FACE, NO_LETTER, TOO_MANY_PIXELS, Judgement, Refused
from merlind.merlinface.scorer.worker import serve

ADA = Judgement(0.98, 34.25)


def look(photo: bytes) -> Judgement:
    match photo:
        case b"nobody":
            raise Refused(NO_FACE)
        case b"huge":
            raise MemoryError
        case b"broken":
            raise KeyError("a secret name")
    return ADA


def score(name: str, judgement: Judgement) -> NameScore:
    if name == "7":
        raise Refused(NO_LETTER)
    return NameScore(judgement.female, name == "Зоя")


class ServeTests(SynchronousTestCase):
    """One worker, from its first request to the end of its input."""

    def setUp(self) -> None:
        self.words = StringIO()
        self.patch(sys, "stderr", self.words)

    def serve(self, *requests: Request, cut: int = 0) -> list[bytes]:
        """Send requests, all but the last ``cut`` bytes, and return the lines after the first."""
        sent = b"".join(piece for request in requests for piece in request)
        self.said = BytesIO()
        try:
            serve(BytesIO(sent[: len(sent) - cut]), self.said, look, score, 60)
        finally:
            ready, *lines = self.said.getvalue().splitlines()
            self.assertEqual(ready, b"ready")
            self.lines = lines
            self.assertEqual(signal.getitimer(signal.ITIMER_REAL), (0.0, 0.0))
        return lines

    def test_judges_and_scores(self) -> None:
        """A photo becomes a judgement, and a name with a judgement a score: each comes out as it went in."""
        judged, scored = self.serve(look_request(b"Ada"), score_request("Зоя", ADA))
        self.assertEqual(read_judgement(read_answer(judged)), ADA)
        self.assertEqual(read_score(read_answer(scored)), NameScore(0.98, True))

    def test_refuses(self) -> None:
        """A refusal has its reason, and the worker goes on."""
        lines = self.serve(look_request(b"nobody"), score_request("7", ADA), score_request("Ada", ADA))
        for line, read, reason in ((lines[0], read_judgement, NO_FACE), (lines[1], read_score, NO_LETTER)):
            refused = self.assertRaises(Refused, read, read_answer(line))
            self.assertEqual(refused.reason, reason)
        self.assertEqual(read_score(read_answer(lines[2])), NameScore(0.98, False))

    def test_end(self) -> None:
        """It ends with its input, also in the middle of a request."""
        self.assertEqual(self.serve(), [])
        request = look_request(b"Ada")
        for cut in range(1, len(b"".join(request)) + 1):
            self.assertEqual(self.serve(request, cut=cut), [])

    def test_out_of_memory(self) -> None:
        """A photo that a fresh worker has too little memory for is refused; one that saw others before ends."""
        (line,) = self.serve(look_request(b"huge"))
        self.assertEqual(self.assertRaises(Refused, read_judgement, read_answer(line)).reason, TOO_MANY_PIXELS)
        end = self.assertRaises(SystemExit, self.serve, look_request(b"Ada"), look_request(b"huge"))
        self.assertEqual((end.code, len(self.lines)), (1, 1))
        self.assertIn("MemoryError in test_worker.py, line ", self.words.getvalue())

    def test_unexpected_error(self) -> None:
        """An error that nobody foresaw ends it, with a line that quotes nothing."""
        end = self.assertRaises(SystemExit, self.serve, look_request(b"broken"), look_request(b"Ada"))
        self.assertEqual((end.code, self.lines), (1, []))
        self.assertRegex(self.words.getvalue(), r"^KeyError in test_worker.py, line \d+\n$")


class AnswerTests(SynchronousTestCase):
    """Answers that are none."""

    def test_not_an_object(self) -> None:
        """A line that is no JSON object is a ValueError."""
        for line in (b"", b"x", b"[]", b"1", b"\xff"):
            self.assertRaises(ValueError, read_answer, line)

    def test_wrong_fields(self) -> None:
        """An object without the numbers that belong there is a ValueError."""
        for line in (b"{}", b'{"female":1}', b'{"female":"1","age":2}', b'{"female":true,"age":2}',
                     b'{"female":NaN,"age":2}', b'{"female":Infinity,"age":2}', b'{"refused":1}'):  # fmt: skip
            self.assertRaises(ValueError, read_judgement, read_answer(line))
            self.assertRaises(ValueError, read_score, read_answer(line))

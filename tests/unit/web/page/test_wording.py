"""What is said of scores, failures and errors."""

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from merlind.merlinface.scorer import judgement
from merlind.web.page.texts import LANGUAGES, read_texts
from merlind.web.page.wording import failure, odds, request_error

EN, RU = read_texts("en"), read_texts("ru")

CONTRACT = Path(__file__).parents[4] / "docs" / "contract.md"


class OddsTests(SynchronousTestCase):
    """The face scorer's scores as odds."""

    def test_odds(self) -> None:
        """How many times as common, or rarer; without a number near one half, and where it would be a large one."""
        for result, english in (
            (0.75, "3.0 times as common with such faces"),
            (0.25, "3.0 times rarer with such faces"),
            (0.53, "1.1 times as common with such faces"),
            (0.5, "As common with any face"),
            (0.49, "As common with any face"),
            (0.95, "Far more common with such faces"),
            (1.0, "Far more common with such faces"),
            (0.0, "Far rarer with such faces"),
        ):
            self.assertEqual(odds(EN, "face", result), english, result)
        self.assertEqual(odds(RU, "face", 0.75), "С таким лицом в 3,0 раза чаще")

    def test_no_odds(self) -> None:
        """Other scorers' scores have no such meaning, nor do numbers that are no probability."""
        self.assertEqual([odds(EN, kind, 0.75) for kind in ("url", "stand-in")], ["", ""])
        self.assertEqual([odds(EN, "face", number) for number in (-0.5, 1.5)], ["", ""])


class FailureTests(SynchronousTestCase):
    """Failed tasks."""

    def test_refusals_of_the_face_scorer(self) -> None:
        """Each reason that the face scorer has for no score is told in the person's language; there are no others."""
        reasons = {value for name, value in vars(judgement).items() if name.isupper() and isinstance(value, str)}
        self.assertEqual(len(reasons), 5)
        for texts in (EN, RU):
            keys = {key.removeprefix("refused.") for key in texts if key.startswith("refused.")}
            self.assertEqual(keys, reasons)
            for reason in reasons:
                error = {"code": "upstream_422", "detail": reason, "source": "upstream"}
                self.assertEqual(failure(texts, error), texts.say(f"refused.{reason}"))

    def test_whose_fault(self) -> None:
        """A task that was given up because merlind is set up wrongly is no fault of the scoring service."""
        error = {"code": "gave_up", "detail": "HTTP 401", "source": "merlind"}
        self.assertIn("set up wrongly", failure(EN, error))
        self.assertIn("did not answer in time", failure(EN, {**error, "source": "upstream"}))

    def test_all_codes(self) -> None:
        """Each code of a failed task that docs/contract.md knows has a text."""
        section = (
            CONTRACT.read_text("utf-8").partition("| `error.code` | `error.source` | meaning |")[2].partition("\n\n")[0]
        )
        codes = re.findall(r"`([a-z_0-9]+)`", "\n".join(line.split("|")[1] for line in section.splitlines() if line))
        self.assertGreater(len(codes), 5)
        for language in LANGUAGES:
            texts = read_texts(language)
            for code in codes:
                said = failure(texts, {"code": code, "detail": "why", "source": "upstream"})
                self.assertEqual("why" in said, code.startswith("upstream_"), code)


class RequestErrorTests(SynchronousTestCase):
    """Errors of requests."""

    def test_unknown_code(self) -> None:
        """A code without a text is named."""
        self.assertIn("(bad_boundary)", request_error(RU, {"code": "bad_boundary", "detail": "x"}))

    def test_codes_of_the_form(self) -> None:
        """What may go wrong with a form that was filled in has a text."""
        codes = (
            "bad_name", "cross_site", "forbidden", "full", "internal_error", "missing_field", "name_too_large",
            "not_an_image", "sign_in", "storage", "too_large", "too_many_connections", "too_many_requests",
            "too_many_sign_ins", "too_many_tasks", "too_many_uploads", "too_slow", "unauthorized",
        )  # fmt: skip
        known = set(re.findall(r"\| `([a-z_]+)` \|", CONTRACT.read_text("utf-8")))
        self.assertEqual(set(codes) - known, set())
        for texts in (EN, RU):
            for code in codes:
                said = request_error(texts.with_values(max_photo="10 MB"), {"code": code, "detail": "x"})
                self.assertIsNone(re.search(rf"[{{(]|{code}", said), said)

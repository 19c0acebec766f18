"""What each response of the upstream means: the tables of docs/contract.md and docs/battery.md, row by row."""

import json
import math
import os
import time
from email.utils import formatdate
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from merlind.core.outcome import Fault, HandleExpired, Outcome, Pending, Rejected, Scored, TaskError, TransientError
from merlind.upstream.error_text import MAX_TEXT
from merlind.upstream.reply import MAX_RETRY_AFTER, MAX_RETRY_ID, interpret, parse_retry_after
from merlind.upstream.response_parser import UpstreamResponse
from tests.unit.support import EPOCH

UUID = "3f8c863e-00a5-11eb-9b94-0242ac12003a"
SUCCESSES = (200, 201, 202, 204, 299)

checked = settings(max_examples=200, deadline=None, derandomize=True, database=None)


def means(
    body: Any, status: int = 200, polled: bool = False, retry_after: str | None = None, location: str | None = None
) -> Outcome:
    """Interpret a response; a body that isn't bytes is sent as JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return interpret(polled, UpstreamResponse(status, content, retry_after, True, location), EPOCH)


def set_zone(zone: str | None) -> None:
    """Set the local time zone; None is the machine's own."""
    if zone is None:
        os.environ.pop("TZ", None)
    else:
        os.environ["TZ"] = zone
    time.tzset()


def ready(result: str) -> bytes:
    """The body of a finished task, with its result in raw JSON."""
    return b'{"status":"ready","result":%s}' % result.encode()


def wait(retry_id: Any, **more: Any) -> dict[str, Any]:
    return {"status": "wait", "result": None, "retry_id": retry_id, **more}


class ReadyTests(SynchronousTestCase):
    """Responses with a result."""

    def test_words(self) -> None:
        """Both ``ready`` and ``success`` mean a result, with any 2xx, to an upload and to a poll."""
        for word in ("ready", "success"):
            for status in SUCCESSES:
                for polled in (False, True):
                    answer: dict[str, Any] = {"status": word, "result": 0.83, "errors": []}
                    self.assertEqual(means(answer, status, polled), Scored(0.83))

    def test_numbers(self) -> None:
        """Finite numbers, and strings of one, are results."""
        for text, value in (
            ("0", 0.0),
            ("1", 1.0),
            ("-2.5", -2.5),
            ("0.5", 0.5),
            ('"0.5"', 0.5),
            ('"-1e3"', -1000.0),
            ("1e308", 1e308),
            ('"1E+2"', 100.0),
            ("1e-400", 0.0),
            ("123456789012345678901234567890", 123456789012345678901234567890.0),
        ):
            outcome = means(ready(text))
            self.assertEqual(outcome, Scored(value), text)
            assert isinstance(outcome, Scored)
            self.assertIs(type(outcome.result), float)

    def test_not_numbers(self) -> None:
        """Anything else in its place is a transient error."""
        for text in (
            "null", "true", "false", "[]", "[0.5]", "{}", '""', '"abc"', '"NaN"', '"Infinity"', '"1e999"', '"-1e999"',
            '"nan"', '"inf"', '" 0.5"', '"0.5 "', '"0x1"', '"1_0"', '"+1"', '".5"', '"1."', '"01"', '"١"', '"0.5\\n"',
            "1e999", "-1e999", "9" * 400, '"%s"' % ("9" * 402),
        ):  # fmt: skip
            self.assertEqual(means(ready(text)), TransientError("no finite result"), text)
        self.assertEqual(means({"status": "ready"}), TransientError("no finite result"))

    def test_retry_after(self) -> None:
        """A transient error over a bad result keeps the wait that was asked for."""
        self.assertEqual(means(ready("null"), retry_after="9"), TransientError("no finite result", 9.0))


class WaitTests(SynchronousTestCase):
    """Responses that ask to wait."""

    def test_ids(self) -> None:
        """Strings of printable ASCII and integers are ids."""
        longest = "x" * MAX_RETRY_ID
        for given_id, retry_id in ((UUID, UUID), (7, "7"), (0, "0"), (-1, "-1"), ("7", "7"), (longest, longest)):
            for polled in (False, True):
                for status in SUCCESSES:
                    self.assertEqual(means(wait(given_id, errors=[]), status, polled), Pending(retry_id))

    def test_unusable_ids(self) -> None:
        """Anything else is a transient error, to a poll too."""
        for given_id in (
            "", "x" * (MAX_RETRY_ID + 1), "x" * 2**20, [], ["a"], {}, {"a": 1}, True, False, 0.5, "../", "a/../b", "é",
            "a b", "a\r\nb", "a\0", "\x7f", "\ud800", "a\n",
        ):  # fmt: skip
            for polled in (False, True):
                self.assertEqual(means(wait(given_id), polled=polled), TransientError("no usable retry_id"), given_id)

    def test_no_id(self) -> None:
        """A poll's response needs none, the known one stays valid; an upload's does."""
        for answer in (wait(None), {"status": "wait"}):
            self.assertEqual(means(answer, polled=True), Pending(None))
            self.assertEqual(means(answer, polled=False), TransientError("no usable retry_id"))

    def test_retry_after(self) -> None:
        """The wait that was asked for is passed on."""
        self.assertEqual(means(wait("a"), 202, retry_after="7"), Pending("a", 7.0))
        self.assertEqual(means(wait([]), 202, retry_after="7"), TransientError("no usable retry_id", 7.0))


NGINX = b"""<html>\r
<head><title>400 The plain HTTP request was sent to HTTPS port</title></head>\r
<body>\r
<center><h1>400 Bad Request</h1></center>\r
<center>The plain HTTP request was sent to HTTPS port</center>\r
<hr><center>nginx</center>\r
</body>\r
</html>\r
"""


class RejectedTests(SynchronousTestCase):
    """Responses that refuse a task."""

    def test_error(self) -> None:
        """The word ``error`` with a 2xx rejects the one task, with what it said."""
        for polled in (False, True):
            for errors, detail in (
                (["no face", "too dark"], "no face; too dark"),
                ([], "the upstream refused it"),
                (None, "the upstream refused it"),
                (["\x00\u202e"], "the upstream refused it"),
            ):
                answer = {"status": "error", "result": None, "errors": errors}
                self.assertEqual(means(answer, polled=polled), Rejected(TaskError("upstream_error", detail)))

    def test_the_api_says_so(self) -> None:
        """400, 413, 415 and 422 reject the one task if the API itself says so, in any of the forms that APIs use."""
        for status in (400, 413, 415, 422):
            for polled in (False, True):
                for reply, detail in (
                    ({"errors": ["no face"]}, "no face"),
                    ({"status": "error"}, f"the upstream answered {status}"),
                    ({"status": "error", "result": None, "errors": []}, f"the upstream answered {status}"),
                    ({"error": "no face"}, "no face"),
                    ({"error": None}, f"the upstream answered {status}"),
                    ({"detail": "no face"}, "no face"),
                    ({"title": "Bad Request", "status": status, "detail": "no face"}, "no face"),
                    ({"message": "no face"}, "no face"),
                ):
                    self.assertEqual(
                        means(reply, status, polled), Rejected(TaskError(f"upstream_{status}", detail)), reply
                    )

    def test_something_else_says_so(self) -> None:
        """The same statuses with anything else in the body come from a proxy or a framework: the task is kept (U13)."""
        for status in (400, 413, 415, 422):
            for polled in (False, True):
                for body, words in (
                    (b"", ""),
                    (NGINX, ": 400 The plain HTTP request was sent to HTTPS port"),
                    (b"<h1>Bad Request (400)</h1>", ": Bad Request (400)"),
                    (b"Invalid host header", ": Invalid host header"),
                    (b"[]", ": []"),
                    (b'["no face"]', ': ["no face"]'),
                    (b"{}", ": {}"),
                    (b'{"photo":["required"]}', ': {"photo":["required"]}'),
                    (b'{"title":"Bad Request"}', ": Bad Request"),
                    (b'{"errors":["no face"]', ': {"errors":["no face"]'),
                    (b'{"error":1,"error":2}', ': {"error":1,"error":2}'),
                    (ready("0.5"), ': {"status":"ready","result":0.5}'),
                    (b"\x1f\x8b\x00\xff", ""),
                ):
                    reason = f"http {status}, not in the API's form{words}"
                    self.assertEqual(
                        means(body, status, polled, "5"), TransientError(reason, 5.0, Fault.MISCONFIGURED), body
                    )


class StatusTests(SynchronousTestCase):
    """Responses whose status says it all, or almost."""

    def test_expired(self) -> None:
        """404 and 410 to a retry_id mean that the upstream no longer knows it, if the API itself says so."""
        for status in (404, 410):
            for reply in (
                {"status": "error", "result": None, "errors": ["unknown retry_id"]},
                {"detail": "Not found."},
            ):
                self.assertEqual(means(reply, status, polled=True), HandleExpired())

    def test_not_found_elsewhere(self) -> None:
        """A page that says 404 or 410 to a poll comes from somewhere else: the retry_id is kept (U13)."""
        for status in (404, 410):
            for body, words in ((b"<title>Not Found</title>", ": Not Found"), (b"", ""), (b"{}", ": {}")):
                reason = f"http {status}, not in the API's form{words}"
                self.assertEqual(
                    means(body, status, polled=True), TransientError(reason, fault=Fault.MISCONFIGURED), body
                )

    def test_ours(self) -> None:
        """Statuses that say that our side is misconfigured keep the task, and what was said with them."""
        for status in (401, 403, 404, 405, 410):
            for polled in (False, True):
                if polled and status in (404, 410):
                    continue
                for body, words in (
                    (b"", ""),
                    (b"<html><title>Go away</title>", ": Go away"),
                    (b'{"error":"bad\\nkey"}', ": bad key"),
                ):
                    self.assertEqual(
                        means(body, status, polled, "5"),
                        TransientError(f"http {status}{words}", 5.0, Fault.MISCONFIGURED),
                    )

    def test_private(self) -> None:
        """A page that repeats what it was sent isn't repeated: reasons get into the log."""
        for status, form in ((400, ", not in the API's form"), (403, "")):
            response = UpstreamResponse(status, b"<p>bad name: Anna</p>", None, True)
            for private, words in (((), ": bad name: Anna"), (("Bob",), ": bad name: Anna"), (("Bob", "Anna"), "")):
                outcome = interpret(False, response, EPOCH, private)
                self.assertEqual(outcome, TransientError(f"http {status}{form}{words}", fault=Fault.MISCONFIGURED))

    def test_redirect(self) -> None:
        """A redirect is our misconfiguration too; it says where to, without what may be secret (U18)."""
        for status in (300, 301, 302, 303, 307, 308, 399):
            for polled in (False, True):
                for location, words in (
                    ("https://h.example/api/", "to https://h.example/api/"),
                    ("/api", "to /api"),
                    ("https://user:secret@h.example:81/a?key=secret#secret", "to https://h.example:81/a?…"),
                    ("http://[h/", "to an unreadable address"),
                    ("", "without a Location"),
                    (None, "without a Location"),
                ):
                    outcome = means(ready("0.5"), status, polled, "5", location)
                    reason = f"http {status}, a redirect {words}"
                    self.assertEqual(outcome, TransientError(reason, 5.0, Fault.MISCONFIGURED), location)

    def test_unavailable(self) -> None:
        """Statuses of an upstream that is away or overloaded are told from those of a response that can't be used."""
        unavailable = dict.fromkeys((408, 425, 429, 502, 503, 504), Fault.UNAVAILABLE)
        unusable = dict.fromkeys((100, 199, 402, 406, 418, 500, 501, 505, 599, 999), Fault.RESPONSE)
        for status, fault in (unavailable | unusable).items():
            for polled in (False, True):
                outcome = means(ready("0.5"), status, polled, "5")
                self.assertEqual(outcome, TransientError(f"http {status}", 5.0, fault), status)


class GarbageTests(SynchronousTestCase):
    """Responses that make no sense."""

    def test_not_json(self) -> None:
        """What strict JSON doesn't allow is a transient error, and raises nothing."""
        good = ready("0.5")
        for body in (
            b"",
            b"<html>",
            good[:-1],
            good[: len(good) // 2],
            good + b"x",
            good + good,
            b"\xef\xbb\xbf" + good,
            good.decode().encode("utf-16"),
            b'{"status":"ready\xff","result":1}',
            b"[" * 100_000,
            b'{"a":' * 100_000,
            b"[]",
            b'"ready"',
            b"0.5",
            b"null",
            ready("NaN"),
            ready("Infinity"),
            ready("-Infinity"),
            ready("9" * 5000),
            ready("-" + "9" * 513),
            b'{"status":"ready","result":0.5,"x":%s}' % (b"1" * 5000),
            b'{"status":"ready","result":0.5,"x":NaN}',
            b'{"status":"ready","status":"wait","result":0.5}',
            b'{"status":"ready","result":0.5,"result":0.5}',
            b'{"status":"ready","result":0.5,"x":{"a":1,"a":1}}',
        ):
            self.assertEqual(means(body, retry_after="4"), TransientError("not json", 4.0), body[:60])

    def test_unknown_word(self) -> None:
        """Any word but the known ones is a transient error."""
        words: tuple[Any, ...] = ("READY", "done", "", None, 1, True, [], {}, ["ready"], "ready ")
        for word in words:
            self.assertEqual(
                means({"status": word, "result": 0.5}, retry_after="4"), TransientError("unknown status", 4.0)
            )
        self.assertEqual(means({"result": 0.5}), TransientError("unknown status"))


class RetryAfterTests(SynchronousTestCase):
    """The header that asks to wait."""

    def test_values(self) -> None:
        """Seconds or a date, clamped; junk asks for nothing."""
        for value, pause in (
            (None, 0.0),
            ("0", 0.0),
            ("5", 5.0),
            (" 5 ", 5.0),
            ("3600", MAX_RETRY_AFTER),
            ("3601", MAX_RETRY_AFTER),
            ("1000000000", MAX_RETRY_AFTER),
            ("9" * 5000, MAX_RETRY_AFTER),
            ("-5", 0.0),
            ("1.5", 0.0),
            ("1e3", 0.0),
            ("", 0.0),
            ("soon", 0.0),
            ("٣", 0.0),
            ("²", 0.0),
            (formatdate(EPOCH + 20, usegmt=True), 20.0),
            (formatdate(EPOCH - 20, usegmt=True), 0.0),
            (formatdate(EPOCH + 1e6, usegmt=True), MAX_RETRY_AFTER),
            ("Fri, 31 Dec 9999 23:59:59 GMT", MAX_RETRY_AFTER),
            ("Fri, 31 Dec 9999 23:59:59 -2359", MAX_RETRY_AFTER),
            ("Mon, 01 Jan 0001 00:00:00 -0000", 0.0),
            ("Mon, 01 Jan 0001 00:00:00 +2359", 0.0),
            ("Mon, 99 Jan 2040 00:00:00 GMT", 0.0),
            ("Mon, 01 Jan 99999999999999999999 00:00:00 GMT", 0.0),
            ("Mon, 01 Jan 2040 00:00:00 +99999999999999999999", 0.0),
            (",", 0.0),
        ):
            self.assertEqual(parse_retry_after(value, EPOCH), pause, value)

    def test_date_without_zone(self) -> None:
        """It is read as GMT (RFC 9110, 5.6.7), wherever merlind runs."""
        self.addCleanup(set_zone, os.environ.get("TZ"))
        set_zone("XYZ-5")
        self.assertEqual(parse_retry_after(time.asctime(time.gmtime(EPOCH + 20)), EPOCH), 20.0)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=6,
)
answers = st.fixed_dictionaries(
    {"status": st.sampled_from(["ready", "success", "wait", "error", "what"]) | json_values},
    optional={
        "result": json_values | st.text(alphabet="0123456789.eE+-", max_size=12),
        "retry_id": json_values | st.text(max_size=600),
        "errors": json_values,
        "error": json_values,
        "detail": json_values,
    },
)
bodies = st.binary(max_size=200) | answers.map(lambda answer: json.dumps(answer).encode("utf-8"))


class InterpretTests(SynchronousTestCase):
    """Whatever comes."""

    @checked
    @given(
        st.booleans(),
        st.integers(0, 1100) | st.sampled_from([200, 308, 400, 404]),
        bodies,
        st.none() | st.text(max_size=40),
        st.none() | st.text(max_size=600),
    )
    def test_anything(
        self, polled: bool, status: int, body: bytes, retry_after: str | None, location: str | None
    ) -> None:
        """It never raises, and what it returns is within bounds."""
        self.check(means(body, status, polled, retry_after, location))

    @checked
    @given(st.booleans(), answers)
    def test_any_answer(self, polled: bool, answer: dict[str, Any]) -> None:
        """So it is for responses that look right."""
        outcome = means(answer, polled=polled)
        self.check(outcome)
        if isinstance(outcome, Pending) and outcome.retry_id is None:
            self.assertTrue(polled)

    def check(self, outcome: Outcome) -> None:
        match outcome:
            case Scored(result):
                self.assertIs(type(result), float)
                self.assertTrue(math.isfinite(result))
            case Pending(retry_id, after):
                self.assertTrue(0 <= after <= MAX_RETRY_AFTER)
                if retry_id is not None:
                    self.assertTrue(0 < len(retry_id) <= MAX_RETRY_ID)
                    self.assertTrue(retry_id.isascii() and retry_id.isprintable() and " " not in retry_id)
            case Rejected(error):
                self.assertTrue(0 < len(error.detail) <= MAX_TEXT)
                self.assertTrue(error.detail.isprintable())
            case TransientError(reason, after):
                self.assertTrue(0 < len(reason) <= MAX_TEXT + 40)
                self.assertTrue(reason.isprintable())
                self.assertTrue(0 <= after <= MAX_RETRY_AFTER)
            case _:
                self.assertEqual(outcome, HandleExpired())

    @checked
    @given(st.text(max_size=50), st.floats(-1e12, 1e12))
    def test_any_retry_after(self, value: str, wall: float) -> None:
        """The wait is between none and the longest, whatever the time."""
        self.assertTrue(0 <= parse_retry_after(value, wall) <= MAX_RETRY_AFTER)

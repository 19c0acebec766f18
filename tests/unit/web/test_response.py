"""Responses as bytes."""

import re
import time
from email.utils import parsedate_to_datetime

from twisted.trial.unittest import SynchronousTestCase

from merlind.web.response import ALLOW, Response, json_response, problem, retry_after, unavailable
from tests.unit.web.support import read_replies

CODES = (200, 202, 204, 400, 404, 405, 408, 411, 413, 414, 415, 422, 429, 431, 500, 501, 503)
"""Every status that merlind ever responds with."""


class ResponseTests(SynchronousTestCase):
    """What goes over the wire."""

    def test_bytes(self) -> None:
        """A response is these bytes."""
        data = json_response(202, {"a": None}, (b"X", b"y")).to_bytes()
        self.assertEqual(
            re.sub(rb"Date: [^\r]+", b"Date: now", data),
            b"HTTP/1.1 202 Accepted\r\n"
            b"Date: now\r\n"
            b"Cache-Control: no-store\r\n"
            b"X-Content-Type-Options: nosniff\r\n"
            b"Content-Type: application/json\r\n"
            b"Content-Length: 10\r\n"
            b"X: y\r\n"
            b"\r\n"
            b'{"a":null}',
        )

    def test_close(self) -> None:
        """A response says when the connection closes."""
        self.assertIn(b"\r\nConnection: close\r\n\r\n{", json_response(200, {}).to_bytes(close=True))
        self.assertNotIn(b"Connection", json_response(200, {}).to_bytes())

    def test_head(self) -> None:
        """The response to a HEAD lacks the body, and only that."""
        whole = json_response(200, {"a": 1})
        self.assertEqual(whole.to_bytes(head=True), whole.to_bytes().removesuffix(b'{"a":1}'))

    def test_no_content(self) -> None:
        """A 204 has neither a body nor a length (RFC 9110, section 8.6)."""
        (reply,) = read_replies(Response(204).to_bytes())
        self.assertEqual(
            (reply.code, reply.body, reply.get("Content-Length"), reply.get("Content-Type")), (204, b"", None, None)
        )

    def test_reasons(self) -> None:
        """Every status has its reason (RFC 9110, section 15)."""
        names = {code: read_replies(Response(code).to_bytes())[0].reason for code in CODES}
        self.assertEqual(
            (names[408], names[413], names[422], names[429], names[431]),
            (
                "Request Timeout",
                "Content Too Large",
                "Unprocessable Content",
                "Too Many Requests",
                "Request Header Fields Too Large",
            ),
        )
        self.assertNotIn("Unknown Status", names.values())

    def test_with_header(self) -> None:
        """A response with one more header is another response."""
        first = json_response(200, {}, (b"A", b"1"))
        second = first.with_header(b"B", b"2")
        self.assertEqual((first.headers, second.headers), (((b"A", b"1"),), ((b"A", b"1"), (b"B", b"2"))))
        self.assertEqual((second.code, second.body, second.content_type), (first.code, first.body, first.content_type))

    def test_no_infinity(self) -> None:
        """A number that JSON doesn't have is never sent."""
        for value in (float("nan"), float("inf")):
            self.assertRaises(ValueError, json_response, 200, {"result": value})

    def test_ascii(self) -> None:
        """Text is escaped to ASCII."""
        self.assertEqual(json_response(200, {"detail": "é\U0001f600\n"}).body, b'{"detail":"\\u00e9\\ud83d\\ude00\\n"}')

    def test_date(self) -> None:
        """The Date is the current second (RFC 9110, section 6.6.1)."""
        now = 1_800_000_000.9
        self.patch(time, "time", lambda: now)
        (reply,) = read_replies(Response(204).to_bytes())
        self.assertEqual(reply.get("Date"), "Fri, 15 Jan 2027 08:00:00 GMT")
        now += 0.2
        (reply,) = read_replies(Response(204).to_bytes())
        date = reply.get("Date")
        assert date is not None
        self.assertEqual(parsedate_to_datetime(date).timestamp(), 1_800_000_001)


class ProblemTests(SynchronousTestCase):
    """Errors (RFC 9457)."""

    def test_problem(self) -> None:
        """A problem has these members, this type, and the headers that it was given."""
        (reply,) = read_replies(problem(405, "no_way", "not this way", (b"Allow", ALLOW)).to_bytes())
        self.assertEqual(
            reply.json,
            {
                "type": "about:blank",
                "title": "Method Not Allowed",
                "status": 405,
                "detail": "not this way",
                "code": "no_way",
            },
        )
        self.assertEqual(reply.get("Content-Type"), "application/problem+json")
        self.assertEqual(reply.get("Allow"), "GET, HEAD, POST, DELETE, OPTIONS")

    def test_unavailable(self) -> None:
        """A 503 says when to try again."""
        self.assertEqual(unavailable("a", "b").headers, ((b"Retry-After", b"5"),))
        self.assertEqual(unavailable("a", "b", 9.5).headers, ((b"Retry-After", b"10"),))

    def test_retry_after(self) -> None:
        """Retry-After is in whole seconds, at least one."""
        for seconds, text in ((0.0, b"1"), (0.01, b"1"), (1.0, b"1"), (1.01, b"2"), (2.0, b"2"), (3600.0, b"3600")):
            self.assertEqual(retry_after(seconds), (b"Retry-After", text))

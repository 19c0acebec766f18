"""What an upstream says of an error, in whatever form it says so."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from merlind.upstream.error_text import MAX_TEXT, error_text, one_line, page_text, redirect_target

checked = settings(max_examples=200, deadline=None, derandomize=True, database=None)


class ErrorTextTests(SynchronousTestCase):
    """Errors in JSON (U17)."""

    def test_forms(self) -> None:
        """The words are found in any of the forms that APIs and frameworks use."""
        for reply, words in (
            ({"errors": ["no face", "too dark"]}, "no face; too dark"),
            ({"errors": "no face"}, "no face"),
            ({"errors": {"photo": ["no face", "too dark"], "name": "too long"}},
             "photo: no face; too dark; name: too long"),
            ({"errors": {"title": ["too long"], "photo": ["no face"]}}, "title: too long; photo: no face"),
            ({"errors": [{"code": 1100, "message": "no face"}]}, "no face"),
            ({"errors": [{"status": "422", "detail": "no face", "title": "Invalid"}, {"title": "Dark"}]},
             "no face; Dark"),
            ({"errors": [{"code": "NO_FACE"}, {"code": 1100}]}, "NO_FACE; code: 1100"),
            ({"errors": [1, 0.5, None, True, ["x"], {"a": "b"}]}, "1; 0.5; x; a: b"),
            ({"message": "The given data was invalid.", "errors": {"photo": ["no face"]}}, "photo: no face"),
            ({"error": "no face"}, "no face"),
            ({"error": {"code": 400, "message": "no face", "status": "INVALID_ARGUMENT"}}, "no face"),
            ({"error": {"errors": [{"reason": "no face"}]}}, "errors: no face"),
            ({"status": 400, "error": "Bad Request", "message": "no face", "path": "/api/"}, "no face"),
            ({"title": "Bad Request", "detail": "no face"}, "no face"),
            ({"detail": [{"loc": ["body", "photo"], "msg": "no face", "type": "value_error"}]}, "no face"),
            ({"message": ["no face"], "statusCode": 400}, "no face"),
            ({"errors": [], "message": "no face"}, "no face"),
            ({"errors": ["", "\u200b", "\x00"], "message": "no face"}, "no face"),
            ({"title": "no face"}, "no face"),
            ({"errors": {"": ["no face"]}}, "no face"),
            ({"status": "error", "result": None}, ""),
            ({}, ""),
        ):  # fmt: skip
            self.assertEqual(error_text(reply), words, reply)

    def test_one_line(self) -> None:
        """White space becomes one space; what isn't printable is left out."""
        reply = {"errors": ["  no\r\n\tface\u2028now", "\x00\x1b[31m\u202e\ud800red"]}
        self.assertEqual(error_text(reply), "no face now; [31mred")

    def test_shortened(self) -> None:
        """A long text is shortened, and says so."""
        self.assertEqual(error_text({"errors": ["x" * MAX_TEXT]}), "x" * MAX_TEXT)
        shortened = "x" * (MAX_TEXT - 1) + "…"
        for errors in ("x" * (MAX_TEXT + 1), "x" * 60_000, ["x" * MAX_TEXT, "y"], {"x" * 60_000: "y"}):
            self.assertEqual(error_text({"errors": errors}), shortened)

    def test_deep_and_wide(self) -> None:
        """Errors inside errors count down to a depth, and a few of each list."""
        deep: Any = "no face"
        for _ in range(5):
            deep = [deep]
        self.assertEqual(error_text({"errors": deep}), "no face")
        for _ in range(900):
            deep = [deep]
        self.assertEqual(error_text({"errors": deep}), "")
        self.assertEqual(error_text({"errors": [str(n) for n in range(1000)]}), "0; 1; 2; 3; 4; 5; 6; 7; 8; 9")


class PageTextTests(SynchronousTestCase):
    """Pages of proxies and frameworks."""

    def test_pages(self) -> None:
        """A page's title, or else its first words."""
        for page, words in (
            (b"<!doctype html><HTML><Title lang=en>\n 413 Too\nLarge </title><body>x", "413 Too Large"),
            (b"<title>Bad&nbsp;Request &mdash; &lt;host&gt;</title>", "Bad Request — <host>"),
            (b"<title> </title><p>Bad <b>Request</b></p>", "Bad Request"),
            (b"<title></title>", ""),
            (b"plain text", "plain text"),
            ("Ошибка".encode(), "Ошибка"),
            ("Ошибка 400".encode("cp1251"), "400"),
            (b"", ""),
            (b"\x1f\x8b\x08\x00\xff", ""),
        ):
            self.assertEqual(page_text(page), words, page)

    def test_hostile(self) -> None:
        """Neither tags without an end nor numbers without one take long or raise."""
        for page in (b"<" * 65536, b"<title" * 10_000, b"<title>" + b"&#" + b"9" * 65_000, b"&#" + b"9" * 65_000):
            self.assertTrue(len(page_text(page)) <= MAX_TEXT)


class RedirectTests(SynchronousTestCase):
    """Where a redirect leads."""

    def test_targets(self) -> None:
        """Neither a password nor a query is told."""
        for location, target in (
            ("https://h.example/api/", "https://h.example/api/"),
            ("//h.example/api/", "//h.example/api/"),
            ("/api", "/api"),
            ("https://user:pass@h.example:81/", "https://h.example:81/"),
            ("https://a@b:c@h.example/", "https://h.example/"),
            ("https://h.example/?token=x", "https://h.example/?…"),
            ("https://h.example/#token", "https://h.example/"),
            ("http://[::1]/", "http://[::1]/"),
            ("http://[::1/", "an unreadable address"),
            ("", ""),
            ("\x00\x1b", ""),
        ):
            self.assertEqual(redirect_target(location), target)
        self.assertEqual(len(redirect_target("https://h.example/" + "x" * 9999)), MAX_TEXT)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=400),
    lambda inner: (
        st.lists(inner, max_size=12)
        | st.dictionaries(st.sampled_from(["message", "code", "errors"]) | st.text(max_size=400), inner, max_size=12)
    ),
    max_leaves=30,
)
replies = st.dictionaries(st.sampled_from(["errors", "detail", "message", "error", "title"]), json_values, max_size=5)


class AnythingTests(SynchronousTestCase):
    """Whatever comes, nothing raises, and the text is short and printable."""

    def check(self, text: str) -> None:
        self.assertTrue(len(text) <= MAX_TEXT)
        self.assertTrue(text.isprintable())
        text.encode("utf-8")

    @checked
    @given(replies)
    def test_any_json(self, reply: dict[str, Any]) -> None:
        """Errors in JSON, of any shape."""
        self.check(error_text(json.loads(json.dumps(reply))))

    @checked
    @given(st.binary(max_size=400) | st.text(alphabet="<>/title&#;x9 \n", max_size=400).map(str.encode))
    def test_any_page(self, page: bytes) -> None:
        """Pages."""
        self.check(page_text(page))

    @checked
    @given(st.text(max_size=400) | st.text(alphabet="http:/[]@?#%x\\", max_size=40))
    def test_any_text(self, text: str) -> None:
        """Redirects, and any other text."""
        self.check(redirect_target(text))
        self.check(one_line(text))

"""What pages of other origins may not send (docs/battery.md, H19)."""

from typing import Any

from merlind.web.cross_site import CrossSite
from tests.unit.web.support import EdgeCase, get, message, post

PAGE = "https://app.example.org"

ELSEWHERE: tuple[dict[str, Any], ...] = (
    {"Sec_Fetch_Site": "cross-site", "Origin": "https://evil.example"},
    {"Sec_Fetch_Site": "same-site", "Origin": "http://localhost:9000"},
    {"Sec_Fetch_Site": "cross-site"},
    {"Origin": "https://evil.example"},
    {"Origin": "http://localhost:9000"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:8000", "X_Forwarded_Host": "a.example"},
)
"""What browsers send with a request from another page. The host that is asked is localhost:8000."""

OWN: tuple[dict[str, Any], ...] = (
    {},
    {"Sec_Fetch_Site": "same-origin", "Origin": "http://localhost:8000"},
    {"Sec_Fetch_Site": "same-origin", "Origin": "null"},
    {"Sec_Fetch_Site": "none"},
    {"Origin": "http://localhost:8000"},
    {"Origin": "https://localhost:8000"},
    {"Origin": "https://face.example.org", "X_Forwarded_Host": "face.example.org"},
    {"Origin": "https://face.example.org:8443", "X_Forwarded_Host": "face.example.org:8443, inner.example"},
)
"""What they send from merlind's own page, also behind a proxy; and what programs send, which is nothing."""


class CrossSiteTests(EdgeCase):
    """Requests that change something, from pages."""

    def test_refused(self) -> None:
        """A page of another origin can neither submit nor erase; it is refused before the body is read."""
        task = self.accepted()
        for headers in ELSEWHERE:
            client = self.connect().send(post(b"", Content_Length="5000", Expect="100-continue", **headers))
            self.assert_problem(client.reply(), 403, "cross_site")
            if "Sec_Fetch_Site" in headers:
                self.assert_problem(self.ask(get(task, "DELETE", **headers)), 403, "cross_site")
            self.assertEqual(len(self.stored()), 1, headers)

    def test_behind_a_preflight(self) -> None:
        """What no page of another origin can send without a preflight comes from merlind's own, whatever the Host."""
        hidden: dict[str, Any] = {"Origin": "http://face.local", "Host": "127.0.0.1:8000"}
        task = self.ask(post(None, Prefer="respond-async", **hidden)).json["task"]
        self.assertEqual(self.ask(get(task, "DELETE", **hidden)).code, 204)
        elsewhere: dict[str, Any] = {"Sec_Fetch_Site": "cross-site", "Prefer": "respond-async"}
        self.assert_problem(self.ask(post(**elsewhere)), 403, "cross_site")
        preflight = message("OPTIONS", "/", Access_Control_Request_Method="POST", **hidden)
        self.assertEqual([name for name, _ in self.ask(preflight).headers if name.startswith("access-control-")], [])

    def test_cause_and_cure(self) -> None:
        """The refusal says what was seen, and what to do if it is a mistake."""
        by_site = self.ask(post(Sec_Fetch_Site="cross-site", Origin="https://evil.example")).json["detail"]
        by_origin = self.ask(post(Origin="https://evil.example")).json["detail"]
        self.assertIn("--cors-origin", by_site)
        for word in ("--cors-origin", "X-Forwarded-Host", "$http_host"):
            self.assertIn(word, by_origin)
        self.assertNotIn("evil", by_site + by_origin)

    def test_own(self) -> None:
        """merlind's own page and programs may."""
        for headers in OWN:
            task = self.ask(post(None, **headers)).json["task"]
            self.assertEqual(self.ask(get(task, "DELETE", **headers)).code, 204, headers)

    def test_reading(self) -> None:
        """What changes nothing isn't affected: a browser keeps the response from the page."""
        for headers in ELSEWHERE:
            for method, code in (("GET", 404), ("HEAD", 404), ("OPTIONS", 204)):
                self.assertEqual(self.ask(get(5, method, **headers)).code, code)

    def test_without_a_host(self) -> None:
        """In HTTP/1.0 a request may name no host; then no origin is merlind's own."""
        data = post(Host=None, Origin="http://localhost:8000").replace(b"/1.1", b"/1.0")
        self.assert_problem(self.ask(data), 403, "cross_site")


class ListedTests(EdgeCase):
    """With ``--cors-origin`` and an origin."""

    checks = (CrossSite([PAGE]),)

    def test_listed(self) -> None:
        """A listed page may, and others still may not."""
        for headers in ({"Sec_Fetch_Site": "cross-site"}, {"Sec_Fetch_Site": "same-site"}, {}):
            task = self.ask(post(None, Origin=PAGE, **headers)).json["task"]
            self.assertEqual(self.ask(get(task, "DELETE", Origin=PAGE, **headers)).code, 204)
        for headers in ELSEWHERE:
            self.assert_problem(self.ask(post(None, **headers)), 403, "cross_site")


class AnyTests(EdgeCase):
    """With ``--cors-origin *``."""

    checks = (CrossSite(["*"]),)

    def test_without_credentials(self) -> None:
        """Every page may, if its browser adds nothing by itself; a token is the page's own."""
        for headers in ELSEWHERE:
            self.assertEqual(self.ask(post(None, **headers)).code, 202)
            self.assertEqual(self.ask(post(None, Authorization="Bearer t0ken", **headers)).code, 202)

    def test_with_credentials(self) -> None:
        """A cookie or a password may be the browser's, which the page doesn't know: then it may not."""
        for credentials in ({"Cookie": "a=b"}, {"Authorization": "Basic YTpi"}, {"Authorization": "Negotiate x"}):
            reply = self.ask(post(None, Sec_Fetch_Site="cross-site", Origin="https://evil.example", **credentials))
            self.assert_problem(reply, 403, "cross_site")
            self.assertIn("--cors-origin *", reply.json["detail"])
            self.assertEqual(self.ask(post(None, Sec_Fetch_Site="same-origin", **credentials)).code, 202)
            self.assertEqual(self.ask(post(None, **credentials)).code, 202)

"""Pausing and resuming through the admin listener, and what may be sent to it."""

from typing import Any

from merlind.admin.parameters import MAX_BODY
from merlind.admin.pause import PauseRoutes
from merlind.web.router import Router
from tests.unit.admin.support import FORM, JSON, AdminCase
from tests.unit.support import EPOCH

PAUSED = {"paused": True, "until": None, "seconds_left": None}
RUNNING = {"paused": False, "until": None, "seconds_left": None}


class PauseCase(AdminCase):
    """The routes to pause and to resume."""

    def routers(self) -> list[Router]:
        return [PauseRoutes(self.core.pauser).respond]

    @property
    def paused(self) -> bool:
        return self.core.pauser.current.paused


class PauseTests(PauseCase):
    """Pauses."""

    def test_without_end(self) -> None:
        """A POST without a body pauses until one resumes; either says how it stands then."""
        reply = self.ask("POST", "/pause")
        self.assertEqual((reply.code, reply.json, self.paused), (200, PAUSED, True))
        reply = self.ask("POST", "/resume")
        self.assertEqual((reply.code, reply.json, self.paused), (200, RUNNING, False))

    def test_with_an_end(self) -> None:
        """With seconds, in JSON or as curl sends it, it ends by itself."""
        for reply in (
            self.post_json("/pause", {"seconds": 90.5}),
            self.post_json("/pause", {"seconds": "90.5"}),
            self.post_form("/pause", seconds=90.5),
        ):
            self.assertEqual(reply.json, {"paused": True, "until": EPOCH + 90.5, "seconds_left": 90.5})
        self.core.reactor.run_for(91.0)
        self.assertFalse(self.paused)

    def test_empty_field(self) -> None:
        """A field that was left empty, as a browser sends it, is none; nor is null."""
        for reply in (self.post_form("/pause", seconds=""), self.post_json("/pause", {"seconds": None})):
            self.assertEqual(reply.json, PAUSED)

    def test_resume_without_a_pause(self) -> None:
        """It does nothing."""
        self.assertEqual(self.ask("POST", "/resume").json, RUNNING)

    def test_durable_first(self) -> None:
        """The response comes once a new start would know of it, and not before."""
        client = self.begin("POST", "/pause")
        self.assertTrue(client.silent)
        self.core.settle()
        self.assertEqual(client.reply().code, 200)

    def test_disk_full(self) -> None:
        """What can't be stored is refused, and nothing has changed."""
        self.fill_disk()
        reply = self.ask("POST", "/pause")
        self.assert_refused(reply, 503, "storage")
        self.assertEqual((reply.get("Retry-After"), self.paused), ("5", False))


class ParameterTests(PauseCase):
    """What is sent is checked."""

    def tearDown(self) -> None:
        self.assertFalse(self.paused)

    def test_seconds(self) -> None:
        """Only a number of seconds that makes sense."""
        wrong: list[object] = [0, -1, 1e12, "soon", "nan", "inf", "1e999", True, [5], {}, 10**400, "٣x"]
        for seconds in wrong:
            self.assert_refused(
                self.post_json("/pause", {"seconds": seconds}),
                400,
                "bad_parameter",
                "seconds is not a number from 1 to",
            )
        self.assert_refused(self.post_form("/pause", seconds=[1, 2]), 400, "bad_parameter", "seconds is not a number")

    def test_unknown(self) -> None:
        """Another parameter is named, cut and printable, with those that there are."""
        reply = self.post_json("/pause", {"secondsé" + 100 * "x": 5})
        self.assert_refused(reply, 400, "bad_parameter", "'seconds\\xe9xxx", "this takes seconds")
        self.assertLess(len(reply.json["detail"]), 100)
        self.assert_refused(self.post_form("/resume", seconds=5), 400, "bad_parameter", "takes no parameters")

    def test_in_the_query(self) -> None:
        """A POST has its parameters in the body: none is ignored silently."""
        self.assert_refused(self.ask("POST", "/pause?seconds=5"), 400, "bad_parameter", "in the body")

    def test_malformed(self) -> None:
        """A body that isn't what its type says."""
        for body in (b"{", b"[]", b"5", b"\xff", b"[" * 100_000):
            self.assert_refused(self.ask("POST", "/pause", body, Content_Type=JSON), 400, "malformed_body")
        for body in (b"seconds", b"\xff=1", b"&".join([b"seconds=1"] * 20_000)):
            self.assert_refused(self.ask("POST", "/pause", body, Content_Type=FORM), 400, "malformed_parameters")

    def test_other_types(self) -> None:
        """Another type is refused, and so is none; a parameter of the type does no harm."""
        for media_type in (None, "text/plain", "multipart/form-data; boundary=x", "application/json5"):
            self.assert_refused(
                self.ask("POST", "/pause", b"seconds=5", Content_Type=media_type), 415, "unknown_media_type"
            )
        reply = self.ask("POST", "/resume", b"{}", Content_Type="Application/JSON; charset=utf-8")
        self.assertEqual(reply.code, 200)

    def test_too_large(self) -> None:
        """A body may have so many bytes; more are refused, announced or not."""
        self.assert_refused(
            self.ask("POST", "/resume", b"{" + b" " * (MAX_BODY - 2) + b"}", Content_Type="text/plain"),
            415,
            "unknown_media_type",
        )
        announced = self.begin("POST", "/pause", Content_Type=JSON, Content_Length=str(MAX_BODY + 1))
        self.assert_refused(announced.reply(), 413, "too_large")
        announced.leave()
        in_chunks = self.begin("POST", "/pause", Content_Type=JSON, Transfer_Encoding="chunked")
        for _ in range(MAX_BODY // 65536 + 1):
            in_chunks.send(b"10000\r\n%s\r\n" % (b" " * 65536))
            self.core.settle()
        self.assert_refused(in_chunks.reply(), 413, "too_large")
        in_chunks.leave()

    def test_methods(self) -> None:
        """A pause is POSTed; each path says which methods it has."""
        for method in ("GET", "PUT", "DELETE"):
            reply = self.ask(method, "/pause")
            self.assertEqual((reply.code, reply.get("Allow")), (405, "POST"))


class OriginTests(PauseCase):
    """A page of somebody else can't have a browser change anything."""

    def test_strangers(self) -> None:
        """A browser says from where a page sends something: from elsewhere, nothing is changed."""
        strangers: list[dict[str, Any]] = [
            {"Sec_Fetch_Site": "cross-site"},
            {"Sec_Fetch_Site": "same-site"},
            {"Origin": "https://evil.example.org"},
            {"Origin": "null"},
            {"Origin": "http://localhost:9000"},
            {"Sec_Fetch_Site": "cross-site", "Origin": "http://localhost:8000"},
        ]
        for headers in strangers:
            for path in ("/pause", "/resume"):
                self.assert_refused(self.ask("POST", path, **headers), 403, "cross_site")
        self.assert_refused(self.ask("DELETE", "/pause", Sec_Fetch_Site="cross-site"), 403, "cross_site")
        self.assertFalse(self.paused)

    def test_own_page_and_programs(self) -> None:
        """A page of the listener's own may, and so may what is no page, such as curl."""
        own: list[dict[str, Any]] = [
            {},
            {"Sec_Fetch_Site": "same-origin", "Origin": "http://localhost:8000"},
            {"Sec_Fetch_Site": "none"},
            {"Origin": "http://localhost:8000"},
        ]
        for headers in own:
            self.assertEqual(self.ask("POST", "/pause", **headers).code, 200)

    def test_other_hosts(self) -> None:
        """A name that somebody led here is refused, whatever the browser says of its page."""
        reply = self.ask("POST", "/pause", Host="evil.example.org", Sec_Fetch_Site="same-origin")
        self.assert_refused(reply, 421, "wrong_host")
        self.assertFalse(self.paused)

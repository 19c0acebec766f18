"""Responses for pages of other origins, as the Fetch standard has them (docs/contract.md, "From another origin")."""

from typing import Any

from merlind.core.outcome import Scored
from merlind.web.cors import Cors
from merlind.web.cross_site import CrossSite
from tests.unit.web.support import EdgeCase, Reply, get, message, post

PAGE = "https://app.example.org"
OTHER = "https://app.example.org.evil.example"
EXPOSED = "Location, Content-Location, Retry-After, Preference-Applied, RateLimit, RateLimit-Policy, Link"
ALLOW = "GET, HEAD, POST, DELETE, OPTIONS"


def preflight(origin: str = PAGE, method: str = "POST", **headers: Any) -> bytes:
    """What a browser asks before it sends a page's request."""
    return message("OPTIONS", "/", Origin=origin, Access_Control_Request_Method=method, **headers)


def cors_headers(reply: Reply) -> list[tuple[str, str]]:
    """The headers of a response that are for pages of other origins."""
    return [(name, value) for name, value in reply.headers if name.startswith("access-control-") or name == "vary"]


class WithoutTests(EdgeCase):
    """Without ``--cors-origin``."""

    def test_no_header(self) -> None:
        """No response has one, and a preflight is an OPTIONS as any other."""
        for data in (preflight(), get(5, Origin=PAGE), get(5), message("PUT", "/", Origin=PAGE)):
            self.assertEqual(cors_headers(self.ask(data)), [])
        reply = self.ask(preflight())
        self.assertEqual((reply.code, reply.get("Allow")), (204, ALLOW))


class ListedTests(EdgeCase):
    """With the origins that an operator listed."""

    adapters = (Cors([PAGE, "http://localhost:3000"]),)
    checks = (CrossSite([PAGE, "http://localhost:3000"]),)

    def test_preflight(self) -> None:
        """A listed page may send what the API has; OPTIONS still lists the methods."""
        for method in ("POST", "DELETE", "GET"):
            reply = self.ask(preflight(method=method, Access_Control_Request_Headers="authorization,prefer"))
            self.assertEqual((reply.code, reply.get("Allow"), reply.body), (204, ALLOW, b""))
            self.assertEqual(
                cors_headers(reply),
                [
                    ("vary", "Origin"),
                    ("access-control-allow-origin", PAGE),
                    ("access-control-allow-methods", "GET, HEAD, POST, DELETE"),
                    ("access-control-allow-headers", "Accept, Authorization, Content-Type, Prefer"),
                    ("access-control-max-age", "7200"),
                ],
            )

    def test_private_network(self) -> None:
        """A browser that asks so may send a public page's request to a private network."""
        name = "Access-Control-Allow-Private-Network"
        asking = {"Access_Control_Request_Private_Network": "true"}
        self.assertEqual(self.ask(preflight(**asking)).get(name), "true")
        self.assertIsNone(self.ask(preflight()).get(name))
        self.assertIsNone(self.ask(preflight(OTHER, **asking)).get(name))
        self.assertIsNone(self.ask(get(5, Origin=PAGE, **asking)).get(name))

    def test_readable(self) -> None:
        """A listed page may read every response, errors and refusals before the body too, with the headers it needs."""
        readable = [
            ("vary", "Origin"),
            ("access-control-allow-origin", PAGE),
            ("access-control-expose-headers", EXPOSED),
        ]
        for data, code in (
            (post(Origin=PAGE, Sec_Fetch_Site="cross-site"), 202),
            (get(5, Origin=PAGE), 404),
            (get("x", Origin=PAGE), 400),
            (message("DELETE", "/?task_id=5", Origin=PAGE, Sec_Fetch_Site="cross-site"), 404),
            (message("PUT", "/", Origin=PAGE), 405),
            (message("GET", "/else", Origin=PAGE), 404),
            (message("OPTIONS", "/", Origin=PAGE), 204),
            (post(Origin=PAGE, Content_Type="text/plain"), 415),
            (post(Origin=PAGE, Content_Length="99999999"), 413),
            (post(b"no form", Origin=PAGE), 400),
        ):
            reply = self.ask(data)
            self.assertEqual((reply.code, cors_headers(reply)), (code, readable), data)

    def test_finished_task(self) -> None:
        """A task's status in memory is readable too, and without an Origin it has no header more."""
        task = self.accepted()
        self.core.upstream.requests[0].respond(Scored(0.5))
        self.settle()
        self.assertEqual(self.ask(get(task, Origin="http://localhost:3000")).json["status"], "ready")
        self.assertEqual(
            self.ask(get(task, Origin="http://localhost:3000")).get("Access-Control-Allow-Origin"),
            "http://localhost:3000",
        )
        self.assertEqual(cors_headers(self.ask(get(task))), [])

    def test_others(self) -> None:
        """Any other page may read nothing: near misses count as others."""
        for origin in (OTHER, "null", "http://app.example.org", PAGE + ":444", PAGE + "/", PAGE.upper(), "*", "x"):
            for data in (get(5, Origin=origin), preflight(origin)):
                self.assertEqual(cors_headers(self.ask(data)), [("vary", "Origin")], origin)

    def test_vary_beside_another(self) -> None:
        """What else a response depends on stays."""
        reply = self.ask(message("GET", "/", Origin=PAGE, Accept="text/html"))
        self.assertEqual(reply.all("Vary"), ["Accept, Accept-Language", "Accept-Encoding", "Origin"])


class AnyTests(EdgeCase):
    """With ``--cors-origin *``."""

    adapters = (Cors(["*"]),)
    checks = (CrossSite(["*"]),)

    def test_every_page(self) -> None:
        """Every page may read responses and send requests, and the response doesn't depend on which."""
        for origin in (PAGE, "null", OTHER):
            for data, code in ((get(5, Origin=origin), 404), (preflight(origin), 204), (post(Origin=origin), 202)):
                reply = self.ask(data)
                self.assertEqual(reply.code, code)
                self.assertEqual(reply.get("Access-Control-Allow-Origin"), "*")
                self.assertEqual((reply.all("Vary"), reply.all("Access-Control-Allow-Credentials")), ([], []))

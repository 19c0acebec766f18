"""How often a client may submit (docs/battery.md, A10)."""

from typing import Any

from merlind.core.rate import Rate
from merlind.web.client_rate import SubmissionRate
from tests.unit.web.support import Client, EdgeCase, Reply, form, get, message, post

POLICY = '"default";q=3;w=30'


class SubmissionRateTests(EdgeCase):
    """Three submissions in thirty seconds."""

    def setUp(self) -> None:
        self.refused: list[tuple[str, str]] = []
        self.rate = SubmissionRate(
            Rate(3, 30), lambda: self.reactor.seconds(), lambda limit, by: self.refused.append((limit, by))
        )
        self.adapters = (self.rate.adapt,)
        self.checks = (self.rate.check,)
        super().setUp()

    def submit(self, peer: str = "192.0.2.1", **headers: Any) -> Reply:
        """The response to a submission."""
        return self.connect(peer=peer).send(post(**headers)).reply()

    def told(self, reply: Reply) -> tuple[int, str | None]:
        """The status, and what is left."""
        self.assertEqual(reply.get("RateLimit-Policy"), POLICY)
        return reply.code, reply.get("RateLimit")

    def test_burst(self) -> None:
        """A client may so often at once; each response says what is left, and the refusal when to come again."""
        self.assertEqual(self.told(self.submit()), (202, '"default";r=2;t=10'))
        self.reactor.run_for(4)
        self.assertEqual(self.told(self.submit()), (202, '"default";r=1;t=6'))
        self.assertEqual(self.told(self.submit()), (202, '"default";r=0;t=6'))
        reply = self.submit()
        self.assert_problem(reply, 429, "too_many_requests")
        self.assertEqual(self.told(reply), (429, '"default";r=0;t=6'))
        self.assertEqual(reply.get("Retry-After"), "6")
        self.assertEqual(reply.json["detail"], "this client may submit 3 photos in 30 s")
        self.assertEqual(self.refused, [("requests", "client")])
        self.reactor.run_for(6)
        self.assertEqual(self.told(self.submit()), (202, '"default";r=0;t=10'))

    def test_before_the_body(self) -> None:
        """The refusal comes at the head, whatever the body's length is."""
        for _ in range(3):
            self.submit()
        client = self.connect().send(post(b"", Content_Length="4000", Expect="100-continue"))
        self.assert_problem(client.reply(), 429, "too_many_requests")
        self.assertEqual(self.core.intake.active_uploads, 0)

    def test_only_submissions(self) -> None:
        """Nothing but a submission counts, or says what is left: no long poll, and no POST of anything else."""
        for _ in range(10):
            for data in (
                post(Content_Type="application/x-www-form-urlencoded"),
                post(Content_Type=None),
                get(5),
                get(5, Prefer="wait=0"),
                get(5, "DELETE"),
                message("OPTIONS", "/"),
                message("PUT", "/"),
            ):
                self.assertEqual(self.ask(data).all("RateLimit"), [])
        self.assertEqual(self.submit().get("RateLimit"), '"default";r=2;t=10')

    def test_faulty_forms_count(self) -> None:
        """A submission counts whatever comes of it, and any response to it says what is left."""
        self.assertEqual(self.told(self.submit(Content_Type="Multipart/Form-Data")), (400, '"default";r=2;t=10'))
        self.assertEqual(self.told(self.submit(Content_Length="99999999")), (413, '"default";r=1;t=10'))
        reply = self.connect().send(post(b"no form")).reply()
        self.assertEqual(self.told(reply), (400, '"default";r=0;t=10'))

    def test_on_one_connection(self) -> None:
        """Each request on a connection counts."""
        client = self.connect().send(*(post(form(f"Anna {n}")) for n in range(3)))
        self.settle()
        left = [reply.get("RateLimit") for reply in client.replies()]
        self.assertEqual(left, ['"default";r=2;t=10', '"default";r=1;t=10', '"default";r=0;t=10'])

    def test_each_for_itself(self) -> None:
        """A client's burst takes nothing from another; a /64 in IPv6 is one client."""
        codes = [self.submit(peer).code for peer in ("192.0.2.1",) * 4 + ("192.0.2.2",) * 4]
        self.assertEqual(codes, [202, 202, 202, 429] * 2)
        codes = [self.submit(f"2001:db8::{n}").code for n in range(1, 5)] + [self.submit("2001:db8:0:1::1").code]
        self.assertEqual(codes, [202, 202, 202, 429, 202])

    def test_forwarded(self) -> None:
        """What a stranger says of its client changes nothing; a trusted proxy's clients are told apart by it."""
        codes = [self.submit("192.0.2.1", X_Forwarded_For=f"198.51.100.{n}").code for n in range(4)]
        self.assertEqual(codes, [202, 202, 202, 429])
        codes = [self.submit("127.0.0.1", X_Forwarded_For=f"198.51.100.{n}").code for n in range(4)]
        self.assertEqual(codes, [202] * 4)
        codes = [self.submit("127.0.0.1", X_Forwarded_For=f"10.{n}.0.1, 203.0.113.9").code for n in range(4)]
        self.assertEqual(codes, [202, 202, 202, 429])

    def test_shared(self) -> None:
        """A refusal on this machine names the likely cause: a proxy that doesn't say whom it asks for."""
        codes = [self.submit("127.0.0.1") for _ in range(4)]
        self.assertIn("X-Forwarded-For", codes[-1].json["detail"])

    def test_told_at_the_end(self) -> None:
        """A submission that waits for its score is told what is left when it gets its response."""
        client = self.connect().send(post(Prefer="wait=20"))
        self.reactor.run_for(4)
        self.submit()
        self.reactor.run_for(17)
        self.assertEqual(self.told(client.reply()), (202, '"default";r=3'))

    def test_nothing_kept(self) -> None:
        """Who goes away before its response is not remembered as waiting for one."""
        clients: list[Client] = [self.connect().send(post()[:-50]) for _ in range(3)]
        self.assertEqual(len(self.rate._clients), 3)
        self.clients.clear()
        while clients:
            clients.pop().leave()
        self.assertEqual(len(self.rate._clients), 0)

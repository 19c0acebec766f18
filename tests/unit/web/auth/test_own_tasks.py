"""Signed in over the wire: each user sees their own tasks alone, and nothing is read of who isn't signed in."""

import re
from pathlib import Path
from typing import Any

from merlind.core.outcome import Scored
from merlind.core.users import ANONYMOUS
from merlind.tasks.intake import Limits
from merlind.tasks.results import Status
from merlind.web.auth.proxy import ProxyChecker
from merlind.web.auth.sign_in import SignIn
from merlind.web.auth.tokens import TokenChecker
from merlind.web.server.connection import MAX_AHEAD, SMALL_READ
from merlind.web.server.phase import BODY_GRACE, IDLE_TIMEOUT, LINGER_TIMEOUT, SIGN_IN_TIMEOUT, Phase
from tests.unit.web.auth.support import TOKENS, Passwords, basic, bearer, token_file
from tests.unit.web.support import (
    UNIX,
    Client,
    EdgeCase,
    LogLines,
    chunked,
    form,
    get,
    message,
    photo_of,
    post,
    without_date,
)

ANN, BOB = bearer("ann"), bearer("bob")


class SignedInCase(EdgeCase):
    """The public listener with sign-in by password, token and proxy."""

    def sign_in(self) -> SignIn:
        self.users = Passwords(self.reactor, Path(self.mktemp()))
        tokens = TokenChecker(token_file(Path(self.mktemp())))
        checkers = [self.users.checker, tokens, ProxyChecker("Remote-User")]
        return SignIn(checkers, self.reactor.seconds, self.metrics.sign_in_refused)

    def work(self) -> int:
        """Check the passwords that wait, and let everything happen that follows."""
        done = self.users.work()
        self.settle()
        return done

    def refused(self, reason: str) -> float:
        """How many were refused for this reason, according to the metrics."""
        name = f'merlind_sign_ins_refused_total{{reason="{reason}"}}'
        lines = self.metrics.exposition().decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


class OwnTasksTests(SignedInCase):
    """Whose tasks one sees."""

    def ways(self, task: int, **credentials: Any) -> dict[str, bytes]:
        """All ways to ask for a task, or to do something to it."""
        return {
            "plain": get(task, **credentials),
            "the long way": get(task, Accept="text/plain", **credentials),
            "with a cookie": get(task, Cookie="a=b", **credentials),
            "for people": get(task, Accept="text/html", **credentials),
            "other parameters": message("GET", f"/?a=b&task_id={task}", **credentials),
            "HEAD": get(task, "HEAD", **credentials),
            "HEAD with a wait": get(task, "HEAD", Prefer="wait=9", **credentials),
            "with a wait": get(task, Prefer="wait=9", **credentials),
            "DELETE": get(task, "DELETE", **credentials),
        }

    def lines(self, data: bytes, peer: str = "192.0.2.1") -> list[bytes]:
        """The response's lines, at once and without its date; links lead to the number that was asked for."""
        client = self.connect(peer=peer).send(data)
        lines = without_date(re.sub(rb"task_id=\d+", b"task_id=N", client.transport.value()))
        self.assertFalse(client.closed)
        client.leave()
        return lines

    def test_another_users_task(self) -> None:
        """Another user's task is as one that doesn't exist, byte for byte on each way, in each state of the task."""
        task = int(self.ask(post(Authorization=ANN)).json["task"])
        for state in ("unfinished", "scored", "scored and out of memory"):
            if state == "scored":
                self.core.upstream.requests[0].respond(Scored(0.5))
                self.settle()
                self.assertEqual(self.ask(get(task, Authorization=ANN)).json, {"status": "ready", "result": 0.5})
            elif state == "scored and out of memory":
                self.core.results._cache.clear()
            for credentials, peer in (({"Authorization": BOB}, "192.0.2.1"), ({"Remote-User": "bob"}, UNIX)):
                unknown = self.ways(5, **credentials)
                for way, data in self.ways(task, **credentials).items():
                    theirs = self.lines(data, peer)
                    self.assertEqual(theirs, self.lines(unknown[way], peer), (state, way))
                    self.assertTrue(theirs[0].startswith(b"HTTP/1.1 404 "), (state, way))
        own = self.ask(get(task, Authorization=ANN))
        self.assertEqual((own.code, own.json["status"]), (200, "ready"))
        self.assertEqual(self.ask(get(task, "DELETE", Authorization=ANN)).code, 204)

    def test_erasing_another_users_task_by_the_form(self) -> None:
        """The form for browsers without JavaScript erases no task of another user, and says no more than of no task."""
        task = int(self.ask(post(Authorization=ANN)).json["task"])
        places = []
        for number in (task, 5):
            headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "text/html"}
            sent = message("POST", "/", b"erase=%d" % number, **headers, Authorization=BOB)
            reply = self.ask(sent)
            places.append((reply.code, (reply.get("Location") or "").replace(str(number), "N")))
        self.assertEqual(places, [(303, "?task_id=N")] * 2)
        self.assertEqual(self.ask(get(task, Authorization=ANN)).code, 202)

    def test_a_wait_for_another_users_task(self) -> None:
        """It isn't waited for either: no waiter is kept."""
        task = int(self.ask(post(Authorization=ANN)).json["task"])
        self.assertEqual(self.ask(get(task, Prefer="wait=60", Authorization=BOB)).code, 404)
        self.assertEqual(self.core.results.waiting, 0)

    def test_same_photo_of_two_users(self) -> None:
        """The same name and photo is a task of each user's own, and the same one when the same user sends it again."""
        first = self.ask(post(Authorization=ANN)).json["task"]
        theirs = self.ask(post(Authorization=BOB)).json["task"]
        self.assertNotEqual(first, theirs)
        self.assertEqual(self.ask(post(Authorization=ANN)).json["task"], first)
        for client, user in ((self.connect(peer=UNIX), "ann"), (self.connect(peer=UNIX), "bob")):
            reply = client.send(post(Remote_User=user)).reply()
            self.assertEqual(reply.json["task"], first if user == "ann" else theirs)
        self.assertEqual([task.user for task in self.stored()], ["ann", "bob"])

    def test_one_user_by_each_way_to_sign_in(self) -> None:
        """Who signs in by password, token or proxy is the same user."""
        task = int(self.ask(post(Authorization=ANN)).json["task"])
        client = self.connect().send(get(task, Authorization=basic("ann", "secret")))
        self.work()
        self.assertEqual(client.reply().code, 202)
        self.assertEqual(self.connect(peer=UNIX).send(get(task, Remote_User="ann")).reply().code, 202)

    def test_tasks_from_before(self) -> None:
        """Tasks of the anonymous user, from before sign-in was turned on, are nobody's, on the fast path too."""
        task = int(self.ask(post(Authorization=ANN)).json["task"])
        self.core.results._cache[task] = Status(ANONYMOUS, 0.5)
        self.assertEqual(self.ask(get(task, Authorization=ANN)).code, 404)
        self.assert_problem(self.ask(get(task)), 401, "unauthorized", closed=False)
        self.assertEqual(self.connect(peer=UNIX).send(get(task, Remote_User="ann")).reply().code, 404)

    def test_a_header_over_tcp(self) -> None:
        """Over TCP nobody is who a header says."""
        task = int(self.ask(post(Authorization=ANN)).json["task"])
        for data in (get(task, Remote_User="ann"), get(task, Remote_User="ann", X_Forwarded_For="127.0.0.1")):
            self.assert_problem(self.ask(data), 401, "unauthorized", closed=False)
        self.assertEqual(self.ask(get(task, Remote_User="ann", Authorization=BOB)).code, 404)

    def test_fast_path(self) -> None:
        """A plain status request is answered for nobody before they have signed in, by unix socket neither."""
        task = int(self.ask(post(Authorization=ANN)).json["task"])
        for peer in ("192.0.2.1", UNIX):
            reply = self.connect(peer=peer).send(get(task)).reply()
            self.assert_problem(reply, 401, "unauthorized", closed=False)
        self.assertEqual(self.connect(peer=UNIX).send(get(task, Remote_User="ann")).reply().code, 202)


class LimitTests(SignedInCase):
    """Limits by client, which are by user where users sign in."""

    limits = Limits(
        max_pending=1000, min_free_bytes=0, max_uploads=100, max_upload_bytes=2**30, max_uploads_per_client=1
    )
    max_pending_per_client = 2
    max_long_polls_per_client = 1

    def begin(self, who: str, peer: str) -> Client:
        """Begin an upload."""
        return self.connect(peer=peer).send(post(Authorization=who)[:-9])

    def test_uploads(self) -> None:
        """A user has as many uploads as one may have, from all addresses; another at the same address has their own."""
        self.assertTrue(self.begin(ANN, "192.0.2.1").silent)
        refused = self.begin(ANN, "192.0.2.2").reply()
        self.assert_problem(refused, 429, "too_many_uploads")
        self.assertIn("this user has as many active uploads", refused.json["detail"])
        self.assertTrue(self.begin(BOB, "192.0.2.1").silent)

    def test_tasks(self) -> None:
        """The same for unfinished tasks."""
        for number in range(2):
            client = self.connect(peer=f"192.0.2.{number}")
            self.assertEqual(client.send(post(form(f"Name {number}"), Authorization=ANN)).reply().code, 202)
        refused = self.ask(post(form("Third"), Authorization=ANN))
        self.assert_problem(refused, 429, "too_many_tasks")
        self.assertIn("this user", refused.json["detail"])
        self.assertEqual(self.ask(post(form("Third"), Authorization=BOB)).code, 202)

    def test_long_polls(self) -> None:
        """The same for long polls."""
        tasks = {who: int(self.ask(post(Authorization=who)).json["task"]) for who in (ANN, BOB)}
        for who in (ANN, BOB):
            self.assertTrue(self.connect().send(get(tasks[who], Prefer="wait=9", Authorization=who)).silent)
        refused = self.connect(peer="192.0.2.2").send(get(tasks[ANN], Prefer="wait=9", Authorization=ANN)).reply()
        self.assert_problem(refused, 429, "too_many_long_polls", closed=False)
        self.assertIn("this user", refused.json["detail"])
        self.reactor.run_for(9)


class ConnectionTests(SignedInCase):
    """What the connection does before it is known who asks."""

    def begin(self, data: bytes) -> Client:
        """A client whose password is being checked."""
        client = self.connect().send(data)
        self.assertIs(client.protocol._phase, Phase.SIGNING_IN)
        self.assertTrue(client.silent)
        return client

    def upload(self, password: str = "secret", body: bytes | None = None, **headers: str | None) -> bytes:
        return post(body, Authorization=basic("ann", password), **headers)

    def test_nothing_is_read_before(self) -> None:
        """No upload is begun, and no ``100 Continue`` sent, before the password was right; then all goes on."""
        data = self.upload(Expect="100-continue")
        client = self.begin(data[: -len(form())])
        self.assertEqual(self.core.intake.active_uploads, 0)
        self.work()
        self.assertEqual([reply.code for reply in client.replies()], [100])
        client.send(form())
        self.assertEqual([reply.code for reply in client.replies()], [100, 202])
        self.assertEqual([task.user for task in self.stored()], ["ann"])

    def test_no_continue_for_a_refused(self) -> None:
        """Who isn't signed in gets the 401 and no ``100 Continue``, before the body, and the connection is closed."""
        unknown: tuple[str | None, ...] = (None, "Bearer unknown", basic("ann", "wrong"))
        for credentials in unknown:
            client = self.connect().send(post(Expect="100-continue", Authorization=credentials)[: -len(form())])
            self.work()
            self.assert_problem(client.reply(), 401, "unauthorized")
            self.assertTrue(client.lingers)
            self.assertEqual(self.core.intake.active_uploads, 0)

    def test_body_waits_in_the_kernel(self) -> None:
        """Of a body that comes meanwhile only a little is read; the rest is, when the password was right."""
        photo = photo_of(4000)
        data = self.upload(body=form("Bo", photo))
        client = self.begin(data[:-3900])
        self.assertTrue(client.reads)
        client.send(data[-3900:] + get(5, Authorization=ANN) * 100)
        self.assertGreater(len(client.protocol._ahead), MAX_AHEAD)
        self.assertFalse(client.reads)
        self.work()
        self.assertEqual([reply.code for reply in client.replies()], [202] + [404] * 100)
        self.assertTrue(client.reads)

    def test_reads_little_at_once(self) -> None:
        """A large body is read in large pieces only when the password was right."""
        client = self.begin(self.upload(body=b"", Content_Length="60000"))
        self.assertEqual(client.transport.bufferSize, SMALL_READ)
        self.work()
        client.send(b"-")
        self.assertGreater(client.transport.bufferSize, SMALL_READ)

    def test_in_chunks(self) -> None:
        """A body in chunks that came meanwhile is read then."""
        client = self.begin(self.upload(body=b"", Transfer_Encoding="chunked") + chunked(form(), 9))
        self.work()
        self.assertEqual(client.reply().code, 202)

    def test_pipelined(self) -> None:
        """Requests behind it have their turn in order, each with its own user."""
        client = self.begin(get(5, "HEAD", Authorization=basic("ann", "secret")) + post(Authorization=BOB) + get(6))
        self.work()
        self.assertEqual([reply.code for reply in client.replies("HEAD")], [404, 202, 401])
        self.assertEqual([task.user for task in self.stored()], ["bob"])
        self.assertFalse(client.closed)

    def test_refused_and_goes_on(self) -> None:
        """A request without a body that is refused leaves the connection open: a browser asks again on it."""
        client = self.connect().send(message("GET", "/", Accept="text/html"))
        reply = client.reply()
        self.assertEqual((reply.code, client.closed), (401, False))
        self.assertIn(b"Sign in to use this page.", reply.body)
        expected = ['Basic realm="merlind", charset="UTF-8"', 'Bearer realm="merlind"']
        self.assertEqual(reply.all("WWW-Authenticate"), expected)
        client.send(message("GET", "/", Accept="text/html", Authorization=basic("ann", "secret")))
        self.work()
        self.assertEqual([reply.code for reply in client.replies()], [401, 200])

    def test_every_path_and_method(self) -> None:
        """All but OPTIONS needs sign-in; a browser's preflight brings no credentials."""
        for method, target in (
            ("GET", "/other"),
            ("PUT", "/"),
            ("DELETE", "/?task_id=1"),
            ("HEAD", "/"),
            ("GET", "/?x"),
        ):
            reply = self.ask(message(method, target))
            self.assertEqual((reply.code, len(reply.all("WWW-Authenticate"))), (401, 2), (method, target))
        self.assertEqual(self.ask(message("OPTIONS", "/")).code, 204)
        self.assertEqual(self.refused("no_credentials"), 5)

    def test_gone_meanwhile(self) -> None:
        """A client that goes away meanwhile leaves nothing, and nothing of its request is run."""
        client = self.begin(self.upload())
        client.leave()
        self.work()
        self.assert_nothing_kept()

    def test_half_closed_meanwhile(self) -> None:
        """One that closes its direction still gets its response, if the password is checked soon."""
        client = self.begin(self.upload()).end_input()
        self.work()
        self.assertEqual(client.reply().code, 202)
        self.reactor.run_for(LINGER_TIMEOUT)
        self.assertTrue(client.closed)

        cut = self.begin(self.upload("x", form("Bo"))[:-1]).end_input()
        self.work()
        self.assert_problem(cut.reply(), 401, "unauthorized")

        late = self.begin(self.upload("y")).end_input()
        self.reactor.run_for(LINGER_TIMEOUT)
        self.assert_problem(late.reply(), 503, "sign_in")
        self.work()

        self.users.write(ann="secret")  # so that it is not remembered
        cut = self.begin(self.upload(body=form("Bo"))[:-1]).end_input()
        self.work()
        self.assertTrue(cut.silent and cut.closed)
        self.assertEqual(len(self.stored()), 1)

    def test_half_closed_before(self) -> None:
        """The same where the direction was closed with the request."""
        client = self.connect()
        client.protocol.dataReceived(get(5, Authorization=basic("ann", "secret")))
        client.end_input()
        self.work()
        self.assertEqual(client.reply().code, 404)

    def test_too_long(self) -> None:
        """If nothing is known after some seconds, the client gets 503; what is found out later is of no matter."""
        for data in (self.upload(), self.upload("wrong"), get(5, Authorization=basic("ann", "third"))):
            client = self.begin(data)
            self.reactor.run_for(SIGN_IN_TIMEOUT - 0.1)
            self.assertTrue(client.silent)
            self.reactor.run_for(0.1)
            self.assert_problem(client.reply(), 503, "sign_in")
            self.work()
            client.reply()
        self.assert_nothing_kept()

    def test_body_has_its_own_time(self) -> None:
        """The time of a body begins when it is known who asks."""
        data = self.upload(body=form("Bo", photo_of(3000)))
        client = self.begin(data[:-100])
        self.reactor.run_for(SIGN_IN_TIMEOUT - 1)
        self.work()
        self.reactor.run_for(BODY_GRACE + 2)
        self.assertTrue(client.silent)
        self.reactor.run_for(5)
        self.assert_problem(client.reply(), 408, "too_slow")

    def test_stops_meanwhile(self) -> None:
        """A stop that begins meanwhile lets the request end, and closes the connection with its response."""
        client = self.begin(get(5, Authorization=basic("ann", "secret")))
        self.site.drain()
        self.work()
        self.assertEqual((client.reply().code, client.reply().get("Connection")), (404, "close"))
        self.assertTrue(client.closed)

    def test_password_of_each_poll(self) -> None:
        """A client that polls has its password checked once."""
        self.begin(get(5, Authorization=basic("ann", "secret")))
        self.assertEqual(self.work(), 1)
        for _ in range(5):
            self.assertEqual(self.ask(get(5, Authorization=basic("ann", "secret"))).code, 404)
        self.reactor.run_for(IDLE_TIMEOUT)
        self.assertEqual(self.work(), 0)

    def test_many_at_once(self) -> None:
        """Fifty wrong passwords at once hold nobody up: those signed in are served while all of them wait."""
        clients = [
            self.connect(peer=f"192.0.2.{n}").send(get(5, Authorization=basic("ann", f"wrong {n}"))) for n in range(50)
        ]
        self.assertEqual((self.users.waiting, [pool.most for pool in self.users.pools]), (50, [2]))
        self.assertEqual(self.ask(get(5, Authorization=ANN)).code, 404)
        self.assertEqual(self.connect(peer=UNIX).send(get(5, Remote_User="cy")).reply().code, 404)
        self.assertTrue(all(client.silent for client in clients))
        self.work()
        self.assertEqual({client.reply().code for client in clients}, {401})
        self.assertEqual(self.refused("password"), 50)

    def test_log(self) -> None:
        """The log has neither users nor passwords nor tokens."""
        lines = LogLines.of(self)
        self.begin(self.upload())
        self.work()
        self.ask(post(form("Bo"), Authorization=ANN))
        self.ask(get(5, Authorization="Bearer unknown"))
        text = "\n".join(lines.lines)
        self.assertIn("POST 202", text)
        for secret in ("ann", "secret", "unknown", TOKENS["ann"], basic("ann", "secret")[6:]):
            self.assertNotIn(secret, text)


class FailingEntryTests(EdgeCase):
    """Sign-in that is broken."""

    def sign_in(self) -> Any:
        class Broken:
            def identify(self, *args: object) -> Any:
                raise ZeroDivisionError

        return Broken()

    def test_unexpected_error(self) -> None:
        """An unexpected error is a 500 with a traceback in the log, and nobody is signed in."""
        for data in (get(5), post()):
            self.assertEqual(self.ask(data).json["code"], "internal_error")
            self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assert_nothing_kept()

"""The client's side of the wire contract, row by row, over a real database and spool."""

import errno
import json
import os
from typing import Any

from merlind.core.interfaces import Submission
from merlind.core.outcome import Pending, Rejected, Scored, TaskError, TransientError
from merlind.core.task import MAX_TASK_ID, State, Task
from merlind.storage.photos import spool
from merlind.tasks import intake
from merlind.tasks.intake import Limits
from merlind.web.api import MAX_WAIT, PAGE
from merlind.web.status import ANONYMOUS
from tests.unit.support import JPEG, fail_on, failing, sqlite_error
from tests.unit.web.support import Client, EdgeCase, LogLines, Reply, form, get, message, photo_of, post, without_date

REFUSED = Rejected(TaskError("refused", 'no face on "it"'))

WAIT = b'{"status":"wait","result":null}'
READY = b'{"status":"ready","result":0.83}'
NOT_FOUND = b'{"status":"not_found","result":null}'
FAILED = (
    b'{"status":"failed","result":null,"error":{"code":"refused","detail":"no face on \\"it\\"","source":"upstream"}}'
)


class ContractCase(EdgeCase):
    """Tasks in every state."""

    def ready(self, result: float = 0.83) -> int:
        """A task that the upstream has scored."""
        return self.finished(Scored(result))

    def failed(self) -> int:
        """A task that the upstream has refused."""
        return self.finished(REFUSED)

    def finished(self, outcome: Scored | Rejected) -> int:
        task = self.accepted()
        self.answer(outcome)
        return task

    def answer(self, outcome: Any) -> None:
        """The upstream's word on the one exchange under way."""
        self.core.upstream.one.answer(outcome)
        self.settle()

    def of_another(self, over: bool = False) -> int:
        """A task of another user."""
        accepted = self.core.now(
            self.core.store.accept(Submission("somebody", "Anna", self.core.stage(JPEG), "image/jpeg"))
        )
        task: Task = accepted.task
        if over:
            self.core.now(
                self.core.store.save(
                    Task(
                        **{name: getattr(task, name) for name in ("id", "user", "name", "photo", "since", "due")},
                        state=State.READY,
                        result=0.5,
                        finished_at=1.0,
                    )
                )
            )
        return task.id

    def forget_memory(self) -> None:
        """As after a start: what is over is in the database alone."""
        self.core.results._cache.clear()

    def assert_answer(self, reply: Reply, code: int, body: bytes, method: str = "", **headers: str) -> None:
        """An answer of the brief: exactly these headers, beside those that every answer has, and this body."""
        expected = {name.replace("_", "-").lower(): value for name, value in headers.items()}
        expected["cache-control"] = "no-store"
        expected["x-content-type-options"] = "nosniff"
        if code != 204:
            expected.setdefault("content-type", "application/json")
            expected["content-length"] = str(len(body))
        self.assertEqual(len(reply.all("Date")), 1)
        self.assertEqual({name: value for name, value in reply.headers if name != "date"}, expected)
        self.assertEqual((reply.code, reply.body), (code, b"" if method == "HEAD" else body))

    def assert_received(self, reply: Reply, task: int, **headers: str) -> None:
        body = b'{"status":"received","task":%d,"result":null}' % task
        self.assert_answer(reply, 202, body, Location=f"/?task_id={task}", Retry_After="2", **headers)


class PostTests(ContractCase):
    """POST."""

    def test_new(self) -> None:
        """202 with the task's number, when task and photo are durable and the upload has begun."""
        reply = self.ask(post(form("  Анна ")))
        (task,) = self.stored()
        self.assert_received(reply, task.id)
        self.assertEqual((task.user, task.name, task.photo.media_type), (ANONYMOUS, "Анна", "image/jpeg"))
        self.assertEqual(self.core.files(), [str(task.id)])
        self.assertEqual(self.sent(), [task.id])
        self.assertIn(b"merlind_accept_seconds_count 1.0", self.metrics.exposition())

    def test_not_before_durable(self) -> None:
        """The answer waits for the commit."""
        client = self.connect()
        client.protocol.dataReceived(post())
        self.assertTrue(client.silent)
        self.settle()
        self.assert_received(client.reply(), self.stored()[0].id)

    def test_same_unfinished(self) -> None:
        """The same number, however often, and no second upload; whether it is to upload or to be polled for."""
        task = self.accepted()
        self.assert_received(self.ask(post()), task)
        self.answer(Pending("retry"))
        self.assert_received(self.ask(post(form("\u0041nna "))), task)
        self.assertEqual((len(self.stored()), self.core.files(), self.sent()), (1, [str(task)], [task]))

    def test_same_finished(self) -> None:
        """200 with the result."""
        task = self.ready()
        body = b'{"status":"ready","task":%d,"result":0.83}' % task
        for _ in range(2):
            self.assert_answer(self.ask(post()), 200, body, Content_Location=f"/?task_id={task}")
            self.forget_memory()
        self.assertEqual((self.core.files(), self.sent()), ([], [task]))

    def test_same_failed(self) -> None:
        """202 with the same number: it is tried again."""
        task = self.failed()
        self.assert_received(self.ask(post()), task)
        self.assertEqual((self.core.files(), self.sent()), ([str(task)], [task, task]))
        self.assert_answer(self.ask(get(task)), 202, WAIT, Retry_After="2")
        self.answer(Scored(0.5))
        self.assertEqual(self.ask(get(task)).json, {"status": "ready", "result": 0.5})

    def test_what_is_the_same(self) -> None:
        """Another name, photo or user makes another task."""
        tasks = {self.accepted(), self.accepted("Bo"), self.accepted("anna"), self.accepted(photo=photo_of(60))}
        tasks.add(self.of_another())
        self.assertEqual(len(tasks), 5)
        self.assertEqual(self.accepted("Anna"), min(tasks))

    def test_at_the_same_moment(self) -> None:
        """Equal POSTs at once make one row, one photo, one upload."""
        clients = [self.connect() for _ in range(5)]
        for client in clients:
            client.protocol.dataReceived(post()[:-10])
        for client in clients:
            client.protocol.dataReceived(post()[-10:])
        self.settle()
        (task,) = self.stored()
        for client in clients:
            self.assert_received(client.reply(), task.id)
        self.assertEqual((self.core.files(), self.sent()), ([str(task.id)], [task.id]))
        self.assertEqual(self.core.counts.unfinished, 1)

    def test_gone_before_the_commit_ends(self) -> None:
        """A client that leaves while its task is being made durable has made it all the same."""
        client = self.connect()
        client.protocol.dataReceived(post())
        client.gone = True
        client.protocol.connectionLost()
        self.settle()
        (task,) = self.stored()
        self.assertEqual((self.core.files(), self.sent()), ([str(task.id)], [task.id]))
        self.assertTrue(client.silent)

    def test_gone_before_a_commit_that_fails(self) -> None:
        """And when it can't be made durable, nobody needs to be told."""
        self.core.watch.fault = fail_on("INSERT", sqlite_error("SQLITE_FULL"))
        client = self.connect()
        client.protocol.dataReceived(post())
        client.gone = True
        client.protocol.connectionLost()
        self.settle()
        self.assert_nothing_kept()

    def test_query_is_ignored(self) -> None:
        """A POST is a POST, whatever its query."""
        data = post().replace(b"POST / ", b"POST /?task_id=5&x ")
        self.assert_received(self.ask(data), 1)

    def test_refused(self) -> None:
        """A form that turns out bad at its end is a problem of its own, and the connection goes on."""
        client = self.connect().send(post(form("")) + post(form("\0")) + message("OPTIONS", "/"))
        empty, control, after = client.replies()
        self.assert_problem(empty, 422, "bad_name", closed=False)
        self.assertEqual(empty.json["detail"], "the name is empty")
        self.assert_problem(control, 422, "bad_name", closed=False)
        self.assertEqual(after.code, 204)
        self.assert_nothing_kept()

    def test_refused_while_it_comes_in(self) -> None:
        """A form that turns out bad before its end is refused there and then."""
        data = post(form(photo=b"<html>" * 500))
        client = self.connect().send(data[:1000])
        self.assert_problem(client.reply(), 422, "not_an_image")
        client.send(data[1000:])
        self.assertEqual(len(client.replies()), 1)
        self.assert_nothing_kept()

    def test_empty_body(self) -> None:
        """A body of no bytes is no form."""
        self.assert_problem(self.ask(post(b"", Content_Length="0")), 400, "malformed_form", closed=False)
        self.assert_problem(
            self.ask(post(b"", Transfer_Encoding="chunked") + b"0\r\n\r\n"), 400, "malformed_form", closed=False
        )

    def test_disk_full(self) -> None:
        """503 and nothing is left, then on again by itself."""
        for name in ("SQLITE_FULL", "SQLITE_READONLY", "SQLITE_BUSY"):
            self.core.watch.fault = fail_on("INSERT", sqlite_error(name))
            reply = self.ask(post())
            self.assert_problem(reply, 503, "storage", closed=False)
            self.assertEqual(reply.get("Retry-After"), "5")
            self.assertNotIn(b"SQLITE", reply.body)
            self.assert_nothing_kept()
        self.core.watch.fault = lambda sql: None
        self.accepted()

    def test_disk_broken(self) -> None:
        """503, and from then on nothing is even begun."""
        self.core.watch.fault = fail_on("COMMIT", sqlite_error("SQLITE_IOERR_FSYNC"))
        self.assert_problem(self.ask(post()), 503, "storage", closed=False)
        self.core.watch.fault = lambda sql: None
        reply = self.ask(post())
        self.assert_problem(reply, 503, "full")
        self.assertEqual(reply.json["detail"], "the server can't keep tasks any more")
        self.assert_problem(self.ask(get(5)), 503, "storage", closed=False)
        self.assert_problem(self.ask(get(5, "DELETE")), 503, "storage", closed=False)
        self.assertEqual(len(self.core.broken), 1)

    def test_close_fails(self) -> None:
        """A photo whose file can't be closed isn't relied on."""
        self.patch(intake, "SMALL_UPLOAD", 0)
        real = os.close

        def close(descriptor: int) -> None:
            real(descriptor)
            raise OSError(errno.EIO, "I/O error")

        client = self.connect().send(post()[:-1])
        self.patch(spool.os, "close", close)
        client.protocol.dataReceived(post()[-1:])
        self.patch(spool.os, "close", real)
        self.settle()
        self.assert_problem(client.reply(), 503, "storage", closed=False)

    def test_not_written(self) -> None:
        """A photo that was in memory and can't be written isn't taken, and that is all: others are, a moment later."""
        real = os.write
        for number in (errno.EIO, errno.ENOSPC):
            self.patch(os, "write", failing(number))
            self.assert_problem(self.ask(post()), 503, "storage", closed=False)
            self.patch(os, "write", real)
            self.assertEqual((self.core.files(), self.core.broken, self.core.intake.active_uploads), ([], [], 0))
        self.assertEqual(self.ask(post()).code, 202)


class FullTests(ContractCase):
    """When no more can be taken: 503 with Retry-After, before the body."""

    limits = Limits(max_pending=2, min_free_bytes=1000, max_uploads=2, max_upload_bytes=100_000)

    def assert_full(self, detail: str, data: bytes | None = None) -> None:
        reply = self.ask(data or post()[:-10])
        self.assert_problem(reply, 503, "full")
        self.assertEqual((reply.json["detail"], reply.get("Retry-After")), (detail, "5"))

    def test_pending(self) -> None:
        """Too many unfinished tasks; when one is over, one more is taken."""
        self.accepted("A")
        self.accepted("B")
        self.assert_full("there are too many unfinished tasks")
        self.core.upstream.exchanges[0].answer(Scored(0.5))
        self.settle()
        self.accepted("C")

    def test_uploads(self) -> None:
        """Too many uploads at once; when one ends, one more may begin."""
        clients = [self.connect().send(post()[:-10]) for _ in range(2)]
        self.assert_full("there are too many uploads at once")
        clients[0].leave()
        self.accepted()

    def test_upload_bytes(self) -> None:
        """Too many bytes of them; an unknown length counts as the longest."""
        self.connect().send(post(b"", Transfer_Encoding="chunked"))
        self.assert_full("there are too many uploads at once", post(b"", Transfer_Encoding="chunked"))
        self.accepted()

    def test_disk_room(self) -> None:
        """Too little room on the disk, the uploads in hand counted."""
        body = form()
        for free, full in ((999, True), (1000 + len(body) - 1, True), (1000 + len(body), False)):
            self.patch(self.core.spool, "free_bytes", lambda free=free: free)
            if full:
                self.assert_full("the disk is almost full")
        self.accepted()

    def test_disk_gone(self) -> None:
        """A disk that can't even be asked."""

        def fail(path: str) -> Any:
            raise OSError(errno.EIO, "I/O error")

        self.patch(spool.os, "statvfs", fail)
        self.assert_full("the disk can't be used")

    def test_draining(self) -> None:
        """The end has begun: questions are answered, photos are not taken."""
        task = self.accepted()
        self.core.intake.draining = True
        self.assert_full("the server is stopping")
        self.assertEqual(self.ask(get(task)).code, 202)


class GetTests(ContractCase):
    """GET, and HEAD."""

    def assert_told(self, task: int, code: int, body: bytes, **headers: str) -> None:
        """GET and HEAD say it, by the short way and by the router's."""
        for query in (f"task_id={task}", f"task_id={task}&more=x", f"%74ask_id={task}", f"task_id={task:016}"):
            self.assert_answer(self.ask(message("GET", f"/?{query}")), code, body, **headers)
            self.assert_answer(self.ask(message("HEAD", f"/?{query}")), code, body, "HEAD", **headers)

    def test_unfinished(self) -> None:
        """202, from the database too."""
        task = self.accepted()
        self.assert_told(task, 202, WAIT, Retry_After="2")
        self.answer(Pending("retry"))
        self.assert_told(task, 202, WAIT, Retry_After="2")
        self.core.queue._tasks.clear()
        self.assert_told(task, 202, WAIT, Retry_After="2")

    def test_finished(self) -> None:
        """200 with the result, from memory and from the database."""
        task = self.ready()
        self.assert_told(task, 200, READY)
        self.forget_memory()
        self.assert_told(task, 200, READY)

    def test_results(self) -> None:
        """Numbers as JSON has them."""
        for result, text in ((0.0, b"0.0"), (1.0, b"1.0"), (1e-7, b"1e-07"), (0.1 + 0.2, b"0.30000000000000004")):
            task = self.ready(result)
            self.assertEqual(self.ask(get(task)).body, b'{"status":"ready","result":' + text + b"}")
            self.assertEqual(self.ask(get(task, "DELETE")).code, 204)

    def test_failed(self) -> None:
        """200 with what went wrong."""
        task = self.failed()
        self.assert_told(task, 200, FAILED)
        self.forget_memory()
        self.assert_told(task, 200, FAILED)

    def test_unknown(self) -> None:
        """404 for a number that is no task's, whatever its size."""
        for task in (0, 1, MAX_TASK_ID, MAX_TASK_ID + 1, 10**16 - 1):
            self.assert_told(task, 404, NOT_FOUND)

    def test_of_another(self) -> None:
        """Another user's task is as unknown, byte for byte, whatever is asked and wherever it is known (C9)."""
        for over in (False, True):
            task = self.of_another(over)
            for _ in range(2):
                for method, headers in (("GET", {}), ("HEAD", {}), ("DELETE", {}), ("GET", {"Prefer": "wait=9"})):
                    other = self.connect().send(get(task, method, **headers)).transport.value()
                    unknown = self.connect().send(get(task + 1, method, **headers)).transport.value()
                    self.assertEqual(without_date(other), without_date(unknown))
                    self.assertTrue(other.startswith(b"HTTP/1.1 404 "))
                found = self.core.stored(task)
                assert found is not None, "it is there all the same"
                if not over:
                    self.core.scheduler.add(found)
        self.assertEqual(len(self.stored()), 1)

    def test_no_database_for_what_is_known(self) -> None:
        """Questions for tasks in hand, or over lately, leave the database alone."""
        ready, unfinished = self.ready(), self.accepted("Bo")
        del self.core.watch.statements[:]
        self.assertEqual([self.ask(get(task)).code for task in (ready, unfinished)], [200, 202])
        self.assertEqual(self.core.watch.statements, [])

    def test_bad_numbers(self) -> None:
        """400 for what is no number of one task (C8)."""
        for query in (
            "",
            "task_id",
            "task_id=",
            "task_id=abc",
            "task_id=-1",
            "task_id=%2B1",
            "task_id=+1",
            "task_id=1e3",
            "task_id=1.0",
            "task_id=0x1",
            "task_id=1_0",
            "task_id=%201",
            "task_id=1%20",
            "task_id=1%0A",
            "task_id=1%00",
            "task_id=%EF%BC%91%EF%BC%92",
            "task_id=%D9%A1",
            "task_id=%C2%B2",
            "task_id=\xb0",
            "task_id=9223372036854775808",
            "task_id=" + "1" * 17,
            "task_id=" + "1" * 5000,
            "task_id=1&task_id=1",
            "task_id=1&task_id=2",
            "task_id=1&task_id=",
            "task_id=1;DROP TABLE task".replace(" ", "%20"),
            "task_id='%20OR%201=1",
            "Task_id=1",
            "task_id[]=1",
            "id=1",
            "&" * 100,
            "a=b&" * 100 + "task_id=1",
            "%",
            "task_id=%zz",
        ):
            for method in ("GET", "DELETE"):
                reply = self.ask(message(method, f"/?{query}"))
                self.assert_problem(reply, 400, "bad_task_id", closed=False)

    def test_fragments_of_a_target(self) -> None:
        """What has no place in a target is part of the query, and no number."""
        self.assert_problem(self.ask(message("GET", "/?task_id=1#x")), 400, "bad_task_id", closed=False)
        self.assert_problem(self.ask(message("GET", "/?task_id=1?task_id=2")), 400, "bad_task_id", closed=False)

    def test_database_unavailable(self) -> None:
        """503 where the answer can't be looked up."""
        self.core.watch.fault = fail_on("SELECT", sqlite_error("SQLITE_BUSY"))
        self.assert_problem(self.ask(get(5)), 503, "storage", closed=False)
        self.assert_problem(self.ask(get(5, "HEAD")), 503, "storage", "HEAD", closed=False)

    def test_lookup_unforeseen_after_leaving(self) -> None:
        """A client that leaves before the answer is found is forgotten."""
        client = self.connect()
        client.protocol.dataReceived(get(5))
        client.gone = True
        client.protocol.connectionLost()
        self.settle()
        self.assertTrue(client.silent)


class DeleteTests(ContractCase):
    """DELETE."""

    def test_erased(self) -> None:
        """204, and nothing of it is known any more, in whatever state it was."""
        for make in (self.accepted, self.ready, self.failed):
            task = make()
            self.assert_answer(self.ask(get(task, "DELETE")), 204, b"")
            self.assertEqual((self.core.files(), self.stored(), self.core.upstream.exchanges), ([], [], []))
            self.assert_answer(self.ask(get(task)), 404, NOT_FOUND)
            self.assert_answer(self.ask(get(task, "DELETE")), 404, NOT_FOUND)

    def test_sent_again(self) -> None:
        """What was erased and comes again is new."""
        task = self.ready()
        self.ask(get(task, "DELETE"))
        self.assertNotEqual(self.accepted(), task)

    def test_gone_meanwhile(self) -> None:
        """A client that leaves has erased it all the same."""
        task = self.ready()
        client = self.connect()
        client.protocol.dataReceived(get(task, "DELETE"))
        client.gone = True
        client.protocol.connectionLost()
        self.settle()
        self.assertEqual(self.stored(), [])


class MethodTests(ContractCase):
    """Other methods, other paths."""

    allow = "GET, HEAD, POST, DELETE, OPTIONS"

    def test_options(self) -> None:
        """What may be asked."""
        for target in ("/", "*", "/?task_id=x"):
            self.assert_answer(self.ask(message("OPTIONS", target)), 204, b"", Allow=self.allow)

    def test_not_allowed(self) -> None:
        """405 with Allow (H13); the connection goes on."""
        for method in ("PUT", "PATCH", "TRACE", "BREW", "PROPFIND", "M-SEARCH", "_"):
            reply = self.ask(message(method, "/?task_id=1"))
            self.assert_problem(reply, 405, "method_not_allowed", closed=False)
            self.assertEqual(reply.get("Allow"), self.allow)
        self.assertEqual(self.ask(message("CONNECT", "a:80")).code, 404)

    def test_case(self) -> None:
        """Methods in small letters are other methods."""
        task = self.ready()
        for method in ("get", "Get", "head", "delete", "post", "options"):
            reply = self.ask(get(task, method))
            self.assert_problem(reply, 405, "method_not_allowed", closed=False)
        self.assertEqual(self.ask(get(task)).code, 200)

    def test_other_paths(self) -> None:
        """404, whatever the method; what lies on the admin listener is not here."""
        for path in (
            "/metrics",
            "/health/live",
            "/x",
            "/index.html",
            "/..",
            "/a//b",
            "/%ff",
            "/%00",
            "/\xb0",
            "/x?task_id=1",
            "/" + "a/" * 1000,
            "/%0d%0aX:%20y",
        ):
            for method in ("GET", "POST", "DELETE", "PUT", "OPTIONS", "HEAD"):
                reply = self.ask(message(method, path, Content_Length="0"))
                self.assert_problem(reply, 404, "not_found", method, closed=False)

    def test_other_spellings(self) -> None:
        """A form that is sent to another spelling of the entry point isn't read, and finds nothing there."""
        for path in ("//", "/%2F", "///", "*", "x"):
            data = post().replace(b"POST / ", b"POST " + path.encode() + b" ")
            self.assert_problem(self.ask(data), 404, "not_found", closed=False)
        self.assert_nothing_kept()

    def test_counted(self) -> None:
        """Answers are counted by method and code; unknown methods share a label."""
        self.ask(get(5))
        self.ask(message("BREW", "/"))
        self.ask(message("BREW", "/"))
        exposition = self.metrics.exposition()
        self.assertIn(b'merlind_http_requests_total{code="404",method="GET"} 1.0', exposition)
        self.assertIn(b'merlind_http_requests_total{code="405",method="other"} 2.0', exposition)


class PageTests(ContractCase):
    """A browser at ``/``."""

    def test_page(self) -> None:
        """HTML with a policy that lets nothing else in."""
        for method in ("GET", "HEAD"):
            reply = self.ask(message(method, "/", Accept="text/html"))
            self.assert_answer(
                reply,
                200,
                PAGE.body,
                method,
                Content_Type="text/html; charset=utf-8",
                Content_Security_Policy=(
                    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; "
                    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
                ),
                Referrer_Policy="no-referrer",
                Vary="Accept",
            )
        self.assertIn(b"<form", PAGE.body)

    def test_who_gets_it(self) -> None:
        """Who likes text/html no less than JSON, and asks for no task; all others get 400."""
        for accept, page in (
            ("text/html", True),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", True),
            ("application/json;q=0.5, TEXT/HTML;Q=0.8", True),
            ("text/html, application/json", True),
            ("text/html;level=1;q=0.3", True),
            ("text/html;q=1.000", True),
            (None, False),
            ("", False),
            ("*/*", False),
            ("text/*", False),
            ("application/json", False),
            ("text/html;q=0.5, application/json", False),
            ("text/html;q=0", False),
            ("text/html;q=0.000", False),
            ("text/html;q=2", False),
            ("text/html;q=nan", False),
            ("text/html;q=-1", False),
            ("text/html;q=1e9", False),
            ("text/html;q=٠.5".encode().decode("latin-1"), True),
            ("," * 1000, False),
            ("\xff\xfe;;;=", False),
        ):
            reply = self.ask(message("GET", "/", Accept=accept))
            if page:
                self.assertEqual((reply.code, reply.body), (200, PAGE.body), accept)
            else:
                self.assert_problem(reply, 400, "bad_task_id", closed=False)

    def test_questions_are_not_pages(self) -> None:
        """A browser that asks for a task gets the task."""
        task = self.ready()
        self.assert_answer(self.ask(get(task, Accept="text/html")), 200, READY)
        self.assert_problem(self.ask(get("x", Accept="text/html")), 400, "bad_task_id", closed=False)


class WaitTests(ContractCase):
    """Prefer: wait."""

    def held(self, data: bytes, count: int = 1) -> Client:
        """A client that waits for its answer."""
        client = self.connect().send(data)
        self.assertTrue(client.silent)
        self.assertEqual(self.core.results.waiting, count)
        return client

    def test_woken(self) -> None:
        """The task's own transition answers, at once and without polling the database."""
        task = self.accepted()
        clients = [self.held(get(task, Prefer="wait=30"), n + 1) for n in range(3)]
        del self.core.watch.statements[:]
        self.reactor.run_for(10)
        self.assertEqual(self.core.watch.statements, [])
        self.answer(Scored(0.83))
        for client in clients:
            self.assert_answer(client.reply(), 200, READY, Preference_Applied="wait=30")
        self.assertEqual(self.core.watch.count("SELECT"), 0)
        self.assertEqual(self.core.results.waiting, 0)

    def test_woken_by_a_failure(self) -> None:
        """A task that fails is over too."""
        client = self.held(get(self.accepted(), Prefer="wait=30"))
        self.answer(REFUSED)
        self.assert_answer(client.reply(), 200, FAILED, Preference_Applied="wait=30")

    def test_steps_on_the_way(self) -> None:
        """What isn't the end wakes nobody."""
        task = self.accepted()
        client = self.held(get(task, Prefer="wait=30"))
        self.answer(Pending("retry"))
        self.reactor.run_for(2.1)
        self.answer(TransientError("status_500"))
        self.assertTrue(client.silent)

    def test_in_time(self) -> None:
        """When the time is over, it is told as it stands."""
        task = self.accepted()
        client = self.held(get(task, Prefer="wait=7"))
        self.reactor.run_for(6.9)
        self.assertTrue(client.silent)
        self.reactor.run_for(0.2)
        self.assert_answer(client.reply(), 202, WAIT, Retry_After="2", Preference_Applied="wait=7")
        self.assertEqual(self.core.results.waiting, 0)

    def test_capped(self) -> None:
        """Nobody waits for longer than a minute, and the answer says so."""
        client = self.held(get(self.accepted(), Prefer="wait=86400"))
        self.reactor.run_for(MAX_WAIT - 0.1)
        self.assertTrue(client.silent)
        self.reactor.run_for(0.2)
        self.assertEqual(client.reply().get("Preference-Applied"), "wait=60")

    def test_over_already(self) -> None:
        """What is over isn't waited for."""
        ready = self.ready()
        for task, code in ((ready, 200), (ready + 1, 404)):
            reply = self.ask(get(task, Prefer="wait=30"))
            self.assertEqual((reply.code, reply.get("Preference-Applied")), (code, "wait=30"))
        self.forget_memory()
        self.assertEqual(self.ask(get(ready, Prefer="wait=30")).body, READY)

    def test_ways_to_say_it(self) -> None:
        """As RFC 7240 has it; what is none is no preference."""
        task = self.accepted()
        for number, prefer in enumerate(
            ("wait=1", "Wait=1", ' wait = "1" ', "respond-async, wait=1", "wait=1; x=y", "wait=1, wait=9", "x, wait=1;")
        ):
            client = self.held(get(task, Prefer=prefer))
            self.reactor.run_for(1.1)
            self.assertEqual(client.reply().get("Preference-Applied"), "wait=1", (number, prefer))
        self.assertEqual(self.held(get(task, Prefer="a\r\nPrefer: wait=5")).closed, False)
        self.clients[-1].leave()
        for prefer in (
            "wait",
            "wait=",
            "wait=x",
            "wait=-1",
            "wait=1.5",
            "wait=" + "9" * 10,
            "await=5",
            "",
            "return=minimal",
        ):
            reply = self.ask(get(task, Prefer=prefer))
            self.assertEqual((reply.code, reply.get("Preference-Applied")), (202, None), prefer)

    def test_no_time(self) -> None:
        """No seconds are none."""
        reply = self.ask(get(self.accepted(), Prefer="wait=0"))
        self.assertEqual((reply.code, reply.get("Preference-Applied")), (202, "wait=0"))

    def test_head(self) -> None:
        """HEAD waits as GET does."""
        client = self.held(get(self.accepted(), "HEAD", Prefer="wait=30"))
        self.answer(Scored(0.83))
        self.assert_answer(client.reply("HEAD"), 200, READY, "HEAD", Preference_Applied="wait=30")

    def test_post(self) -> None:
        """A POST waits for its result."""
        client = self.held(post(Prefer="wait=30"))
        self.answer(Scored(0.83))
        (task,) = self.stored()
        body = b'{"status":"ready","task":%d,"result":0.83}' % task.id
        self.assert_answer(
            client.reply(), 200, body, Content_Location=f"/?task_id={task.id}", Preference_Applied="wait=30"
        )

    def test_post_without_a_result(self) -> None:
        """Received, when the time is over or the task fails first."""
        client = self.held(post(Prefer="wait=5"))
        (task,) = self.stored()
        self.reactor.run_for(5.1)
        self.assert_received(client.reply(), task.id, Preference_Applied="wait=5")
        client = self.held(post(Prefer="wait=5"))
        self.answer(REFUSED)
        self.assert_received(client.reply(), task.id, Preference_Applied="wait=5")

    def test_post_of_what_is_ready(self) -> None:
        """Nothing to wait for."""
        task = self.ready()
        reply = self.ask(post(Prefer="wait=30"))
        self.assertEqual((reply.code, reply.json["task"], reply.get("Preference-Applied")), (200, task, "wait=30"))

    def test_gone(self) -> None:
        """Who leaves isn't waited with, and its timer goes."""
        task = self.accepted()
        client, other = self.held(get(task, Prefer="wait=30")), self.held(get(task, Prefer="wait=30"), 2)
        timers = len(self.reactor.getDelayedCalls())
        client.leave()
        self.assertEqual(self.core.results.waiting, 1)
        self.assertEqual(len(self.reactor.getDelayedCalls()), timers - 2)  # its connection's too
        self.answer(Scored(0.83))
        self.assertEqual(other.reply().body, READY)
        self.assertTrue(client.silent)

    def test_erased_meanwhile(self) -> None:
        """A task that is erased is not found."""
        task = self.accepted()
        client, poster = self.held(get(task, Prefer="wait=30")), self.held(post(Prefer="wait=30"), 2)
        self.assertEqual(self.ask(get(task, "DELETE")).code, 204)
        self.assert_answer(client.reply(), 404, NOT_FOUND, Preference_Applied="wait=30")
        self.assert_received(poster.reply(), task, Preference_Applied="wait=30")

    def test_stopping(self) -> None:
        """At the end all are told how it stands, and nobody is held any more."""
        task = self.accepted()
        client, poster = self.held(get(task, Prefer="wait=30")), self.held(post(Prefer="wait=30"), 2)
        data = post(form("Bo"), Prefer="wait=30")
        late = self.connect().send(data[:-10])
        self.core.intake.draining = True
        self.core.results.release()
        self.settle()
        self.assert_answer(client.reply(), 202, WAIT, Retry_After="2", Preference_Applied="wait=30")
        self.assert_received(poster.reply(), task, Preference_Applied="wait=30")
        late.send(data[-10:])
        self.assertEqual(late.reply().code, 202)
        self.assertEqual(self.ask(get(task, Prefer="wait=30")).code, 202)

    def test_database_fails_meanwhile(self) -> None:
        """503 when the look at the end of the time fails."""
        client = self.held(get(self.accepted(), Prefer="wait=5"))
        self.core.queue._tasks.clear()
        self.core.watch.fault = fail_on("SELECT", sqlite_error("SQLITE_BUSY"))
        self.reactor.run_for(5.1)
        self.assert_problem(client.reply(), 503, "storage", closed=False)


class SecrecyTests(ContractCase):
    """What nobody else gets to know."""

    def test_logs(self) -> None:
        """No name, filename, query or address is logged."""
        lines = LogLines.of(self).lines
        task = self.accepted("Анна-Секрет")
        self.ask(get(task))
        self.ask(post(form("\0secret")))
        self.ask(message("GET", "/secret?secret=1"))
        self.ask(get(task, "DELETE"))
        text = "\n".join(lines)
        self.assertIn(f"task {task}: received, {len(JPEG)} bytes", lines)
        for secret in ("Секрет", "secret", "me.jpg", "192.168", "task_id"):
            self.assertNotIn(secret, text)

    def test_answers(self) -> None:
        """No answer but its own names a task's error, and none a name."""
        task = self.failed()
        for data in (post(), get(task), get("x"), post(form(photo=b"no"))):
            self.assertNotIn(b"Anna", self.connect().send(data).transport.value())

    def test_json(self) -> None:
        """Every body that is JSON has just the keys of the contract."""
        task = self.ready()
        for data, keys in (
            (post(), {"status", "task", "result"}),
            (get(task), {"status", "result"}),
            (get(task + 1), {"status", "result"}),
        ):
            self.assertEqual(set(json.loads(self.ask(data).body)), keys)

"""The public side of docs/contract.md, row by row, over a real database and spool.

Codes such as (C8) are rows of docs/battery.md.
"""

import errno
import json
import os
from typing import Any

from merlind.core.interfaces import Submission
from merlind.core.outcome import Pending, Rejected, Scored, TaskError, TransientError
from merlind.core.task import MAX_TASK_ID, State, Task
from merlind.core.users import ANONYMOUS
from merlind.tasks import intake
from merlind.tasks.intake import Limits
from merlind.web.api import MAX_WAIT
from tests.unit.support import JPEG, fail_on, failing, sqlite_error
from tests.unit.web.support import (
    Client,
    EdgeCase,
    LogLines,
    Reply,
    form,
    get,
    message,
    photo_of,
    post,
    without_date,
)

REJECTED = Rejected(TaskError("refused", 'no face on "it"'))

WAIT = b'{"status":"wait","result":null}'
READY = b'{"status":"ready","result":0.83}'
NOT_FOUND = b'{"status":"not_found","result":null}'
FAILED = (
    b'{"status":"failed","result":null,"error":{"code":"refused","detail":"no face on \\"it\\"","source":"upstream"}}'
)


class ContractCase(EdgeCase):
    """Tasks in each state."""

    def ready(self, result: float = 0.83) -> int:
        """A task that the upstream scored."""
        return self.finished(Scored(result))

    def failed(self) -> int:
        """A task that the upstream rejected."""
        return self.finished(REJECTED)

    def finished(self, outcome: Scored | Rejected) -> int:
        """A task with this outcome."""
        task = self.accepted()
        self.end_request(outcome)
        return task

    def end_request(self, outcome: Any) -> None:
        """End the one request in flight with an outcome."""
        self.core.upstream.one.respond(outcome)
        self.settle()

    def task_of_another_user(self, finished: bool = False) -> int:
        """A task of another user, finished or not."""
        accepted = self.core.now(
            self.core.store.accept(Submission("somebody", "Anna", self.core.stage(JPEG), "image/jpeg"))
        )
        task: Task = accepted.task
        if finished:
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

    def empty_cache(self) -> None:
        """Empty the result cache, as a new start does."""
        self.core.results._cache.clear()

    def assert_response(self, reply: Reply, code: int, body: bytes, method: str = "", **headers: str) -> None:
        """A response has this body and exactly these headers, besides those that each has."""
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
        """A response says that a task is received."""
        body = b'{"status":"received","task":%d,"result":null}' % task
        self.assert_response(reply, 202, body, Location=f"?task_id={task}", Retry_After="2", **headers)


class PostTests(ContractCase):
    """POST: from a form to a task."""

    def test_new(self) -> None:
        """A new form gets 202 with the task's number; task and photo are durable, and the upload has begun."""
        reply = self.ask(post(form("  Анна ")))
        (task,) = self.stored()
        self.assert_received(reply, task.id)
        self.assertEqual((task.user, task.name, task.photo.media_type), (ANONYMOUS, "Анна", "image/jpeg"))
        self.assertEqual(self.core.files(), [str(task.id)])
        self.assertEqual(self.sent(), [task.id])
        self.assertIn(b"merlind_accept_seconds_count 1.0", self.metrics.exposition())

    def test_not_before_durable(self) -> None:
        """The response waits for the commit."""
        client = self.connect()
        client.protocol.dataReceived(post())
        self.assertTrue(client.silent)
        self.settle()
        self.assert_received(client.reply(), self.stored()[0].id)

    def test_same_unfinished(self) -> None:
        """The same form gets the same number while the task uploads or polls, and there is no second upload."""
        task = self.accepted()
        self.assert_received(self.ask(post()), task)
        self.end_request(Pending("retry"))
        self.assert_received(self.ask(post(form("\u0041nna "))), task)
        self.assertEqual((len(self.stored()), self.core.files(), self.sent()), (1, [str(task)], [task]))

    def test_same_finished(self) -> None:
        """The same form gets 200 with the result once the task is scored."""
        task = self.ready()
        body = b'{"status":"ready","task":%d,"result":0.83}' % task
        for _ in range(2):
            self.assert_response(self.ask(post()), 200, body, Content_Location=f"?task_id={task}")
            self.empty_cache()
        self.assertEqual((self.core.files(), self.sent()), ([], [task]))

    def test_same_failed(self) -> None:
        """The same form gets 202 and the same number after the task failed, and the task is tried again."""
        task = self.failed()
        self.assert_received(self.ask(post()), task)
        self.assertEqual((self.core.files(), self.sent()), ([str(task)], [task, task]))
        self.assert_response(self.ask(get(task)), 202, WAIT, Retry_After="2")
        self.end_request(Scored(0.5))
        self.assertEqual(self.ask(get(task)).json, {"status": "ready", "result": 0.5})

    def test_other_task(self) -> None:
        """Another name, photo or user makes another task."""
        tasks = {self.accepted(), self.accepted("Bo"), self.accepted("anna"), self.accepted(photo=photo_of(60))}
        tasks.add(self.task_of_another_user())
        self.assertEqual(len(tasks), 5)
        self.assertEqual(self.accepted("Anna"), min(tasks))

    def test_at_the_same_moment(self) -> None:
        """Equal forms at the same moment make one row, one photo and one upload."""
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
        """A client that leaves during the commit has made its task all the same."""
        client = self.connect()
        client.protocol.dataReceived(post())
        client.gone = True
        client.protocol.connectionLost()
        self.settle()
        (task,) = self.stored()
        self.assertEqual((self.core.files(), self.sent()), ([str(task.id)], [task.id]))
        self.assertTrue(client.silent)

    def test_gone_before_a_commit_that_fails(self) -> None:
        """If the client leaves and the commit fails, nothing remains and nothing is logged as an error."""
        self.core.watch.fault = fail_on("INSERT", sqlite_error("SQLITE_FULL"))
        client = self.connect()
        client.protocol.dataReceived(post())
        client.gone = True
        client.protocol.connectionLost()
        self.settle()
        self.assert_nothing_kept()

    def test_query_is_ignored(self) -> None:
        """A POST ignores its query."""
        data = post().replace(b"POST / ", b"POST /?task_id=5&x ")
        self.assert_received(self.ask(data), 1)

    def test_bad_at_the_end(self) -> None:
        """A form that turns out bad at its end gets its own problem, and the connection stays open."""
        client = self.connect().send(post(form("")) + post(form("\0")) + message("OPTIONS", "/"))
        empty, control, after = client.replies()
        self.assert_problem(empty, 422, "bad_name", closed=False)
        self.assertEqual(empty.json["detail"], "name is empty")
        self.assert_problem(control, 422, "bad_name", closed=False)
        self.assertEqual(after.code, 204)
        self.assert_nothing_kept()

    def test_bad_before_the_end(self) -> None:
        """A form that turns out bad earlier is refused at that point."""
        data = post(form(photo=b"<html>" * 500))
        client = self.connect().send(data[:1000])
        self.assert_problem(client.reply(), 422, "not_an_image")
        client.send(data[1000:])
        self.assertEqual(len(client.replies()), 1)
        self.assert_nothing_kept()

    def test_empty_body(self) -> None:
        """An empty body is no form."""
        self.assert_problem(self.ask(post(b"", Content_Length="0")), 400, "malformed_form", closed=False)
        self.assert_problem(
            self.ask(post(b"", Transfer_Encoding="chunked") + b"0\r\n\r\n"), 400, "malformed_form", closed=False
        )

    def test_disk_full(self) -> None:
        """A full disk means 503 and leaves nothing; merlind goes on by itself when there is room."""
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
        """After a failed commit everything gets 503, and no form is even read."""
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
        """A photo whose file can't be closed is not accepted."""
        self.patch(intake, "SMALL_UPLOAD", 0)
        real = os.close

        def close(descriptor: int) -> None:
            real(descriptor)
            raise OSError(errno.EIO, "I/O error")

        client = self.connect().send(post()[:-1])
        self.patch(os, "close", close)
        client.protocol.dataReceived(post()[-1:])
        self.patch(os, "close", real)
        self.settle()
        self.assert_problem(client.reply(), 503, "storage", closed=False)

    def test_not_written(self) -> None:
        """A photo that can't be written is not accepted; the next one is."""
        real = os.write
        for number in (errno.EIO, errno.ENOSPC):
            self.patch(os, "write", failing(number))
            self.assert_problem(self.ask(post()), 503, "storage", closed=False)
            self.patch(os, "write", real)
            self.assertEqual((self.core.files(), self.core.broken, self.core.intake.active_uploads), ([], [], 0))
        self.assertEqual(self.ask(post()).code, 202)


class FullTests(ContractCase):
    """At a limit: 503 with Retry-After, before the body is read."""

    limits = Limits(max_pending=2, min_free_bytes=1000, max_uploads=2, max_upload_bytes=100_000)

    def assert_full(self, detail: str, data: bytes | None = None) -> None:
        """A form is refused because of a limit."""
        reply = self.ask(data or post()[:-10])
        self.assert_problem(reply, 503, "full")
        self.assertEqual((reply.json["detail"], reply.get("Retry-After")), (detail, "5"))

    def test_pending(self) -> None:
        """Past the limit of unfinished tasks, one more is accepted once one has finished."""
        self.accepted("A")
        self.accepted("B")
        self.assert_full("there are too many unfinished tasks")
        self.core.upstream.requests[0].respond(Scored(0.5))
        self.settle()
        self.accepted("C")

    def test_uploads(self) -> None:
        """Past the limit of active uploads, one more may begin once one has ended."""
        clients = [self.connect().send(post()[:-10]) for _ in range(2)]
        self.assert_full("there are too many uploads at once")
        clients[0].leave()
        self.accepted()

    def test_upload_bytes(self) -> None:
        """The bytes of all active uploads are limited; an unknown length counts as the longest."""
        self.connect().send(post(b"", Transfer_Encoding="chunked"))
        self.assert_full("there are too many uploads at once", post(b"", Transfer_Encoding="chunked"))
        self.accepted()

    def test_disk_room(self) -> None:
        """Active uploads count as used room on the disk."""
        body = form()
        for free, full in ((999, True), (1000 + len(body) - 1, True), (1000 + len(body), False)):
            self.patch(self.core.spool, "free_bytes", lambda free=free: free)
            if full:
                self.assert_full("the disk is almost full")
        self.accepted()

    def test_disk_gone(self) -> None:
        """A disk that doesn't say how much is free counts as full."""

        def fail(path: str) -> Any:
            raise OSError(errno.EIO, "I/O error")

        self.patch(os, "statvfs", fail)
        self.assert_full("the disk can't be used")

    def test_draining(self) -> None:
        """While merlind stops, a GET works and a form is refused."""
        task = self.accepted()
        self.core.intake.draining = True
        self.assert_full("the server is stopping")
        self.assertEqual(self.ask(get(task)).code, 202)


class ClientLimitTests(ContractCase):
    """At a limit of one client: 429 with Retry-After for it, while others are served (A7)."""

    limits = Limits(
        max_pending=100, min_free_bytes=0, max_uploads=100, max_upload_bytes=2**30, max_uploads_per_client=2
    )
    max_pending_per_client = 2
    max_long_polls_per_client = 1

    def other(self, address: str = "198.51.100.2") -> Client:
        """A client with another address."""
        return self.connect(peer=address)

    def assert_over_limit(self, reply: Reply, code: str, detail: str, closed: bool = True) -> None:
        """A response says that this client has too much of something."""
        self.assert_problem(reply, 429, code, closed=closed)
        self.assertEqual((reply.json["detail"], reply.get("Retry-After")), (detail, "5"))

    def test_uploads(self) -> None:
        """Past a client's limit of uploads the form isn't read; another client's is, and its own once there is room."""
        clients = [self.connect().send(post()[:-10]) for _ in range(2)]
        detail = "this client has as many active uploads as one may have, 2"
        self.assert_over_limit(self.ask(post()[:-10]), "too_many_uploads", detail)
        self.assertEqual(self.other().send(post(form("Bo"))).reply().code, 202)
        clients[0].leave()
        self.accepted()

    def test_pending(self) -> None:
        """Past a client's limit of unfinished tasks it can still ask for them, and submit once one is finished."""
        task = self.accepted("A")
        self.accepted("B")
        detail = "this client has as many unfinished tasks as one may have, 2"
        self.assert_over_limit(self.ask(post(form("C"))[:-10]), "too_many_tasks", detail)
        self.assertEqual(self.ask(get(task)).body, WAIT)
        self.assertEqual(self.other().send(post(form("C"))).reply().code, 202)
        self.core.upstream.requests[0].respond(Scored(0.5))
        self.settle()
        self.accepted("D")

    def test_long_polls(self) -> None:
        """Past a client's limit a GET that wants to wait gets 429; whatever needs no wait gets its response."""
        task = self.accepted("A")
        client = self.connect().send(get(task, Prefer="wait=30"))
        detail = "this client has as many long polls as one may have, 1"
        self.assert_over_limit(self.ask(get(task, Prefer="wait=30")), "too_many_long_polls", detail, closed=False)
        self.assertEqual(self.ask(get(task, "HEAD", Prefer="wait=30")).code, 429)
        self.assertEqual(self.ask(get(task)).body, WAIT)
        self.assertEqual(self.ask(get(task, Prefer="wait=0")).get("Preference-Applied"), "wait=0")
        other = self.other().send(get(task, Prefer="wait=30"))
        self.assertTrue(other.silent)
        self.end_request(Scored(0.83))
        for waiter in (client, other):
            self.assert_response(waiter.reply(), 200, READY, Preference_Applied="wait=30")
        self.assertEqual(self.ask(get(task, Prefer="wait=30")).get("Preference-Applied"), "wait=30")

    def test_post_is_accepted_without_its_wait(self) -> None:
        """A POST that can't wait is accepted all the same, and its response says that no wait was applied."""
        waiting = self.connect().send(get(self.accepted("A"), Prefer="wait=30"))
        reply = self.ask(post(form("B"), Prefer="wait=30"))
        self.assert_received(reply, reply.json["task"])
        self.assertTrue(waiting.silent)

    def test_this_machine(self) -> None:
        """If the client is on this machine, the response says that a proxy there may stand for many."""
        clients = [self.other("127.0.0.1") for _ in range(3)]
        for client in clients:
            client.send(post()[:-10])
        self.assertIn("sends X-Forwarded-For", clients[2].reply().json["detail"])


class GetTests(ContractCase):
    """GET and HEAD: how a task stands."""

    def assert_shown(self, task: int, code: int, body: bytes, **headers: str) -> None:
        """GET and HEAD respond so, by the fast path and through the router."""
        for query in (f"task_id={task}", f"task_id={task}&more=x", f"%74ask_id={task}", f"task_id={task:016}"):
            self.assert_response(self.ask(message("GET", f"/?{query}")), code, body, **headers)
            self.assert_response(self.ask(message("HEAD", f"/?{query}")), code, body, "HEAD", **headers)

    def test_unfinished(self) -> None:
        """An unfinished task is 202, also when only the database knows it."""
        task = self.accepted()
        self.assert_shown(task, 202, WAIT, Retry_After="2")
        self.end_request(Pending("retry"))
        self.assert_shown(task, 202, WAIT, Retry_After="2")
        self.core.queue._tasks.clear()
        self.assert_shown(task, 202, WAIT, Retry_After="2")

    def test_finished(self) -> None:
        """A scored task is 200 with its result, from memory and from the database."""
        task = self.ready()
        self.assert_shown(task, 200, READY)
        self.empty_cache()
        self.assert_shown(task, 200, READY)

    def test_results(self) -> None:
        """Results are JSON numbers."""
        for result, text in ((0.0, b"0.0"), (1.0, b"1.0"), (1e-7, b"1e-07"), (0.1 + 0.2, b"0.30000000000000004")):
            task = self.ready(result)
            self.assertEqual(self.ask(get(task)).body, b'{"status":"ready","result":' + text + b"}")
            self.assertEqual(self.ask(get(task, "DELETE")).code, 204)

    def test_failed(self) -> None:
        """A failed task is 200 with its error."""
        task = self.failed()
        self.assert_shown(task, 200, FAILED)
        self.empty_cache()
        self.assert_shown(task, 200, FAILED)

    def test_unknown(self) -> None:
        """A number that is no task's is 404, whatever its size."""
        for task in (0, 1, MAX_TASK_ID, MAX_TASK_ID + 1, 10**16 - 1):
            self.assert_shown(task, 404, NOT_FOUND)

    def test_of_another(self) -> None:
        """Another user's task responds like an unknown one, byte for byte, whatever the method (C9)."""
        for finished in (False, True):
            task = self.task_of_another_user(finished)
            for _ in range(2):
                for method, headers in (("GET", {}), ("HEAD", {}), ("DELETE", {}), ("GET", {"Prefer": "wait=9"})):
                    other = self.connect().send(get(task, method, **headers)).transport.value()
                    unknown = self.connect().send(get(task + 1, method, **headers)).transport.value()
                    self.assertEqual(without_date(other), without_date(unknown))
                    self.assertTrue(other.startswith(b"HTTP/1.1 404 "))
                found = self.core.stored(task)
                assert found is not None, "it is there all the same"
                if not finished:
                    self.core.scheduler.add(found)
        self.assertEqual(len(self.stored()), 1)

    def test_known_tasks_need_no_database(self) -> None:
        """A GET for a task in memory doesn't touch the database."""
        ready, unfinished = self.ready(), self.accepted("Bo")
        del self.core.watch.statements[:]
        self.assertEqual([self.ask(get(task)).code for task in (ready, unfinished)], [200, 202])
        self.assertEqual(self.core.watch.statements, [])

    def test_bad_task_ids(self) -> None:
        """A query without exactly one task number is 400 (C8)."""
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
        """A second question mark is part of the value, which is then no number; a fragment is never sent."""
        self.assert_problem(self.ask(message("GET", "/?task_id=1#x")), 400, "bad_target")
        self.assert_problem(self.ask(message("GET", "/?task_id=1?task_id=2")), 400, "bad_task_id", closed=False)

    def test_database_unavailable(self) -> None:
        """503 if the task can't be looked up."""
        self.core.watch.fault = fail_on("SELECT", sqlite_error("SQLITE_BUSY"))
        self.assert_problem(self.ask(get(5)), 503, "storage", closed=False)
        self.assert_problem(self.ask(get(5, "HEAD")), 503, "storage", "HEAD", closed=False)

    def test_gone_during_the_lookup(self) -> None:
        """A client that leaves during the lookup gets nothing, and nothing fails."""
        client = self.connect()
        client.protocol.dataReceived(get(5))
        client.gone = True
        client.protocol.connectionLost()
        self.settle()
        self.assertTrue(client.silent)


class DeleteTests(ContractCase):
    """DELETE: a task is erased."""

    def test_erased(self) -> None:
        """A task in any state is erased: 204, and nothing of it is left."""
        for make in (self.accepted, self.ready, self.failed):
            task = make()
            self.assert_response(self.ask(get(task, "DELETE")), 204, b"")
            self.assertEqual((self.core.files(), self.stored(), self.core.upstream.requests), ([], [], []))
            self.assert_response(self.ask(get(task)), 404, NOT_FOUND)
            self.assert_response(self.ask(get(task, "DELETE")), 404, NOT_FOUND)

    def test_sent_again(self) -> None:
        """The same form makes a new task after the old one was erased."""
        task = self.ready()
        self.ask(get(task, "DELETE"))
        self.assertNotEqual(self.accepted(), task)

    def test_gone_during_the_commit(self) -> None:
        """A client that leaves during the commit has erased its task all the same."""
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
        """OPTIONS lists the methods."""
        for target in ("/", "*", "/?task_id=x"):
            self.assert_response(self.ask(message("OPTIONS", target)), 204, b"", Allow=self.allow)

    def test_not_allowed(self) -> None:
        """Another method is 405 with Allow (H13), and the connection stays open."""
        for method in ("PUT", "PATCH", "TRACE", "PROPFIND", "M-SEARCH"):
            reply = self.ask(message(method, "/?task_id=1"))
            self.assert_problem(reply, 405, "method_not_allowed", closed=False)
            self.assertEqual(reply.get("Allow"), self.allow)
        self.assert_problem(self.ask(message("CONNECT", "a:80")), 405, "method_not_allowed")

    def test_other_paths(self) -> None:
        """Another path is 404, whatever the method; the admin listener's paths too."""
        for path in (
            "/metrics",
            "/health/live",
            "/x",
            "/index.html",
            "/..",
            "/a//b",
            "/%ff",
            "/%00",
            "/x?task_id=1",
            "/" + "a/" * 1000,
            "/%0d%0aX:%20y",
        ):
            for method in ("GET", "POST", "DELETE", "PUT", "OPTIONS", "HEAD"):
                reply = self.ask(message(method, path, Content_Length="0"))
                self.assert_problem(reply, 404, "not_found", method, closed=False)

    def test_other_spellings(self) -> None:
        """Another spelling of / is 404, and a form sent there is not read."""
        for path in ("//", "/%2F", "///"):
            data = post().replace(b"POST / ", b"POST " + path.encode() + b" ")
            self.assert_problem(self.ask(data), 404, "not_found", closed=False)
        self.assert_nothing_kept()

    def test_counted(self) -> None:
        """Responses are counted by method and code; unknown methods share a label."""
        self.ask(get(5))
        self.ask(message("PUT", "/"))
        self.ask(message("PUT", "/"))
        exposition = self.metrics.exposition()
        self.assertIn(b'merlind_http_requests_total{code="404",method="GET"} 1.0', exposition)
        self.assertIn(b'merlind_http_requests_total{code="405",method="other"} 2.0', exposition)


class PageTests(ContractCase):
    """The page for people."""

    def test_who_gets_it(self) -> None:
        """The page goes to clients that name text/html and like it no less than JSON; others get 400."""
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
                self.assertEqual((reply.code, reply.get("Content-Type")), (200, "text/html; charset=utf-8"), accept)
            else:
                self.assert_problem(reply, 400, "bad_task_id", closed=False)


class WaitTests(ContractCase):
    """Long polls: Prefer: wait."""

    def polling(self, data: bytes, count: int = 1) -> Client:
        """A client in a long poll."""
        client = self.connect().send(data)
        self.assertTrue(client.silent)
        self.assertEqual(self.core.results.waiting, count)
        return client

    def test_woken(self) -> None:
        """When the task is finished, its waiters get the response at once; the database is not polled."""
        task = self.accepted()
        clients = [self.polling(get(task, Prefer="wait=30"), n + 1) for n in range(3)]
        del self.core.watch.statements[:]
        self.reactor.run_for(10)
        self.assertEqual(self.core.watch.statements, [])
        self.end_request(Scored(0.83))
        for client in clients:
            self.assert_response(client.reply(), 200, READY, Preference_Applied="wait=30")
        self.assertEqual(self.core.watch.count("SELECT"), 0)
        self.assertEqual(self.core.results.waiting, 0)

    def test_woken_by_a_failure(self) -> None:
        """A failed task ends the wait too."""
        client = self.polling(get(self.accepted(), Prefer="wait=30"))
        self.end_request(REJECTED)
        self.assert_response(client.reply(), 200, FAILED, Preference_Applied="wait=30")

    def test_gone_before_the_wait(self) -> None:
        """A client that leaves during the commit isn't waited for: that would hold its request for a minute."""
        timers = len(self.reactor.getDelayedCalls())
        client = self.connect()
        client.protocol.dataReceived(post(Prefer="wait=30"))
        client.gone = True
        client.protocol.connectionLost()
        self.settle()
        self.assertEqual(len(self.stored()), 1)
        self.assertEqual(self.core.results.waiting, 0)
        self.assertEqual(len(self.reactor.getDelayedCalls()), timers)

    def test_transitions_on_the_way(self) -> None:
        """A poll or a transient error doesn't end the wait."""
        task = self.accepted()
        client = self.polling(get(task, Prefer="wait=30"))
        self.end_request(Pending("retry"))
        self.reactor.run_for(2.1)
        self.end_request(TransientError("status_500"))
        self.assertTrue(client.silent)

    def test_in_time(self) -> None:
        """When the time is over, the response says how the task stands."""
        task = self.accepted()
        client = self.polling(get(task, Prefer="wait=7"))
        self.reactor.run_for(6.9)
        self.assertTrue(client.silent)
        self.reactor.run_for(0.2)
        self.assert_response(client.reply(), 202, WAIT, Retry_After="2", Preference_Applied="wait=7")
        self.assertEqual(self.core.results.waiting, 0)

    def test_capped(self) -> None:
        """A wait is cut to a minute, and the response says so."""
        client = self.polling(get(self.accepted(), Prefer="wait=86400"))
        self.reactor.run_for(MAX_WAIT - 0.1)
        self.assertTrue(client.silent)
        self.reactor.run_for(0.2)
        self.assertEqual(client.reply().get("Preference-Applied"), "wait=60")

    def test_finished_already(self) -> None:
        """A finished or unknown task is not waited for."""
        ready = self.ready()
        for task, code in ((ready, 200), (ready + 1, 404)):
            reply = self.ask(get(task, Prefer="wait=30"))
            self.assertEqual((reply.code, reply.get("Preference-Applied")), (code, "wait=30"))
        self.empty_cache()
        self.assertEqual(self.ask(get(ready, Prefer="wait=30")).body, READY)

    def test_ways_to_say_it(self) -> None:
        """All spellings of RFC 7240 work; anything else is no preference."""
        task = self.accepted()
        for number, prefer in enumerate(
            ("wait=1", "Wait=1", ' wait = "1" ', "respond-async, wait=1", "wait=1; x=y", "wait=1, wait=9", "x, wait=1;")
        ):
            client = self.polling(get(task, Prefer=prefer))
            self.reactor.run_for(1.1)
            self.assertEqual(client.reply().get("Preference-Applied"), "wait=1", (number, prefer))
        self.assertEqual(self.polling(get(task, Prefer="a\r\nPrefer: wait=5")).closed, False)
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

    def test_zero(self) -> None:
        """A wait of 0 seconds is applied."""
        reply = self.ask(get(self.accepted(), Prefer="wait=0"))
        self.assertEqual((reply.code, reply.get("Preference-Applied")), (202, "wait=0"))

    def test_head(self) -> None:
        """HEAD waits like GET."""
        client = self.polling(get(self.accepted(), "HEAD", Prefer="wait=30"))
        self.end_request(Scored(0.83))
        self.assert_response(client.reply("HEAD"), 200, READY, "HEAD", Preference_Applied="wait=30")

    def test_post(self) -> None:
        """A POST waits for the result."""
        client = self.polling(post(Prefer="wait=30"))
        self.end_request(Scored(0.83))
        (task,) = self.stored()
        body = b'{"status":"ready","task":%d,"result":0.83}' % task.id
        self.assert_response(
            client.reply(), 200, body, Content_Location=f"?task_id={task.id}", Preference_Applied="wait=30"
        )

    def test_post_without_a_result(self) -> None:
        """A POST gets 202 if the time is over or the task fails first."""
        client = self.polling(post(Prefer="wait=5"))
        (task,) = self.stored()
        self.reactor.run_for(5.1)
        self.assert_received(client.reply(), task.id, Preference_Applied="wait=5")
        client = self.polling(post(Prefer="wait=5"))
        self.end_request(REJECTED)
        self.assert_received(client.reply(), task.id, Preference_Applied="wait=5")

    def test_post_of_what_is_ready(self) -> None:
        """A POST for a scored task doesn't wait."""
        task = self.ready()
        reply = self.ask(post(Prefer="wait=30"))
        self.assertEqual((reply.code, reply.json["task"], reply.get("Preference-Applied")), (200, task, "wait=30"))

    def test_gone(self) -> None:
        """A client that leaves ends its long poll, timer included; other waiters stay."""
        task = self.accepted()
        client, other = self.polling(get(task, Prefer="wait=30")), self.polling(get(task, Prefer="wait=30"), 2)
        timers = len(self.reactor.getDelayedCalls())
        client.leave()
        self.assertEqual(self.core.results.waiting, 1)
        self.assertEqual(len(self.reactor.getDelayedCalls()), timers - 2)  # its connection's too
        self.end_request(Scored(0.83))
        self.assertEqual(other.reply().body, READY)
        self.assertTrue(client.silent)

    def test_erased_meanwhile(self) -> None:
        """If the task is erased meanwhile, a GET is 404 and a POST 202."""
        task = self.accepted()
        client, poster = self.polling(get(task, Prefer="wait=30")), self.polling(post(Prefer="wait=30"), 2)
        self.assertEqual(self.ask(get(task, "DELETE")).code, 204)
        self.assert_response(client.reply(), 404, NOT_FOUND, Preference_Applied="wait=30")
        self.assert_received(poster.reply(), task, Preference_Applied="wait=30")

    def test_stopping(self) -> None:
        """When merlind stops, all waiters get a response, and nobody waits any more."""
        task = self.accepted()
        client, poster = self.polling(get(task, Prefer="wait=30")), self.polling(post(Prefer="wait=30"), 2)
        data = post(form("Bo"), Prefer="wait=30")
        late = self.connect().send(data[:-10])
        self.core.intake.draining = True
        self.core.results.release()
        self.settle()
        self.assert_response(client.reply(), 202, WAIT, Retry_After="2", Preference_Applied="wait=30")
        self.assert_received(poster.reply(), task, Preference_Applied="wait=30")
        late.send(data[-10:])
        self.assertEqual(late.reply().code, 202)
        self.assertEqual(self.ask(get(task, Prefer="wait=30")).code, 202)

    def test_database_fails_meanwhile(self) -> None:
        """503 if the lookup after the wait fails."""
        client = self.polling(get(self.accepted(), Prefer="wait=5"))
        self.core.queue._tasks.clear()
        self.core.watch.fault = fail_on("SELECT", sqlite_error("SQLITE_BUSY"))
        self.reactor.run_for(5.1)
        self.assert_problem(client.reply(), 503, "storage", closed=False)


class SecrecyTests(ContractCase):
    """What is kept secret."""

    def test_logs(self) -> None:
        """The log has no name, filename, query or address."""
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

    def test_responses(self) -> None:
        """No response has a name in it."""
        task = self.failed()
        for data in (post(), get(task), get("x"), post(form(photo=b"no"))):
            self.assertNotIn(b"Anna", self.connect().send(data).transport.value())

    def test_keys(self) -> None:
        """JSON bodies have exactly the keys of docs/contract.md."""
        task = self.ready()
        for data, keys in (
            (post(), {"status", "task", "result"}),
            (get(task), {"status", "result"}),
            (get(task + 1), {"status", "result"}),
        ):
            self.assertEqual(set(json.loads(self.ask(data).body)), keys)

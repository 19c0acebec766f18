"""The page for operators at wire level, over a real store: what it shows, and what its forms do."""

from dataclasses import replace
from unittest import mock
from urllib.parse import urljoin

from merlind.admin.health import Health
from merlind.admin.overview import Overview
from merlind.admin.page import routes
from merlind.admin.page import tasks as tasks_of_page
from merlind.admin.page.document import POLICY
from merlind.admin.page.routes import PageRoutes
from merlind.admin.tasks import TaskList
from merlind.core.outcome import Outcome, Pending, Rejected, Scored, TaskError, TransientError
from merlind.core.task import Task
from merlind.tasks.retrier import Retrier
from merlind.web.router import Router
from tests.unit.admin.page.support import Html
from tests.unit.admin.support import FORM, AdminCase, encoded
from tests.unit.support import EPOCH
from tests.unit.test_service import SETTINGS
from tests.unit.web.support import Reply

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"

OUTCOMES: dict[str, Outcome] = {
    "Ready": Scored(0.5),
    "Poll": Pending("id-1", 5.0),
    "Rejected": Rejected(TaskError("upstream_422", "no <b>face</b> & no name")),
}


class PageCase(AdminCase):
    """A merlind that gives up after 100 s; its upstream has an outcome for each name, and otherwise fails."""

    settings = {"give_up_after": 100.0, "keep_failed": 1000.0, "concurrency": 4}  # noqa: RUF012 (no test changes it)

    def routers(self) -> list[Router]:
        core = self.core
        core.upstream.script = lambda request: (0.0, OUTCOMES.get(request.task.name, TransientError("http 503")))
        settings = replace(SETTINGS, upstream_concurrency=4, max_pending=1000)
        health = Health(
            core.task_clock, core.store, core.spool, core.counts, core.intake, core.queue, core.scheduler,
            core.pauser, settings,
        )  # fmt: skip
        overview = Overview(
            core.reactor, core.task_clock, core.store, core.spool, core.counts, core.queue, core.scheduler, health,
            settings, "9.9",
        )  # fmt: skip
        tasks = TaskList(core.task_clock, core.store, core.queue)
        self.retrier = Retrier(core.reactor, core.store, core.counts, core.results, core.scheduler, 1000)
        return [PageRoutes(overview, core.history, tasks, core.store, core.pauser, self.retrier).respond]

    def submit(self, name: str) -> Task:
        task = self.core.submit(name)
        self.core.reactor.run_for(1.0)
        return task

    def open(self, target: str = "/") -> Html:
        """What a browser shows."""
        reply = self.ask("GET", target, Accept=BROWSER)
        self.assertEqual((reply.code, reply.get("Content-Type")), (200, "text/html; charset=utf-8"), reply.body)
        return Html(reply.body)

    def press(self, page: Html, button: str, **more: str) -> Html:
        """Press a button as a browser does; returns the page that it leads to."""
        return self.follow(self.send({**page.fields(button), **more}))

    def send(self, fields: dict[str, str]) -> Reply:
        client = self.begin(
            "POST",
            "/",
            encoded(fields),
            Content_Type=FORM,
            Accept=BROWSER,
            Sec_Fetch_Site="same-origin",
            Origin="http://localhost:8000",
        )
        self.core.reactor.run_for(0.1)  # the pauses of a retry
        return client.reply()

    def follow(self, reply: Reply) -> Html:
        self.assertEqual((reply.code, reply.body), (303, b""))
        return self.open(urljoin("/", reply.get("Location") or ""))

    def rows(self, page: Html) -> list[str]:
        return [" ".join(row.itertext()) for row in page.all("table[@class='tasks']/tbody/tr")]


class ShowTests(PageCase):
    """``GET /``."""

    def test_programs(self) -> None:
        """Who doesn't prefer HTML, such as curl, gets the state as JSON."""
        self.submit("Ready")
        self.submit("Failing")
        for accept in (None, "*/*", "application/json", "application/json, text/html;q=0.9"):
            reply = self.ask("GET", "/", Accept=accept)
            self.assertEqual(
                (reply.code, reply.get("Content-Type"), reply.get("Vary")), (200, "application/json", "Accept")
            )
        found = reply.json
        self.assertGreater(found["disk"].pop("free"), 0)
        self.assertEqual(
            found,
            {
                "version": "9.9",
                "uptime": 2.0,
                "taking": {"yes": True, "reasons": []},
                "working": {"yes": True, "reasons": [], "notes": []},
                "paused": {"yes": False, "until": None, "seconds_left": None},
                "upstream": {
                    "state": "full", "limit": 4, "most": 4, "last_error": "http 503", "outage_for": None,
                    "next_request_in": None,
                },
                "tasks": {
                    "upload": 1, "poll": 0, "ready": 1, "failed": 0, "unfinished": 1, "due": 0, "in_flight": 0,
                    "oldest": 1.0,
                },
                "disk": {"min_free": 0, "photos": found["disk"]["photos"]},
            },
        )  # fmt: skip

    def test_outage(self) -> None:
        """In an outage the JSON says for how long, and when the next request is; in a pause, until when."""
        for number in range(6):
            self.core.submit(f"Failing {number}")
        self.core.reactor.run_for(0.5)
        self.send({"do": "pause", "seconds": "60"})
        found = self.get("/").json
        self.assertEqual((found["upstream"]["state"], found["upstream"]["limit"]), ("outage", 1))
        self.assertGreater(found["upstream"]["outage_for"], 0)
        self.assertGreaterEqual(found["upstream"]["next_request_in"], 0)
        self.assertEqual(found["paused"], {"yes": True, "until": EPOCH + 60.5, "seconds_left": 59.9})
        self.assertFalse(found["working"]["yes"])

    def test_browsers(self) -> None:
        """A browser gets a page that may load nothing from elsewhere, and whose forms name their origin."""
        reply = self.ask("GET", "/", Accept=BROWSER)
        self.assertEqual(reply.get("Content-Security-Policy"), POLICY)
        self.assertEqual(reply.get("Referrer-Policy"), "same-origin")
        self.assertIn("Accept", reply.get("Vary") or "")
        self.assertIn("version 9.9", Html(reply.body).text.lower())
        for word in ("'unsafe-inline'", "http:", "https:", "*"):
            self.assertNotIn(word, POLICY)
        self.assertNotRegex(reply.body.decode(), r"<[^>]+ (on[a-z]+|style)=")

    def test_refreshes(self) -> None:
        """The plain page loads itself again; one that somebody chose, or that says what was done, does not."""
        for target, refreshes in (
            ("/", True),
            ("/?refresh=off", False),
            ("/?state=failed", False),
            ("/?did=resumed", False),
        ):
            body = self.ask("GET", target, Accept=BROWSER).body
            self.assertEqual(b"<script>" in body, refreshes, target)
        self.assertEqual(self.open("/").href("Stop refreshing"), "?refresh=off")
        self.assertEqual(self.open("/?refresh=off").href("Refresh by itself"), "./")

    def test_storage_is_gone(self) -> None:
        """If the tasks can't be read, the browser gets a page that says so; programs get what is known."""
        with mock.patch.object(
            self.core.watch, "fault", lambda sql: OSError(5, "I/O error") if "SELECT" in sql else None
        ):
            reply = self.ask("GET", "/", Accept=BROWSER)
        self.assertEqual((reply.code, reply.get("Content-Type")), (503, "text/html; charset=utf-8"))
        self.assertIn("can't store anything", Html(reply.body).text)
        self.assertEqual(reply.get("Retry-After"), "5")

    def test_wrong(self) -> None:
        """What makes no sense is refused: to a browser with a page that leads back."""
        for target in ("/?state=lost", "/?refresh=on", "/?name=Anna", "/?did=x"):
            self.assert_refused(self.get(target), 400, "bad_parameter")
        page = Html(self.ask("GET", "/?state=%3Cscript%3E", Accept=BROWSER).body)
        self.assertIn("state is not one of upload, poll, ready, failed", page.text)
        self.assertEqual(page.href("Back"), "./")

    def test_head(self) -> None:
        """HEAD and other methods."""
        self.assertEqual(self.ask("DELETE", "/").get("Allow"), "GET, HEAD, POST")


class TasksTests(PageCase):
    """The tasks on the page."""

    def setUp(self) -> None:
        super().setUp()
        self.failed = [self.submit(f"Failing {number}") for number in range(3)]
        self.rejected, self.ready = self.submit("Rejected"), self.submit("Ready")

    def give_up(self) -> None:
        self.core.reactor.run_for(100.0)
        self.core.upstream.script = lambda request: (0.5, Scored(0.5))

    def test_rows(self) -> None:
        """The newest come first, each with what became of it; what others wrote is escaped."""
        page = self.open()
        rows = self.rows(page)
        self.assertEqual(len(rows), 5)
        self.assertIn(str(self.ready.id), rows[0])
        for words in ("failed", "upstream_422", "no <b>face</b> & no name", "image/jpeg", "2027-01-15 08:00:03"):
            self.assertIn(words, rows[1])
        self.assertIn("http 503", rows[2])
        self.assertIn("to be uploaded", rows[2])

    def test_no_names(self) -> None:
        """Nothing on it says whose photo a task is of."""
        self.submit("Rumpelstilzchen")
        self.assertNotIn("Rumpel", self.open().text)

    def test_filter(self) -> None:
        """The form puts into the address what to show, and shows it as chosen again."""
        self.give_up()
        page = self.open("/?state=failed&code=gave_up&age=7200&retryable=true")
        self.assertEqual(len(self.rows(page)), 3)
        self.assertEqual(
            page.fields("Show"), {"state": "failed", "code": "gave_up", "age": "7200", "retryable": "true"}
        )
        self.assertEqual(self.rows(self.open("/?state=poll")), [])
        self.assertIn("No such tasks.", self.open("/?state=poll").text)
        self.assertEqual(len(self.rows(self.open("/?age=102"))), 2)
        by_code = self.open().href("upstream_422")
        self.assertEqual(len(self.rows(self.open("/" + by_code.partition("#")[0]))), 1)

    def test_codes(self) -> None:
        """It counts the failed ones by code, and how many of them can be retried."""
        self.assertIn("upstream_422 1", self.open().texts("ul[@class='codes']")[0])
        self.give_up()
        self.assertEqual(self.open().texts("ul[@class='codes']/li"), ["gave_up 3, 3 can be retried", "upstream_422 1"])

    def test_pages(self) -> None:
        """More than fit are on further pages."""
        self.patch(routes, "PAGE", 2)
        page, seen = self.open(), 0
        while True:
            seen += len(self.rows(page))
            if "Older tasks" not in page.text:
                break
            page = self.open("/" + page.href("Older tasks").partition("#")[0])
        self.assertEqual(seen, 5)
        self.assertEqual(page.href("Newest tasks"), "./#tasks")

    def test_retry_one(self) -> None:
        """Each task that can be retried has a button, which says afterwards what was done."""
        self.give_up()
        page = self.open("/?state=failed")
        task = self.failed[1]
        button = page.one(f"button[@value='{task.id}']")
        self.assertEqual(button.attrib["aria-label"], f"Retry task {task.id}")
        page = self.press(page, "Retry", **{button.attrib["name"]: button.attrib["value"]})
        self.assertEqual(page.texts("p[@role='status']"), ["1 failed task starts anew."])
        self.assertEqual(len(self.rows(page)), 3, "the filter stays")
        self.assertEqual(self.core.stored(task.id).error, None)
        again = self.follow(self.send({"do": "retry", "task": str(task.id)}))
        self.assertIn("No task was retried", again.text)

    def test_retry_these(self) -> None:
        """One button retries all tasks of the filter, and says how many these are, before and after."""
        self.give_up()
        self.core.upstream.script = lambda request: (0.0, Scored(0.5))
        page = self.open("/?state=failed&code=gave_up&age=3600")
        page = self.press(page, "Retry these 3")
        self.assertEqual(page.texts("p[@role='status']"), ["3 failed tasks start anew."])
        self.core.reactor.run_for(1.0)
        self.assertEqual([str(self.core.stored(task.id).state) for task in self.failed], ["ready"] * 3)
        self.assertEqual(self.core.stored(self.rejected.id).error.code, "upstream_422")

    def test_retry_of_an_age(self) -> None:
        """Only those of the age that was chosen start anew, as of when the page was shown."""
        self.give_up()
        page = self.open("/?state=failed&age=103")
        self.core.reactor.run_for(1.0)
        page = self.press(page, "Retry this 1")
        self.assertEqual(page.texts("p[@role='status']"), ["1 failed task starts anew."])

    def test_nothing_to_retry(self) -> None:
        """Where nothing can be retried, it says why; where other tasks can be, it leads there."""
        self.assertIn("None of these can be retried", self.open("/?code=upstream_422").text)
        self.assertNotIn("can be retried", self.open().text.replace("Only those that can be retried", ""))
        self.give_up()
        self.assertIn("state=failed&retryable=true", self.open().href("3 failed tasks can be retried"))

    def test_too_many_to_count(self) -> None:
        """What is too many to count isn't given as a number that it may not be."""
        self.give_up()
        self.patch(tasks_of_page, "MAX_COUNTED", 4)
        page = self.open("/?state=failed")
        self.assertIn("Retry all of these (more than 3)", page.text)
        self.assertIn("Of the newest 4 failed tasks:", page.text)

    def test_not_all(self) -> None:
        """If not all could start anew, it says so."""
        self.give_up()
        self.retrier._max_pending = 2
        page = self.press(self.open("/?state=failed"), "Retry these 3")
        self.assertIn("2 failed tasks start anew. Not all:", page.text)

    def test_disk_full(self) -> None:
        """What can't be stored is refused with a page, and nothing has changed."""
        self.give_up()
        self.fill_disk()
        reply = self.send(self.open("/?state=failed").fields("Retry these 3"))
        self.assertEqual((reply.code, reply.get("Content-Type")), (503, "text/html; charset=utf-8"))
        self.core.watch.fault = lambda sql: None
        self.assertEqual([self.core.stored(task.id).error.code for task in self.failed], ["gave_up"] * 3)


class FormTests(PageCase):
    """What the forms do."""

    def test_pause_and_resume(self) -> None:
        """It pauses for a while and says so, gives the pause another end, and resumes."""
        page = self.press(self.open(), "Pause")
        self.assertEqual(page.texts("p[@role='status']"), ["Paused."])
        self.assertEqual(self.core.pauser.current.until, EPOCH + 1800.0)
        page = self.press(page, "Change", seconds="")
        self.assertEqual((self.core.pauser.current.paused, self.core.pauser.current.until), (True, None))
        page = self.press(page, "Resume now")
        self.assertEqual(page.texts("p[@role='status']"), ["Resumed: requests go to the upstream again."])
        self.assertFalse(self.core.pauser.current.paused)

    def test_old_news(self) -> None:
        """An address that was kept says nothing that is no longer so."""
        self.assertEqual(self.open("/?did=paused").texts("p[@role='status']"), [])
        self.send({"do": "pause"})
        self.assertEqual(self.open("/?did=resumed").texts("p[@role='status']"), [])

    def test_wrong(self) -> None:
        """What no form of the page sends is refused, and does nothing."""
        for fields in (
            {},
            {"do": "erase"},
            {"do": "pause", "seconds": "0"},
            {"do": "pause", "seconds": "soon"},
            {"do": "retry"},
            {"do": "retry", "state": "ready"},
            {"do": "retry", "task": "x"},
            {"do": "retry", "state": "failed", "since": "x"},
            {"do": "pause", "name": "Anna"},
        ):
            reply = self.post_form("/", **fields)
            self.assert_refused(reply, 400, "bad_parameter")
        self.assertFalse(self.core.pauser.current.paused)

    def test_strangers(self) -> None:
        """A page of another origin can't press its buttons, whichever header says that it is one."""
        for headers in ({"Sec_Fetch_Site": "cross-site"}, {"Sec_Fetch_Site": "same-site"}, {"Origin": "null"}):
            reply = self.ask("POST", "/", b"do=pause", Content_Type=FORM, Accept=BROWSER, **headers)
            self.assertEqual((reply.code, "another origin" in Html(reply.body).text), (403, True))
        self.assertFalse(self.core.pauser.current.paused)

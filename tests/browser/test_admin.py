"""The page for operators in a real Chromium: what it shows and does, without JavaScript too, and how it looks."""

import re

from tests.browser.looks import assert_looks_good
from tests.browser.support import MISSING, PLAYWRIGHT, WIDE, browser
from tests.client import png, post
from tests.processes import ProcessCase, until
from tests.upstream import Upstream, UpstreamRequest

if PLAYWRIGHT:
    from playwright.sync_api import ConsoleMessage, Page, expect


class AdminPageTest(ProcessCase):
    """A merlind that has scored some tasks, failed at others, and may be in an outage."""

    if MISSING:
        skip = MISSING

    def setUp(self) -> None:
        super().setUp()
        self.errors: list[str] = []
        self.away = False
        upstream = Upstream(self.addCleanup, self.answer)
        self.daemon = self.merlind("--give-up-after=3", "--poll-interval=0.5", upstream=upstream.url).start()

    def tearDown(self) -> None:
        self.assertEqual(self.errors, [])
        self.assert_no_traceback(self.daemon)

    def answer(self, received: UpstreamRequest) -> object:
        if received.name.startswith("Faceless"):
            return received.respond(422, b'{"status": "error", "detail": "no face found in <this> photo"}')
        if self.away or (received.name.startswith("Failing") and not self.mended):
            return received.respond(503, b"{}")
        return received.respond_json(status="ready", result=0.5)

    mended = False

    def submit(self, *names: str) -> None:
        for name in names:
            self.assertEqual(post(self.daemon.port, name, png()).code, 202)

    def fail_some(self) -> None:
        """Let three tasks be given up, and one be rejected."""
        self.submit("Ada", "Faceless", *(f"Failing {number}" for number in range(3)))
        until(lambda: self.daemon.metric('merlind_tasks{state="failed"}') == 4, "the tasks to fail")

    def open(self, path: str = "/?refresh=off", script: bool = True) -> "Page":
        context = browser().new_context(
            base_url=f"http://127.0.0.1:{self.daemon.admin}",
            viewport={"width": WIDE, "height": 800},
            java_script_enabled=script,
        )
        self.addCleanup(context.close)
        page = context.new_page()
        page.on("console", self.note)
        page.on("pageerror", lambda error: self.errors.append(f"uncaught: {error.message}"))
        page.goto(path)
        return page

    def note(self, message: "ConsoleMessage") -> None:
        if message.type in ("error", "warning"):
            self.errors.append(message.text)

    # -- what it does

    def test_pause_and_resume(self) -> None:
        """One pauses for half an hour, and resumes, without JavaScript."""
        page = self.open(script=False)
        page.get_by_label("Pause for").select_option("30 minutes")
        page.get_by_role("button", name="Pause", exact=True).click()
        expect(page.get_by_role("status")).to_have_text("Paused.")
        expect(page.get_by_text(re.compile("UTC, in (30|29) min"))).to_be_visible()
        self.assertEqual(self.daemon.metric("merlind_paused"), 1)
        page.get_by_role("button", name="Resume now").click()
        expect(page.get_by_role("status")).to_contain_text("Resumed")
        self.assertEqual(self.daemon.metric("merlind_paused"), 0)

    def test_find_and_retry(self) -> None:
        """From the code of an error to its tasks, and one click that retries these, without JavaScript."""
        self.fail_some()
        self.mended = True
        page = self.open(script=False)
        page.get_by_role("link", name="gave_up").click()
        expect(page.get_by_role("row")).to_have_count(1 + 3)
        self.assertIn("state=failed&code=gave_up", page.url)
        page.get_by_role("button", name="Retry these 3").click()
        expect(page.get_by_role("status")).to_have_text("3 failed tasks start anew.")
        until(lambda: self.daemon.metric('merlind_tasks{state="ready"}') == 4, "them to be scored")

    def test_retry_one(self) -> None:
        """Each task has a button of its own, and the filter's form leads to these tasks."""
        self.fail_some()
        self.mended = True
        page = self.open(script=False)
        page.get_by_label("Only those that can be retried").check()
        page.get_by_label("Received").select_option("in the last 15 minutes")
        page.get_by_role("button", name="Show").click()
        expect(page.get_by_label("Received")).to_have_value("900")
        page.get_by_role("button", name="Retry task").first.click()
        expect(page.get_by_role("status")).to_have_text("1 failed task starts anew.")

    def test_refreshes_unless_somebody_is_busy(self) -> None:
        """The page loads itself again after a while, but not while somebody has a part of it open."""
        page = self.open("about:blank")
        page.clock.install()
        page.goto("/")
        with page.expect_event("load"):
            page.clock.fast_forward(10_500)
        loads: list[str] = []
        page.on("load", lambda loaded: loads.append(loaded.url))
        page.get_by_text("The same as a table").click()
        page.clock.fast_forward(30_000)
        page.wait_for_timeout(500)
        self.assertEqual(loads, [])

    # -- how it looks

    def test_looks(self) -> None:
        """With tasks and the table open, with a message and buttons to retry, in an outage and in a pause."""
        self.fail_some()
        page = self.open()
        page.get_by_text("The same as a table").click()
        assert_looks_good(self, page)
        page.goto("/?state=failed&did=retried&count=3&complete=false")
        assert_looks_good(self, page)
        self.away = True
        self.submit(*(f"Bob {number}" for number in range(40)))
        until(lambda: self.daemon.metric('merlind_upstream_limiter{state="outage"}') == 1, "an outage")
        page.goto("/?refresh=off")
        assert_looks_good(self, page)
        page.get_by_role("button", name="Pause", exact=True).click()
        expect(page.get_by_role("button", name="Resume now")).to_be_visible()
        assert_looks_good(self, page)

    def test_looks_of_an_error(self) -> None:
        """A browser gets what was wrong as a page."""
        page = self.open("about:blank")
        page.goto("/?state=lost")
        self.errors.clear()  # Chromium complains of the 400
        expect(page.get_by_text("state is not one of")).to_be_visible()
        assert_looks_good(self, page)

    def test_empty(self) -> None:
        """A new merlind."""
        assert_looks_good(self, self.open())

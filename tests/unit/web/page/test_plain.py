"""Without JavaScript: from the form to the score, errors, erasing; and programs, which notice nothing of it."""

import re
from dataclasses import replace
from urllib.parse import urljoin

from twisted.trial.unittest import SynchronousTestCase

from merlind.core.outcome import Rejected, Scored, TaskError
from merlind.tasks.intake import Limits
from merlind.web.page.plain import REFRESH, PlainPages
from merlind.web.page.texts import LANGUAGES, read_texts
from merlind.web.response import Response, json_response, problem, retry_after
from tests.unit.support import fail_on, sqlite_error
from tests.unit.web.page.support import FACTS, Page, directives, hash_of, head
from tests.unit.web.support import EdgeCase, LogLines, Reply, form, form_of, get, message, part, photo_of, post

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
"""What browsers send as Accept."""

URLENCODED = "application/x-www-form-urlencoded"


class BrowserCase(EdgeCase):
    """A browser without JavaScript."""

    language = "en"

    def send(self, data: bytes) -> Reply:
        """The response to a request."""
        return self.ask(data)

    def open(self, target: str) -> Reply:
        """The response to a link, or to where a redirection leads."""
        return self.send(message("GET", urljoin("/", target), Accept=BROWSER, Accept_Language=self.language))

    def submit(self, body: bytes | None = None, target: str = "/") -> Reply:
        """The response to the form with a photo."""
        data = post(body, Accept=BROWSER, Accept_Language=self.language)
        return self.send(data.replace(b"POST / ", f"POST {target} ".encode("ascii")))

    def submit_erasing(self, page: Page) -> Reply:
        """The response to the erase form on a page."""
        (form,) = page.all("form")
        (button,) = page.all("button")
        self.assertEqual((form["method"], form["enctype"]), ("post", URLENCODED))
        body = f"{button['name']}={button['value']}".encode("ascii")
        return self.send(message("POST", "/" + (form["action"] or ""), body, Accept=BROWSER, Content_Type=URLENCODED))

    def finish(self, outcome: Scored | Rejected) -> None:
        """End the one request in flight."""
        self.core.upstream.one.respond(outcome)
        self.settle()

    def page(self, reply: Reply, code: int = 200) -> Page:
        """The page in a response; it is HTML that has no script, and no policy forbids its style."""
        self.assertEqual((reply.code, reply.get("Content-Type")), (code, "text/html; charset=utf-8"), reply.body)
        self.assert_safe(reply)
        self.assertEqual(reply.get("Vary"), "Accept, Accept-Language")
        page = Page(reply.body)
        self.assertEqual(page.all("script"), [])
        policy = directives(reply.get("Content-Security-Policy") or "")
        self.assertEqual(policy["style-src"], [hash_of(style) for style in page.styles])
        self.assertEqual((policy["default-src"], policy["form-action"]), (["'none'"], ["'self'"]))
        self.assertNotIn("script-src", policy)
        self.assertEqual(page.all("html")[0]["lang"], reply.get("Content-Language"))
        return page


class LogTests(BrowserCase):
    """The log, which tells the same of a browser as of a program."""

    def test_lines(self) -> None:
        """A POST's line has its task's number, an error's its code."""
        lines = LogLines.of(self).lines
        task = (self.submit().get("Location") or "").removeprefix("?task_id=")
        self.submit(form(photo=b"not a photo at all"))
        found = [line for line in lines if line.startswith("POST")]
        self.assertEqual(found, [f"POST 303 0 ms, task {task}", "POST 422 0 ms, not_an_image"])


class PathToScoreTests(BrowserCase):
    """From photo to score."""

    def test_scored(self) -> None:
        """A POST leads to a page that loads itself until the score is there; a reload of it posts nothing."""
        sent = self.submit()
        self.assertEqual((sent.code, sent.body), (303, b""))
        self.assertEqual(sent.all("Retry-After"), [])
        target = sent.get("Location") or ""
        self.assertRegex(target, r"\A\?task_id=[0-9]+\Z")

        waiting = self.open(target)
        self.assertEqual(waiting.get("Refresh"), str(REFRESH))
        self.assertIn("being scored", self.page(waiting, 202).text)
        self.open(target)
        self.assertEqual(len(self.sent()), 1)

        self.finish(Scored(0.834))
        ready = self.open(target)
        self.assertIsNone(ready.get("Refresh"))
        page = self.page(ready)
        self.assertIn("Score 0.83", page.text)
        self.assertIn("The closer to 1, the better", page.text)
        (meter,) = page.all("meter")
        self.assertEqual((meter["min"], meter["max"], meter["value"]), ("0", "1", "0.834"))
        self.assertTrue(meter["aria-label"])

    def test_score_beyond_the_gauge(self) -> None:
        """A score that isn't between 0 and 1 is shown as it is, without a gauge that couldn't show it."""
        target = self.submit().get("Location") or ""
        self.finish(Scored(42.5))
        page = self.page(self.open(target))
        self.assertIn("Score 42.5", page.text)
        self.assertEqual(page.all("meter"), [])

    def test_same_photo_again(self) -> None:
        """A POST of what is scored already leads to the score."""
        first = self.submit().get("Location") or ""
        self.finish(Scored(0.5))
        again = self.submit()
        self.assertEqual((again.code, again.get("Location"), again.all("Content-Location")), (303, first, []))
        self.assertEqual(len(self.sent()), 1)

    def test_language_is_kept(self) -> None:
        """The language that was chosen by the query goes along, from link to link."""
        target = self.submit(target="/?lang=ru").get("Location") or ""
        self.assertRegex(target, r"\A\?task_id=[0-9]+&lang=ru\Z")
        page = self.page(self.open(target), 202)
        self.assertIn("Фото получено", page.text)
        hrefs = {link.get("hreflang") or "": link["href"] for link in page.all("a")}
        self.assertEqual(hrefs["en"], target.replace("=ru", "=en"))
        self.assertIn("?lang=ru", [link["href"] for link in page.all("a")])
        self.assertIn("being scored", self.page(self.open(hrefs["en"] or ""), 202).text)

    def test_language_of_the_browser(self) -> None:
        """Without a choice, the browser's language counts, and isn't put into links."""
        self.language = "ru"
        target = self.submit().get("Location") or ""
        self.assertNotIn("lang", target)
        self.finish(Scored(0.5))
        self.assertIn("Оценка 0,50", self.page(self.open(target)).text)

    def test_failed(self) -> None:
        """A task that failed says why; whatever the service says stays a text."""
        target = self.submit().get("Location") or ""
        self.finish(Rejected(TaskError("upstream_422", "<b>no face</b> &amp;")))
        page = self.page(self.open(target))
        self.assertIn("No score. The scoring service says: <b>no face</b> &amp;", page.text)
        self.assertEqual(page.all("b"), [])
        self.assertEqual(page.all("meter"), [])

    def test_failures_by_code(self) -> None:
        """Each way to fail has its text, in both languages."""
        for code, english, russian in (
            ("gave_up", "did not answer in time", "не ответила вовремя"),
            ("photo_lost", "The server lost the photo", "Сервер потерял фото"),
            ("too_many_attempts", "again and again", "раз за разом не"),
            ("handle_expired", "lost the photo again and again", "раз за разом теряла"),
            ("upstream_422", "says: why", "сообщает: why"),
            ("something_new", "says: why", "сообщает: why"),
        ):
            failed = {"status": "failed", "result": None, "error": {"code": code, "detail": "why", "source": "x"}}
            for lang, words in (("en", english), ("ru", russian)):
                asked = head(f"/?task_id=5&lang={lang}", Accept=BROWSER)
                self.assertIn(words, Page(PLAIN(asked, json_response(200, failed)).body).text)

    def test_not_found(self) -> None:
        """A number that nobody knows is a 404 for people, too."""
        page = self.page(self.open("?task_id=5"), 404)
        self.assertIn("no longer knows this task", page.text)
        self.assertEqual(page.all("form"), [])

    def test_head(self) -> None:
        """HEAD has the headers of the page."""
        target = "/" + (self.submit().get("Location") or "")
        by_get, by_head = (self.send(message(m, target, Accept=BROWSER)) for m in ("GET", "HEAD"))
        self.assertEqual(by_head.body, b"")
        self.assertEqual(by_head.get("Content-Length"), str(len(by_get.body)))
        self.assertEqual(by_head.get("Refresh"), by_get.get("Refresh"))

    def test_below_a_path(self) -> None:
        """All links of the small pages stay below whatever path they were reached at."""
        target = self.submit().get("Location") or ""
        page = self.page(self.open(target), 202)
        references = [link["href"] for link in page.all("a")] + [form["action"] for form in page.all("form")]
        self.assertEqual(len(references), 5)
        for reference in [*references, target]:
            for url in ("https://example.org/", "https://example.org/face/", "https://example.org/a/face"):
                self.assertEqual(urljoin(f"{url}?task_id=9", reference or "").partition("?")[0], url, reference)


class EraseTests(BrowserCase):
    """The erase form."""

    def test_erased(self) -> None:
        """The form erases photo, name and score, and the page says so, also when it is loaded again."""
        target = self.submit(target="/?lang=ru").get("Location") or ""
        self.finish(Scored(0.5))
        erased = self.submit_erasing(self.page(self.open(target)))
        self.assertEqual((erased.code, erased.get("Location")), (303, target.replace("&lang", "&erased=1&lang")))
        self.assert_nothing_in_store()
        for _ in range(2):
            self.assertIn("Забыто", self.page(self.open(erased.get("Location") or ""), 404).text)

    def test_while_it_waits(self) -> None:
        """A task that isn't finished can be erased as well: that cancels it."""
        page = self.page(self.open(self.submit().get("Location") or ""), 202)
        erased = self.submit_erasing(page)
        self.assert_nothing_in_store()
        self.assertIn("Forgotten", self.page(self.open(erased.get("Location") or ""), 404).text)

    def test_twice(self) -> None:
        """Erasing what is gone leads to the page that says that nobody knows it."""
        reply = self.erase(b"erase=5")
        self.assertEqual((reply.code, reply.get("Location")), (303, "?task_id=5"))

    def test_erased_is_no_claim(self) -> None:
        """Nobody is told that a task is erased while it is there."""
        target = self.submit().get("Location") or ""
        self.assertNotIn("Forgotten", self.page(self.open(target + "&erased=1"), 202).text)

    def test_malformed(self) -> None:
        """A form without exactly one number erases nothing."""
        task = self.accepted()
        for body in (b"", b"erase=", b"erase=x", b"task_id=%d" % task, b"erase=%d&erase=%d" % (task, task)):
            self.page(self.erase(body), 400)
        self.assertEqual([stored.id for stored in self.stored()], [task])

    def test_long(self) -> None:
        """A form that is too long is refused, with its length told before and without."""
        body = b"erase=5&x=" + b"x" * 2000
        self.page(self.erase(body), 413)
        chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        data = message("POST", "/", Accept=BROWSER, Content_Type=URLENCODED, Transfer_Encoding="chunked") + chunks
        self.page(self.send(data), 413)

    def test_programs(self) -> None:
        """For a client that doesn't ask for HTML such a form is not a form, and erases nothing."""
        task = self.accepted()
        for accept in (None, "*/*", "application/json", "text/html;q=0.5, application/json"):
            reply = self.erase(b"erase=%d" % task, accept)
            self.assert_problem(reply, 415, "not_a_form")
        self.assertEqual([stored.id for stored in self.stored()], [task])

    def test_disk(self) -> None:
        """If the disk fails, the page says so, and the task is still there."""
        task = self.accepted()
        self.core.watch.fault = fail_on("DELETE", sqlite_error("SQLITE_FULL"))
        self.assertIn("busy", self.page(self.erase(b"erase=%d" % task), 503).text)

    def erase(self, body: bytes, accept: str | None = BROWSER) -> Reply:
        """The response to an erase form."""
        return self.send(
            message("POST", "/", body, Accept=accept, Content_Type=URLENCODED, Content_Length=str(len(body)))
        )

    def assert_nothing_in_store(self) -> None:
        """Neither a row nor a photo is left."""
        self.assertEqual((self.stored(), self.core.files()), ([], []))


class ErrorTests(BrowserCase):
    """What goes wrong with the form."""

    def assert_says(self, reply: Reply, code: int, words: str) -> None:
        """The response is a page with this status that says this, and has a way back to the form."""
        page = self.page(reply, code)
        self.assertIn(words, page.text)
        self.assertEqual([link["href"] for link in page.all("a")], ["?"])
        self.assertIsNone(reply.get("Refresh"))

    def test_fields(self) -> None:
        """Errors of the form."""
        self.assert_says(self.submit(form(photo=b"not a photo at all")), 422, "This is not a photo that we can take.")
        self.assert_says(self.submit(form("\u200b")), 422, "This can’t be a name")
        self.assert_says(self.submit(form("x" * 9000)), 413, "This can’t be a name")
        self.assert_says(self.submit(form_of(part("name", b"Anna"))), 400, "A photo and a name are needed.")
        self.assert_says(self.submit(b"nothing of a form"), 400, "don’t understand each other (malformed_form)")

    def test_nothing_chosen(self) -> None:
        """A browser sends an empty file where none was chosen."""
        self.assert_says(self.submit(form(photo=b"")), 422, "This is not a photo that we can take.")

    def test_too_large(self) -> None:
        """A photo that is too large is refused with the most that there may be."""
        self.assert_says(self.submit(form(photo=photo_of(self.max_photo_bytes + 1))), 413, "10 MB is the most")
        huge = post(b"", Accept=BROWSER, Content_Length=str(10**9))
        self.assert_says(self.send(huge), 413, "10 MB is the most")

    def test_language(self) -> None:
        """Errors come in the language of the request, and lead back in it."""
        page = self.page(self.submit(form("\u200b"), "/?lang=ru"), 422)
        self.assertIn("Это не похоже на имя", page.text)
        self.assertEqual([link["href"] for link in page.all("a")], ["?lang=ru"])

    def test_task_id(self) -> None:
        """A link that is cut leads back, too."""
        self.assert_says(self.open("?task_id=x"), 400, "This address is not complete")

    def test_storage(self) -> None:
        """The disk is full: the page says to try again."""
        self.core.watch.fault = fail_on("INSERT", sqlite_error("SQLITE_FULL"))
        reply = self.submit()
        self.assert_says(reply, 503, "The server is busy. Send the photo again in a few seconds.")
        self.assertEqual(reply.get("Retry-After"), "5")

    def test_method(self) -> None:
        """Other methods are for programs: their errors stay as they are."""
        self.assert_problem(self.send(message("PUT", "/", Accept=BROWSER)), 405, "method_not_allowed", closed=False)
        self.assertEqual(self.send(get(5, "DELETE", Accept=BROWSER)).get("Content-Type"), "application/json")

    def test_other_paths(self) -> None:
        """There is nothing elsewhere, and a link from there would lead nowhere."""
        self.assert_problem(self.open("/other"), 404, "not_found", closed=False)


class BusyTests(BrowserCase):
    """Limits."""

    limits = Limits(max_pending=1, min_free_bytes=0, max_uploads=10, max_upload_bytes=2**30)
    max_pending_per_client = 1

    def test_too_many_tasks(self) -> None:
        """A client over its limit is told that, with the right status."""
        self.submit()
        reply = self.submit(form("Boris"))
        self.assertIn("Too many photos from here", self.page(reply, 429).text)
        self.assertEqual(reply.get("Retry-After"), "5")


PLAIN = PlainPages(FACTS).adapt


class ProgramTests(SynchronousTestCase):
    """Programs get each response as it was."""

    responses = (
        json_response(202, {"status": "received", "task": 5, "result": None}, (b"Location", b"?task_id=5")),
        json_response(200, {"status": "ready", "task": 5, "result": 0.5}, (b"Content-Location", b"?task_id=5")),
        json_response(202, {"status": "wait", "result": None}, retry_after(2)),
        json_response(200, {"status": "ready", "result": 0.83}),
        json_response(404, {"status": "not_found", "result": None}),
        problem(422, "bad_name", "no name"),
        problem(503, "full", "no room", retry_after(5)),
        Response(204),
    )

    def test_untouched(self) -> None:
        """For whoever doesn't prefer HTML, the adapter returns what it was given."""
        accepts = ("*/*", "application/json", "text/*", "text/html;q=0.8, application/json", "text/html;q=0", "")
        for fields in ({}, *({"Accept": accept} for accept in accepts)):
            for method in ("GET", "HEAD", "POST", "DELETE", "OPTIONS", "PUT"):
                for response in self.responses:
                    self.assertIs(PLAIN(head("/?task_id=5", method, **fields), response), response)

    def test_page_and_others(self) -> None:
        """What is HTML already, or something else, stays as it is."""
        for content_type in (b"text/html; charset=utf-8", b"application/openapi+json"):
            response = Response(200, b"x", content_type)
            self.assertIs(PLAIN(head(Accept=BROWSER), response), response)


class ScorerTests(SynchronousTestCase):
    """What a score means depends on who scores."""

    def test_meaning(self) -> None:
        """The page with a score says what it is worth."""
        for kind, words in (
            ("face", "0.5 says nothing"),
            ("face", "4.9 times as common"),
            ("face", "apparent gender (as two classes)"),
            ("stand-in", "It means nothing"),
            ("url", "comes from faces.example.org"),
        ):
            facts = replace(FACTS, scorer=kind, host=FACTS.host if kind == "url" else None)
            ready = json_response(200, {"status": "ready", "result": 0.83})
            page = Page(PlainPages(facts).adapt(head("/?task_id=5", Accept=BROWSER), ready).body)
            self.assertIn(words, page.text)


class TextsByCodeTests(SynchronousTestCase):
    """Errors that a browser's user can meet."""

    def test_no_script_promises(self) -> None:
        """Where the script would try again by itself, the pages without it don't say so."""
        for language in LANGUAGES:
            texts = read_texts(language)
            for key in texts:
                code = key.removeprefix("error.")
                if key.startswith("error.") and not code.startswith("http") and "{seconds}" in texts.say(key):
                    if code in ("busy", "too_many_long_polls"):
                        continue  # the one is no code of a response, and a browser alone has no long polls
                    asked = head(f"/?lang={language}", "POST", Accept=BROWSER)
                    text = Page(PLAIN(asked, problem(503, code, "why")).body).text
                    self.assertIsNone(re.search(r"\{|We try|Повторим", text), key)

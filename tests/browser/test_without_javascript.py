"""The page in a browser without JavaScript, or with it turned off."""

import re
from typing import Any

from tests.browser.pictures import draw
from tests.browser.support import PLAYWRIGHT, PageCase, posts, unique
from tests.client import request

if PLAYWRIGHT:
    from playwright.sync_api import Page, expect

PHOTO = {"en": "Photo", "ru": "Фото"}
NAME = {"en": "First name", "ru": "Имя"}


class WithoutJavaScriptTest(PageCase):
    """From the photo to the score by forms, a redirect and the header Refresh."""

    def open(self, *arguments: Any, **options: Any) -> "Page":
        """Open the page with JavaScript turned off."""
        return super().open(*arguments, java_script_enabled=False, **options)

    def submit(self, page: "Page", name: str, photo: bytes, language: str = "en") -> int:
        """Fill the form in and send it; return the number of the task, from the address that one gets to."""
        self.choose(page, photo, label=PHOTO[language])
        page.get_by_role("textbox").fill(name)
        page.locator("form button").click()
        expect(page).to_have_url(re.compile(r"[?&]task_id=\d+"))
        found = re.search(r"task_id=(\d+)", page.url)
        assert found is not None
        return int(found[1])

    def test_photo_to_score(self) -> None:
        """The form leads to a page that loads itself again until the score is there; a reload posts nothing."""
        scorer = self.scorer()
        scorer.hold()
        (name,) = unique("Ada")
        scorer.scores = {name: 0.83}
        page = self.open()
        sent = posts(page)
        responses: list[int] = []
        page.on("response", lambda response: responses.append(response.status))

        self.submit(page, name, draw())
        self.assertEqual(responses[0], 303)
        expect(page.get_by_text("is being scored")).to_be_visible()
        self.sent(name)
        page.reload()
        expect(page.get_by_text("is being scored")).to_be_visible()
        scorer.release()

        expect(page.get_by_text("0.83").first).to_be_visible()
        page.reload()
        expect(page.get_by_text("0.83").first).to_be_visible()
        self.assertEqual((len(sent), len(self.sent(name))), (1, 1))

    def test_refresh(self) -> None:
        """The waiting page asks to be loaded again after 3 seconds, the one with the score doesn't."""
        scorer = self.scorer()
        scorer.hold()
        (name,) = unique("Ada")
        page = self.open()
        task = self.submit(page, name, draw())
        headers = {"Accept": "text/html"}
        self.assertEqual(request(self.shared.port, "GET", f"/?task_id={task}", headers=headers).headers["Refresh"], "3")
        scorer.release()
        self.shared.get(task, wait=30)
        self.assertNotIn("Refresh", request(self.shared.port, "GET", f"/?task_id={task}", headers=headers).headers)

    def test_erase(self) -> None:
        """A button on the page erases the task."""
        self.expect_failed_loads()
        self.scorer()
        (name,) = unique("Ada")
        page = self.open()
        task = self.submit(page, name, draw())
        page.get_by_role("button", name="Forget photo, name and score").click()
        expect(page.get_by_text("Forgotten: the server has neither photo, name nor score any more.")).to_be_visible()
        self.assertEqual(request(self.shared.port, "GET", f"/?task_id={task}").code, 404)

    def test_back_to_the_form(self) -> None:
        """A link leads back to the form."""
        self.scorer()
        page = self.open()
        self.submit(page, unique("Ada")[0], draw())
        page.get_by_role("link", name="Send another photo").click()
        expect(page.get_by_label("Photo", exact=True)).to_be_visible()

    def test_russian_by_link(self) -> None:
        """?lang=ru is kept from the form to the score."""
        self.scorer()
        (name,) = unique("Ada")
        page = self.open()
        page.get_by_role("link", name="Русский").click()
        expect(page.get_by_role("heading", name="Подходит ли имя к лицу?")).to_be_visible()
        self.submit(page, name, draw(), "ru")
        expect(page.get_by_text("0,50").first).to_be_visible()
        self.assertEqual(page.locator("html").get_attribute("lang"), "ru")

    def test_russian_by_the_browser(self) -> None:
        """A browser that prefers Russian gets it; ?lang=en is stronger."""
        self.scorer()
        (name,) = unique("Ada")
        page = self.open(language="ru-RU")
        self.submit(page, name, draw(), "ru")
        expect(page.get_by_text("0,50").first).to_be_visible()
        page.goto("/?lang=en")
        expect(page.get_by_role("heading", name="Does the name suit the face?")).to_be_visible()

    def test_no_photo(self) -> None:
        """A file that is no photo leads to a page that says so, with a way back, not to JSON."""
        self.expect_failed_loads()
        page = self.open()
        self.choose(page, b"no photo" * 100, label="Photo")
        page.get_by_role("textbox").fill("Ada")
        page.locator("form button").click()
        expect(page.get_by_text("This is not a photo that we can take.")).to_be_visible()
        page.get_by_role("link", name="Back to the form").click()
        expect(page.get_by_label("Photo", exact=True)).to_be_visible()

    def test_unknown_task(self) -> None:
        """A task that the server doesn't know leads to a page that says so."""
        self.expect_failed_loads()
        page = self.open(path="/?task_id=7")
        expect(page.get_by_text("The server no longer knows this task. Send the photo again.")).to_be_visible()

    def test_says_that_the_photo_goes_as_it_is(self) -> None:
        """Without JavaScript nothing is removed from the photo, and the page does not say that it were."""
        page = self.open()
        page.locator("summary").click()
        text = page.locator("details").inner_text()
        self.assertIn("Without JavaScript the photo goes as it is, with place and date in it.", text)
        self.assertNotIn("removes place, date and camera", text)

    def test_nothing_that_needs_it(self) -> None:
        """What works with JavaScript alone is not shown."""
        page = self.open()
        for text in ("or drop them here", "Several names?", "Forget all", "Don’t remember"):
            self.assertEqual([e for e in page.get_by_text(text).all() if e.is_visible()], [], text)

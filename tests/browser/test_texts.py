"""What the page tells about this server: who scores, what a score means, and what is kept where and until when."""

from pathlib import Path

from merlind.merlinface.choice import EXTRA, face_installed
from tests.browser.pictures import draw
from tests.browser.support import MISSING, PLAYWRIGHT, PageCase, row, score_of, value_of

if PLAYWRIGHT:
    from playwright.sync_api import Page, expect

ASTRONAUT = Path(__file__).parents[1] / "portraits" / "astronaut.jpg"


def open_privacy(page: "Page", question: str = "What happens to the photo?") -> str:
    """Open what the page says about privacy, and return it."""
    page.get_by_text(question, exact=True).click()
    details = page.get_by_role("group").filter(has_text=question)
    return " ".join(details.inner_text().split())


class PrivacyTest(PageCase):
    """What is kept where and until when, from the server's real settings."""

    def test_defaults(self) -> None:
        """The default: two days for a photo without a score, 30 days for a score; the scorer is named by its host."""
        text = open_privacy(self.open())
        for part in (
            "Your browser makes it smaller and removes place, date and camera.",
            "sends it with the name to 127.0.0.1, and deletes it",
            "if no score comes, it is deleted after some 2 days",
            "Name and score stay for 30 days, or until you press “Forget”.",
            "This list is on this device alone.",
            "Whoever has the number of a task can read its score and erase it.",
        ):
            self.assertIn(part, text)

    def test_other_settings(self) -> None:
        """The texts follow --retention and --upstream, in both languages."""
        merlind = self.merlind("--retention=7200", upstream="http://face.example.org/api/").start()
        text = open_privacy(self.open(merlind))
        for part in ("to face.example.org,", "stay for 2 hours,"):
            self.assertIn(part, text)
        text = open_privacy(self.open(merlind, language="ru-RU"), "Что будет с фотографией?")
        for part in (
            "Браузер уменьшит фото и уберёт место, дату и камеру.",
            "отправляет вместе с именем на face.example.org и удаляет",
            "хранятся 2 часа",
            "Этот список есть только на этом устройстве.",
        ):
            self.assertIn(part, text)

    def test_keep_failed(self) -> None:
        """They follow --give-up-after and --keep-failed, too: the one after the other."""
        merlind = self.merlind("--give-up-after=86400", "--keep-failed=259200").start()
        self.assertIn("deleted after some 4 days", open_privacy(self.open(merlind)))
        text = open_privacy(self.open(merlind, language="ru-RU"), "Что будет с фотографией?")
        self.assertIn("примерно через 4 дня", text)

    def test_largest_photo(self) -> None:
        """The largest photo is the server's own limit."""
        page = self.open(self.merlind("--max-photo-bytes=3145728").start())
        expect(page.get_by_text("up to 3 MB")).to_be_visible()


class StandInTest(PageCase):
    """A server with the stand-in."""

    def test_says_so(self) -> None:
        """The page says that the scores mean nothing, in both languages, and that the photo goes to nobody."""
        merlind = self.merlind(upstream="embedded:stand-in").start()
        page = self.open(merlind)
        expect(page.get_by_text("This server runs with a stand-in: its scores mean nothing.").first).to_be_visible()
        self.assertIn("sends it to nobody", open_privacy(page))
        page = self.open(merlind, language="ru-RU")
        expect(page.get_by_text("Сервер работает с заглушкой: её оценки ничего не значат.").first).to_be_visible()

    def test_other_scorers(self) -> None:
        """A server without the stand-in says nothing of it."""
        expect(self.open().get_by_text("stand-in")).to_have_count(0)


class FaceTest(PageCase):
    """A server with the face scorer: a real portrait's way to its score."""

    if not MISSING and not face_installed():
        skip = f"the face scorer is not installed: it comes with {EXTRA}"

    def test_portrait(self) -> None:
        """A portrait with two names gets scores, the fitting name first; the page says what is judged."""
        page = self.open(self.merlind(upstream="embedded:face").start())
        expect(page.get_by_text("apparent gender (as two classes) and apparent age").first).to_be_visible()

        self.choose(page, ASTRONAUT)
        page.get_by_role("textbox").fill("Kevin, Eileen")
        page.get_by_role("textbox").press("Enter")

        expect(page.get_by_role("meter")).to_have_count(2, timeout=60_000)
        self.assertGreater(value_of(score_of(page, "Eileen")), 0.5)
        self.assertLess(value_of(score_of(page, "Kevin")), 0.1)
        lines = page.get_by_role("region", name="Results").get_by_role("listitem").all_inner_texts()
        self.assertIn("Eileen", lines[0])

    def test_nobody(self) -> None:
        """A picture of nobody has no score, and the page says why."""
        page = self.open(self.merlind(upstream="embedded:face").start())
        self.choose(page, draw(400, 300))
        self.send(page, "Ada")
        expect(row(page, "Ada")).to_contain_text("No face was found.", timeout=60_000)

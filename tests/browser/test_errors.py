"""What people read when something fails: in their language, by the code of the error, and what to do."""

import json
import re
import threading

from tests.browser.pictures import draw
from tests.browser.support import PLAYWRIGHT, SEND, PageCase, row, score_of, unique
from tests.client import jpeg, post, request
from tests.upstream import Upstream, UpstreamRequest

if PLAYWRIGHT:
    from playwright.sync_api import Page, Route, expect

MB = 2**20

BUSY = re.compile(r"The server is busy\. We try again in \d+ s\.")

FAILED = {
    "upstream_error": (
        "No score. The scoring service says: out of cheese",
        "Оценки нет. Служба оценки сообщает: out of cheese",
    ),
    "upstream_422": (
        "No score. The scoring service says: out of cheese",
        "Оценки нет. Служба оценки сообщает: out of cheese",
    ),
    "gave_up": (
        "The scoring service did not answer in time. Send the photo again later.",
        "Служба оценки не ответила вовремя. Отправьте фото позже.",
    ),
    "photo_lost": (
        "The server lost the photo. Please send it again.",
        "Сервер потерял фото. Отправьте его ещё раз.",
    ),
    "something_new": ("That did not work: out of cheese", "Не получилось: out of cheese"),
}
"""A failed task's code, and what the page says in English and in Russian; a code that it doesn't know is the last."""

REFUSED = {
    (422, "not_an_image"): ("This is not a photo that we can take.", "Это не фото, которое мы принимаем."),
    (400, "bad_name"): (
        "This can’t be a name: use letters, up to 200.",
        "Это не похоже на имя: буквы, не больше 200.",
    ),
    (413, "too_large"): ("10 MB is the most.", "можно не больше 10 МБ."),
}
"""A refusal's status and code, and what the page says."""

WAITS = {
    (503, "full"): ("The server is busy. We try again in 5 s.", "Сервер занят. Повторим через 5 с."),
    (503, "storage"): ("The server is busy. We try again in 5 s.", "Сервер занят. Повторим через 5 с."),
}
"""A passing refusal, with Retry-After: 5."""


class TextsTest(PageCase):
    """Each code's text, in both languages; the server's responses are replaced on their way."""

    def send_against(self, language: str, answer: "dict[str, object]", method: str = "POST") -> "Page":
        """Send a photo, and answer the requests of one method with ``answer``."""
        self.expect_failed_loads()
        self.scorer().hold()
        page = self.open(path=f"/?lang={language}")

        def respond(route: "Route") -> None:
            if route.request.method == method and (method == "POST" or "task_id" in route.request.url):
                route.fulfill(**answer)  # type: ignore[arg-type]
            else:
                route.fallback()

        page.route("**/*", respond)
        self.choose(page, draw(), label={"en": "Choose photos", "ru": "Выбрать фото"}[language])
        self.send(page, unique("Ada")[0], language)
        return page

    def test_failed_tasks(self) -> None:
        """A task that failed says why, by its code."""
        for code, texts in FAILED.items():
            error = {"code": code, "detail": "out of cheese", "source": "upstream"}
            body = json.dumps({"status": "failed", "result": None, "error": error})
            for language, text in zip(("en", "ru"), texts, strict=True):
                with self.subTest(code=code, language=language):
                    answer = {"status": 200, "body": body, "content_type": "application/json"}
                    page = self.send_against(language, answer, "GET")
                    expect(page.get_by_role("main")).to_contain_text(text)
                    page.context.close()

    def test_refused_photos(self) -> None:
        """A refused photo says why, by the problem's code."""
        for (status, code), texts in REFUSED.items():
            body = json.dumps({"type": "about:blank", "title": "x", "status": status, "detail": "x", "code": code})
            for language, text in zip(("en", "ru"), texts, strict=True):
                with self.subTest(code=code, language=language):
                    answer = {"status": status, "body": body, "content_type": "application/problem+json"}
                    page = self.send_against(language, answer)
                    expect(page.get_by_role("main")).to_contain_text(text)
                    page.context.close()

    def test_passing_refusals(self) -> None:
        """One that passes says when it is tried again."""
        for (status, code), texts in WAITS.items():
            body = json.dumps({"type": "about:blank", "title": "x", "status": status, "detail": "x", "code": code})
            for language, text in zip(("en", "ru"), texts, strict=True):
                with self.subTest(code=code, language=language):
                    answer = {
                        "status": status,
                        "body": body,
                        "headers": {"Content-Type": "application/problem+json", "Retry-After": "5"},
                    }
                    page = self.send_against(language, answer)
                    expect(page.get_by_role("main")).to_contain_text(text)
                    page.context.close()

    def test_not_ours(self) -> None:
        """A page of a proxy or a framework isn't shown, but what its status means."""
        texts = {
            413: "A server on the way refuses photos this large. Tell whoever runs this page.",
            502: "A server on the way can’t reach merlind.",
            504: "A server on the way waited too long for merlind.",
            418: "HTTP 418",
        }
        for status, text in texts.items():
            with self.subTest(status=status):
                answer = {"status": status, "body": "<h1>teapot</h1>", "content_type": "text/html"}
                page = self.send_against("en", answer)
                expect(page.get_by_role("main")).to_contain_text(text)
                self.assertNotIn("teapot", page.locator("body").inner_text())
                page.context.close()

    def test_markup_in_details(self) -> None:
        """Markup in what the scoring service says is shown as text."""
        error = {"code": "upstream_422", "detail": "<img src=x onerror=alert(1)>", "source": "upstream"}
        body = json.dumps({"status": "failed", "result": None, "error": error})
        page = self.send_against("en", {"status": 200, "body": body, "content_type": "application/json"}, "GET")
        expect(page.get_by_role("main")).to_contain_text("<img src=x onerror=alert(1)>")


class RealTest(PageCase):
    """The same from a real merlind."""

    def setUp(self) -> None:
        super().setUp()
        self.expect_failed_loads()

    def test_not_an_image(self) -> None:
        """A file that is no photo: the page says so, and nothing reaches the upstream."""
        self.scorer()
        (name,) = unique("Ada")
        page = self.open()
        self.choose(page, b"this is not an image" * 50)
        self.send(page, name)
        expect(page.get_by_text("This is not a photo that we can take.").first).to_be_visible()
        self.assertEqual(self.upstream.seen("upload", name), [])

    def test_too_large(self) -> None:
        """A photo that stays too large is not sent; the text has its size and the limit."""
        self.scorer()
        page = self.open()
        requests: list[str] = []
        page.on("request", lambda request: requests.append(request.method))
        self.choose(page, b"\0\0\0\x18ftypheic" + bytes(int(20.5 * MB)), kind="heic")
        self.send(page, unique("Ada")[0])
        expect(page.get_by_text("The photo has 20.5 MB; 10 MB is the most.").first).to_be_visible()
        self.assertNotIn("POST", requests)

    def test_too_large_in_russian(self) -> None:
        """Numbers are written as the language does, and by the server's real limit."""
        merlind = self.merlind(f"--max-photo-bytes={2 * MB}").start()
        page = self.open(merlind, language="ru-RU")
        self.choose(page, b"\0\0\0\x18ftypheic" + bytes(int(2.5 * MB)), kind="heic", label="Выбрать фото")
        self.send(page, "Ада", "ru")
        expect(page.get_by_text("Фото весит 2,5 МБ, можно не больше 2 МБ.").first).to_be_visible()

    def test_bad_name(self) -> None:
        """A name that merlind refuses: the field has the error, and the others go out."""
        self.scorer()
        (name,) = unique("Ada")
        page = self.open()
        self.choose(page, draw())
        self.send(page, f"{'x' * 201}, {name}")
        expect(page.get_by_text("This can’t be a name: use letters, up to 200.").first).to_be_visible()

    def test_full(self) -> None:
        """A merlind that is full gets the photo by itself when it has room again."""
        gate = threading.Event()
        self.addCleanup(gate.set)

        def score(received: UpstreamRequest) -> bool:
            gate.wait(60)
            return received.score()

        upstream = Upstream(self.addCleanup, score)
        merlind = self.merlind("--max-pending=1", "--max-pending-per-client=0", upstream=upstream.url).start()
        post(merlind.port, "First", jpeg())
        page = self.open(merlind)
        self.choose(page, draw())
        self.send(page, "Ada")
        expect(page.get_by_text(BUSY).first).to_be_visible()

        gate.set()

        expect(score_of(page, "Ada")).to_be_visible(timeout=30_000)

    def test_refused(self) -> None:
        """What the scoring service says about a photo is shown."""
        body = b'{"status": "error", "detail": "out of cheese"}'
        upstream = Upstream(self.addCleanup, lambda received: received.respond(422, body))
        page = self.open(self.merlind(upstream=upstream.url).start())
        self.choose(page, draw())
        self.send(page, "Ada")
        expect(row(page, "Ada")).to_contain_text("No score. The scoring service says: out of cheese")
        self.assertIn("out of cheese", " ".join(self.heard(page)))

    def test_gave_up(self) -> None:
        """A task that got no score in its time says so."""
        upstream = Upstream(self.addCleanup, lambda received: received.respond(503, b"{}"))
        page = self.open(self.merlind("--give-up-after=1", upstream=upstream.url).start())
        self.choose(page, draw())
        self.send(page, "Ada")
        expect(row(page, "Ada")).to_contain_text(FAILED["gave_up"][0])

    def test_erased_elsewhere(self) -> None:
        """A task that someone erased meanwhile is not waited for any longer."""
        self.scorer().hold()
        (name,) = unique("Ada")
        page = self.open()
        self.choose(page, draw())
        with page.expect_response(lambda response: response.request.method == "POST") as posted:
            self.send(page, name)
        task = posted.value.json()["task"]
        self.assertEqual(request(self.shared.port, "DELETE", f"/?task_id={task}").code, 204)
        text = "The server no longer knows this task. Send the photo again."
        expect(row(page, name)).to_contain_text(text)

    def test_try_again(self) -> None:
        """A photo that failed can be sent again with one click, while the page still has it."""
        working = threading.Event()
        upstream = Upstream(
            self.addCleanup, lambda received: received.score() if working.is_set() else received.respond(503, b"{}")
        )
        page = self.open(self.merlind("--give-up-after=1", upstream=upstream.url).start())
        self.choose(page, draw())
        self.send(page, "Ada")
        expect(row(page, "Ada")).to_contain_text(FAILED["gave_up"][0])
        working.set()
        row(page, "Ada").get_by_role("button", name="Try again").click()
        expect(score_of(page, "Ada")).to_be_visible()


class FormTest(PageCase):
    """What is missing in the form."""

    def test_focus_goes_to_the_first_error(self) -> None:
        """Without a photo the focus goes to the photo, without a name to the name; what is missing is said."""
        page = self.open()
        photo, name = page.get_by_label("Choose photos", exact=True), page.get_by_role("textbox")

        page.get_by_role("button", name=SEND["en"]).click()
        expect(photo).to_be_focused()
        expect(page.get_by_text("Choose a photo first.")).to_be_visible()
        expect(photo).to_have_accessible_description(re.compile("Choose a photo first"))

        self.choose(page, draw())
        page.get_by_role("button", name=SEND["en"]).click()
        expect(name).to_be_focused()
        expect(name).to_have_attribute("aria-invalid", "true")
        expect(name).to_have_accessible_description(re.compile("Type a first name"))
        expect(page.get_by_text("Choose a photo first.")).to_be_hidden()

    def test_only_commas(self) -> None:
        """Commas and spaces are no name."""
        page = self.open()
        self.choose(page, draw())
        self.send(page, " , ,")
        expect(page.get_by_text("Type a first name.")).to_be_visible()

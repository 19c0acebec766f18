"""How the page looks: accessible and without a horizontal scroll bar, at each width, in both themes and languages."""

import re

from tests.browser.looks import assert_looks_good
from tests.browser.pictures import draw
from tests.browser.support import NAME, NARROW, PLAYWRIGHT, WIDE, PageCase, unique
from tests.client import post, request
from tests.upstream import UpstreamRequest

if PLAYWRIGHT:
    from playwright.sync_api import Page, Route, expect

CHOOSE = {"en": "Choose photos", "ru": "Выбрать фото"}


class LooksTest(PageCase):
    """axe-core finds nothing, and nothing is wider than the window."""

    def still(self, page: "Page") -> "Page":
        """Return a tab that shows what a page without JavaScript shows; axe-core itself can't do without."""
        body = re.sub(r"<script\b.*?</script>", "", page.content(), flags=re.DOTALL).replace("noscript", "div")
        other = self.open()
        other.route("**/still", lambda route: route.fulfill(body=body, content_type="text/html"))
        other.goto("/still")
        return other

    def test_empty(self) -> None:
        """The page as it comes, and with what is said on privacy."""
        self.scorer()
        for language in ("en", "ru"):
            page = self.open(path=f"/?lang={language}")
            assert_looks_good(self, page)
            page.locator("summary").click()
            assert_looks_good(self, page)

    def test_results(self) -> None:
        """With photos chosen, some being scored, some scored, one failed, and an error in the form."""
        self.expect_failed_loads()
        scorer = self.scorer()
        for language in ("en", "ru"):
            names = unique("Ada", "Константин-Александр", "N" * 80, "Failing", "Waiting")

            def answer(received: UpstreamRequest) -> object:
                if received.name.startswith("Failing"):
                    return received.respond(422, b'{"status": "error", "detail": "' + b"no face found " * 8 + b'"}')
                return scorer(received)

            scorer.hold()
            scorer.release(*names[:3])
            self.upstream.script = answer
            page = self.open(path=f"/?lang={language}")
            self.choose(page, draw(), draw(300, 900), label=CHOOSE[language])
            self.send(page, ",".join(names), language)
            expect(page.get_by_role("meter")).to_have_count(6)
            expect(page.get_by_text("no face found").first).to_be_visible()
            expect(page.get_by_text(re.compile("Being scored for|Оценивается уже"))).to_have_count(2)
            self.choose(page, draw(), draw(900, 300), b"no photo", label=CHOOSE[language])
            self.send(page, "", language)
            assert_looks_good(self, page)
            scorer.release()

    def test_offline(self) -> None:
        """Without a network."""
        self.expect_failed_loads()
        self.scorer().hold()
        page = self.open()
        self.choose(page, draw())
        self.send(page, unique("Ada")[0])
        expect(page.get_by_text("Being scored for")).to_be_visible()
        page.context.set_offline(True)
        expect(page.get_by_text("No connection.").first).to_be_visible()
        assert_looks_good(self, page)

    def test_small_pages(self) -> None:
        """The pages for browsers without JavaScript: waiting, scored, erased."""
        self.expect_failed_loads()
        scorer = self.scorer()
        scorer.hold()
        (name,) = unique("Ada")
        task = post(self.shared.port, name, draw(kind="png")).json()["task"]
        page = self.open(path=f"/?task_id={task}")

        def without_refresh(route: "Route") -> None:
            # A page that loads itself again would end the check in mid-way.
            target = route.request.url.removeprefix(f"http://{NAME}:{self.shared.port}")
            got = request(self.shared.port, "GET", target, headers={"Accept": "text/html"})
            headers = {name: value for name, value in got.headers.items() if name != "Refresh"}
            route.fulfill(status=got.code, headers=headers, body=got.body)

        page.route("**/*", without_refresh)
        for lang in ("en", "ru"):
            page.goto(f"/?task_id={task}&lang={lang}")
            assert_looks_good(self, page)
        scorer.release()
        self.assertEqual(self.shared.get(task, wait=30).code, 200)
        for lang in ("en", "ru"):
            page.goto(f"/?task_id={task}&lang={lang}")
            expect(page.get_by_text("0.50" if lang == "en" else "0,50").first).to_be_visible()
            assert_looks_good(self, page)
        request(self.shared.port, "DELETE", f"/?task_id={task}")
        for lang in ("en", "ru"):
            page.goto(f"/?task_id={task}&lang={lang}")
            assert_looks_good(self, page)

    def test_form_without_javascript(self) -> None:
        """The form for browsers without JavaScript, and the page that says what is wrong with a photo."""
        self.expect_failed_loads()
        for language, label in (("en", "Photo"), ("ru", "Фото")):
            page = self.open(path=f"/?lang={language}", java_script_enabled=False)
            assert_looks_good(self, self.still(page))
            self.choose(page, b"no photo" * 100, label=label)
            page.get_by_role("textbox").fill("Ada")
            page.locator("form button").click()
            expect(page.get_by_role("textbox")).to_have_count(0)
            assert_looks_good(self, self.still(page))

    def test_columns(self) -> None:
        """At 1280 pixels the results stand beside the form; below 56rem under it."""
        page = self.open()
        form, results = page.locator("form").first, page.get_by_role("region", name="Results")
        for width, beside in ((WIDE, True), (56 * 16, True), (56 * 16 - 1, False), (NARROW, False)):
            page.set_viewport_size({"width": width, "height": 800})
            left, right = form.bounding_box(), results.bounding_box()
            assert left and right
            self.assertEqual(right["x"] >= left["x"] + left["width"], beside, width)
            self.assertEqual(right["y"] >= left["y"] + left["height"], not beside, width)

    def test_camera_button(self) -> None:
        """The button for the camera is there on touch screens alone; at 44 pixels a finger hits it."""
        page = self.open(width=NARROW, has_touch=True, is_mobile=True)
        camera = page.get_by_text("Take a photo", exact=True)
        expect(camera).to_be_visible()
        box = camera.bounding_box()
        assert box is not None
        self.assertGreaterEqual(box["height"], 44)

    def test_no_requests_elsewhere(self) -> None:
        """The page is one answer: nothing else is loaded for it, from here or elsewhere."""
        page = self.open()
        requests: list[str] = []
        page.on("request", lambda request: requests.append(request.url))
        page.reload()
        page.wait_for_load_state("networkidle")
        self.assertEqual([url for url in requests if not url.startswith("data:")], [page.url])

"""The page for those who use a keyboard alone, or a screen reader."""

import re

from tests.browser.pictures import draw
from tests.browser.support import PLAYWRIGHT, PageCase, row, score_of, unique, value_of

if PLAYWRIGHT:
    from playwright.sync_api import Page, expect

_FOCUSED = """() => {
  const e = document.activeElement;
  return e.ariaLabel || e.labels?.[0]?.innerText || e.innerText || e.tagName;
}"""


class KeyboardTest(PageCase):
    """From the photo to the score without a mouse."""

    def tab_to(self, page: "Page", label: str) -> None:
        """Press the tabulator until what has this label is focused."""
        for _ in range(20):
            page.keyboard.press("Tab")
            if page.evaluate(_FOCUSED).strip() == label:
                return
        self.fail(f"the tabulator doesn't come to {label}")

    def test_order(self) -> None:
        """The tabulator goes through the page as one reads it, and to nothing that can't be seen."""
        page = self.open()
        stops = []
        for _ in range(12):
            page.keyboard.press("Tab")
            stops.append(page.evaluate(_FOCUSED).strip())
        order = ["English", "Русский", "Choose photos", "First name", "See how it suits", "What happens to the photo?"]
        self.assertEqual([stop for stop in stops if stop in order][:6], order)
        self.assertNotIn("Take a photo", stops)

    def test_photo_to_score(self) -> None:
        """Choose, type, send and read the score, with keys alone; the focus stays where one was."""
        self.scorer()
        (name,) = unique("Ada")
        page = self.open()

        self.tab_to(page, "Choose photos")
        with page.expect_file_chooser() as dialog:
            page.keyboard.press("Enter")
        dialog.value.set_files(self.file(draw()))
        self.tab_to(page, "First name")
        page.keyboard.type(name)
        page.keyboard.press("Enter")

        expect(score_of(page, name)).to_be_visible()
        self.assertNotEqual(page.evaluate(_FOCUSED), "BODY")

    def test_forget(self) -> None:
        """After "Forget" the focus isn't lost."""
        self.scorer()
        names = unique("Ada", "Bob")
        page = self.open()
        self.choose(page, draw())
        self.send(page, ",".join(names))
        expect(page.get_by_role("meter")).to_have_count(2)
        button = row(page, names[0]).get_by_role("button", name="Forget")
        button.focus()
        page.keyboard.press("Enter")
        expect(row(page, names[0])).to_have_count(0)
        self.assertNotIn(page.evaluate("document.activeElement.tagName"), ("BODY", "HTML"))

    def test_focus_is_seen(self) -> None:
        """Each stop of the tabulator has an outline that one sees."""
        page = self.open()
        for _ in range(7):
            page.keyboard.press("Tab")
            outline = page.evaluate(
                """() => {
                  for (let e = document.activeElement; e; e = e.parentElement) {
                    const style = getComputedStyle(e);
                    if (style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2) return true;
                  }
                  const label = document.activeElement.labels?.[0];
                  return Boolean(label) && getComputedStyle(label).outlineStyle !== "none";
                }"""
            )
            self.assertTrue(outline, page.evaluate(_FOCUSED))


class ScreenReaderTest(PageCase):
    """What is said, and when."""

    def test_one_text_a_result(self) -> None:
        """Each result is said once, with name and score; nothing is said a second time, or once a second."""
        scorer = self.scorer()
        scorer.hold()
        names = unique("Ada", "Bob", "Eve")
        scorer.scores = dict(zip(names, (0.25, 0.5, 0.75), strict=True))
        page = self.open()
        self.choose(page, draw())
        before = len(self.heard(page))
        self.send(page, ",".join(names))
        expect(page.get_by_text(re.compile("Being scored for 3 s"))).to_have_count(3)
        waiting = self.heard(page)[before:]

        for name in names:
            scorer.release(name)
            expect(score_of(page, name)).to_be_visible()

        results = self.heard(page)[before + len(waiting) :]
        self.assertLessEqual(len(waiting), 1, waiting)
        self.assertEqual(len(results), 3, results)
        for name, score, said in zip(names, ("0.25", "0.50", "0.75"), results, strict=True):
            self.assertIn(name, said)
            self.assertIn(score, said)

    def test_meters(self) -> None:
        """A score is a meter from 0 to 1 with the name; in Russian its text has a comma."""
        scorer = self.scorer()
        (name,) = unique("Ada")
        scorer.scores = {name: 0.83}
        page = self.open(language="ru-RU")
        self.choose(page, draw(), label="Выбрать фото")
        self.send(page, name, "ru")
        meter = score_of(page, name)
        expect(meter).to_be_visible()
        self.assertEqual(value_of(meter), 0.83)
        for end, value in (("min", 0), ("max", 1)):
            self.assertEqual(float(meter.get_attribute(f"aria-value{end}") or meter.get_attribute(end) or "nan"), value)
        expect(row(page, name)).to_contain_text("0,83")

    def test_score_beyond_the_scale(self) -> None:
        """A score that another scoring service gives beyond 0 to 1 is shown as a number, without a false gauge."""
        scorer = self.scorer()
        (name,) = unique("Ada")
        scorer.scores = {name: 42.5}
        page = self.open()
        self.choose(page, draw())
        self.send(page, name)
        expect(row(page, name)).to_contain_text("42.5")
        expect(score_of(page, name)).to_have_count(0)

    def test_language(self) -> None:
        """The page's language is marked, and so are the names of languages and the chosen one."""
        for language, tag in (("en-GB", "en"), ("ru-RU", "ru"), ("de-DE", "en")):
            page = self.open(language=language)
            self.assertEqual(page.locator("html").get_attribute("lang"), tag)
            expect(page.locator("nav [aria-current]")).to_have_attribute("hreflang", tag)

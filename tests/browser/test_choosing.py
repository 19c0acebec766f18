"""Ways to choose photos, and several of them with several names."""

import base64

from tests.browser.pictures import draw
from tests.browser.support import NAME, NARROW, PLAYWRIGHT, PageCase, posts, row, score_of, unique
from tests.processes import HOST

if PLAYWRIGHT:
    from playwright.sync_api import expect

_COPY = """async encoded => {
  const bytes = Uint8Array.from(atob(encoded), c => c.charCodeAt(0));
  await navigator.clipboard.write([new ClipboardItem({"image/png": new Blob([bytes], {type: "image/png"})})]);
}"""


class WaysTest(PageCase):
    """Each way to choose a photo ends in an upload to the upstream."""

    def test_choose(self) -> None:
        """A photo from the browser's dialog is sent, and its score shown."""
        self.scorer().scores = {(name := unique("Ada")[0]): 0.25}
        page = self.open()

        with page.expect_file_chooser() as dialog:
            page.get_by_text("Choose photos", exact=True).click()
        dialog.value.set_files(self.file(draw()))
        self.send(page, name)

        expect(score_of(page, name)).to_be_visible()
        expect(row(page, name)).to_contain_text("0.25")
        self.assertEqual(len(self.sent(name)), 1)

    def test_drop(self) -> None:
        """Photos dropped on the page are sent."""
        self.scorer()
        (name,) = unique("Ada")
        page = self.open()

        files = [str(self.file(draw())), str(self.file(draw()))]
        box = page.get_by_text("or drop them here, or paste with Ctrl+V").bounding_box()
        assert box is not None
        session = page.context.new_cdp_session(page)
        for step in ("dragEnter", "dragOver", "drop"):
            drag = {"items": [], "files": files, "dragOperationsMask": 1}
            session.send("Input.dispatchDragEvent", {"type": step, "x": box["x"] + 5, "y": box["y"] + 5, "data": drag})
        self.send(page, name)

        expect(score_of(page, name)).to_have_count(2)
        self.assertEqual(len({upload.sha256 for upload in self.sent(name)}), 2)

    def test_drop_beside(self) -> None:
        """A photo that misses the dashed field is taken too, and does not open in place of the page."""
        self.scorer()
        (name,) = unique("Ada")
        page = self.open()

        session = page.context.new_cdp_session(page)
        for step in ("dragEnter", "dragOver", "drop"):
            drag = {"items": [], "files": [str(self.file(draw()))], "dragOperationsMask": 1}
            session.send("Input.dispatchDragEvent", {"type": step, "x": 5, "y": 795, "data": drag})
        self.send(page, name)

        expect(score_of(page, name)).to_be_visible()

    def test_paste(self) -> None:
        """A picture in the clipboard is taken with Ctrl+V, and sent."""
        self.scorer()
        (name,) = unique("Ada")
        page = self.open()
        # Pages may write into the clipboard in secure contexts alone: by the address it is one.
        secure = f"http://{HOST}:{self.shared.port}"
        page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=secure)
        other = page.context.new_page()
        other.goto(secure)
        other.evaluate(_COPY, base64.b64encode(draw(kind="png")).decode("ascii"))
        other.close()

        page.bring_to_front()
        page.keyboard.press("Control+V")
        self.send(page, name)

        expect(score_of(page, name)).to_be_visible()
        self.sent(name)

    def test_paste_into_the_name(self) -> None:
        """Text is pasted into the field for names as ever."""
        page = self.open()
        page.get_by_role("textbox").fill("Ada")
        page.get_by_role("textbox").press("Control+A")
        page.get_by_role("textbox").press("Control+C")
        page.get_by_role("textbox").press("End")
        page.get_by_role("textbox").press("Control+V")
        expect(page.get_by_role("textbox")).to_have_value("AdaAda")

    def test_camera(self) -> None:
        """On a touch screen a button opens the camera, and its photo is sent."""
        self.scorer()
        (name,) = unique("Ada")
        page = self.open(width=NARROW, has_touch=True, is_mobile=True)

        with page.expect_file_chooser() as dialog:
            page.get_by_text("Take a photo", exact=True).tap()
        self.assertTrue(dialog.value.element.get_attribute("capture"))
        dialog.value.set_files(self.file(draw()))
        self.send(page, name)

        expect(score_of(page, name)).to_be_visible()
        self.sent(name)

    def test_keyboard(self) -> None:
        """Enter or the space bar on the focused field opens the dialog."""
        page = self.open()
        for key in ("Enter", "Space"):
            page.get_by_label("Choose photos", exact=True).focus()
            with page.expect_file_chooser():
                page.keyboard.press(key)

    def test_secure_context(self) -> None:
        """In a secure context it works as well."""
        self.scorer()
        (name,) = unique("Ada")
        page = self.open()
        self.assertFalse(page.evaluate("isSecureContext"), NAME)
        page.goto(f"http://{HOST}:{self.shared.port}/")
        self.assertTrue(page.evaluate("isSecureContext"))

        self.choose(page, draw())
        self.send(page, name)

        expect(score_of(page, name)).to_be_visible()


class SeveralTest(PageCase):
    """Several photos, several names."""

    def test_each_name_with_each_photo(self) -> None:
        """Two photos and three names are six uploads and six scores."""
        self.scorer()
        names = unique("Ada", "Боб", "Eve")
        page = self.open()
        sent = posts(page)

        self.choose(page, draw(), draw())
        self.send(page, f" {names[0]},{names[1]} , {names[2]},")

        expect(page.get_by_role("meter")).to_have_count(6)
        self.assertEqual(len(sent), 6)
        for name in names:
            self.assertEqual(len({upload.sha256 for upload in self.sent(name)}), 2)

    def test_prepared_once(self) -> None:
        """A photo goes out in the same bytes with each name: it is prepared once."""
        self.scorer()
        names = unique("Ada", "Bob")
        page = self.open()

        self.choose(page, draw(1700, 900))
        self.send(page, ",".join(names))

        expect(page.get_by_role("meter")).to_have_count(2)
        self.assertEqual(len({upload.sha256 for upload in self.sent(*names)}), 1)

    def test_taken_back(self) -> None:
        """A chosen photo has a preview, and can be taken back before it is sent."""
        self.scorer()
        (name,) = unique("Ada")
        page = self.open()
        self.choose(page, self.file(draw(), "first.jpg"), self.file(draw(), "second.jpg"))
        previews = page.get_by_role("form").or_(page.locator("form")).get_by_role("img")
        expect(previews).to_have_count(2)

        page.get_by_role("button", name="first").click()
        expect(previews).to_have_count(1)
        self.send(page, name)

        expect(score_of(page, name)).to_have_count(1)
        self.assertEqual(len(self.sent(name)), 1)

    def test_the_same_again(self) -> None:
        """The same photo can be chosen again with another name after it was sent."""
        self.scorer()
        names = unique("Ada", "Bob")
        page = self.open()
        photo = self.file(draw())

        for name in names:
            self.choose(page, photo)
            self.send(page, name)
            expect(score_of(page, name)).to_be_visible()

        self.assertEqual(len(self.sent(*names)), 2)

"""What the page's Content-Security-Policy keeps out, in the browser that has to heed it."""

from tests.browser.support import NAME, PLAYWRIGHT, PageCase
from tests.processes import HOST

if PLAYWRIGHT:
    from playwright.sync_api import Error, expect


class PolicyTest(PageCase):
    """Scripts that aren't the page's own don't run, and nobody can put the page into a frame."""

    def setUp(self) -> None:
        super().setUp()
        self.expect_errors("Content Security Policy|Trusted|frame|Failed to load resource")

    def test_other_scripts(self) -> None:
        """A script that something writes into the page does not run."""
        page = self.open()
        page.evaluate(
            """() => {
              const script = document.createElement("script");
              script.append("document.title = 'taken over'");
              document.body.append(script);
            }"""
        )
        expect(page).to_have_title("Does the name suit the face?")

    def test_markup(self) -> None:
        """Markup can't be written into the page at all, where the browser knows Trusted Types."""
        page = self.open()
        with self.assertRaisesRegex(Error, "TrustedHTML"):
            page.evaluate("() => { document.body.innerHTML = '<b>taken over</b>' }")

    def test_elsewhere(self) -> None:
        """The page can send to nobody but its own server, and load nothing from elsewhere."""
        page = self.open()
        sent = "url => fetch(url).then(() => 'sent', () => 'refused')"
        self.assertEqual(page.evaluate(sent, f"http://{HOST}:{self.shared.port}/?task_id=7"), "refused")
        self.assertEqual(page.evaluate(sent, "?task_id=7"), "sent")

    def test_frames(self) -> None:
        """Another page can't show it in a frame."""
        page = self.open()
        page.route(
            "**/framing", lambda route: route.fulfill(body="<iframe src='/'></iframe>", content_type="text/html")
        )
        page.goto(f"http://{NAME}:{self.shared.port}/framing")
        (frame,) = page.frames[1:]
        self.assertEqual(frame.url, "chrome-error://chromewebdata/")

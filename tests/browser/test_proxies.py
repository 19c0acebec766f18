"""The page behind a real nginx: below a path, and with a proxy's own errors."""

import socket

from tests.browser.nginx import NGINX, Nginx
from tests.browser.pictures import draw
from tests.browser.support import MISSING, PLAYWRIGHT, PageCase, row, score_of, unique
from tests.client import request
from tests.processes import HOST

if PLAYWRIGHT:
    from playwright.sync_api import Route, expect


class ProxyTest(PageCase):
    """nginx in front of merlind."""

    if not MISSING and not NGINX:
        skip = "there is no nginx here; apt-get install nginx-light"

    def nginx(self, behind: int | None = None, **options: "str | int") -> Nginx:
        """Start an nginx, by default before the shared merlind."""
        return Nginx(self.addCleanup, self.folder / "nginx", behind or self.shared.port, **options)  # type: ignore[arg-type]

    def test_body_limit(self) -> None:
        """A photo that nginx refuses: the page names the proxy's limit, and what to do."""
        self.expect_failed_loads()
        self.scorer()
        proxy = self.nginx(largest="1m")
        page = self.open(port=proxy.port)
        photo = draw(1500, 1500, noise=True)
        self.assertGreater(len(photo), 1_100_000)
        self.choose(page, photo)
        self.send(page, unique("Ada")[0])
        text = "A server on the way refuses photos this large. Tell whoever runs this page."
        expect(page.get_by_text(text).first).to_be_visible()

    def test_no_merlind(self) -> None:
        """While merlind is away nginx says 502: the page says so, and goes on when it is back."""
        self.expect_failed_loads()
        scorer = self.scorer()
        merlind = self.merlind(upstream=self.upstream.url).start()
        proxy = self.nginx(merlind.port)
        page = self.open(port=proxy.port)
        merlind.stop()
        (name,) = unique("Ada")
        self.choose(page, draw())
        self.send(page, name)
        expect(page.get_by_text("A server on the way can’t reach merlind.").first).to_be_visible()

        scorer.release()
        merlind.start()

        expect(score_of(page, name)).to_be_visible(timeout=30_000)

    def test_slow_merlind(self) -> None:
        """Where nginx gives up sooner than a long poll ends, its 504 loses nothing."""
        self.expect_failed_loads()
        scorer = self.scorer()
        scorer.hold()
        proxy = self.nginx(patience=1)
        page = self.open(port=proxy.port)
        (name,) = unique("Ada")
        statuses: list[int] = []
        page.on("response", lambda response: statuses.append(response.status))
        self.choose(page, draw())
        self.send(page, name)
        with page.expect_response(lambda response: response.status == 504):
            pass
        scorer.release()
        expect(score_of(page, name)).to_be_visible(timeout=30_000)
        self.assertEqual(len(self.sent(name)), 1)

    def test_silent_merlind(self) -> None:
        """A 504 to the upload is told as such."""
        self.expect_failed_loads()
        silent = socket.create_server((HOST, 0))
        self.addCleanup(silent.close)
        page = self.open()
        proxy = self.nginx(silent.getsockname()[1], patience=1)
        # The page itself comes from merlind; what it sends goes to nginx.

        def divert(route: "Route") -> None:
            to = f"http://{HOST}:{proxy.port}/" if route.request.method == "POST" else route.request.url
            route.fallback(url=to)

        page.route("**/*", divert)
        self.choose(page, draw())
        self.send(page, unique("Ada")[0])
        expect(page.get_by_text("A server on the way waited too long for merlind.").first).to_be_visible()

    def test_below_a_path(self) -> None:
        """Below /face/ all of it works: the page, sending, waiting, forgetting, both languages."""
        self.expect_failed_loads()
        self.scorer()
        proxy = self.nginx(path="/face/")
        (name,) = unique("Ada")
        page = self.open(port=proxy.port, path="/face/")
        page.get_by_role("link", name="Русский").click()
        expect(page).to_have_url(f"http://merlind.test:{proxy.port}/face/?lang=ru")
        page.get_by_role("link", name="English").click()

        self.choose(page, draw())
        with page.expect_response(lambda response: response.request.method == "POST") as posted:
            self.send(page, name)
        task = posted.value.json()["task"]
        expect(score_of(page, name)).to_be_visible()
        page.reload()
        expect(score_of(page, name)).to_be_visible()
        with page.expect_response(lambda response: response.request.method == "DELETE") as erased:
            row(page, name).get_by_role("button", name="Forget").click()
        self.assertEqual(erased.value.status, 204)
        self.assertEqual(request(self.shared.port, "GET", f"/?task_id={task}").code, 404)

    def test_below_a_path_without_javascript(self) -> None:
        """So do the small pages, where the proxy passes on by which name and port they were asked for."""
        self.expect_failed_loads()
        self.scorer()
        proxy = self.nginx(path="/face/", name="$http_host")
        (name,) = unique("Ada")
        page = self.open(port=proxy.port, path="/face/", java_script_enabled=False)
        self.choose(page, draw(), label="Photo")
        page.get_by_role("textbox").fill(name)
        page.locator("form button").click()
        expect(page.get_by_text("0.50").first).to_be_visible()
        self.assertTrue(page.url.startswith(f"http://merlind.test:{proxy.port}/face/?"), page.url)
        page.get_by_role("button", name="Forget photo, name and score").click()
        expect(page.get_by_text("Forgotten:")).to_be_visible()
        page.get_by_role("link", name="Send another photo").click()
        expect(page.get_by_label("Photo", exact=True)).to_be_visible()

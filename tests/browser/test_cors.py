"""Pages in a real Chromium: one of another origin that may use merlind, one that may not, and merlind's own.

It takes playwright and a Chromium or Chrome of the machine's own; CHROMIUM names another program.
"""

import http.server
import os
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from tests.client import png
from tests.processes import HOST, Merlind, ProcessCase, until
from tests.upstream import Upstream, UpstreamRequest

try:
    from playwright.sync_api import Browser, Page
    from playwright.sync_api import sync_playwright as start_playwright
except ImportError:
    PLAYWRIGHT = False
else:
    PLAYWRIGHT = True

T = TypeVar("T")

LAN = "lan.test"
"""A name of this machine that Chromium takes for another one: over plain http it sends no Sec-Fetch-Site there."""

USE = """async ([url, bytes, name]) => {
  const submit = headers => {
    const form = new FormData();
    form.append("name", name);
    form.append("photo", new Blob([new Uint8Array(bytes)]), "me.png");
    return fetch(url, {method: "POST", body: form, headers});
  };
  const told = response => Object.fromEntries(
    ["Location", "Content-Location", "Retry-After", "Preference-Applied", "RateLimit", "RateLimit-Policy"]
      .map(name => [name, response.headers.get(name)]).filter(([, value]) => value !== null));
  const received = await submit({});
  const task = new URL(received.headers.get("Location"), url);
  const headers = {Prefer: "wait=20", Authorization: "Bearer x", Accept: "application/json"};
  const ready = await fetch(task, {headers});
  const again = await submit({Prefer: "wait=20"});
  const erased = await fetch(task, {method: "DELETE"});
  const gone = await fetch(task);
  const refused = await fetch(url, {method: "POST", body: "no form"});
  const toldSize = await new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", url);
    request.upload.onprogress = event => resolve(event.total);
    request.onerror = reject;
    const form = new FormData();
    form.append("name", name + " again");
    form.append("photo", new Blob([new Uint8Array(bytes)]), "me.png");
    request.send(form);
  });
  return {
    statuses: [received, ready, again, erased, gone, refused].map(response => response.status),
    received: told(received), ready: {...told(ready), ...await ready.json()}, again: told(again),
    refused: (await refused.json()).code, toldSize
  };
}"""
"""What a page does with merlind's API: all of it."""

ATTACK = """async ([url, task]) => {
  const outcomes = [];
  for (const [target, options] of [
    [url, {method: "POST", body: new FormData()}],
    [url, {method: "POST", body: new FormData(), mode: "no-cors"}],
    [url, {method: "POST", body: new FormData(), referrerPolicy: "no-referrer", mode: "no-cors"}],
    [url + task, {}],
    [url + task, {headers: {Prefer: "wait=1"}}],
    [url + task, {method: "DELETE"}]
  ]) {
    const form = options.body;
    if (form) {
      form.append("name", "Eve");
      form.append("photo", new Blob([new Uint8Array([0xff, 0xd8, 0xff, 0xe0])]), "me.jpg");
    }
    outcomes.push(await fetch(target, options).then(response => response.type, error => error.name));
  }
  return outcomes;
}"""
"""What a page may try against merlind: to send, to read and to erase."""

FORM = """url => {
  const form = document.createElement("form");
  Object.assign(form, {method: "post", enctype: "multipart/form-data", action: url});
  form.append(Object.assign(document.createElement("input"), {name: "name", value: "Eve"}));
  const photo = Object.assign(document.createElement("input"), {name: "photo", type: "file"});
  const files = new DataTransfer();
  files.items.add(new File([new Uint8Array([0xff, 0xd8, 0xff, 0xe0])], "me.jpg"));
  photo.files = files.files;
  form.append(photo);
  document.body.append(form);
  form.submit();
}"""
"""Sends a form that a page made, which takes the browser to what merlind responds."""


def _missing() -> str | None:
    if not PLAYWRIGHT:
        return "playwright is not installed: pip install playwright"
    return None if _chromium() else "there is no Chromium here: apt-get install chromium"


def _chromium() -> str | None:
    names = (os.environ.get("CHROMIUM", "chromium"), "chromium-browser", "google-chrome-stable", "google-chrome")
    return next((found for name in names if (found := shutil.which(name))), None)


class BlankPage(http.server.BaseHTTPRequestHandler):
    """Serves an empty page."""

    def do_GET(self) -> None:
        body = b"<!doctype html><title>Elsewhere</title><body>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


class OtherOriginTest(ProcessCase):
    """merlind, and pages that a server of another origin has."""

    skip: Any = _missing()

    def setUp(self) -> None:
        super().setUp()
        server = http.server.ThreadingHTTPServer((HOST, 0), BlankPage)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        self.elsewhere = server.server_address[1]
        self.upstream = Upstream(self.addCleanup, UpstreamRequest.score)

    def started(self, *options: str) -> Merlind:
        """A running merlind."""
        return self.merlind(*options, upstream=self.upstream.url).start()

    def browse(self, script: "Callable[[Browser], T]") -> T:
        """Run a script with a Chromium of its own, in a thread of its own: playwright has one in each at most."""
        sandbox = ["--no-sandbox"] if os.getuid() == 0 else []
        arguments = [*sandbox, f"--host-resolver-rules=MAP {LAN} {HOST}"]

        def run() -> T:
            with start_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=_chromium(), args=arguments)
                try:
                    return script(browser)
                finally:
                    browser.close()

        with ThreadPoolExecutor(1) as thread:
            return thread.submit(run).result()

    def on_page(self, url: str, script: "Callable[[Page], T]", **options: Any) -> T:
        """Run a script on the page at a URL."""

        def run(browser: "Browser") -> T:
            page = browser.new_page(**options)
            page.goto(url)
            return script(page)

        return self.browse(run)

    def evaluate(self, script: str, argument: object) -> Any:
        """Run a function on the page of the other origin, and return what it returns."""
        return self.on_page(f"http://localhost:{self.elsewhere}/", lambda page: page.evaluate(script, argument))

    def send_made_form(self, url: str) -> str:
        """Send a form that the page of the other origin made, and return what the browser shows then."""

        def send(page: "Page") -> str:
            with page.expect_navigation(url=f"{url}**"):
                page.evaluate(FORM, url)
            return page.locator("body").inner_text()

        return self.on_page(f"http://localhost:{self.elsewhere}/", send)

    def send_own_form(self, url: str, name: str) -> None:
        """Send merlind's own form, in a browser without JavaScript."""
        photo: Any = {"name": "me.png", "mimeType": "image/png", "buffer": png()}

        def send(page: "Page") -> None:
            page.locator("[name=photo]").set_input_files(photo)
            page.locator("[name=name]").fill(name)
            with page.expect_navigation():
                page.locator("form button").first.click()

        self.on_page(url, send, java_script_enabled=False)

    def test_listed_page_uses_the_api(self) -> None:
        """A page that ``--cors-origin`` names submits, waits, reads the score and what it is told, and erases."""
        # Without a wait the photo could have its score before it has its number.
        self.upstream.script = lambda request: (
            request.wait("r1") if request.kind == "upload" else request.respond_json(status="ready", result=0.25)
        )
        for allowed, host in ((f"http://localhost:{self.elsewhere}", HOST), ("*", HOST), ("*", LAN)):
            merlind = self.started(f"--cors-origin={allowed}", "--client-rate=100/60")

            found = self.evaluate(USE, [f"http://{host}:{merlind.port}/", list(png()), "Ada"])

            self.assertEqual(found["statuses"], [202, 200, 200, 204, 404, 415])
            self.assertEqual((found["ready"]["status"], found["ready"]["result"]), ("ready", 0.25))
            self.assertEqual(found["ready"]["Preference-Applied"], "wait=20")
            self.assertRegex(found["received"]["Location"], r"^\?task_id=\d+$")
            self.assertRegex(found["again"]["Content-Location"], r"^\?task_id=\d+$")
            self.assertEqual(found["received"]["Retry-After"], "1")
            self.assertEqual(found["received"]["RateLimit-Policy"], '"default";q=100;w=60')
            self.assertEqual(found["received"]["RateLimit"], '"default";r=99;t=1')
            self.assertEqual(found["refused"], "not_a_form")
            self.assertGreater(found["toldSize"], 300)
            self.assert_no_traceback(merlind)
            merlind.stop()

    def test_other_page_does_nothing(self) -> None:
        """Any other page can neither submit, read nor erase, over a connection that is secure to Chromium or not."""
        merlind = self.started("--cors-origin=http://app.example.org")
        task = self.ledger().post(merlind.port, "Ada", png())
        until(lambda: merlind.get(task).code == 200, "the score")
        for host in (HOST, LAN):
            url = f"http://{host}:{merlind.port}/"

            tried = self.evaluate(ATTACK, [url, f"?task_id={task}"])
            shown = self.send_made_form(url)

            self.assertEqual(tried, ["TypeError", "opaque", "opaque", "TypeError", "TypeError", "TypeError"])
            self.assertIn("This came from a page of another site", shown)
            self.assertEqual(merlind.get(task).json()["status"], "ready")
        self.assertEqual(merlind.metric('merlind_http_requests_total{code="202",method="POST"}'), 1)
        self.assertEqual(merlind.metric('merlind_http_requests_total{code="403",method="POST"}'), 8)
        self.assert_no_traceback(merlind)

    def test_own_page_without_scripts(self) -> None:
        """merlind's own form works without JavaScript, also where the browser says no more than the Origin."""
        merlind = self.started()
        for host in (HOST, LAN):
            name = f"Ada at {host}"
            self.send_own_form(f"http://{host}:{merlind.port}/", name)
            self.assertEqual(len(until(lambda wanted=name: self.upstream.seen("upload", wanted), "the photo")), 1)  # type: ignore[misc]
        self.assert_no_traceback(merlind)

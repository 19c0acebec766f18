"""What the tests of the page share: one Chromium, one merlind with an upstream that a test plays, and pages on it.

They need playwright and a Chromium or Chrome of the machine's own, and are skipped where one of them is missing.
CHROMIUM names another program.
"""

import atexit
import os
import random
import re
import shutil
import threading
from functools import cache, partial
from pathlib import Path
from typing import Any

from tests.processes import Daemon, Merlind, ProcessCase, until
from tests.upstream import Upstream, UpstreamRequest

try:
    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Error, Locator, Page, Request, expect
    from playwright.sync_api import sync_playwright as start_playwright
except ImportError:
    PLAYWRIGHT = False
else:
    PLAYWRIGHT = True
    expect.set_options(timeout=15_000)

NAME = "merlind.test"
"""Where pages are opened. Plain http by a name is no secure context, as on a LAN; that of 127.0.0.1 would be one."""

WIDE, NARROW, SMALL = 1280, 375, 320
"""The widths of a window: a computer's, a phone's and the smallest phone's."""

SEND = {"en": "See how it suits", "ru": "Узнать, подходит ли"}


def _missing() -> str | None:
    """Say what the browser tests lack, if anything."""
    if not PLAYWRIGHT:
        return "playwright is not installed: it comes with requirements-test.lock"
    return None if _chromium() else "there is no Chromium here; apt-get install chromium"


def _chromium() -> str | None:
    """Find the program of a Chromium or Chrome."""
    names = (os.environ.get("CHROMIUM", "chromium"), "chromium-browser", "google-chrome-stable", "google-chrome")
    return next((found for name in names if (found := shutil.which(name))), None)


MISSING = _missing()
"""What keeps these tests from running, or None."""


@cache
def browser() -> "Browser":
    """Return the Chromium that all tests use, each with a context of its own."""
    playwright = start_playwright().start()
    atexit.register(playwright.stop)
    as_root = ["--no-sandbox"] if os.getuid() == 0 else []
    started = playwright.chromium.launch(
        executable_path=_chromium(), args=[*as_root, f"--host-resolver-rules=MAP {NAME} 127.0.0.1"]
    )
    atexit.register(started.close)
    return started


class Scorer:
    """A script for the upstream: scores each name as the test says, once the test lets it.

    ``scores`` has the names' scores; 0.5 for others. ``hold`` makes uploads wait until ``release``.
    """

    def __init__(self) -> None:
        self.scores: dict[str, float] = {}
        self._holding = False
        self._released: set[str] = set()
        self._changed = threading.Condition()

    def hold(self) -> None:
        """Keep the responses to uploads from now on."""
        self._holding = True

    def release(self, *names: str) -> None:
        """Respond to the uploads with these names; without a name, to all, and hold none any more."""
        with self._changed:
            self._released.update(names)
            self._holding = self._holding and bool(names)
            self._changed.notify_all()

    def __call__(self, request: UpstreamRequest) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: not self._holding or request.name in self._released, timeout=60)
        return request.respond_json(status="ready", result=self.scores.get(request.name, 0.5))


class _Shared:
    """The merlind that most tests use, and its upstream."""

    def __init__(self) -> None:
        self.upstream = Upstream(atexit.register, Scorer())
        # Below the temporary folder of the test run, which trial makes anew.
        self.merlind = Merlind(atexit.register, Path("browser"), upstream=self.upstream.url).start()


_shared = cache(_Shared)

_RECORDER = """
window.heard = [];
window.percents = [];
new MutationObserver(changes => {
  for (const change of changes) {
    const parent = change.target.nodeType === Node.TEXT_NODE ? change.target.parentElement : change.target;
    if (!parent || !parent.closest) continue;
    const percent = /(?:Sending|Отправляем): (\\d+)/.exec(parent.textContent);
    if (percent && percents.at(-1) !== Number(percent[1])) percents.push(Number(percent[1]));
    const nodes = change.type === "characterData" ? [change.target] : change.addedNodes;
    if (!parent.closest("[aria-live]:not([aria-live=off]), [role=status], [role=alert], [role=log]")) continue;
    for (const node of nodes) if (node.textContent.trim()) heard.push(node.textContent.trim());
  }
}).observe(document, {subtree: true, childList: true, characterData: true});
"""
"""Keeps what screen readers get to hear from live regions, and the percentages of photos being sent."""


class PageCase(ProcessCase):
    """A test with pages in a real browser. It fails if one of them reports an error, or one against its policy."""

    if MISSING:
        skip = MISSING

    def setUp(self) -> None:
        super().setUp()
        self.errors: list[str] = []
        """What pages reported, expected or not."""
        self._expected = "(?!)"

    # -- given

    def scorer(self) -> Scorer:
        """Return a script of its own for the upstream of the shared merlind."""
        scorer = Scorer()
        _shared().upstream.script = scorer
        self.addCleanup(scorer.release)
        return scorer

    def open(
        self,
        merlind: Merlind | None = None,
        port: int | None = None,
        path: str = "/",
        width: int = WIDE,
        language: str = "en-GB",
        **options: Any,
    ) -> "Page":
        """Open the page in a context of its own, by default of the shared merlind.

        ``options`` go to Browser.new_context.
        """
        if merlind is None and port is None:
            merlind = self.shared
        if merlind is not None:
            self._check_log(merlind)
            port = merlind.port
        context = browser().new_context(
            base_url=f"http://{NAME}:{port}", viewport={"width": width, "height": 800}, locale=language, **options
        )
        self.addCleanup(context.close)
        context.add_init_script(_RECORDER)
        page = self.tab(context)
        page.goto(path)
        return page

    def tab(self, context: "BrowserContext") -> "Page":
        """Open an empty tab whose errors make the test fail."""
        page = context.new_page()
        page.on("console", self._note)
        page.on("pageerror", self._note_uncaught)
        # Chromium is asked in time to hand dialogs over: a key pressed right after expect_file_chooser might be faster.
        page.on("filechooser", lambda dialog: None)
        return page

    def expect_failed_loads(self) -> None:
        """Let Chromium complain about responses such as 404, and about lost connections: this test makes them."""
        self.expect_errors("Failed to load resource")

    def expect_errors(self, pattern: str) -> None:
        """Let pages report errors in which this regular expression is found."""
        self._expected = pattern

    # -- when

    def choose(self, page: "Page", *photos: "bytes | Path", label: str = "Choose photos", kind: str = "jpg") -> None:
        """Choose photos as if in the browser's dialog."""
        page.get_by_label(label, exact=True).set_input_files([self.file(photo, kind) for photo in photos])

    def file(self, photo: "bytes | Path", kind: str = "jpg") -> Path:
        """Write a photo into a file, unless it is one."""
        if isinstance(photo, Path):
            return photo
        path = self.folder / f"photo-{random.randrange(10**9)}.{kind}"
        path.write_bytes(photo)
        return path

    def send(self, page: "Page", names: str, language: str = "en") -> None:
        """Type names, and press the button."""
        page.get_by_role("textbox").fill(names)
        page.get_by_role("button", name=SEND[language]).click()

    def cdp(self, page: "Page", method: str, **parameters: Any) -> Any:
        """Send the browser a command of the DevTools protocol."""
        session = page.context.new_cdp_session(page)
        return session.send(method, parameters)

    # -- then

    @property
    def upstream(self) -> Upstream:
        """The upstream of the shared merlind."""
        return _shared().upstream

    @property
    def shared(self) -> Merlind:
        """The shared merlind."""
        return _shared().merlind

    def sent(self, *names: str) -> list[UpstreamRequest]:
        """Return the uploads with these names that the shared upstream got, when there is one of each."""
        requests = []
        for name in names:
            until(partial(self.upstream.seen, "upload", name), f"the upload of {name}")
            requests += self.upstream.seen("upload", name)
        return requests

    def heard(self, page: "Page") -> list[str]:
        """Return what the live regions said so far, in order."""
        found: list[str] = page.evaluate("heard")
        return found

    def _note(self, message: "ConsoleMessage") -> None:
        if message.type in ("error", "warning"):
            self.errors.append(message.text)

    def _note_uncaught(self, error: "Error") -> None:
        self.errors.append(f"uncaught: {error.message}")

    def _check_log(self, daemon: Daemon) -> None:
        before = len(daemon.log())

        def check() -> None:
            self.assertNotIn("Traceback", daemon.log()[before:])

        self.addCleanup(check)

    def tearDown(self) -> None:
        self.assertEqual([error for error in self.errors if not re.search(self._expected, error)], [])


def score_of(page: "Page", name: str) -> "Locator":
    """Find the gauge of a name's score."""
    return page.get_by_role("meter", name=re.compile(rf"\b{re.escape(name)}\b"))


def value_of(meter: "Locator") -> float:
    """Return a gauge's value, as assistive technology gets it."""
    return float(meter.get_attribute("aria-valuenow") or meter.get_attribute("value") or "nan")


def row(page: "Page", name: str) -> "Locator":
    """Find the line of a name in the list of results."""
    return (
        page.get_by_role("region", name=re.compile("Results|Результаты")).get_by_role("listitem").filter(has_text=name)
    )


def names_in_order(page: "Page", names: set[str]) -> list[str]:
    """Return those of the names that the list of results has, from the top."""
    lines = page.get_by_role("region", name="Results").get_by_role("listitem").all_inner_texts()
    return [name for line in lines for name in names if name in line]


def posts(page: "Page") -> "list[Request]":
    """Return a list that gets each POST of the page's context."""
    found: list[Request] = []

    def note(request: "Request") -> None:
        if request.method == "POST":
            found.append(request)

    page.context.on("request", note)
    return found


def unique(*names: str) -> list[str]:
    """Return the names with an ending each that no other test uses: the shared merlind remembers."""
    ending = "".join(random.choices("abcdefghijklmnopqrstuvwxyz", k=6))
    return [name + ending for name in names]


def remembered(page: "Page") -> dict[str, str]:
    """Return what the page keeps on this device."""
    found: dict[str, str] = page.evaluate("({...localStorage})")
    return found

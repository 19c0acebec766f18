"""The page for operators, on real sockets: thousands of tasks retried by one click hold nobody else up."""

import threading
import time
from urllib.parse import urlencode

from tests.client import png, post, request
from tests.processes import Merlind, ProcessCase, until
from tests.upstream import Upstream, UpstreamRequest

COUNT = 5_000
FORM = {
    "Accept": "text/html",
    "Content-Type": "application/x-www-form-urlencoded",
    "Sec-Fetch-Site": "same-origin",
}


class Prober:
    """Another client, which asks for a task again and again, and remembers how long it waits."""

    def __init__(self, merlind: Merlind, task: int) -> None:
        self.waits: list[float] = []
        self._merlind = merlind
        self._task = task
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Prober":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(0.002):
            began = time.perf_counter()
            assert self._merlind.get(self._task).code == 200
            self.waits.append(time.perf_counter() - began)

    def figures(self) -> str:
        """The longest wait, and that of the slowest in a hundred."""
        waits = sorted(self.waits)
        return f"worst {waits[-1] * 1000:.0f} ms, p99 {waits[-1 - len(waits) // 100] * 1000:.0f} ms of {len(waits)}"


class RetryTest(ProcessCase):
    """An upstream that was away for too long, and what an operator does then."""

    def test_thousands_in_one_click(self) -> None:
        """All that failed start anew and are scored; the page says how many, and others are answered meanwhile."""
        away = True

        def answer(received: UpstreamRequest) -> object:
            if away and received.name != "Ada":
                return received.respond(503, b"{}")
            return received.respond_json(status="ready", result=0.5)

        upstream = Upstream(self.addCleanup, answer)
        merlind = self.merlind("--give-up-after=1", "--poll-interval=1", upstream=upstream.url).start()
        known = post(merlind.port, "Ada", png()).json()["task"]
        self.submit(merlind)
        until(lambda: merlind.metric('merlind_tasks{state="failed"}') == COUNT, "all tasks to be given up", 120)
        page = request(merlind.admin, "GET", "/?state=failed", headers={"Accept": "text/html"})
        self.assertIn(f"Retry these {COUNT:,}".encode(), page.body)
        request(merlind.admin, "POST", "/", b"do=pause", FORM)
        away = False

        with Prober(merlind, known) as idle:
            time.sleep(1)
        with Prober(merlind, known) as others:
            began = time.monotonic()
            click = urlencode({"do": "retry", "state": "failed"}).encode()
            reply = request(merlind.admin, "POST", "/", click, FORM)
            took = time.monotonic() - began
        self.assertEqual(
            (reply.code, reply.headers["Location"]), (303, f"?state=failed&did=retried&count={COUNT}&complete=true")
        )
        page = request(merlind.admin, "GET", "/" + reply.headers["Location"], headers={"Accept": "text/html"})
        self.assertIn(f"{COUNT:,} failed tasks start anew.".encode(), page.body)
        self.assertGreater(len(others.waits), 10)
        self.figures(
            retried=COUNT,
            seconds=f"{took:.1f}",
            others_waited=others.figures(),
            before=idle.figures(),
        )

        request(merlind.admin, "POST", "/", b"do=resume", FORM)
        self.assert_no_traceback(merlind)

    def submit(self, merlind: Merlind) -> None:
        """Send COUNT photos, from several clients at once."""
        photo = png()

        def some(first: int) -> None:
            for number in range(first, COUNT, 8):
                assert post(merlind.port, f"Bob {number}", photo).code == 202

        threads = [threading.Thread(target=some, args=(first,)) for first in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

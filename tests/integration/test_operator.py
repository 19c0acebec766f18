"""What an operator gets: health, metrics, logs, and files that nobody else can read."""

import json
import stat

from tests.client import form, png, post, request
from tests.processes import ProcessCase, until
from tests.upstream import Upstream

NAME = "Аграфена-Тайна"
FILENAME = "holiday-secret-47.png"


class AdminTest(ProcessCase):
    """The admin listener."""

    def test_health_and_metrics(self) -> None:
        """It tells that it lives, is ready, and what it counted."""
        merlind = self.merlind().start()
        live = request(merlind.admin, "GET", "/health/live")
        self.assertEqual((live.code, live.json()), (200, {"status": "ok"}))
        self.assertEqual((merlind.health().code, merlind.health().json()["reasons"]), (200, []))
        post(merlind.port, "Ada", png(), {"Prefer": "wait=30"})
        self.assertEqual(merlind.metric('merlind_tasks{state="ready"}'), 1)
        self.assertEqual(merlind.metric('merlind_http_requests_total{code="200",method="POST"}'), 1)
        self.assertEqual(merlind.metric("merlind_accept_seconds_count"), 1)
        self.assertEqual(merlind.metric("merlind_spool_bytes"), 0)
        self.assertEqual(merlind.metric('merlind_breaker_state{state="closed"}'), 1)

    def test_not_on_the_public_port(self) -> None:
        """Nothing of it is there for everybody."""
        merlind = self.merlind().start()
        for path in ("/health/live", "/health/ready", "/metrics", "/health", "//metrics"):
            self.assertEqual(request(merlind.port, "GET", path).code, 404, path)

    def test_turned_off(self) -> None:
        """``--admin none`` serves it nowhere."""
        merlind = self.merlind("--admin=none").start()
        self.assertEqual(post(merlind.port, "Ada", png()).code, 202)
        with self.assertRaises(ConnectionRefusedError):
            request(merlind.admin, "GET", "/health/live")

    def test_set_up_wrongly(self) -> None:
        """An upstream that doesn't want us makes merlind unready, with the reason; the task is kept."""
        upstream = Upstream(self.addCleanup, lambda exchange: exchange.answer(401, b"{}"))
        merlind = self.merlind(upstream=upstream.url).start()
        task = post(merlind.port, "Ada", png()).json()["task"]
        until(lambda: merlind.health().code == 503, "merlind to be unready")
        self.assertIn("401", merlind.health().json()["reasons"][0])
        self.assertEqual(merlind.get(task).code, 202)


class PrivacyTest(ProcessCase):
    """What is written, and who can read it."""

    def run_through(self, *options: str) -> tuple[list[str], str]:
        """Some tasks that get ready, one that is refused, one that is erased; the logs' lines, and a result."""
        face = self.merlinface("--delay=0.1", "--trouble=0.2").start()
        merlind = self.merlind(*options, upstream=face.url).start()
        tasks = []
        for number in range(5):
            sent = form(f"{NAME}{number}", png(), FILENAME)
            reply = request(merlind.port, "POST", "/", sent.body, {"Content-Type": sent.content_type})
            tasks.append(reply.json()["task"])
        results = [str(merlind.get(task, wait=30).json()["result"]) for task in tasks]
        refused = form(NAME, b"not an image", FILENAME)
        reply = request(merlind.port, "POST", "/", refused.body, {"Content-Type": refused.content_type})
        self.assertEqual(reply.code, 422)
        request(merlind.port, "GET", f"/?task_id={NAME.encode().hex()}")
        request(merlind.port, "DELETE", f"/?task_id={tasks[0]}")
        merlind.stop()
        face.stop()
        log = merlind.log()
        for secret in (NAME, FILENAME, NAME.encode().hex(), *results):
            self.assertNotIn(secret, log)
            self.assertNotIn(secret, face.log())
        self.assertNotIn("Traceback", log)
        for task in tasks:
            self.assertIn(str(task), log)
        return log.splitlines(), results[0]

    def test_log(self) -> None:
        """Lines of text have task numbers, and neither names nor filenames nor results."""
        self.run_through()

    def test_json_log(self) -> None:
        """So have lines of JSON, each of which can be parsed."""
        lines, _ = self.run_through("--log-json")
        events = [json.loads(line) for line in lines]
        for event in events:
            self.assertLessEqual({"time", "level", "system", "message"}, set(event))
        self.assertTrue(any("task" in event for event in events))

    def test_modes(self) -> None:
        """Files have mode 0600 and folders 0700, however lax the umask is."""
        upstream = Upstream(self.addCleanup, lambda exchange: exchange.keep_silent())
        merlind = self.merlind(upstream=upstream.url)
        merlind.start()
        for _ in range(3):
            post(merlind.port, "Ada", png())
        paths = [merlind.data, *merlind.data.rglob("*")]
        self.assertGreater(len(paths), 6)
        for path in paths:
            mode = stat.S_IMODE(path.stat().st_mode)
            self.assertEqual(mode, 0o700 if path.is_dir() else 0o600, f"{path} {mode:o}")

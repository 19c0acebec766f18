"""What operators rely on: health, metrics, logs without personal data, and files that only merlind's user can read.

Codes such as U4 are rows of docs/battery.md.
"""

import json
import stat
import sys

from tests.client import form, png, post, request
from tests.processes import ProcessCase, until
from tests.upstream import Upstream, UpstreamRequest

NAME = "Аграфена-Тайна"
FILENAME = "holiday-secret-47.png"

SYSTEMD = """
import os, socket, sys
opened = socket.create_server(("127.0.0.1", int(sys.argv[1])))
os.dup2(opened.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="merlind")
os.execv(sys.argv[2], sys.argv[2:])
"""
"""What systemd does for a socket unit: opens the socket, and becomes the program, with the socket as descriptor 3."""


class AdminTest(ProcessCase):
    """Health and metrics on the admin listener."""

    def test_health_and_metrics(self) -> None:
        """Liveness and readiness are reported, and a task shows in the metrics."""
        merlind = self.merlind().start()
        live = request(merlind.admin, "GET", "/health/live")
        self.assertEqual((live.code, live.json()), (200, {"status": "ok"}))
        self.assertEqual((merlind.health().code, merlind.health().json()["reasons"]), (200, []))
        post(merlind.port, "Ada", png(), {"Prefer": "wait=30"})
        self.assertEqual(merlind.metric('merlind_tasks{state="ready"}'), 1)
        self.assertEqual(merlind.metric('merlind_http_requests_total{code="200",method="POST"}'), 1)
        self.assertEqual(merlind.metric("merlind_accept_seconds_count"), 1)
        self.assertEqual(merlind.metric("merlind_spool_bytes"), 0)
        self.assertEqual(merlind.metric('merlind_upstream_limiter{state="full"}'), 1)

    def test_not_on_the_public_port(self) -> None:
        """The public listener serves neither health nor metrics."""
        merlind = self.merlind().start()
        for path in ("/health/live", "/health/ready", "/health/working", "/metrics", "/health", "//metrics"):
            self.assertEqual(request(merlind.port, "GET", path).code, 404, path)

    def test_admin_none_turns_it_off(self) -> None:
        """With ``--admin=none`` nothing listens for operators, and tasks are accepted as usual."""
        merlind = self.merlind("--admin=none").start()
        self.assertEqual(post(merlind.port, "Ada", png()).code, 202)
        with self.assertRaises(ConnectionRefusedError):
            request(merlind.admin, "GET", "/health/live")

    def test_rejecting_upstream_makes_unready(self) -> None:
        """An upstream that rejects our requests makes merlind unready, with the HTTP status; the task waits (U4)."""
        upstream = Upstream(self.addCleanup, lambda received: received.respond(401, b"{}"))
        merlind = self.merlind(upstream=upstream.url).start()
        task = post(merlind.port, "Ada", png()).json()["task"]
        until(lambda: merlind.health().code == 503, "merlind to be unready")
        self.assertIn("401", merlind.health().json()["reasons"][0])
        working = request(merlind.admin, "GET", "/health/working")
        self.assertEqual((working.code, "401" in working.json()["reasons"][0]), (503, True))
        self.assertEqual(merlind.get(task).code, 202)


class StartTest(ProcessCase):
    """What a start says, and the port that systemd holds."""

    def test_one_line_says_where(self) -> None:
        """One line says where merlind serves, who scores and where its data are; no line is about Twisted's ports."""
        merlind = self.merlind(upstream="embedded:stand-in").start()
        merlind.stop()
        (line,) = [line for line in merlind.log().splitlines() if " serves at " in line]
        for words in (
            f"serves at http://127.0.0.1:{merlind.port}/, for operators at http://127.0.0.1:{merlind.admin}/;",
            "photos go to the embedded stand-in scorer;",
            f"data are in {merlind.data}",
        ):
            self.assertIn(words, line)
        for words in ("starting on", "Port", "Site"):
            self.assertNotIn(words, merlind.log())

    def test_the_same_as_fields(self) -> None:
        """With --log-json the line has these as fields."""
        merlind = self.merlind("--log-json").start()
        merlind.stop()
        (event,) = [event for line in merlind.log().splitlines() if "listen" in (event := json.loads(line))]
        self.assertEqual(
            (event["listen"], event["admin"], event["data"]),
            (f"http://127.0.0.1:{merlind.port}/", f"http://127.0.0.1:{merlind.admin}/", str(merlind.data)),
        )

    def test_socket_of_systemd(self) -> None:
        """merlind takes over the socket that systemd has opened, by its name, and says where that is."""
        merlind = self.merlind()
        options = [option for option in merlind.command if not option.startswith("--listen=")]
        options.append("--listen=systemd:domain=INET:name=merlind")
        merlind.command = [sys.executable, "-c", SYSTEMD, str(merlind.port), *options]
        merlind.start()
        self.assertEqual(post(merlind.port, "Ada", png()).code, 202)
        merlind.stop()
        self.assertIn(f"serves at http://127.0.0.1:{merlind.port}/", merlind.log())


class PrivacyTest(ProcessCase):
    """Logs contain no personal data, and only merlind's user can read its files."""

    def run_tasks(self, *options: str) -> list[str]:
        """Run tasks, erase one and send no image; check that no log has a secret, and return merlind's log lines."""
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
        return log.splitlines()

    def test_log_has_no_personal_data(self) -> None:
        """The text log has the numbers of tasks, but no name, no filename and no result."""
        self.run_tasks()

    def test_json_log_has_no_personal_data(self) -> None:
        """The same holds for the JSON log, and every line of it can be parsed."""
        lines = self.run_tasks("--log-json")
        events = [json.loads(line) for line in lines]
        for event in events:
            self.assertLessEqual({"time", "level", "system", "message"}, set(event))
        self.assertTrue(any("task" in event for event in events))

    def test_files_are_private(self) -> None:
        """Files have mode 0600 and folders 0700."""
        upstream = Upstream(self.addCleanup, UpstreamRequest.keep_silent)
        merlind = self.merlind(upstream=upstream.url)
        merlind.start()
        for _ in range(3):
            post(merlind.port, "Ada", png())
        paths = [merlind.data, *merlind.data.rglob("*")]
        self.assertGreater(len(paths), 6)
        for path in paths:
            mode = stat.S_IMODE(path.stat().st_mode)
            self.assertEqual(mode, 0o700 if path.is_dir() else 0o600, f"{path} {mode:o}")

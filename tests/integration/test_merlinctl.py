"""merlinctl against a real merlind: from photos to scores, what it tells a script, and going on after a break."""

import contextlib
import os
import pty
import signal
import time

from tests.merlinctl import MerlinctlCase
from tests.processes import HOST, free_port, until
from tests.upstream import Upstream, UpstreamRequest


class PhotosTest(MerlinctlCase):
    """The commands for photos and tasks."""

    def test_photos_become_scores(self) -> None:
        """An album is scored; its tasks can be asked for and erased."""
        merlind = self.merlind().start()
        self.photos("Anna", "Борис")
        status, records, _ = self.run_to_end(merlind, "send", "--names-from-files", ".")
        self.assertEqual((status, [record["status"] for record in records]), (0, ["ready", "ready"]))
        self.assertEqual([record["name"] for record in records], ["Anna", "Борис"])
        tasks = [str(record["task"]) for record in records]
        status, again, _ = self.run_to_end(merlind, "status", *tasks)
        self.assertEqual((status, [r["result"] for r in again]), (0, [r["result"] for r in records]))
        self.assertEqual(self.run_to_end(merlind, "erase", "--yes", *tasks)[0], 0)
        self.assertEqual([merlind.get(int(task)).code for task in tasks], [404, 404])
        status, _, errors = self.run_to_end(merlind, "erase", "--yes", *tasks)
        self.assertEqual((status, errors.count("there is no task")), (1, 2))

    def test_what_a_script_is_told(self) -> None:
        """Each kind of end has its exit status, and a line that says why."""
        merlind = self.merlind().start()
        self.photos("Anna")
        (self.album / "text.png").write_text("no image")
        nobody = free_port()
        for server, arguments, status, said in (
            (merlind, ["send", "text.png", "--name=A"], 1, ""),
            (merlind, ["send", "Anna.jpg", "--name=A", "--token-file=none"], 2, "can't be read"),
            (nobody, ["send", "Anna.jpg", "--name=A"], 4, "can't be reached"),
            (merlind, ["status", "5", f"--url=http://{HOST}:{merlind.port}/other/"], 4, "is the URL right?"),
        ):
            found, _, errors = self.run_to_end(server, *arguments)
            self.assertEqual((found, said in errors), (status, True), (arguments, errors))
        merlind.stop()
        never = self.merlind(upstream=Upstream(self.addCleanup, lambda request: request.wait("a")).url).start()
        status, (record,), _ = self.run_to_end(never, "send", "Anna.jpg", "--name=A", "--timeout=1s")
        self.assertEqual((status, record["status"]), (3, "waiting"))
        status, (record,), _ = self.run_to_end(never, "send", "Anna.jpg", "--name=A", "--no-wait", "--no-progress")
        self.assertEqual((status, record["status"]), (0, "waiting"))

    def test_waits_take_no_uploads_place(self) -> None:
        """With 4 uploads at once, 100 photos are all at the upstream before it has scored the first of them."""

        def script(request: UpstreamRequest) -> bool:
            """Score nothing before all are there, and each 4 s after it came at the earliest."""
            if request.kind == "upload" or len(upstream.seen("upload")) < 100:
                return request.wait(request.key)
            (upload,) = upstream.seen("upload", request.retry_id)
            if time.monotonic() < upload.at + 4.0:
                return request.wait(request.retry_id)
            return request.respond_json(status="ready", result=0.5)

        upstream = Upstream(self.addCleanup, script)
        merlind = self.merlind("--upstream-concurrency=100", upstream=upstream.url).start()
        names = [f"{letter}{second}" for letter in "ABCDEFGHIJ" for second in "abcdefghij"]
        self.photos(*names)

        began = time.monotonic()
        status, records, _ = self.run_to_end(merlind, "send", "--names-from-files", ".", "--jobs=4")
        took = time.monotonic() - began

        self.assertEqual((status, len(records)), (0, 100))
        self.assertEqual({record["result"] for record in records}, {0.5})
        self.assertEqual(len(upstream.seen("upload")), 100)
        self.figures(photos=100, seconds_for_each_score=4, seconds_in_all=f"{took:.1f}")

    def test_killed_half_way(self) -> None:
        """After kill -9 at 10 of 20 photos, a second run sends the other 10, and all 20 are scored."""
        going = False

        def script(request: UpstreamRequest) -> bool:
            if request.kind == "poll" and going:
                return request.respond_json(status="ready", result=0.5)
            return request.wait(request.key)

        upstream = Upstream(self.addCleanup, script)
        merlind = self.merlind("--max-pending=10", "--max-pending-per-client=0", upstream=upstream.url).start()
        self.photos(*(f"{letter}." for letter in "ABCDEFGHIJKLMNOPQRST"))
        send = ["send", "--names-from-files", ".", "-o", "journal.jsonl"]
        journal = self.album / "journal.jsonl"
        first = self.start(merlind, *send)
        until(lambda: journal.exists() and journal.read_text().count("\n") == 10, "10 photos to be sent")
        first.kill()
        merlind.stop()
        going = True
        merlind = self.merlind(upstream=upstream.url).start()
        status, records, _ = self.run_to_end(merlind, *send)
        self.assertEqual((status, [record["result"] for record in records]), (0, [0.5] * 20))
        posts = sum(
            merlind.metric(f'merlind_http_requests_total{{code="{code}",method="POST"}}') for code in (200, 202)
        )
        self.assertEqual(posts, 10)
        self.assertEqual(sorted(upload.name for upload in upstream.seen("upload")), sorted(r["name"] for r in records))

    def test_interrupted(self) -> None:
        """Ctrl+C says how to go on."""
        never = self.merlind(upstream=Upstream(self.addCleanup, lambda request: request.wait("a")).url).start()
        self.photos("Anna")
        process = self.start(never, "send", "--names-from-files", ".", "-o", "journal.jsonl")
        until(lambda: (self.album / "journal.jsonl").exists() and (self.album / "journal.jsonl").read_text(), "a task")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130)
        self.assertIn("run the same command again", errors)

    def test_interrupted_on_a_terminal(self) -> None:
        """Ctrl+C in the middle of a bar gives the terminal its cursor back."""
        never = self.merlind(upstream=Upstream(self.addCleanup, lambda request: request.wait("a")).url).start()
        self.photos("Anna")
        terminal, inside = pty.openpty()
        self.addCleanup(os.close, terminal)
        process = self.start(never, "send", "--names-from-files", ".", errors=inside, TERM="xterm-256color")
        os.close(inside)
        shown = b""
        while b"1 waiting" not in shown:
            shown += os.read(terminal, 4096)
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(OSError):  # the end of a terminal
            while piece := os.read(terminal, 4096):
                shown += piece
        self.assertEqual(process.wait(60), 130)
        self.assertGreater(shown.rindex(b"\x1b[?25h"), shown.rindex(b"\x1b[?25l"))
        self.assertIn(b"run the same command again", shown)

    def test_closed_pipe(self) -> None:
        """A reader that has gone away ends the output quietly."""
        merlind = self.merlind().start()
        self.photos("Anna")
        process = self.start(merlind, "status", "5")
        assert process.stdout is not None
        process.stdout.close()
        process.wait(60)
        assert process.stderr is not None
        self.assertNotIn("Traceback", process.stderr.read())

"""merlinctl against a real merlind: from photos to scores, what it tells a script, and going on after a break."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.client import jpeg
from tests.processes import HOST, Merlind, ProcessCase, environment, free_port, until
from tests.upstream import Upstream, UpstreamRequest

MERLINCTL = [sys.executable, "-c", "from merlind.cli.script import main; main()"]


class MerlinctlTest(ProcessCase):
    """The commands for photos and tasks."""

    def setUp(self) -> None:
        super().setUp()
        self.album = Path(self.mktemp())
        self.album.mkdir()

    def photos(self, *names: str) -> None:
        """Put a photo into the album for each name."""
        for name in names:
            (self.album / f"{name}.jpg").write_bytes(jpeg(name.encode()))

    def start(self, merlind: Merlind | int, *arguments: str, **options: Any) -> "subprocess.Popen[str]":
        port = merlind if isinstance(merlind, int) else merlind.port
        process = subprocess.Popen(
            [*MERLINCTL, *arguments],
            cwd=self.album,
            env=environment({"MERLIND_URL": f"http://{HOST}:{port}", **options}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def run_to_end(self, merlind: Merlind | int, *arguments: str) -> tuple[int, list[dict[str, Any]], str]:
        """Run a command; returns its exit status, the records that it printed, and its errors."""
        process = self.start(merlind, *arguments)
        output, errors = process.communicate(timeout=60)
        return process.returncode, [json.loads(line) for line in output.splitlines()], errors

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

    def test_erase_asks(self) -> None:
        """Nothing is erased without a yes."""
        merlind = self.merlind().start()
        self.photos("Anna")
        _, (record,), _ = self.run_to_end(merlind, "send", "--names-from-files", "Anna.jpg")
        self.assertNotEqual(self.run_to_end(merlind, "erase", str(record["task"]))[0], 0)
        self.assertEqual(merlind.get(record["task"]).code, 200)

    def test_what_a_script_is_told(self) -> None:
        """Each kind of end has its exit status, and a line that says why."""
        merlind = self.merlind().start()
        self.photos("Anna")
        (self.album / "text.png").write_text("no image")
        nobody = free_port()
        for server, arguments, status, said in (
            (merlind, ["send", "text.png", "--name=A"], 1, ""),
            (merlind, ["send", "Anna.jpg"], 2, "exactly one of"),
            (merlind, ["send", "none.jpg", "--name=A"], 2, "no file none.jpg"),
            (merlind, ["send", "Anna.jpg", "--name=A", "--timeout=soon"], 2, "no duration"),
            (merlind, ["send", "Anna.jpg", "--name=A", "--token-file=none"], 2, "can't be read"),
            (nobody, ["send", "Anna.jpg", "--name=A"], 4, "can't be reached"),
            (merlind.admin, ["status", "5"], 4, "is the URL right?"),
        ):
            found, _, errors = self.run_to_end(server, *arguments)
            self.assertEqual((found, said in errors), (status, True), (arguments, errors))
        merlind.stop()
        never = self.merlind(upstream=Upstream(self.addCleanup, lambda request: request.wait("a")).url).start()
        status, (record,), _ = self.run_to_end(never, "send", "Anna.jpg", "--name=A", "--timeout=1s")
        self.assertEqual((status, record["status"]), (3, "waiting"))
        status, (record,), _ = self.run_to_end(never, "send", "Anna.jpg", "--name=A", "--no-wait", "--no-progress")
        self.assertEqual((status, record["status"]), (0, "waiting"))

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

    def test_completion(self) -> None:
        """Each shell gets its script."""
        for shell in ("bash", "zsh", "fish"):
            output, _ = self.start(1, "completion", shell).communicate(timeout=60)
            self.assertIn("_MERLINCTL_COMPLETE", output)

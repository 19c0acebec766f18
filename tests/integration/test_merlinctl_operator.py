"""merlinctl for whoever runs merlind: what is wrong at three in the morning, and how it is set right."""

import json
import os
import platform
import pwd
import shutil
import signal
import time
from pathlib import Path

from tests.client import jpeg, post
from tests.merlinctl import MerlinctlCase
from tests.processes import Merlind, free_port, until
from tests.upstream import Upstream, UpstreamRequest


class OperatorTest(MerlinctlCase):
    """The commands that talk to the admin listener."""

    def setUp(self) -> None:
        super().setUp()
        self.works = False
        self.upstream = Upstream(self.addCleanup, self.script)

    def script(self, request: UpstreamRequest) -> object:
        """Wait for ever until it works; then score, but for Eve."""
        if request.kind == "upload" and request.name == "Eve":
            return request.respond(422, b'{"detail": "no face of Eve"}')
        if not self.works:
            return request.wait(request.key)
        return request.score() if request.kind == "upload" else request.respond(404, b'{"detail": "unknown"}')

    def failed(self, merlind: Merlind, *names: str) -> list[int]:
        """Post photos whose tasks fail, and wait for that."""
        tasks = [post(merlind.port, name, jpeg(name.encode())).json()["task"] for name in names]
        for task in tasks:
            self.assertEqual(merlind.get(task, wait=30).json()["status"], "failed")
        return [int(task) for task in tasks]

    def test_what_failed_is_found_and_retried(self) -> None:
        """From a list of what failed, by its error and time, to scores."""
        merlind = self.merlind("--give-up-after=0.5", upstream=self.upstream.url).start()
        anna, olga, eve = self.failed(merlind, "Anna", "Olga", "Eve")

        status, found, _ = self.run_to_end(merlind, "tasks", "--code", "gave_up", "--since", "1h")
        self.assertEqual((status, {task["task"] for task in found}), (0, {anna, olga}))
        self.assertEqual(
            {(task["state"], task["code"], task["type"]) for task in found}, {("failed", "gave_up", "image/jpeg")}
        )
        self.assertEqual(len(self.run_to_end(merlind, "tasks", "--state", "failed")[1]), 3)
        self.assertEqual(self.run_to_end(merlind, "tasks", "--state", "poll")[1], [])
        time.sleep(1.1)
        self.assertEqual(self.run_to_end(merlind, "tasks", "--since", "1s")[1], [])
        _, some, errors = self.run_to_end(merlind, "tasks", "--limit", "2")
        self.assertEqual((len(some), "there may be more" in errors), (2, True))
        _, table, _ = self.texts(merlind, "tasks", "--format", "table")
        self.assertIn(f"{eve}", table)
        self.assertIn("upstream_422: no face of Eve", table)
        self.assertNotIn("Anna", table)

        self.works = True
        status, done, errors = self.run_to_end(merlind, "retry", str(anna), str(eve), "5")
        self.assertEqual((status, done), (1, [{"retried": 1, "complete": True}]))
        self.assertIn("2 tasks can't be retried", errors)
        status, output, errors = self.texts(merlind, "retry", "--failed", typed="n\n")
        self.assertEqual((status, output), (130, ""))
        self.assertIn("Retry 1 failed task?", errors)
        self.assertEqual(merlind.get(olga).json()["status"], "failed")
        status, output, _ = self.texts(merlind, "retry", "--failed", "--code=gave_up", "--since=1h", typed="y\n")
        self.assertEqual((status, json.loads(output)["retried"]), (0, 1))
        for task in (anna, olga):
            self.assertEqual(merlind.get(task, wait=30).json()["status"], "ready")
        status, _, errors = self.run_to_end(merlind, "retry", "--failed")
        self.assertEqual((status, "their photos are deleted" in errors), (0, True))
        self.assertEqual(self.run_to_end(merlind, "retry", "--failed", "--yes")[1], [{"retried": 0, "complete": True}])

    def test_no_room_to_retry(self) -> None:
        """What doesn't fit below --max-pending is left for a later run, and the status says so."""
        options = ["--give-up-after=0.5", "--max-pending=2", "--max-pending-per-client=0"]
        merlind = self.merlind(*options, upstream=self.upstream.url).start()
        for name in ("Anna", "Olga", "Ada"):
            self.failed(merlind, name)
        self.texts(merlind, "pause")
        status, done, errors = self.run_to_end(merlind, "retry", "--failed", "--yes")
        self.assertEqual((status, done), (3, [{"retried": 2, "complete": False}]))
        self.assertIn("--max-pending", errors)

    def test_paused(self) -> None:
        """A pause with and without an end; meanwhile, stats say why nothing gets on."""
        self.works = True
        merlind = self.merlind(upstream=self.upstream.url).start()
        status, (state,), _ = self.run_to_end(merlind, "pause", "--for", "30m")
        self.assertEqual((status, state["paused"]), (0, True))
        self.assertTrue(1700 < state["seconds_left"] <= 1800)
        task = post(merlind.port, "Anna", jpeg()).json()["task"]
        status, (stats,), _ = self.run_to_end(merlind, "stats")
        self.assertEqual((status, stats["ready"], stats["working"], stats["tasks_upload"]), (1, True, False, 1))
        self.assertIn("paused", stats["reasons"][0])
        self.assertEqual(self.run_to_end(merlind, "pause")[1][0]["seconds_left"], None)
        self.assertIn("paused until somebody resumes it", self.texts(merlind, "pause", "--format=table")[1])
        self.assertEqual(self.run_to_end(merlind, "resume")[1][0]["paused"], False)
        self.assertEqual(merlind.get(task, wait=30).json()["status"], "ready")
        status, (stats,), _ = self.run_to_end(merlind, "stats")
        self.assertEqual((status, stats["working"], stats["reasons"], stats["tasks_ready"]), (0, True, [], 1))
        self.assertIn("takes photos", self.texts(merlind, "stats", "--format=table")[1])

    def test_watched(self) -> None:
        """Figures come again and again, each a line at once, until Ctrl+C."""
        merlind = self.merlind().start()
        process = self.start(merlind, "stats", "--watch", "--every=0.2s")
        assert process.stdout is not None
        for _ in range(3):
            self.assertTrue(json.loads(process.stdout.readline())["working"])
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        self.assertEqual((process.returncode, errors.count("\n")), (130, 1))

    def test_wrong_calls(self) -> None:
        """Each is one line, and has its status."""
        merlind = self.merlind().start()
        for server, arguments, status, said in (
            (free_port(), ["stats"], 4, "can't be reached"),
            (merlind.port, ["tasks"], 4, "is no admin listener of merlind's"),
            (merlind, ["tasks", "--code", "A B"], 2, "code is not an error's code"),
            (merlind, ["pause", "--for", "0s"], 2, "seconds is not a number from 1"),
        ):
            found, output, errors = self.texts(server, *arguments)
            self.assertEqual(
                (found, output, said in errors, errors.count("\n")), (status, "", True, 1), (arguments, errors)
            )

    def test_report(self) -> None:
        """A report has what is needed, and nothing of anybody: neither names nor paths, hosts, tokens or passwords."""
        tokens, users = self.folder / "secret-tokens", self.folder / "secret-users"
        _, token, _ = self.texts(1, "token", "add", "wilhelmine", f"--file={tokens}")
        self.texts(1, "passwd", "wilhelmine", f"--file={users}", typed="hunter2\n")
        options = [f"--auth=tokens:{tokens}", f"--auth=htpasswd:{users}"]
        merlind = self.merlind("--give-up-after=0.5", *options, upstream=self.upstream.url).start()
        (self.folder / "token").write_text(token)
        self.photos("Rumpelstilzchen")
        sent = ["send", "--names-from-files", ".", f"--token-file={self.folder / 'token'}"]
        self.assertEqual(self.texts(merlind, *sent)[0], 1)

        status, (report,), errors = self.run_to_end(merlind, "check", self.data_dir(merlind))
        _, table, _ = self.texts(merlind, "check", self.data_dir(merlind), "--format=table")

        self.assertEqual((status, errors), (0, ""))
        self.assertEqual((report["schema"], report["photos"], report["ready"]), (4, 1, True))
        self.assertLessEqual({"--auth", "--give-up-after"}, set(report["options_set"]))
        self.assertEqual(report["metrics"]['merlind_tasks{state="failed"}'], 1)
        for text in (json.dumps(report), table):
            self.assertIn(platform.python_version(), text)
            self.assertIn("free of", text)
            for secret in (
                "wilhelmine", "hunter2", token.strip()[:16], "Rumpelstilzchen", "secret-", str(self.folder),
                "127.0.0.1",
                platform.node(), pwd.getpwuid(os.getuid()).pw_dir + "/",
            ):  # fmt: skip
                self.assertNotIn(secret, text)

    def test_report_without_merlind(self) -> None:
        """Where nobody answers, the report has what the machine and the data directory tell."""
        merlind = self.merlind().start()
        merlind.stop()
        status, (report,), _ = self.run_to_end(merlind, "check", self.data_dir(merlind))
        self.assertEqual((status, report["schema"], "no answer" in report["admin"]), (4, 4, True))
        status, (report,), _ = self.run_to_end(merlind, "check", "--data-dir=none")
        self.assertEqual((status, "no data directory" in report["data"]), (4, True))


class UserTest(MerlinctlCase):
    """The files of users and tokens."""

    def test_from_a_token_to_a_score(self) -> None:
        """A token that was made signs in, without a restart, and doesn't any more once it is revoked."""
        tokens = self.folder / "tokens"
        tokens.touch()
        merlind = self.merlind(f"--auth=tokens:{tokens}").start()
        self.photos("Anna")
        status, token, _ = self.texts(1, "token", "add", "ann", "laptop", MERLIND_AUTH=f"tokens:{tokens}")
        self.assertEqual(status, 0)
        (self.folder / "token").write_text(token)
        send = ["send", "--names-from-files", ".", f"--token-file={self.folder / 'token'}"]
        self.assertEqual(self.run_to_end(merlind, *send[:3])[0], 5)
        self.assertEqual(self.run_to_end(merlind, *send)[0], 0)

        _, (one,), _ = self.run_to_end(1, "token", "list", "-f", str(tokens))
        self.assertEqual((one["user"], one["label"]), ("ann", "laptop"))
        self.assertEqual(self.run_to_end(1, "token", "list", "bob", "-f", str(tokens))[1], [])
        status, _, errors = self.texts(1, "token", "revoke", "ann", "phone", "-f", str(tokens))
        self.assertEqual((status, "no token with the label 'phone'" in errors), (1, True))
        self.assertEqual(self.texts(1, "token", "revoke", "ann", "laptop", "-f", str(tokens))[0], 0)
        self.assertEqual(self.run_to_end(merlind, *send)[0], 5)

    def test_passwords(self) -> None:
        """A password that was set signs in."""
        users = self.folder / "users"
        self.assertEqual(self.texts(1, "passwd", "ann", "-f", str(users), typed="pass wörd\n")[0], 0)
        merlind = self.merlind(f"--auth=htpasswd:{users}").start()
        self.photos("Anna")
        for password, status in (("pass%20w%C3%B6rd", 0), ("wrong", 5)):
            url = f"http://ann:{password}@127.0.0.1:{merlind.port}"
            self.assertEqual(self.run_to_end(merlind, "send", "--names-from-files", ".", "--url", url)[0], status)


class BackupTest(MerlinctlCase):
    """``backup`` and ``restore``; under load, and across kills, they are in tests/faults/test_backup.py."""

    def test_there_and_back(self) -> None:
        """What was backed up runs in a new place: finished tasks are known, unfinished ones go on."""
        never = Upstream(self.addCleanup, lambda request: request.wait(request.key))
        merlind = self.merlind(upstream=never.url).start()
        tasks = [post(merlind.port, name, jpeg(name.encode())).json()["task"] for name in ("Anna", "Olga")]
        until(lambda: merlind.metric('merlind_tasks{state="poll"}') == 2, "both to be uploaded")
        file = self.folder / "backup.tar"

        status, (told,), errors = self.run_to_end(merlind, "backup", str(file), self.data_dir(merlind))

        self.assertEqual((status, errors), (0, ""))
        self.assertEqual((told["tasks"], told["unfinished"], told["photos"]), (2, 2, 2))
        self.assertEqual(file.stat().st_mode & 0o777, 0o600)
        merlind.stop()
        again = self.restored(file).start()
        for task in tasks:
            self.assertEqual(again.get(task, wait=30).json()["status"], "ready")
        self.assert_no_traceback(again)

    def test_wrong_calls(self) -> None:
        """Each is one line, and nothing is written."""
        merlind = self.merlind().start()
        file = self.folder / "backup.tar"
        self.assertEqual(self.run_to_end(merlind, "backup", str(file), self.data_dir(merlind))[0], 0)
        (self.folder / "cut").write_bytes(file.read_bytes()[:9000])
        for arguments, said in (
            (["backup", "none/x", self.data_dir(merlind)], "none/x.part: No such file"),
            (["backup", str(self.album), self.data_dir(merlind)], "Is a directory"),
            (["restore", str(file), self.data_dir(merlind)], "is not empty"),
            (["restore", str(self.folder / "cut"), "--data-dir=new"], "was cut short"),
        ):
            status, output, errors = self.texts(1, *arguments)
            self.assertEqual(
                (status, output, said in errors, errors.count("\n")), (2, "", True, 1), (arguments, errors)
            )
        new = self.album / "new"
        self.assertEqual([path.name for path in new.iterdir()], ["lock"])
        shutil.rmtree(new)
        self.assertEqual(list(self.album.iterdir()), [])
        self.assertEqual(merlind.health().code, 200)

    def test_merlind_has_lost_a_photo(self) -> None:
        """The rest is backed up, and the status says that something is wrong."""
        never = Upstream(self.addCleanup, lambda request: request.wait(request.key))
        merlind = self.merlind(upstream=never.url).start()
        task = post(merlind.port, "Anna", jpeg()).json()["task"]
        Path(merlind.data / "spool" / str(task)).unlink()
        file = self.folder / "backup.tar"
        status, (told,), errors = self.run_to_end(merlind, "backup", str(file), self.data_dir(merlind))
        self.assertEqual((status, told["without_photo"]), (1, [task]))
        self.assertIn(f"1 photo missing or damaged, of tasks {task}", errors)

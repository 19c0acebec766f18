"""The README's first command and first minute do what it says. The minute is run by curl, and skipped without it."""

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest

from merlind.merlinface.choice import EXTRA, face_installed
from tests.processes import ProcessCase, until

ROOT = Path(__file__).parents[2]
README, IN_RUSSIAN = ((ROOT / page).read_text("utf-8") for page in ("README.md", "README.ru.md"))

DRIFT = 0.05
"""How far a score may be from the README's: names get older each year, and the photo doesn't."""


def blocks(language: str, page: str = README) -> list[str]:
    """A page's code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


def pinned(lock: str) -> set[str]:
    """The packages of a lock file."""
    return set(re.findall(r"^([a-z0-9-]+)==", (ROOT / lock).read_text("utf-8"), re.MULTILINE))


class ReadmeTest(ProcessCase):
    """What a stranger pastes first."""

    def setUp(self) -> None:
        super().setUp()
        *self.install, self.run_it = blocks("sh")[0].strip().split(" && ")

    def test_installs_the_scorer(self) -> None:
        """The first command installs, by hash, all that merlind and its face scorer need; merlinctl comes apart."""
        locks = [Path(lock).name for lock in re.findall(r"-r (\S+)", self.install[1])]
        self.assertIn("--require-hashes", self.install[1])
        wanted = re.findall(r'"([A-Za-z_-]+)[>\[]', (ROOT / "setup.py").read_text("utf-8"))
        self.assertTrue({"Twisted", "onnxruntime", "pi-heif"} <= set(wanted), wanted)
        found = set().union(*map(pinned, [*locks, "requirements-cli.lock"]))
        self.assertEqual({name.lower().replace("_", "-") for name in wanted} - found, set())

    def test_first_session(self) -> None:
        """What it starts answers each command of the first minute as it is shown there."""
        if not face_installed():
            raise SkipTest(f"the face scorer is not installed: it comes with {EXTRA}")
        if shutil.which("curl") is None:
            raise SkipTest("there is no curl")
        twistd, *options, option, upstream = shlex.split(self.run_it)
        self.assertEqual((twistd, options), (".venv/bin/twistd", ["-n", "--pidfile=", "merlind"]))
        self.assertEqual(option, "--upstream")
        merlind = self.merlind(upstream=upstream).start()
        self.port, self.admin = merlind.port, merlind.admin
        for page in (README, IN_RUSSIAN):
            self.tasks: dict[str, str] = {}
            steps = re.findall(r"^\$ (curl .*)\n([^$]*)", "".join(blocks("console", page)), re.MULTILINE)
            self.assertGreater(len(steps), 8)
            for command, shown in steps:
                self.step(command, json.loads(shown) if shown else None)

    def test_in_russian(self) -> None:
        """The Russian README has the same commands."""
        self.assertEqual(blocks("sh"), blocks("sh", IN_RUSSIAN))

    def step(self, command: str, shown: dict[str, Any] | None) -> None:
        """Run a command, once or until the score is there, and compare its output with what is shown."""
        command = command.replace("localhost:8000", f"127.0.0.1:{self.port}")
        command = command.replace("localhost:8001", f"127.0.0.1:{self.admin}")
        for told, real in self.tasks.items():
            command = command.replace(told, real)

        def run() -> dict[str, Any] | None:
            done = subprocess.run([*shlex.split(command, comments=True), "-s"], cwd=ROOT, capture_output=True)
            self.assertEqual(done.returncode, 0, done.stderr)
            return json.loads(done.stdout) if done.stdout else None

        if shown is None:
            self.assertIsNone(run(), command)
            return
        waits = {"status": "wait", "result": None}
        said = until(lambda: (found := run()) != waits and found, command)
        self.assertEqual(said.keys(), shown.keys(), command)
        if "task" in shown:
            self.tasks[str(shown["task"])] = str(said["task"])
        for key in shown.keys() - {"task", "until"}:
            if isinstance(shown[key], float):
                self.assertApproximates(said[key], shown[key], DRIFT, command)
            else:
                self.assertEqual(said[key], shown[key], command)

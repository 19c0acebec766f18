"""The examples of docs/using.md, as they stand there, against a running merlind."""

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from unittest import skipUnless

from merlind.merlinface.score import score
from tests.client import jpeg
from tests.processes import HOST, ProcessCase, environment

PAGE = Path(__file__).parents[2] / "docs" / "using.md"
SECTION = PAGE.read_text("utf-8").partition("## The first minute\n")[2].partition("\n## ")[0]
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", SECTION, re.MULTILINE | re.DOTALL)
"""The language and the text of each example."""

URL = "http://localhost:8000/"

PATH = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
"""Where merlinctl is, too."""


def output_of(*command: str) -> str:
    """What a command prints; nothing if there is no such command."""
    if shutil.which(command[0]) is None:
        return ""
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


NODE = int((re.match(r"v(\d+)", output_of("node", "--version")) or [0, 0])[1])
HAS_PHP_CURL = "curl" in output_of("php", "-m").split()


class FirstMinuteTest(ProcessCase):
    """Each example sends a photo, waits for its score through at least one 202, and prints it."""

    def assert_scores(self, language: str, mark: str, *command: str, progress: str = "") -> None:
        """The one example in ``language`` with ``mark`` in it prints the score, and again when it is run again."""
        (text,) = [text for found, text in BLOCKS if found == language and mark in text]
        face = self.merlinface("--delay=1", "--waits=2").start()
        merlind = self.merlind(upstream=face.url).start()
        photo = jpeg(mark.encode("ascii"))
        (self.folder / "face.jpg").write_bytes(photo)
        self.assertIn(URL, text)
        example = self.folder / f"example.{'mjs' if language == 'js' else language}"
        example.write_text(text.replace(URL, f"http://{HOST}:{merlind.port}/"), "utf-8")

        for again in (False, True):
            ran = subprocess.run(
                [*command, str(example)], cwd=self.folder, env=environment({"LC_ALL": "C.UTF-8", "PATH": PATH}),
                stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=90, check=False,
            )  # fmt: skip
            self.assertEqual((ran.returncode, ran.stderr), (0, progress), ran.stdout)
            printed = json.loads(ran.stdout)
            self.assertEqual((printed["status"], printed["result"]), ("ready", score("Анна", photo)))
            # The second time, the same POST gets the score at once.
            for code, count in ((202, 1), (200, int(again))):
                responses = merlind.metric(f'merlind_http_requests_total{{code="{code}",method="POST"}}')
                self.assertEqual(responses, count, (code, again))

    @skipUnless(shutil.which("curl") and shutil.which("sh"), "curl is not installed")
    def test_curl(self) -> None:
        """curl in a shell."""
        self.assert_scores("sh", "curl", "sh")

    @skipUnless(find_spec("requests"), "requests is not installed")
    def test_requests(self) -> None:
        """Python with requests."""
        self.assert_scores("python", "import requests", sys.executable)

    @skipUnless(find_spec("httpx"), "httpx is not installed")
    def test_httpx(self) -> None:
        """Python with httpx."""
        self.assert_scores("python", "import httpx", sys.executable)

    @skipUnless(NODE >= 18, "Node.js 18 or newer is not installed")
    def test_fetch(self) -> None:
        """JavaScript in Node.js."""
        self.assert_scores("js", "fetch", "node")

    @skipUnless(HAS_PHP_CURL, "PHP with its curl extension is not installed")
    def test_php(self) -> None:
        """PHP with its curl extension."""
        self.assert_scores("php", "curl_init", "php")

    @skipUnless(find_spec("click") and shutil.which("merlinctl", path=PATH), "merlinctl is not installed")
    def test_merlinctl(self) -> None:
        """merlinctl."""
        self.assert_scores("sh", "merlinctl", "sh", progress="1 of 1 scored, 0 waiting\n")

    def test_all_are_run(self) -> None:
        """No example is left out."""
        self.assertEqual(sorted(language for language, _ in BLOCKS), ["js", "php", "python", "python", "sh", "sh"])

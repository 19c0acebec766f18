"""The Dockerfile, as far as it can be read without building it."""

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).parents[2]


class ImageTests(SynchronousTestCase):
    """What the build needs, and what it is told."""

    def test_what_is_copied_is_sent(self) -> None:
        """.dockerignore lets through, by name, each file that the Dockerfile copies."""
        sent = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
        copied = re.findall(r"^COPY (?!--)(.+) \S+$", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE)
        files = [file for line in copied for file in line.split() if file != "."]
        self.assertLessEqual({"requirements-cli.lock", "requirements-scorer.lock"}, set(files))
        self.assertEqual([file for file in files if f"!{file}" not in sent or not (ROOT / file).exists()], [])

    def test_the_scorer_can_be_left_out(self) -> None:
        """The Dockerfile and the Compose file take the same argument, and both take the scorer unless they are told."""
        self.assertIn("\nARG SCORER=1\n", (ROOT / "Dockerfile").read_text("utf-8"))
        self.assertIn(" SCORER: ${SCORER:-1}\n", (ROOT / "deploy/docker-compose.yml").read_text("utf-8"))

"""``--names`` in real processes: what it says, what its workers know, and a file that is broken."""

import subprocess
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from merlind.merlinface.scorer.frames import read_answer, read_score, score_request
from merlind.merlinface.scorer.judgement import Judgement
from merlind.merlinface.scorer.pool import PoolSettings, worker_command
from tests.processes import TWISTD, environment
from tests.unit.merlinface.scorer.support import MISSING

TABLE = "name,sex,year,count\nXyqlor,F,1990,900\nAnna,F,1950,90000\nAnna,F,1990,90000\n"
"""A name that no other table has, and one that shows how many births there were."""


class NamesTest(SynchronousTestCase):
    """A folder for the file."""

    skip = MISSING

    def setUp(self) -> None:
        self.path = Path(self.mktemp()).absolute()
        self.path.write_text(TABLE, "utf-8")

    def test_workers_know_them(self) -> None:
        """A worker reads the file before it is ready, and knows its names."""
        request = b"".join(score_request("Xyqlor", Judgement(0.99, 36.0)))
        known = []
        for names in ((), (str(self.path),)):
            command = worker_command(PoolSettings(1, names=names))
            done = subprocess.run(
                command, input=request, capture_output=True, timeout=60, env=environment(), check=True
            )
            known.append(read_score(read_answer(done.stdout.splitlines()[1])).known_name)
        self.assertEqual(known, [False, True])

    def test_a_broken_file_ends_the_start(self) -> None:
        """With its line, and a status that isn't zero."""
        self.path.write_text(TABLE + "Zoe,F,19I0,5\n", "utf-8")
        for plugin, *arguments in (
            ["merlinface", "--listen=tcp:0:interface=127.0.0.1"],
            ["merlind", "--upstream=embedded", f"--data-dir={self.path}.data"],
        ):
            done = subprocess.run(
                [*TWISTD, plugin, *arguments, f"--names={self.path}"],
                capture_output=True,
                timeout=60,
                env=environment(),
                text=True,
            )
            self.assertEqual(done.returncode, 1)
            self.assertIn(f"{plugin}: --names: {self.path}, line 5: '19I0' is no year", done.stderr)

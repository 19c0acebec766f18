"""Runs real merlinctl processes against real merlinds."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.client import jpeg
from tests.processes import HOST, Merlind, ProcessCase, environment

MERLINCTL = [sys.executable, "-c", "from merlind.cli.script import main; main()"]
"""Runs merlinctl with the interpreter that runs the tests, wherever its script is installed."""


class MerlinctlCase(ProcessCase):
    """A test with a folder of photos, in which merlinctl runs."""

    def setUp(self) -> None:
        super().setUp()
        self.album = self.folder / "album"
        self.album.mkdir()

    def photos(self, *names: str) -> None:
        """Put a photo into the album for each name."""
        for name in names:
            (self.album / f"{name}.jpg").write_bytes(jpeg(name.encode()))

    def start(
        self, merlind: Merlind | int, *arguments: str, errors: int = subprocess.PIPE, **variables: Any
    ) -> "subprocess.Popen[str]":
        """Start a command against a merlind, or against whatever listens on a port; ``errors`` is its stderr."""
        public, admin = (merlind, merlind) if isinstance(merlind, int) else (merlind.port, merlind.admin)
        urls = {"MERLIND_URL": f"http://{HOST}:{public}", "MERLIND_ADMIN_URL": f"http://{HOST}:{admin}"}
        process = subprocess.Popen(
            [*MERLINCTL, *arguments],
            cwd=self.album,
            env=environment({**urls, **variables}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def texts(self, merlind: Merlind | int, *arguments: str, typed: str = "", **variables: Any) -> tuple[int, str, str]:
        """Run a command; returns its exit status, its output and its errors."""
        process = self.start(merlind, *arguments, **variables)
        output, errors = process.communicate(typed, timeout=120)
        return process.returncode, output, errors

    def run_to_end(self, merlind: Merlind | int, *arguments: str) -> tuple[int, list[dict[str, Any]], str]:
        """Run a command; returns its exit status, the records that it printed, and its errors."""
        status, output, errors = self.texts(merlind, *arguments)
        return status, [json.loads(line) for line in output.splitlines()], errors

    def data_dir(self, merlind: Merlind) -> str:
        """The option that names a merlind's data directory."""
        return f"--data-dir={merlind.data}"

    def restored(self, file: Path, *options: str, upstream: str | None = None) -> Merlind:
        """Restore a backup into a new folder; returns a merlind on it, not yet started."""
        data = file.with_name(f"{file.name}.restored")
        status, _, errors = self.run_to_end(1, "restore", str(file), f"--data-dir={data}")
        self.assertEqual((status, errors), (0, ""))
        return self.merlind(*options, upstream=upstream, data=data)

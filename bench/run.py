"""The bench: makes an environment of its own, then runs harness/main.py in it. See README.md."""

import hashlib
import os
import subprocess
import venv
from pathlib import Path
from sys import argv

BENCH = Path(__file__).resolve().parent
VENV = BENCH / ".venv"
PYTHON = VENV / "bin" / "python"
REQUIREMENTS = [BENCH.parent / "requirements.lock", BENCH / "requirements.txt"]
"""merlind's locked dependencies, and those of the peers and the harness."""


def make_environment() -> None:
    """Make or renew bench/.venv, unless it was made from the same files before."""
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in REQUIREMENTS)).hexdigest()
    made_from = VENV / "made-from"
    if made_from.exists() and made_from.read_text("ascii") == digest:
        return
    print("making bench/.venv ...", flush=True)
    venv.create(VENV, with_pip=True)
    for path in REQUIREMENTS:
        subprocess.run([PYTHON, "-m", "pip", "install", "--quiet", "-r", path], check=True)
    made_from.write_text(digest, "ascii")


if __name__ == "__main__":
    make_environment()
    environment = {**os.environ, "PYTHONPATH": str(BENCH), "PYTHONHASHSEED": "0"}
    os.execve(PYTHON, [str(PYTHON), "-m", "harness.main", *argv[1:]], environment)

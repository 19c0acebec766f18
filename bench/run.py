"""The bench: makes an environment of its own, then measures merlind and its peers in it. See README.md."""

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

BENCH = Path(__file__).resolve().parent
VENV = BENCH / ".venv"
PYTHON = VENV / "bin" / "python"


def wanted() -> list[list[str]]:
    """What pip installs: merlind's dependencies, locked if there is a lock, and then the peers'."""
    lock = BENCH.parent / "requirements.lock"
    merlind = ["--require-hashes", "-r", str(lock)] if lock.exists() else [str(BENCH.parent)]
    return [merlind, ["-r", str(BENCH / "requirements.txt")]]


def make_environment() -> None:
    """Make or renew bench/.venv, unless it was made from the same files before."""
    digest = hashlib.sha256()
    for path in (BENCH.parent / "requirements.lock", BENCH.parent / "setup.py", BENCH / "requirements.txt"):
        digest.update(path.read_bytes() if path.exists() else b"-")
    made = VENV / "made-from"
    if made.exists() and made.read_text("ascii") == digest.hexdigest():
        return
    print("making bench/.venv ...", flush=True)
    venv.create(VENV, with_pip=True)
    for what in wanted():
        subprocess.run([PYTHON, "-m", "pip", "install", "--quiet", *what], check=True)
    made.write_text(digest.hexdigest(), "ascii")


if __name__ == "__main__":
    make_environment()
    environment = {**os.environ, "PYTHONPATH": str(BENCH), "PYTHONHASHSEED": "0"}
    os.execve(PYTHON, [str(PYTHON), "-m", "harness.main", *sys.argv[1:]], environment)

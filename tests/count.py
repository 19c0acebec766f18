"""Runs a trial command and leaves its count, in the plain form that any reader of a log knows, in .tox/count."""

import re
import subprocess
import sys
from pathlib import Path

COUNT = Path(".tox/count")


def count_of(summary: str) -> str:
    """``N passed, N failed, N skipped`` from the last line of trial's output."""
    found = dict.fromkeys(("successes", "failures", "errors", "unexpectedSuccesses", "skips"), 0)
    found.update((name, int(number)) for name, number in re.findall(r"(\w+)=(\d+)", summary) if name in found)
    failed = found["failures"] + found["errors"] + found["unexpectedSuccesses"]
    return f"{found['successes']} passed, {failed} failed, {found['skips']} skipped"


def main(command: list[str]) -> int:
    """Run the command, show what it prints, and return its status."""
    last = ""
    with subprocess.Popen([sys.executable, "-m", *command], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            last = line if line.startswith(("PASSED", "FAILED")) else last
    COUNT.parent.mkdir(exist_ok=True)
    COUNT.write_text(count_of(last) + "\n")
    return process.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

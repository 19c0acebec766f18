"""Runs trial, more than once, and leaves its count, in the plain form that any reader of a log knows, in .tox/count.

python -m tests.count MODULE ARGUMENT... -- MODULE ARGUMENT...
"""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

COUNT = Path(".tox/count")


def counts_in(summary: str) -> Counter[str]:
    """What the last line of trial's output counts, by its own words."""
    return Counter({name: int(number) for name, number in re.findall(r"(\w+)=(\d+)", summary)})


def run(command: list[str]) -> tuple[int, Counter[str]]:
    """Run a module, show what it prints, and return its status and trial's counts."""
    last = ""
    with subprocess.Popen([sys.executable, "-m", *command], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            last = line if line.startswith(("PASSED", "FAILED")) else last
    return process.returncode, counts_in(last)


def main(arguments: list[str]) -> int:
    """Run all commands, whether one fails or not; the status is the worst of theirs."""
    status, counts = 0, Counter[str]()
    while arguments:
        end = arguments.index("--") if "--" in arguments else len(arguments)
        ended, counted = run(arguments[:end])
        status, counts, arguments = max(status, ended), counts + counted, arguments[end + 1 :]
    failed = counts["failures"] + counts["errors"] + counts["unexpectedSuccesses"]
    COUNT.parent.mkdir(exist_ok=True)
    COUNT.write_text(f"{counts['successes']} passed, {failed} failed, {counts['skips']} skipped\n")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Runs trial several times, and writes the total to .tox/count: "12 passed, 0 failed, 3 skipped".

python -m tests.count MODULE ARGUMENT... -- MODULE ARGUMENT...
"""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

COUNT = Path(".tox/count")


def counts_in(summary: str) -> Counter[str]:
    """Read the counts from the last line of trial's output, under trial's names for them."""
    return Counter({name: int(number) for name, number in re.findall(r"(\w+)=(\d+)", summary)})


def run(command: list[str]) -> tuple[int, Counter[str]]:
    """Run a module, pass its output on, and return its exit status and trial's counts."""
    last = ""
    with subprocess.Popen([sys.executable, "-m", *command], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            last = line if line.startswith(("PASSED", "FAILED")) else last
    return process.returncode, counts_in(last)


def main(arguments: list[str]) -> int:
    """Run all commands, even if one fails, and return the worst exit status."""
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

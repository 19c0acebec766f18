"""How merlind's cost grows: with the tasks in its database, and with its clients' connections."""

from dataclasses import replace
from pathlib import Path

from harness.asking import statuses
from harness.common import Size
from harness.processes import Kind
from harness.report import shown
from harness.working import starting

TASKS = (1000, 10_000, 100_000, 1_000_000)
CONNECTIONS = (1, 10, 100, 1000)

Series = dict[str, dict[str, dict[str, float]]]
"""Figures by series and by how many."""


async def measure(kind: Kind, work: Path, size: Size, most: int) -> Series:
    """Go up, with no more than ``most`` tasks."""
    size = replace(size, seconds=min(size.seconds, 8.0))
    found: Series = {"W2 by tasks": {}, "W5 by tasks": {}, "W2 by connections": {}}
    for tasks in (n for n in TASKS if n <= most):
        figures = await statuses(kind, work / f"status-{tasks}", tasks, 64, size)
        _note(found, "W2 by tasks", tasks, figures)
        _note(found, "W5 by tasks", tasks, await starting(kind, work / f"start-{tasks}", tasks))
    for connections in CONNECTIONS:
        figures = await statuses(kind, work / f"connections-{connections}", min(100_000, most), connections, size)
        _note(found, "W2 by connections", connections, figures)
    return found


def _note(found: Series, series: str, many: int, figures: dict[str, float]) -> None:
    found[series][str(many)] = figures
    print(f"{series} {many}: {', '.join(f'{name} {shown(value)}' for name, value in figures.items())}", flush=True)


def table(found: Series) -> str:
    """What was found, in Markdown."""
    columns = {
        "W2 by tasks": ("per_s", "first_per_s", "p99_ms", "rss_mb"),
        "W2 by connections": ("per_s", "p99_ms", "rss_mb"),
        "W5 by tasks": ("first_answer_s", "get_p99_ms", "rss_mb"),
    }
    lines = []
    for series, names in columns.items():
        lines += ["", f"| {series} | {' | '.join(names)} |", f"| ---: |{' ---: |' * len(names)}"]
        for many, figures in found[series].items():
            lines.append(f"| {int(many):,} | {' | '.join(shown(figures[name]) for name in names)} |")
    return "\n".join(lines)

"""How merlind's cost grows with the tasks in its database, and with its clients' connections."""

from dataclasses import replace
from pathlib import Path

from harness.measuring import Figures, Size
from harness.processes import Kind
from harness.report import figures_line, markdown, shown
from harness.workloads import w2, w5

TASKS = (1000, 10_000, 100_000, 1_000_000)
CONNECTIONS = (1, 10, 100, 1000)
Series = dict[str, dict[str, Figures]]  # by series, and by number of tasks or connections
COLUMNS = {
    "W2 by tasks": ("per_s", "first_per_s", "p99_ms", "rss_mb"),
    "W2 by connections": ("per_s", "p99_ms", "rss_mb"),
    "W5 by tasks": ("first_answer_s", "early_get_p99_ms", "rss_mb"),
}


async def measure(kind: Kind, work: Path, size: Size, most: int) -> Series:
    """Run W2 and W5 with ever more tasks, up to ``most``, and W2 with ever more connections."""
    size = replace(size, seconds=min(size.seconds, 8.0))
    found: Series = {series: {} for series in COLUMNS}

    def note(series: str, many: int, figures: Figures) -> None:
        found[series][str(many)] = figures
        print(f"{series} {many}: {figures_line(figures)}", flush=True)

    for tasks in (n for n in TASKS if n <= most):
        note("W2 by tasks", tasks, await w2(kind, work / f"status-{tasks}", size, tasks))
        note("W5 by tasks", tasks, await w5(kind, work / f"start-{tasks}", size, tasks))
    for many in CONNECTIONS:
        note("W2 by connections", many, await w2(kind, work / f"connections-{many}", size, min(100_000, most), many))
    return found


def tables(found: Series) -> str:
    """The series as tables in Markdown."""
    return "\n\n".join(
        markdown(
            [series, *names],
            [[f"{int(many):,}", *(shown(figures[name]) for name in names)] for many, figures in found[series].items()],
        )
        for series, names in COLUMNS.items()
    )

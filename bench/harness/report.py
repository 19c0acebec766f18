"""What is compared, what each ratio must be, and the tables of it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

PEER = "fastapi"  # the targets are ratios to it

Runs = dict[str, dict[str, list[dict[str, float]]]]  # figures by workload, kind and round


@dataclass(frozen=True)
class Figure:
    """A row of the table: a figure of a workload, and what it must be, and aims at.

    That is a ratio to the peer's figure, or, if ``absolute``, the figure itself.
    """

    workload: str
    name: str
    title: str
    must: float | None = None
    aim: float | None = None
    more_is_better: bool = False
    absolute: bool = False

    def gain(self, ratio: float) -> float:
        """How many times better a ratio is: above 1 is better, whether more or less of it is wanted."""
        return ratio if self.more_is_better else 1 / ratio if ratio else float("inf")

    def verdict(self, found: float) -> str:
        """Which of its targets a ratio or an absolute figure meets; nothing if there are none."""
        for word, target in (("aim", self.aim), ("must", self.must)):
            if target and (found <= target if self.absolute else self.gain(found) >= self.gain(target)):
                return word
        return "NOT" if self.must else ""


ROWS = (
    Figure("W1", "per_s", "100 KB photos a second", 2.5, 3.5, True),
    Figure("W1", "p99_ms", "p99, ms", 0.4, 0.3),
    Figure("W1", "cpu_ms_each", "CPU, ms each"),
    Figure("W1b", "per_s", "2 MB photos a second", 1.6, 2.0, True),
    Figure("W1b", "p99_ms", "p99, ms"),
    Figure("W1slow", "per_s", "100 KB photos a second, each flush 2 ms slower", 4.5, 6.0, True),
    Figure("W1slow", "p99_ms", "p99, ms"),
    Figure("W2", "per_s", "status requests a second", 6.0, 9.0, True),
    Figure("W2", "p99_ms", "p99, ms", 0.2, 0.1),
    Figure("W2", "first_per_s", "the first request for each task, a second", more_is_better=True),
    Figure("W3", "over_floor_s", "5,000 tasks: seconds over the floor", 0.4, 0.25),
    Figure("W3", "cpu_s", "CPU, s", 0.45, 0.3),
    Figure("W4", "cpu_us_per_poll", "10,000 waiting tasks: CPU a poll, µs", 0.55, 0.4),
    Figure("W4", "kb_per_task", "memory a task, KB", 0.5, 0.35),
    Figure("W4", "get_p99_ms", "p99 of a GET meanwhile, ms", 0.2, 0.1),
    Figure("W5", "first_answer_s", "start with 100,000 unfinished: seconds to the first response", 0.25, 0.15),
    Figure("W5", "early_get_p99_ms", "p99 of a GET in the next 5 s, ms", 0.5, 0.1),
    Figure("W6", "per_s", "photos come and go: finished a second", 2.5, 3.5, True),
    Figure("W6", "p99_ms", "p99 of a POST, ms"),
    Figure("W7", "p99_ms", "400 photos a second, open loop: p99, ms", 0.1, 0.01),
    Figure("W7", "p50_ms", "p50, ms"),
    Figure("W8", "kb_per_client", "10,000 long polls: memory of one, KB", 0.7, 0.5),
    Figure("W8", "p50_ms", "from the upstream's response to the client's: p50, ms"),
    Figure("W8", "p99_ms", "p99, ms"),
    Figure("W9", "beside_1_worst_ms", "a bystander's worst wait beside 1 client that pipelines, ms"),
    Figure("W9", "beside_16_worst_ms", "beside 16, ms"),
    Figure("W9", "beside_64_worst_ms", "beside 64, ms", 200, 50, absolute=True),
    Figure("W9", "beside_64_unread_worst_ms", "beside 64 that read nothing, ms", 200, 50, absolute=True),
    Figure("W10", "grown_mb", "memory after a million hostile requests, MB more", 20, 5, absolute=True),
)


def values(runs: Runs, kind: str, row: Figure) -> list[float]:
    """A figure of all rounds."""
    return [figures[row.name] for figures in runs.get(row.workload, {}).get(kind, []) if row.name in figures]


def shown(value: float) -> str:
    """A number with three digits or so; a dash if it is not a number."""
    if value != value:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def figures_line(figures: dict[str, float]) -> str:
    return ", ".join(f"{name} {shown(value)}" for name, value in figures.items())


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown that reads well as text too."""
    lines = [head, ["---"] * len(head), *rows]
    widths = [max(len(line[n]) for line in lines) for n in range(len(head))]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    )


def table(runs: Runs, kinds: Sequence[str]) -> str:
    """For each figure the median and range by kind, the ratio of the first kind to the peer, and its targets."""
    rows = []
    for row in ROWS:
        found = [values(runs, kind, row) for kind in kinds]
        if not any(found):
            continue
        mine, theirs = found[0], values(runs, PEER, row)
        ratio = median(mine) / median(theirs) if mine and theirs and median(theirs) else None
        unit = "" if row.absolute else "x"
        targets = [f"{target:g}{unit}" if target else "" for target in (row.must, row.aim)]
        judged = median(mine) if row.absolute and mine else None if row.absolute else ratio
        shown_ratio = "" if ratio is None else f"{ratio:.2f}x"
        verdict = "" if judged is None else row.verdict(judged)
        rows.append([row.workload, row.title, *map(_cell, found), shown_ratio, *targets, verdict])
    return markdown(["", "", *kinds, "ratio", "must", "aim", "holds"], rows)


def _cell(found: list[float]) -> str:
    if not found:
        return "-"
    middle = shown(median(found))
    return middle if len(found) == 1 else f"{middle} ({shown(min(found))}-{shown(max(found))})"


def saturation(runs: Runs) -> list[str]:
    """Warnings where the load generator or the upstream took so much of a core that they may limit the server."""
    found = []
    for workload, kinds in runs.items():
        for kind, rounds in kinds.items():
            for who in ("load", "upstream"):
                share = median([figures.get(f"{who}_cpu_share", 0.0) for figures in rounds] or [0.0])
                if share > 0.8:
                    found.append(f"{workload}, {kind}: the {who} took {share:.0%} of a core: the server may do more")
    return found

"""What is compared, what it ought to be, and the table of it."""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass

PEER = "fastapi"
"""The peer that the targets are set against."""

Runs = dict[str, dict[str, list[dict[str, float]]]]
"""Figures by workload, kind and round."""


@dataclass(frozen=True)
class Figure:
    """One row: a workload's figure, and what its ratio against the FastAPI peer must be and is to aim at."""

    workload: str
    name: str
    title: str
    must: float | None = None
    aim: float | None = None
    more_is_better: bool = False

    def gain(self, ratio: float) -> float:
        """How many times better a ratio is: above 1 is better, whether more or less of it is wanted."""
        return ratio if self.more_is_better else 1 / ratio

    def meets(self, ratio: float, target: float | None) -> bool:
        """Whether there is a target and a ratio is as good."""
        return target is not None and (ratio >= target if self.more_is_better else ratio <= target)

    def verdict(self, ratio: float) -> str:
        """The best of its targets that a ratio meets, in a word."""
        return "aim" if self.meets(ratio, self.aim) else "must" if self.meets(ratio, self.must) else "NOT"


ROWS = (
    Figure("W1", "per_s", "100 KB photos a second", 2.5, 3.5, True),
    Figure("W1", "p99_ms", "p99, ms", 0.4),
    Figure("W1", "cpu_ms_each", "CPU, ms each"),
    Figure("W1b", "per_s", "2 MB photos a second", 1.5, 2.0, True),
    Figure("W1b", "p99_ms", "p99, ms"),
    Figure("W2", "per_s", "status requests a second", 3.0, 6.0, True),
    Figure("W2", "p99_ms", "p99, ms", 0.2),
    Figure("W2", "first_per_s", "the same, each task's first", None, None, True),
    Figure("W3", "over_floor_s", "5,000 tasks: seconds over the floor", 0.5, 0.35),
    Figure("W3", "cpu_s", "CPU, s", 0.45, 0.3),
    Figure("W4", "cpu_us_per_poll", "10,000 wait: CPU a poll, µs", 0.5, 0.2),
    Figure("W4", "kb_per_task", "memory a task, KB", 0.4, 0.2),
    Figure("W4", "get_p99_ms", "p99 of a GET meanwhile, ms", 0.2, 0.2),
    Figure("W5", "first_answer_s", "start with 100,000 unfinished: seconds to the first answer", 0.15, 0.1),
    Figure("W6", "per_s", "photos come and go: finished a second", 2.0, 3.0, True),
    Figure("W6", "p99_ms", "p99 of a POST, ms"),
    Figure("W7", "p99_ms", "400 photos a second, open loop: p99, ms", 0.2, 0.1),
    Figure("W7", "p50_ms", "p50, ms"),
    Figure("W8", "kb_per_client", "10,000 held clients: memory a client, KB"),
    Figure("W8", "p50_ms", "from the upstream's answer to the client's: p50, ms"),
    Figure("W8", "p99_ms", "p99, ms"),
    Figure("W1slow", "per_s", "100 KB photos a second, each flush 2 ms slower", 4.0, 6.0, True),
    Figure("W1slow", "p99_ms", "p99, ms"),
)


def values(runs: Runs, kind: str, row: Figure) -> list[float]:
    """A figure of all rounds."""
    return [figures[row.name] for figures in runs.get(row.workload, {}).get(kind, []) if row.name in figures]


def shown(value: float) -> str:
    """A number as one reads it."""
    if value != value:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _cell(found: list[float]) -> str:
    if not found:
        return "-"
    middle = shown(statistics.median(found))
    return middle if len(found) == 1 else f"{middle} ({shown(min(found))}-{shown(max(found))})"


def ratio(runs: Runs, row: Figure, kind: str, peer: str) -> float | None:
    """The ratio of the medians, if both were measured."""
    mine, theirs = values(runs, kind, row), values(runs, peer, row)
    if not mine or not theirs or statistics.median(theirs) == 0:
        return None
    return statistics.median(mine) / statistics.median(theirs)


def table(runs: Runs, kinds: Iterable[str], peer: str) -> str:
    """Medians (min-max) by kind, merlind's ratio against the peer, and the targets beside it; in Markdown."""
    kinds = list(kinds)
    lines = [
        ["", "", *kinds, "ratio", "must", "aim", ""],
        ["---", "---", *("---:" for _ in kinds), "---:", "---:", "---:", "---"],
    ]
    for row in ROWS:
        cells = [_cell(values(runs, kind, row)) for kind in kinds]
        if all(cell == "-" for cell in cells):
            continue
        found = ratio(runs, row, kinds[0], peer)
        verdict = ""
        if found is not None and row.must is not None:
            verdict = row.verdict(found)
        targets = [f"{target:g}x" if target else "" for target in (row.must, row.aim)]
        lines.append([row.workload, row.title, *cells, "" if found is None else f"{found:.2f}x", *targets, verdict])
    widths = [max(len(line[n]) for line in lines) for n in range(len(lines[0]))]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    )


def health(runs: Runs) -> list[str]:
    """Where the load generator or the upstream took so much of a core that they may have been the bottleneck."""
    found = []
    for workload, kinds in runs.items():
        for kind, rounds in kinds.items():
            for who in ("load", "upstream"):
                shares = [figures.get(f"{who}_cpu_share", 0.0) for figures in rounds]
                if shares and (share := statistics.median(shares)) > 0.8:
                    found.append(f"{workload}, {kind}: the {who} took {share:.0%} of a core: the server may do more")
    return found

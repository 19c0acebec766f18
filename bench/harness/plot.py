"""Plots of a file of results. ``python -m harness.plot results/kept/fastapi.json`` draws the SVG beside it anew."""

import json
import sys
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from harness.report import PEER, ROWS, Figure, Runs, shown, values

# Text stays text, and the same results make the same file.
matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "bench", "font.size": 9})

MOST = 64  # where the axis of gains ends; longer bars are cut

# The charts of --scaling: title, series, what the horizontal axis counts, and the figure.
CHARTS = (
    ("status requests a second", "W2 by tasks", "tasks in the database", "per_s"),
    ("status requests a second", "W2 by connections", "connections", "per_s"),
    ("seconds from the start to the first response", "W5 by tasks", "unfinished tasks", "first_answer_s"),
    ("memory then, MB", "W5 by tasks", "unfinished tasks", "rss_mb"),
)


def draw(results: Path) -> None:
    """Draw the results in a JSON file as an SVG of the same name."""
    found = json.loads(results.read_text("utf-8"))
    canvas = curves(found["scaling"]) if "scaling" in found else gains(found["runs"])
    canvas.savefig(results.with_suffix(".svg"), metadata={"Date": None}, bbox_inches="tight")


def gains(runs: Runs) -> Canvas:
    """How many times better merlind is than the peer: for each figure a bar, the rounds' spread, and the target."""
    bars = [(row, found) for row in ROWS if (found := _gains(runs, row))]
    canvas = Canvas(figsize=(9, 1 + 0.27 * len(bars)))
    axes: Axes = canvas.subplots()
    axes.set_title(f"times better than {PEER}; black: the spread of the rounds, red: the target", fontsize=9)
    axes.set_xscale("log", base=2)
    axes.set_xlim(0.5, MOST)
    axes.set_xticks([2.0**power for power in range(-1, 7)], ["0.5", "1", "2", "4", "8", "16", "32", "64"])
    axes.set_yticks(range(len(bars)), [f"{row.workload}: {row.title}" for row, _ in bars])
    axes.invert_yaxis()
    axes.set_axisbelow(True)
    axes.grid(axis="x")
    axes.spines[:].set_visible(False)
    for y, (row, (gain, *rounds)) in enumerate(bars):
        axes.barh(y, gain - 1, left=1, height=0.65, color="#4878a8")
        axes.hlines(y, min(rounds), max(rounds), color="black")
        if row.must is not None and not row.absolute:
            axes.vlines(row.gain(row.must), y - 0.45, y + 0.45, color="#c33", linewidth=2)
        axes.annotate(f"{gain:.1f}x", (1.01, y), xycoords=("axes fraction", "data"), va="center")
    return canvas


def _gains(runs: Runs, row: Figure) -> list[float]:
    """The gain of the medians, then each round's; nothing unless both were measured."""
    mine, theirs = values(runs, "merlind", row), values(runs, PEER, row)
    if not mine or not theirs:
        return []
    pairs = [(median(mine), median(theirs)), *zip(mine, theirs, strict=False)]
    return [row.gain(ours / others) for ours, others in pairs if ours > 0 and others > 0]


def curves(scaling: dict[str, dict[str, dict[str, float]]]) -> Canvas:
    """How merlind's figures change with the number of tasks and connections."""
    canvas = Canvas(figsize=(9, 6), layout="constrained")
    charts: Any = canvas.subplots(2, 2).flat
    for axes, (title, series, counted, name) in zip(charts, CHARTS, strict=True):
        points = {int(many): figures[name] for many, figures in scaling[series].items()}
        axes.plot(list(points), list(points.values()), marker="o", color="#4878a8")
        axes.set(title=title, xlabel=counted, xscale="log", ylim=(0, 1.15 * max(points.values())))
        axes.set_xticks(list(points), [f"{many:,}" for many in points], minor=False)
        axes.minorticks_off()
        axes.margins(x=0.1)
        axes.spines[["top", "right"]].set_visible(False)
        for many, value in points.items():
            axes.annotate(shown(value), (many, value), (0, 6), textcoords="offset points", ha="center")
    return canvas


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        draw(Path(argument))

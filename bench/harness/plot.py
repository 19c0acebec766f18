"""The plots, as SVG made by hand: merlind against the FastAPI peer, and how its cost grows."""

import math
from collections.abc import Iterable, Sequence
from html import escape

from harness.report import ROWS, Figure, Runs, ratio, values

LEFT, WIDTH, STEP = 410, 380, 24
LEAST, MOST = 0.5, 64.0
_STYLE = (
    "<style>text{font:12px sans-serif;fill:#333}.a{text-anchor:end}.m{text-anchor:middle}"
    ".b{fill:#4878a8}.g{stroke:#ccc}.w{stroke:#222;stroke-width:1.5}.t{stroke:#c33;stroke-width:2}"
    "polyline{fill:none;stroke:#4878a8;stroke-width:2}circle{fill:#4878a8}</style>"
)


def _svg(width: float, height: float, parts: Iterable[str]) -> str:
    background = f'<rect width="{width:g}" height="{height:g}" fill="#fff"/>'
    start = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img">'
    return "\n".join([start, _STYLE, background, *parts, "</svg>"]) + "\n"


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" class="{kind}">{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def _x(gain: float) -> float:
    """Where a gain lies: a logarithmic scale, cut at its ends."""
    cut = min(MOST, max(LEAST, gain))
    return LEFT + WIDTH * math.log2(cut / LEAST) / math.log2(MOST / LEAST)


def _gain(row: Figure, factor: float) -> float:
    return factor if row.more_is_better else 1 / factor


def _by_round(runs: Runs, row: Figure, kind: str, peer: str) -> list[float]:
    pairs = zip(values(runs, kind, row), values(runs, peer, row), strict=False)
    return [_gain(row, mine / theirs) for mine, theirs in pairs if mine > 0 and theirs > 0]


def gains(runs: Runs, kind: str, peer: str) -> str:
    """How many times better merlind is than the peer: a bar for each figure, its spread, a tick for what it must be."""
    parts = [_text(LEFT, 18, f"times better than {peer}; black: the spread of the rounds, red: the target")]
    y = 34.0
    for row in ROWS:
        found = ratio(runs, row, kind, peer)
        if not found or found <= 0:
            continue
        x = _x(_gain(row, found))
        parts.append(_text(LEFT - 8, y + 13, f"{row.workload}: {row.title}", "a"))
        left = min(x, _x(1))
        parts.append(f'<rect x="{left:.1f}" y="{y:.0f}" width="{abs(x - _x(1)):.1f}" height="16" class="b"/>')
        rounds = _by_round(runs, row, kind, peer)
        if len(rounds) > 1:
            parts.append(_line(_x(min(rounds)), y + 8, _x(max(rounds)), y + 8, "w"))
        if row.must:
            parts.append(_line(_x(_gain(row, row.must)), y - 2, _x(_gain(row, row.must)), y + 18, "t"))
        parts.append(_text(LEFT + WIDTH + 8, y + 13, f"{_gain(row, found):.1f}x"))
        y += STEP
    grid = []
    for power in range(int(math.log2(LEAST)), int(math.log2(MOST)) + 1):
        grid.append(_line(_x(2.0**power), 26, _x(2.0**power), y, "g"))
        grid.append(_text(_x(2.0**power), y + 14, f"{2.0**power:g}", "m"))
    return _svg(LEFT + WIDTH + 60, y + 24, [*grid, *parts])


def curves(charts: Sequence[tuple[str, str, list[tuple[float, float]]]]) -> str:
    """Small charts side by side: of each its title, what its horizontal axis counts, and its points."""
    width, height, gap = 300, 190, 70
    parts: list[str] = []
    for number, (title, counted, points) in enumerate(charts):
        left, top = 60 + number % 2 * (width + gap), 40 + number // 2 * (height + gap)
        most = 1.15 * max(y for _, y in points) or 1.0  # room for the highest label
        first, last = math.log10(points[0][0]), math.log10(points[-1][0])
        spots = [
            (left + width * (math.log10(x) - first) / ((last - first) or 1), top + height * (1 - y / most))
            for x, y in points
        ]
        parts += [_text(left, top - 12, title), _text(left + width / 2, top + height + 34, counted, "m")]
        parts += [_line(left, top + height, left + width, top + height, "g"), _line(left, top, left, top + height, "g")]
        parts.append(f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in spots)}"/>')
        for (x, y), (n, value) in zip(spots, points, strict=True):
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3"/>')
            parts.append(_text(x, y - 7, f"{value:,.0f}" if value >= 100 else f"{value:.3g}", "m"))
            parts.append(_text(x, top + height + 16, f"{n:,.0f}", "m"))
    rows = (len(charts) + 1) // 2
    return _svg(60 + 2 * (width + gap), 40 + rows * (height + gap), parts)

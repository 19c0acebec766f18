"""The last hour as four small charts, drawn here as SVG, and the same minutes as a table."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.web.template import Tag, tags

from merlind.admin.page.markup import region, scrolling
from merlind.admin.page.words import NONE, counted, duration, minute, number, optional_duration
from merlind.core.hour import MINUTES, Minute, sum_up

Minutes = Sequence[tuple[float, Minute]]
"""The minutes, the oldest first, each with the time (epoch) at which it began."""

Values = Sequence[float | None]

_HEIGHT = 100.0
"""The height of a chart in its own units; its width is a minute each."""

_LOWEST_BAR = 3.0
"""The least height of a bar, so that a single failure among many scores is seen."""

_HEADINGS = (
    "From (UTC)",
    "Scored",
    "Failed",
    "Requests",
    "Request p50",
    "Request p95",
    "To score p50",
    "To score p95",
    "Unfinished",
)


@dataclass(frozen=True, slots=True)
class Series:
    """One kind of value, minute by minute; ``kind`` says how it looks."""

    kind: str
    name: str
    values: Values


def hour_section(minutes: Minutes) -> Tag:
    """Return the part of the page on the last hour."""
    each = [minute for _, minute in minutes]
    whole = sum_up(each)

    def percentiles(of: str) -> list[Series]:
        found = [getattr(minute, of) for minute in each]
        return [Series(f"p{share}", f"p{share}", [one.percentile(share / 100) for one in found]) for share in (95, 50)]

    charts = (
        _chart(
            "Outcomes a minute",
            f"{number(whole.scored)} scored, {number(whole.failed)} failed",
            _stacked(
                Series("failed", "failed", [minute.failed for minute in each]),
                Series("scored", "scored", [minute.scored for minute in each]),
            ),
            _count,
            bars,
        ),
        _chart("Requests to the upstream", _said(whole.requests.count, "request", whole.requests.percentile),
               percentiles("requests"), duration, steps),
        _chart("From 202 to score", _said(whole.waits.count, "score", whole.waits.percentile),
               percentiles("waits"), duration, steps),
        _chart(
            "Unfinished tasks",
            f"{number(whole.unfinished)} now",
            [Series("unfinished", "at the end of each minute", [minute.unfinished for minute in each])],
            _count,
            steps,
        ),
    )  # fmt: skip
    return region("hour", tags.div(*charts, class_="charts"), _table(minutes), heading="The last hour")


def _said(count: int, what: str, percentile: Callable[[float], float | None]) -> str:
    if not count:
        return "none"
    middle, high = optional_duration(percentile(0.5)), optional_duration(percentile(0.95))
    return f"{counted(count, what, what + 's')}: p50 {middle}, p95 {high}"


def _count(value: float) -> str:
    return number(round(value))


def _stacked(lower: Series, upper: Series) -> list[Series]:
    """Return both with the upper one's values on top of the lower one's; the upper one is drawn first."""
    on_top = [(below or 0) + (above or 0) for below, above in zip(lower.values, upper.values, strict=True)]
    return [Series(upper.kind, upper.name, on_top), lower]


def _chart(
    title: str,
    said: str,
    series: Sequence[Series],
    write: Callable[[float], str],
    draw: Callable[[Values, float], str],
) -> Tag:
    """Draw one chart; ``said`` tells it in words, and ``write`` makes a text of a value."""
    top = nice_top(max((value for one in series for value in one.values if value is not None), default=0.0))
    drawn: list[Any] = [Tag("path", {"class": one.kind, "d": draw(one.values, top)}) for one in series]
    plot = Tag(
        "svg",
        {
            "viewBox": f"0 0 {MINUTES} {_HEIGHT:.0f}",
            "preserveAspectRatio": "none",
            "role": "img",
            "aria-label": f"{title} in the last hour: {said}",
        },
        drawn,
    )
    legend = [tags.span(one.name, class_=f"key {one.kind}") for one in reversed(series)]
    return tags.figure(
        tags.figcaption(tags.h3(title), tags.p(said)),
        tags.div(tags.span(write(top), class_="top"), plot, class_="plot"),
        tags.div(tags.span("an hour ago"), tags.span(*legend), tags.span("now"), class_="below"),
    )


def nice_top(highest: float) -> float:
    """Return a round number (1, 2 or 5 times a power of ten) that is as high, to end a scale with; 1 for nothing."""
    if highest <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(highest))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= highest * 0.999999)


def bars(values: Values, top: float) -> str:
    """Return a path of one bar for each minute that has a value, the newest at the right."""
    heights = ((x, max(_LOWEST_BAR, _HEIGHT - y)) for x, y in _points(values, top) if y < _HEIGHT)
    return "".join(f"M{x + 0.1:.1f} {_HEIGHT:.0f}v-{height:.1f}h.8v{height:.1f}z" for x, height in heights)


def steps(values: Values, top: float) -> str:
    """Return a path of a level line for each minute; neighbours are joined, and where there is no value is a gap."""
    path, before = "", -2
    for x, y in _points(values, top):
        path += f"V{y:.1f}H{x + 1}" if x == before + 1 else f"M{x} {y:.1f}H{x + 1}"
        before = x
    return path


def _points(values: Values, top: float) -> Iterator[tuple[int, float]]:
    first = MINUTES - len(values)
    for index, value in enumerate(values):
        if value is not None:
            yield first + index, _HEIGHT * (1 - value / top)


def _table(minutes: Minutes) -> Tag:
    rows = [_row(began, each) for began, each in reversed(minutes)]
    return tags.details(
        tags.summary("The same as a table"),
        tags.p(
            "Minute by minute, the newest first. p50 and p95: half of them, and 95 of 100, took no longer; "
            "within 5 % of the true value.",
            class_="hint",
        ),
        scrolling(
            tags.table(tags.thead(tags.tr(*[tags.th(text, scope="col") for text in _HEADINGS])), tags.tbody(*rows)),
            label="The last hour, minute by minute",
        ),
    )


def _row(began: float, each: Minute) -> Tag:
    cells = [number(count) for count in (each.scored, each.failed, each.requests.count)]
    for durations in (each.requests, each.waits):
        cells += [optional_duration(durations.percentile(share)) for share in (0.5, 0.95)]
    cells.append(number(each.unfinished))
    shown = [NONE if cell == "0" else cell for cell in cells]
    return tags.tr(tags.th(minute(began), scope="row"), *[tags.td(cell) for cell in shown])

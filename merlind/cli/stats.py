"""``merlinctl stats``: whether all is well, and the figures that say why."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.task import deferLater

from merlind.cli.admin import Admin, Health
from merlind.cli.durations import say
from merlind.cli.exits import Exit
from merlind.cli.http import TryLater, Unreachable
from merlind.cli.operations import size_of
from merlind.cli.output import Table, Values, jsonl, rich_table, show

if TYPE_CHECKING:
    from rich.console import RenderableType

Say = Callable[[float], str]


def _number(value: float) -> str:
    return f"{value:.0f}"


FIGURES: Sequence[tuple[str, str, str, Say]] = (
    ("tasks_upload", "tasks to be uploaded", 'merlind_tasks{state="upload"}', _number),
    ("tasks_poll", "tasks at the upstream", 'merlind_tasks{state="poll"}', _number),
    ("tasks_ready", "tasks scored", 'merlind_tasks{state="ready"}', _number),
    ("tasks_failed", "tasks failed", 'merlind_tasks{state="failed"}', _number),
    ("tasks_due", "tasks due, and waiting", "merlind_tasks_due", _number),
    ("suspects", "tasks that keep failing", "merlind_suspects", _number),
    ("oldest_seconds", "oldest unfinished task", "merlind_oldest_unfinished_seconds", say),
    ("in_flight", "upstream requests in flight", "merlind_upstream_in_flight", _number),
    ("limit", "upstream requests at most", "merlind_upstream_limit", _number),
    ("photo_bytes", "photos kept", "merlind_spool_bytes", size_of),
    ("connections", "clients connected", "merlind_connections", _number),
    ("long_polls", "clients that wait", "merlind_long_polls", _number),
    ("uploads", "uploads coming in", "merlind_active_uploads", _number),
)
"""Name, text, metric, and how its value is said. A merlind that hasn't the metric leaves it out."""


@dataclass(frozen=True, slots=True)
class Stats:
    """What one look has found."""

    ready: Health
    working: Health
    metrics: dict[str, float]

    @property
    def well(self) -> bool:
        return self.ready.well and self.working.well


async def look(admin: Admin) -> Stats:
    """Ask for health and metrics."""
    ready, working = await admin.health("ready"), await admin.health("working")
    return Stats(ready, working, read_metrics(await admin.metrics()))


def read_metrics(text: str) -> dict[str, float]:
    """Return the metrics by ``name{label="value"}``. Raises ValueError for what is none."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def to_values(stats: Stats) -> Values:
    """Return what a program reads."""
    return {
        "ready": stats.ready.well,
        "working": stats.working.well,
        "reasons": reasons(stats),
        "notes": stats.working.notes,
        **{name: _plain(stats.metrics[metric]) for name, _, metric, _ in FIGURES if metric in stats.metrics},
    }


def _plain(value: float) -> float:
    """Return a whole number as one: JSON then has no ``.0``."""
    return int(value) if value.is_integer() else round(value, 3)


def reasons(stats: Stats) -> list[str]:
    """Return why not all is well, each reason once."""
    return list(dict.fromkeys([*stats.ready.reasons, *stats.working.reasons]))


def to_table(stats: Stats) -> Table:
    """Return what people read."""
    rows = [
        ("takes photos", "yes" if stats.ready.well else "NO"),
        ("tasks get on", "yes" if stats.working.well else "NO"),
        *(("why not", reason) for reason in reasons(stats)),
        *(("note", note) for note in stats.working.notes),
        *((text, say(stats.metrics[metric])) for _, text, metric, say in FIGURES if metric in stats.metrics),
    ]
    return Table(("merlind", ""), rows, fixed=("merlind",))


async def show_once(admin: Admin, format: str | None) -> Exit:
    """Show how merlind does; the status tells whether all is well."""
    stats = await look(admin)
    show(format, [to_values(stats)], to_values(stats), to_table(stats))
    return Exit.OK if stats.well else Exit.FAILED


async def watch(reactor: Any, admin: Admin, every: float) -> Exit:
    """Show how merlind does again and again, in place, on a terminal."""
    from rich.live import Live

    with Live(auto_refresh=False) as live:
        while True:
            live.update(await _picture(admin), refresh=True)
            await deferLater(reactor, every)


async def _picture(admin: Admin) -> "RenderableType":
    try:
        table = to_table(await look(admin))
    except (Unreachable, TryLater) as error:
        # It may just be starting anew: go on looking.
        table = Table(("merlind", ""), [("why not", str(error))])
    return rich_table(replace(table, header=("merlind", f"at {datetime.now():%H:%M:%S}")))


async def print_again_and_again(reactor: Any, admin: Admin, every: float) -> Exit:
    """Print a line of JSON again and again."""
    while True:
        click.echo(jsonl([to_values(await look(admin))]), nl=False)
        await deferLater(reactor, every)

"""What the commands for photos and tasks do, once the command line is read."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from merlind.cli.client import Client
from merlind.cli.exits import Exit, status_of
from merlind.cli.jobs import Job
from merlind.cli.journal import Journal
from merlind.cli.output import Table, show
from merlind.cli.progress import progress
from merlind.cli.record import COLUMNS, Record, Stage, to_dict
from merlind.cli.sender import STAGES, Sender

BAR = 10
"""How many characters the bar of a score has."""

Show = Callable[[Sequence[Record]], None]
"""Prints records."""


async def send_all(
    reactor: Any,
    client: Client,
    jobs: Sequence[Job],
    journal: Path | None,
    uploads: int,
    wait: bool,
    timeout: float | None,
    with_progress: bool,
    show_records: Show,
) -> Exit:
    """Send all photos, wait for the scores, and show them."""
    deadline = None if timeout is None else reactor.seconds() + timeout
    with progress(len(jobs), with_progress, reactor.seconds) as report:
        sender = Sender(reactor, client, Journal(journal), uploads, wait, deadline, report)
        records = await sender.run(jobs)
    show_records(records)
    status = status_of(records)
    return Exit.OK if status is Exit.UNFINISHED and not wait and all(record.task for record in records) else status


async def status_of_tasks(client: Client, tasks: Sequence[int], show_records: Show) -> Exit:
    """Show how tasks stand."""
    records = []
    for task in tasks:
        status = await client.status(task)
        stage = STAGES.get(status.word, Stage.GONE)
        records.append(Record("", "", "", task, stage, status.result, status.error))
    show_records(records)
    return status_of(records)


async def erase_tasks(client: Client, tasks: Sequence[int]) -> Exit:
    """Erase tasks, and say which are not known."""
    unknown = [task for task in tasks if not await client.erase(task)]
    for task in unknown:
        click.echo(f"merlinctl: there is no task {task}", err=True)
    return Exit.FAILED if unknown else Exit.OK


def print_records(format: str | None, records: Sequence[Record]) -> None:
    """Print records in a format, by default as a table on a terminal, and as lines of JSON elsewhere."""
    show(format, list(map(to_dict, records)), COLUMNS, to_table(records))


def to_table(records: Sequence[Record]) -> Table:
    """Return a table for people: photo, name, and the score or why there is none."""
    rows = [(record.photo, record.name, _outcome(record)) for record in records]
    return Table(("photo", "name", "score"), rows)


def _outcome(record: Record) -> str:
    if record.result is not None:
        return f"{record.result:.2f} {_bar(record.result)}".rstrip()
    return f"{record.stage}: {record.error}" if record.error else str(record.stage)


def _bar(score: float) -> str:
    return "█" * round(score * BAR) + "░" * (BAR - round(score * BAR)) if 0 <= score <= 1 else ""

"""Progress on the standard error: a bar on a terminal, plain lines elsewhere."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TextIO

from merlind.cli.record import FINISHED, Record, Stage

PLAIN_EVERY = 5.0
"""Seconds between two plain lines."""


Report = Callable[[Record], None]
"""Is told of each record that changed."""


class Tally:
    """Counts records by their stage. Each photo and name counts once, however often it changes."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._stages: dict[tuple[str, str, str], Stage] = {}

    def add(self, record: Record) -> None:
        """Take the newest state of a record."""
        self._stages[(record.photo, *record.key)] = record.stage

    @property
    def finished(self) -> int:
        return sum(stage in FINISHED for stage in self._stages.values())

    def __str__(self) -> str:
        counts = Counter(self._stages.values())
        failed = counts[Stage.FAILED] + counts[Stage.REFUSED]
        parts = [f"{counts[Stage.READY]} of {self.total} scored", f"{counts[Stage.WAITING]} waiting"]
        return ", ".join([*parts, f"{failed} failed"] if failed else parts)


@contextmanager
def plain_lines(total: int, seconds: Callable[[], float], stream: TextIO) -> Iterator[Report]:
    """Say how far it is every few seconds, and at the end. ``seconds`` is the time."""
    tally, said_at = Tally(total), seconds()

    def report(record: Record) -> None:
        nonlocal said_at
        tally.add(record)
        if seconds() >= said_at + PLAIN_EVERY:
            said_at = seconds()
            print(tally, file=stream, flush=True)

    try:
        yield report
    finally:
        print(tally, file=stream, flush=True)


@contextmanager
def bar(total: int) -> Iterator[Report]:
    """Show a bar of rich's, which hears NO_COLOR. Raises ImportError without rich."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    tally = Tally(total)
    columns = BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True)) as shown:
        row = shown.add_task(str(tally), total=total)

        def report(record: Record) -> None:
            tally.add(record)
            shown.update(row, completed=tally.finished, description=str(tally))

        yield report


@contextmanager
def progress(total: int, wanted: bool, seconds: Callable[[], float]) -> Iterator[Report]:
    """Show progress on the standard error, unless it isn't wanted."""
    if not wanted:
        yield lambda record: None
        return
    with bar(total) if sys.stderr.isatty() and find_spec("rich") else plain_lines(total, seconds, sys.stderr) as report:
        yield report

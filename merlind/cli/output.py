"""What commands print: a table for people, lines of JSON or CSV for programs."""

import csv
import io
import json
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.table import Table as RichTable

Values = Mapping[str, Any]
"""What is printed of one thing, by name."""

_WIDE = 10_000
"""The width, in characters, of a table that goes into a file or a pipe: nothing in it is broken."""

_NARROW = 20
"""How wide a column whose cells may be broken should be, in characters."""

_GAP = 2

STYLES = {"ready": "green", "failed": "red"}
"""How words of a table look on a terminal with colours."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table for people.

    ``fixed`` are the columns whose cells are never broken into lines, such as numbers that are copied. ``spare`` are
    those to leave out where there is no room, the first one first.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    fixed: Sequence[str] = ()
    spare: Sequence[str] = ()


def show(format: str | None, values: Sequence[Values], columns: Iterable[str], table: Table) -> None:
    """Print values in a format: by default as a table on a terminal, and as lines of JSON elsewhere."""
    match format or ("table" if sys.stdout.isatty() else "jsonl"):
        case "csv":
            click.echo(as_csv(values, columns), nl=False)
        case "jsonl":
            click.echo(jsonl(values), nl=False)
        case _:
            show_table(table)


def jsonl(values: Iterable[Values]) -> str:
    """Return one line of JSON for each."""
    return "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in values)


def as_csv(values: Iterable[Values], columns: Iterable[str]) -> str:
    """Return a table in CSV, with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(values)
    return text.getvalue()


def show_table(table: Table) -> None:
    """Print a table, as wide as the terminal if it is one."""
    from rich.console import Console

    if sys.stdout.isatty():
        console = Console()
        console.print(rich_table(fitted(table, console.width)))
    else:
        click.echo(as_text(table), nl=False)


def as_text(table: Table) -> str:
    """Return a table as lines of any length."""
    from rich.console import Console

    console = Console(file=io.StringIO(), width=_WIDE, color_system=None)
    with console.capture() as captured:
        console.print(rich_table(table))
    return "".join(line.rstrip() + "\n" for line in captured.get().splitlines())


def fitted(table: Table, width: int) -> Table:
    """Return a table without as many of its spare columns as don't fit into a width."""
    for spare in table.spare:
        if _room(table) <= width:
            break
        place = table.header.index(spare)
        header, *rows = [[*row[:place], *row[place + 1 :]] for row in (table.header, *table.rows)]
        table = replace(table, header=header, rows=rows)
    return table


def _room(table: Table) -> int:
    from rich.cells import cell_len

    room = -_GAP
    for column in zip(table.header, *table.rows, strict=True):
        widest: int = max(map(cell_len, column))
        room += _GAP + (widest if column[0] in table.fixed else min(widest, _NARROW))
    return room


def rich_table(table: Table) -> "RichTable":
    """Return a table for rich to print."""
    from rich.table import Table as RichTable
    from rich.text import Text

    made = RichTable(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    for name in table.header:
        made.add_column(name, no_wrap=name in table.fixed, overflow="fold")
    for row in table.rows:
        # A Text, or rich would take brackets in it for markup.
        made.add_row(*(Text(printable(cell), style=STYLES.get(cell, "")) for cell in row))
    return made


def printable(text: str) -> str:
    """Return a text without what a terminal would obey: control and format characters become ``?``."""
    return "".join("?" if unicodedata.category(char).startswith("C") else char for char in text)

"""Records as a table, as lines of JSON, or as CSV."""

import csv
import io
import unicodedata
from collections.abc import Callable, Iterable, Sequence

from merlind.cli.record import COLUMNS, Record, to_dict, to_line

BAR = 10
"""How many characters the bar of a score has."""


def jsonl(records: Iterable[Record]) -> str:
    """Return one line of JSON for each record."""
    return "".join(map(to_line, records))


def as_csv(records: Iterable[Record]) -> str:
    """Return a table in CSV, with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(map(to_dict, records))
    return text.getvalue()


def table(records: Iterable[Record]) -> str:
    """Return a table for people: photo, name, and the score or why there is none."""
    return columns([(record.photo, record.name, _outcome(record)) for record in records], ("photo", "name", "score"))


FORMATS: dict[str, Callable[[Iterable[Record]], str]] = {"table": table, "jsonl": jsonl, "csv": as_csv}


def _outcome(record: Record) -> str:
    if record.result is not None:
        return f"{record.result:.2f} {_bar(record.result)}".rstrip()
    return f"{record.stage}: {record.error}" if record.error else str(record.stage)


def _bar(score: float) -> str:
    return "█" * round(score * BAR) + "░" * (BAR - round(score * BAR)) if 0 <= score <= 1 else ""


def columns(rows: Sequence[Sequence[str]], header: Sequence[str]) -> str:
    """Return rows aligned below a header, each column as wide as its widest cell."""
    cells = [[printable(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(_width, column)) for column in zip(*cells, strict=True)]
    lines = ("  ".join(_padded(cell, width) for cell, width in zip(row, widths, strict=True)) for row in cells)
    return "".join(line.rstrip() + "\n" for line in lines)


def printable(text: str) -> str:
    """Return a text without what a terminal would obey: control and format characters become ``?``."""
    return "".join("?" if unicodedata.category(char).startswith("C") else char for char in text)


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _width(text))


def _width(text: str) -> int:
    """Return how many places a terminal needs for a text."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )

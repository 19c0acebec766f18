"""Reads national statistics of first names as the offices publish them (docs/scorer.md, "Names of one's own country").

A file may be text, a workbook, or a zip of either; SSA's yob files may also lie in a folder. What it is is told by its
content. Text is read line by line, so a file needs no more memory than its names do.
"""

import csv
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from zipfile import ZipFile

from merlind.merlinface.scorer.archive import MAGIC, Damaged, member_lines, open_archive
from merlind.merlinface.scorer.births import Table, Tally
from merlind.merlinface.scorer.columns import SSA_LAYOUT, Context, Layout, Rows, Source, context_of, is_ssa, layout_of
from merlind.merlinface.scorer.encoding import BadLine, decoded, raw_lines
from merlind.merlinface.scorer.workbook import Workbook, is_workbook

HEADER_WITHIN = 40
"""So many lines may come before the header: offices put titles and notes there."""

_SEPARATORS = ";\t,|"
_YOB = re.compile(r"yob\d{4}\.txt", re.IGNORECASE)
_NO_HEADER = (
    "no header that is understood in the first lines: name,sex,year,count is, "
    "and those of INSEE, NRS and ONS (docs/scorer.md)"
)
_NOT_TEXT = (
    (b"<", "this is a web page, no data: was the download refused?"),
    (b"version https://git-lfs", "this is a pointer of Git LFS, no data: get the file that it stands for"),
    (b"%PDF", "this is a PDF: get the data as CSV, or as a workbook (.xlsx)"),
    (b"\xd0\xcf\x11\xe0", "this is a workbook of the old kind (.xls): save it as .xlsx or CSV"),
    (b"\x1f\x8b", "this is compressed by gzip: decompress it"),
)
"""How files begin that aren't what they were taken for."""


class NationalFileError(Exception):
    """A file of names that can't be read: where, in which line (from 1; None if in none), and the likely cause."""

    def __init__(self, file: str, line: int | None, cause: str) -> None:
        super().__init__(file, line, cause)
        self.file = file
        self.line = line
        self.cause = cause

    def __str__(self) -> str:
        return f"{self.file}{'' if self.line is None else f', line {self.line}'}: {self.cause}"


def report(tables: Iterable[Table], known: int) -> str:
    """Return the line that tells what was read, and how many names are known with it."""
    return f"names: {'; '.join(map(str, tables))}; now {known:,} names known"


def read(path: str | Path) -> Table:
    """Read a file, or a folder of SSA's files. Raises NationalFileError if anything in it isn't understood."""
    path = Path(path)
    reader = _Reader()
    try:
        reader.read(path)
    except OSError as error:
        raise NationalFileError(str(path), None, error.strerror or str(error)) from None
    except Damaged as damage:
        raise NationalFileError(str(path), None, str(damage)) from None
    return reader.table(path)


class _Reader:
    """Adds up what is in one path, which may hold several tables."""

    def __init__(self) -> None:
        self._tally = Tally()
        self._source = Source.PLAIN
        self._keys: dict[str, str] = {}

    def read(self, path: Path) -> None:
        if path.is_dir():
            self._read_folder(path)
            return
        with path.open("rb") as stream:
            if stream.read(len(MAGIC)) != MAGIC:
                stream.seek(0)
                self._read_text(str(path), raw_lines(stream), context_of(path.name))
                return
        with open_archive(path) as archive:
            if is_workbook(archive):
                self._read_workbook(str(path), archive, context_of(path.name))
            else:
                self._read_archive(str(path), archive, context_of(path.name))

    def table(self, path: Path) -> Table:
        tally = self._tally
        if tally.first_year is None or tally.last_year is None:
            raise NationalFileError(str(path), None, "no births of a known year are in it")
        return Table(path.name, self._source.value, tally.by_name(), tally.total(), tally.first_year, tally.last_year)

    def _read_folder(self, folder: Path) -> None:
        files = sorted(file for file in folder.iterdir() if _YOB.fullmatch(file.name))
        if not files:
            raise NationalFileError(str(folder), None, "a folder without SSA's files (yob1990.txt); name a file")
        for file in files:
            with file.open("rb") as stream:
                self._read_text(str(file), raw_lines(stream), context_of(file.name))

    def _read_archive(self, file: str, archive: ZipFile, context: Context) -> None:
        """Read all of SSA's files, or else the largest text: NRS puts one about the data beside the data."""
        members = [member for member in archive.infolist() if not member.is_dir()]
        names = sorted(member.filename for member in members if _YOB.fullmatch(Path(member.filename).name))
        if not names:
            texts = [m for m in members if m.filename.lower().endswith((".csv", ".txt", ".tsv"))]
            if not texts:
                raise NationalFileError(file, None, "an archive without yob1990.txt and the like, .csv or .txt")
            names = [max(texts, key=lambda member: (member.file_size, member.filename)).filename]
        for name in names:
            told = context_of(Path(name).name).or_else(context)
            self._read_text(f"{file}: {name}", member_lines(archive, name), told)

    def _read_workbook(self, file: str, archive: ZipFile, context: Context) -> None:
        """Read the sheets that have births by year; others are notes, or repeat parts of them."""
        workbook = Workbook(archive)
        found = False
        for sheet in workbook.sheets:
            where = f"{file}, sheet {sheet.name}"
            found |= self._read_sheet(where, workbook.rows(sheet), context_of(sheet.name).or_else(context))
        if not found:
            raise NationalFileError(file, None, f"no sheet with births by year: {_NO_HEADER}")

    def _read_sheet(self, where: str, numbered: Iterator[tuple[int, list[str]]], context: Context) -> bool:
        """Read a sheet, and tell whether it has births by year."""
        titles = Context()
        rows: Rows | None = None
        number = 0
        try:
            for row in numbered:
                number, cells = row
                if rows is not None:
                    self._add(rows, cells)
                elif (layout := layout_of(cells)) is not None:
                    if not layout.tells_years:
                        return False
                    rows = self._rows(layout, titles.or_else(context))
                else:
                    titles = titles.or_else(context_of(" ".join(cells)))
        except ValueError as error:
            raise NationalFileError(where, number, str(error)) from None
        return rows is not None

    def _read_text(self, where: str, lines: Iterator[bytes], context: Context) -> None:
        first = next(lines, b"")
        for magic, cause in _NOT_TEXT:
            if first.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(magic):
                raise NationalFileError(where, 1, cause)
        titles = Context()
        rows: Rows | None = None
        separator = ","
        number = 0
        try:
            for number, line in enumerate(decoded(chain((first,), lines)), 1):
                if rows is not None:
                    if line and not line.isspace():
                        self._add(rows, _cells(line, separator))
                elif number == 1 and is_ssa(line):
                    rows = self._rows(SSA_LAYOUT, context)
                    self._add(rows, _cells(line, separator))
                elif (header := _header(line)) is not None:
                    layout, separator = header
                    rows = self._rows(layout, titles.or_else(context))
                elif number == HEADER_WITHIN:
                    break
                else:
                    titles = titles.or_else(context_of(line))
        except BadLine as bad:
            raise NationalFileError(where, bad.line, bad.cause) from None
        except ValueError as error:
            raise NationalFileError(where, number, str(error)) from None
        if rows is None:
            raise NationalFileError(where, max(number, 1), _NO_HEADER if first else "the file is empty")

    def _rows(self, layout: Layout, context: Context) -> Rows:
        self._source = layout.source
        return Rows(layout, context, self._keys)

    def _add(self, rows: Rows, cells: list[str]) -> None:
        for key, female, year, count in rows.read(cells):
            self._tally.add(key, female, year, count)


def _header(line: str) -> tuple[Layout, str] | None:
    """Return the layout and separator if a line is a header."""
    for separator in _SEPARATORS:
        if separator in line:
            try:
                cells = _cells(line, separator)
            except ValueError:
                continue  # a title may have quotes that aren't those of a table
            if (layout := layout_of(cells)) is not None:
                return layout, separator
    return None


def _cells(line: str, separator: str) -> list[str]:
    if '"' not in line:
        return line.split(separator)
    try:
        return next(csv.reader((line,), delimiter=separator, strict=True))
    except csv.Error as error:
        raise ValueError(f"its quotes aren't those of a table ({error})") from None

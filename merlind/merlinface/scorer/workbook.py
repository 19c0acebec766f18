"""Reads the cells of a workbook (.xlsx, ECMA-376): ONS publishes its tables as such."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO
from xml.etree.ElementTree import Element, iterparse
from zipfile import ZipFile

from merlind.merlinface.scorer.archive import Damaged, undamaged

_WORKBOOK = "xl/workbook.xml"
_MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_ID = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"
_REFERENCE = re.compile(r"([A-Z]{1,3})\d{1,7}")
_MAX_COLUMNS = 16_384


@dataclass(frozen=True, slots=True)
class Sheet:
    """A sheet of a workbook: its name, and the archive's file with its cells."""

    name: str
    member: str


def is_workbook(archive: ZipFile) -> bool:
    """Tell whether an archive is a workbook."""
    return _WORKBOOK in archive.namelist()


class Workbook:
    """An open workbook. Raises Damaged wherever it can't be read."""

    def __init__(self, archive: ZipFile) -> None:
        self._archive = archive
        with undamaged():
            self._strings = self._shared_strings()
            targets = {
                element.get("Id"): element.get("Target", "")
                for element in self._elements("xl/_rels/workbook.xml.rels")
                if element.tag.endswith("}Relationship")
            }
            self.sheets = [
                Sheet(element.get("name", ""), _member(targets[element.get(_ID)]))
                for element in self._elements(_WORKBOOK)
                if element.tag == _MAIN + "sheet"
            ]

    def rows(self, sheet: Sheet) -> Iterator[tuple[int, list[str]]]:
        """Yield the rows of a sheet that have cells: their number, from 1, and their cells as text."""
        with undamaged():
            number = 0
            for element in self._elements(sheet.member, _MAIN + "row"):
                if element.tag == _MAIN + "row":
                    number = int(element.get("r", number + 1))
                    yield number, self._cells(element)

    def _elements(self, member: str, dropped: str = "") -> Iterator[Element]:
        """Yield each element at its end. What is in one with the tag ``dropped`` is forgotten then."""
        with self._archive.open(member) as stream:
            yield from _ended(stream, dropped)

    def _shared_strings(self) -> list[str]:
        member = "xl/sharedStrings.xml"
        if member not in self._archive.namelist():
            return []
        tag = _MAIN + "si"
        return [_text(element) for element in self._elements(member, tag) if element.tag == tag]

    def _cells(self, row: Element) -> list[str]:
        cells: list[str] = []
        for cell in row.iter(_MAIN + "c"):
            column = _column(cell.get("r"), len(cells))
            cells.extend([""] * (column - len(cells)))
            cells.append(self._value(cell))
        return cells

    def _value(self, cell: Element) -> str:
        kind = cell.get("t", "n")
        if kind == "inlineStr":
            inline = cell.find(_MAIN + "is")
            return "" if inline is None else _text(inline)
        value = cell.findtext(_MAIN + "v") or ""
        if kind == "s":
            return self._strings[int(value)]
        if kind == "n" and value and not value.isdigit():
            number = float(value)
            return str(int(number)) if number.is_integer() else value
        return value


def _ended(stream: IO[bytes], dropped: str) -> Iterator[Element]:
    parents: list[Element] = []
    for event, element in iterparse(stream, ("start", "end")):
        if event == "start":
            parents.append(element)
            continue
        parents.pop()
        yield element
        if element.tag == dropped and parents:
            parents[-1].remove(element)


def _text(element: Element) -> str:
    """Return the text of a string or cell: that of its parts, without what tells how to pronounce it."""
    parts = [element.findtext(_MAIN + "t"), *(run.findtext(_MAIN + "t") for run in element.iter(_MAIN + "r"))]
    return "".join(part for part in parts if part)


def _member(target: str) -> str:
    return target.removeprefix("/") if target.startswith("/") else f"xl/{target}"


def _column(reference: str | None, following: int) -> int:
    """Return the column of a cell, from 0: "B7" is 1. A cell without a reference follows the last."""
    if reference is None:
        return following
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        raise Damaged(f"the workbook is damaged: {reference[:20]!r} is no cell")
    column = 0
    for letter in match[1]:
        column = column * 26 + ord(letter) - ord("A") + 1
    if column > _MAX_COLUMNS or column <= following:
        raise Damaged(f"the workbook is damaged: the cell {reference} is out of order")
    return column - 1

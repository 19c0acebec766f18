"""Files of name statistics, made up for tests in the forms in which offices publish theirs."""

import io
import zipfile
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from xml.sax.saxutils import escape

MISSING = None if find_spec("anyascii") else "the extra merlind[scorer] is not installed"
"""Why tests of name statistics are skipped, if they are."""

INSEE_OLD = (
    "sexe;preusuel;annais;nombre\n"
    "1;_PRENOMS_RARES;1900;1249\n"
    "1;CAMILLE;1950;30\n"
    "2;CAMILLE;1950;70\n"
    "2;CAMILLE;2020;1100\n"
    "2;ZOÉ;2010;4000\n"
    "2;ZYNA;XXXX;25\n"
)
INSEE_NEW = (
    "sexe;prenom;periode;valeur;rang\n1;GABRIEL;2025;4625;1\n1;LÉO;2025;3420;3\n2;LOUISE;2024;3010;1\n2;;2024;10;999\n"
)
NRS_OLD = "yr,sex,FirstForename,number,rank,position\n1974,B,David,1794,1,1\n2019,G,Olivia,367,1,1\n"
NRS_NEW = 'Year,Sex,Name,Number,Rank\n1974,Boy,David,1794,1\n2024,Girl,Olivia,"1,367",1\n'
ONS_TITLES = (
    '"Table 1: Names for baby girls England and Wales, 1996 to 2024 [note 1]",,,,\n'
    "This worksheet contains one table.,,,,\n"
)
ONS = (
    ONS_TITLES + "Name,2024 Rank,2024 Count,1996 Rank,1996 Count\n"
    'OLIVIA,1,"2,761",20,2010\nZOË,900,21,[x],[x]\nMOIRA,:,:,801,34\nSource: Office for National Statistics,,,,\n'
)
SSA_1990 = "Mary,F,8666\nMichael,M,65302\nMichael,F,274\n"
SSA_2020 = "Mary,F,2210\n"
PLAIN = "name,sex,year,count\nAnna,F,1990,120\nAnders,M,1991,80\n"


def zipped(members: Mapping[str, bytes | str]) -> bytes:
    """Make a zip archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


_MAIN = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
_RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006/relationships"


def workbook(sheets: Mapping[str, Sequence[Sequence[str | int | float | None]]]) -> bytes:
    """Make a workbook: its sheets' rows, with None for a cell that isn't there."""
    strings: dict[str, int] = {}
    members: dict[str, str] = {}
    listed, related = [], []
    for number, (name, rows) in enumerate(sheets.items(), 1):
        lines = "".join(_row(line, row, strings) for line, row in enumerate(rows, 1))
        members[f"xl/worksheets/sheet{number}.xml"] = f"<worksheet {_MAIN}><sheetData>{lines}</sheetData></worksheet>"
        listed.append(f'<sheet name="{name}" sheetId="{number}" r:id="rId{number}"/>')
        related.append(f'<Relationship Id="rId{number}" Target="worksheets/sheet{number}.xml"/>')
    members["xl/workbook.xml"] = (
        f'<workbook {_MAIN} xmlns:r="{_RELATIONS}"><sheets>{"".join(listed)}</sheets></workbook>'
    )
    members["xl/_rels/workbook.xml.rels"] = f'<Relationships xmlns="{_PACKAGE}">{"".join(related)}</Relationships>'
    texts = "".join(f"<si><t>{escape(text)}</t></si>" for text in strings)
    members["xl/sharedStrings.xml"] = f"<sst {_MAIN}>{texts}</sst>"
    return zipped(members)


def with_rows(archive: bytes, rows: str) -> bytes:
    """Put rows, as XML, in the place of those of a workbook's first sheet."""
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        members: dict[str, bytes | str] = {name: opened.read(name) for name in opened.namelist()}
    members["xl/worksheets/sheet1.xml"] = f"<worksheet {_MAIN}>{rows}</worksheet>"
    return zipped(members)


def _row(line: int, row: Sequence[str | int | float | None], strings: dict[str, int]) -> str:
    cells = []
    for column, value in enumerate(row):
        reference = f"{chr(ord('A') + column)}{line}"
        if isinstance(value, str):
            cells.append(f'<c r="{reference}" t="s"><v>{strings.setdefault(value, len(strings))}</v></c>')
        elif value is not None:
            cells.append(f'<c r="{reference}"><v>{value}</v></c>')
    return f'<row r="{line}">{"".join(cells)}</row>'

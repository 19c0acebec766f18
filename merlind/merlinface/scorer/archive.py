"""Zip archives, which a workbook is too, when they may be damaged."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from zipfile import ZipFile

from merlind.merlinface.scorer.encoding import raw_lines

MAGIC = b"PK\x03\x04"
"""How an archive begins."""


class Damaged(Exception):
    """An archive or workbook can't be read: why."""


@contextmanager
def undamaged() -> Iterator[None]:
    """Raise Damaged for any error inside: zipfile and its decompressors raise a dozen kinds, and document few."""
    try:
        yield
    except (Damaged, MemoryError):
        raise
    except Exception as error:
        raise Damaged(f"the archive is damaged: {error or type(error).__name__}") from None


def open_archive(path: Path) -> ZipFile:
    """Open an archive. Raises Damaged."""
    with undamaged():
        return ZipFile(path)


def member_lines(archive: ZipFile, name: str) -> Iterator[bytes]:
    """Yield the raw lines of one of its files. Raises Damaged."""
    with undamaged(), archive.open(name) as member:
        yield from raw_lines(member)

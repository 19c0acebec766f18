"""The file of a backup: a tar archive that unpacks to a data directory.

Its members, in this order: ``spool/database-id``, the photos as ``spool/<task number>``, and ``tasks.sqlite``, which is
last because it is whole only when all photos are there. An archive that was cut short is therefore told by its absence.
"""

import hashlib
import io
import re
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from merlind.storage.pairing import MARK

DATABASE = "tasks.sqlite"
SPOOL = "spool"

_PIECE = 1 << 20
"""How much is read at a time, in bytes."""

_NAME = re.compile(rf"{SPOOL}/({MARK}|[1-9][0-9]{{0,15}})|{re.escape(DATABASE)}", re.ASCII)


class ArchiveUnusable(Exception):
    """The file is no backup, or not a whole one. The message is one line that says why."""


class ArchiveWriter:
    """Writes an archive into an open file."""

    def __init__(self, file: IO[bytes]) -> None:
        self._tar = tarfile.TarFile(fileobj=file, mode="w", format=tarfile.GNU_FORMAT, copybufsize=_PIECE)

    def __enter__(self) -> Self:
        folder = tarfile.TarInfo(SPOOL)
        folder.type, folder.mode = tarfile.DIRTYPE, 0o700
        self._tar.addfile(folder)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._tar.close()

    def add_mark(self, database_id: str) -> None:
        """Add what names the database that the photos belong to."""
        content = f"{database_id}\n".encode("ascii")
        self._add(f"{SPOOL}/{MARK}", io.BytesIO(content), len(content))

    def add_photo(self, task_id: int, photo: IO[bytes], size: int) -> None:
        """Add the photo of a task. Raises OSError."""
        self._add(f"{SPOOL}/{task_id}", photo, size)

    def add_database(self, path: Path) -> None:
        """Add the database, as the last one. Raises OSError."""
        with path.open("rb") as file:
            self._add(DATABASE, file, path.stat().st_size)

    def _add(self, name: str, content: IO[bytes], size: int) -> None:
        member = tarfile.TarInfo(name)
        member.size, member.mode = size, 0o600
        self._tar.addfile(member, content)


class ArchiveReader:
    """Reads an archive from its beginning to its end, once.

    Afterwards, ``photos`` has the SHA-256 of each photo, and ``database`` that of the database.
    """

    def __init__(self) -> None:
        self.photos: dict[int, bytes] = {}
        self.database = b""

    def read(self, file: IO[bytes], write: Callable[[str, bytes], object] = lambda name, data: None) -> None:
        """Read it all, and pass each member on to ``write``, with its name, in pieces.

        Raises ArchiveUnusable, and OSError.
        """
        for name, content in _members(file):
            if self.database:
                raise ArchiveUnusable(f"{name!a} comes behind the database")
            digest = hashlib.sha256()
            write(name, b"")
            while piece := _next(content):
                digest.update(piece)
                write(name, piece)
            if name == DATABASE:
                self.database = digest.digest()
            elif (number := name.removeprefix(f"{SPOOL}/")) != MARK:
                self.photos[int(number)] = digest.digest()
        if not self.database:
            raise ArchiveUnusable("it was cut short: the database is missing")


def _members(file: IO[bytes]) -> Iterator[tuple[str, IO[bytes]]]:
    try:
        with tarfile.open(fileobj=file, mode="r|", bufsize=_PIECE) as tar:
            for member in tar:
                if member.isdir() and member.name == SPOOL:
                    continue
                content = tar.extractfile(member) if member.isreg() else None
                if content is None or not _NAME.fullmatch(member.name):
                    raise ArchiveUnusable(f"{member.name[:64]!a} is no part of a backup")
                yield member.name, content
    except tarfile.TarError as error:
        raise ArchiveUnusable(f"it is damaged, or was cut short: {error}") from None


def _next(content: IO[bytes]) -> bytes:
    try:
        return content.read(_PIECE)
    except tarfile.TarError as error:
        raise ArchiveUnusable(f"it is damaged, or was cut short: {error}") from None

"""Which photos to send with which names: from paths and names, from a table, or from the files' own names."""

import csv
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from merlind.cli.exits import CommandError, Exit

SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .png .webp .gif .heic .heif .avif .bmp .tif .tiff".split()  # noqa: SIM905  reads best so
)
"""Which files of a folder are taken for photos, in lower case. A file that is named itself is sent whatever it is."""

_COPY = re.compile(r"[\s_-]*(\(\d+\)|\d+)$")


@dataclass(frozen=True, slots=True)
class Job:
    """One photo to send with one name."""

    photo: Path
    name: str


def photos_in(paths: Iterable[Path]) -> list[Path]:
    """Return the photos at these paths; a folder stands for the photos right inside it, sorted by name.

    Raises CommandError for a path that isn't there, and for a folder without photos.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file())
            if not inside:
                raise CommandError(Exit.USAGE, f"{path} has no photos in it")
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise CommandError(Exit.USAGE, f"there is no file {path}")
    return found


def each_with_each(photos: Sequence[Path], names: Sequence[str]) -> list[Job]:
    """Return every photo with every name."""
    return [Job(photo, name) for photo in photos for name in names]


def by_file_names(photos: Sequence[Path]) -> list[Job]:
    """Return every photo with the name that its file has: that of ``Anna.jpg`` and of ``Anna_2.jpg`` is Anna.

    Raises CommandError for a file name that is no more than a number, or not in UTF-8.
    """
    jobs = [Job(photo, _COPY.sub("", photo.stem)) for photo in photos]
    for job in jobs:
        if not job.name or not job.name.isprintable():
            where = shown(job.photo)
            raise CommandError(Exit.USAGE, f"{where} says no name: name the file after the person, or use --name")
    return jobs


def shown(path: Path) -> str:
    """Return a path as text that can be printed and stored, whatever bytes are in it."""
    return os.fsencode(path).decode("utf-8", "replace")


def by_table(path: Path) -> list[Job]:
    """Return the jobs of a CSV file with the columns ``photo`` and ``name``; paths start at the file's own folder.

    Raises CommandError with the line that is wrong.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return list(_rows(path, csv.DictReader(file, strict=True)))
    except OSError as error:
        raise CommandError(Exit.USAGE, f"{path} can't be read: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise CommandError(Exit.USAGE, f"{path} is no CSV file in UTF-8: {error}") from error


def _rows(path: Path, rows: "csv.DictReader[str]") -> Iterator[Job]:
    if not {"photo", "name"} <= set(rows.fieldnames or ()):
        raise CommandError(Exit.USAGE, f"{path}, line 1: the columns photo and name are needed")
    for row in rows:
        place = f"{path}, line {rows.line_num}"
        photo, name = row["photo"], row["name"]
        if not photo or not name:
            raise CommandError(Exit.USAGE, f"{place}: photo and name are needed")
        if not (found := path.parent / photo).is_file():
            raise CommandError(Exit.USAGE, f"{place}: there is no file {found}")
        yield Job(found, name)

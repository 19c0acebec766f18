"""``merlinctl backup`` and ``restore``: a data directory in one file, and back."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from merlind.cli import options
from merlind.cli.exits import CommandError, Exit
from merlind.cli.options import FILE

if TYPE_CHECKING:
    from merlind.storage.backup import Contents

_format = click.option(
    "--format", type=click.Choice(["table", "jsonl"]), help="[default: table on a terminal, else jsonl]"
)


@click.command()
@click.argument("file", type=FILE)
@options.data_dir
@_format
def backup(file: Path, data_dir: Path, format: str | None) -> None:
    """Back up tasks and photos into a file, while merlind runs.

    All that merlind acknowledged before is in FILE, which is a tar archive. FILE is replaced if it is there, and is
    read again and compared before it takes its name. Run this as merlind's user, on merlind's machine.

    It works while merlind stands still, too.

    FILE holds names and photos: also those that are erased later. merlind's configuration and the files of --auth are
    not in it.

    \b
    Examples:
      merlinctl backup /backup/merlind.tar --data-dir /var/lib/merlind
      docker exec merlind merlinctl backup /backup/merlind.tar

    \b
    Exit status: 0 all is in it; 1 there is a backup, but merlind itself has lost or damaged some
    photos; 2 there is none, and why.
    """
    from merlind.daemon.datadir import DataDir
    from merlind.storage.backup import back_up

    paths = DataDir(data_dir)
    with _one_line_errors("nothing was written"), _progress() as report:
        contents = back_up(paths.database, paths.spool, file, report)
    sys.exit(_tell(contents, file, format))


@click.command()
@click.argument("file", type=FILE)
@click.option(
    "--data-dir", metavar="DIR", required=True, type=FILE, help="Where to restore it: a folder that is new or empty."
)
@_format
def restore(file: Path, data_dir: Path, format: str | None) -> None:
    """Restore a backup into a new data directory.

    FILE is checked as a whole before anything of it is in its place. Then start merlind with this --data-dir. Run this
    as merlind's user: what it makes belongs to who runs it.

    \b
    Example:
      merlinctl restore /backup/merlind.tar --data-dir /var/lib/merlind

    \b
    Exit status: 0 all is there; 1 it is, but some photos were missing when FILE was made; 2 nothing
    was restored, and why.
    """
    from merlind.daemon.datadir import DataDir
    from merlind.storage.restore import check_empty
    from merlind.storage.restore import restore as restore_into

    paths = DataDir(data_dir)
    with _one_line_errors("nothing was restored"):
        check_empty(paths.path)
        if not file.is_file():
            raise CommandError(Exit.USAGE, f"there is no file {file}")
        paths.acquire()
        try:
            contents = restore_into(file, paths.path)
        finally:
            paths.release()
    sys.exit(_tell(contents, file, format))


def _tell(contents: "Contents", file: Path, format: str | None) -> Exit:
    from merlind.cli.operations import plural, size_of
    from merlind.cli.output import Table, show

    states = contents.counts.by_state
    unfinished = states["upload"] + states["poll"]
    values = {
        "file": str(file),
        "tasks": sum(states.values()),
        "unfinished": unfinished,
        "photos": contents.photos,
        "photo_bytes": contents.photo_bytes,
        "without_photo": contents.without_photo,
    }
    said = (
        f"{plural(sum(states.values()), 'task')}, {unfinished} of them unfinished, and "
        f"{plural(contents.photos, 'photo')} of {size_of(contents.photo_bytes)}"
    )
    show(format, [values], values, Table((str(file), said), []))
    if contents.without_photo:
        some = ", ".join(map(str, contents.without_photo[:5])) + (", …" if len(contents.without_photo) > 5 else "")
        click.echo(
            f"merlinctl: {plural(len(contents.without_photo), 'photo')} missing or damaged, of tasks {some}", err=True
        )
        return Exit.FAILED
    return Exit.OK


@contextmanager
def _progress() -> "Iterator[Callable[[int, int], object]]":
    """Show a bar of the photos on a terminal."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = TextColumn("photos"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        row = shown.add_task("photos", total=None)
        yield lambda done, total: shown.update(row, completed=done, total=total)


@contextmanager
def _one_line_errors(otherwise: str) -> Iterator[None]:
    from merlind.daemon.datadir import DataDirUnusable
    from merlind.storage.archive import ArchiveUnusable
    from merlind.storage.backup import BackupFailed
    from merlind.storage.restore import RestoreFailed
    from merlind.storage.sqlite.errors import DatabaseUnusable

    try:
        yield
    except (ArchiveUnusable, BackupFailed, RestoreFailed, DatabaseUnusable, DataDirUnusable) as error:
        raise CommandError(Exit.USAGE, f"{otherwise}: {error}") from error
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise CommandError(Exit.USAGE, f"{otherwise}: {where}{error.strerror}") from error
    except KeyboardInterrupt:
        raise CommandError(Exit.INTERRUPTED, f"interrupted; {otherwise}") from None

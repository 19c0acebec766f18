"""``merlinctl send``, ``status`` and ``erase``: their options. What they do is imported when it is asked for."""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import click

from merlind.cli import options
from merlind.cli.options import FILE, TASK_NUMBER, Duration


@click.command()
@click.argument("paths", nargs=-1, type=FILE, metavar="[PATH...]")
@click.option(
    "--name",
    "-n",
    "names",
    metavar="NAME",
    multiple=True,
    help="A name to try with each photo; may be given more than once.",
)
@click.option("--csv", "table", metavar="FILE", type=FILE, help="A CSV file with the columns photo and name.")
@click.option("--names-from-files", is_flag=True, help="Each file is named after the person: Anna.jpg, Anna_2.jpg.")
@options.url
@click.option("--output", "-o", metavar="FILE", type=FILE, help="A journal: a second run goes on from there.")
@click.option(
    "--jobs", metavar="N", default=4, show_default=True, type=click.IntRange(1, 100), help="How many uploads at once."
)
@click.option("--no-wait", is_flag=True, help="Don't wait for the scores: send, and print the task numbers.")
@click.option(
    "--timeout", metavar="TIME", type=Duration(), help="Stop waiting after this time, such as 90s, 30m or 1h."
)
@options.format
@click.option("--no-progress", is_flag=True, help="Nothing on the standard error but errors.")
@options.token_file
def send(
    paths: Sequence[Path],
    names: Sequence[str],
    table: Path | None,
    names_from_files: bool,
    url: str,
    output: Path | None,
    jobs: int,
    no_wait: bool,
    timeout: float | None,
    format: str | None,
    no_progress: bool,
    token_file: Path | None,
) -> None:
    """Send photos, wait for their scores, and print them.

    PATHS are photos, or folders of them. Each is tried with each --name.

    \b
    Examples:
      merlinctl send face.jpg --name Anna --name Olga     one photo, two names
      merlinctl send --names-from-files album/            Anna.jpg, Boris.png, ...
      merlinctl send --csv people.csv -o done.jsonl       run it again to go on after a break
      merlinctl send album -n Anna --format csv > anna.csv

    \b
    Exit status: 0 all are scored; 1 some failed; 2 the command line is wrong; 3 some are not
    finished yet, run it again; 4 the server can't be reached; 5 not allowed; 130 interrupted.
    """
    from merlind.cli import jobs as planned
    from merlind.cli.client import Client
    from merlind.cli.photos import print_records, send_all
    from merlind.cli.running import run

    if [bool(names), table is not None, names_from_files].count(True) != 1:
        raise click.UsageError("give exactly one of --name, --csv and --names-from-files")
    if table is not None and paths:
        raise click.UsageError("with --csv, the photos are those of the table")
    if table is None and not paths:
        raise click.UsageError("name a photo, or a folder of photos")
    if table is not None:
        todo = planned.by_table(table)
    elif names_from_files:
        todo = planned.by_file_names(planned.photos_in(paths))
    else:
        todo = planned.each_with_each(planned.photos_in(paths), names)
    code = run(
        lambda reactor: send_all(
            reactor, Client(options.server(reactor, url, token_file)), todo, output, jobs, not no_wait, timeout,
            not no_progress, partial(print_records, format),
        ),
        "photos that were sent go on; run the same command again for their scores",
    )  # fmt: skip
    sys.exit(code)


@click.command()
@click.argument("tasks", nargs=-1, required=True, type=TASK_NUMBER, metavar="NUMBER...")
@options.url
@options.format
@options.token_file
def status(tasks: Sequence[int], url: str, format: str | None, token_file: Path | None) -> None:
    """Tell how tasks stand.

    Exit status: 0 all are scored; 1 some failed, or are not known; 3 some wait.
    """
    from merlind.cli.client import Client
    from merlind.cli.photos import print_records, status_of_tasks
    from merlind.cli.running import run

    show = partial(print_records, format)
    sys.exit(run(lambda reactor: status_of_tasks(Client(options.server(reactor, url, token_file)), tasks, show)))


@click.command()
@click.argument("tasks", nargs=-1, required=True, type=TASK_NUMBER, metavar="NUMBER...")
@click.option("--yes", "-y", is_flag=True, help="Don't ask.")
@options.url
@options.token_file
def erase(tasks: Sequence[int], yes: bool, url: str, token_file: Path | None) -> None:
    """Cancel tasks, and erase their photos, names and scores.

    Exit status: 1 some are not known.
    """
    from merlind.cli.client import Client
    from merlind.cli.photos import erase_tasks
    from merlind.cli.running import run

    if not yes:
        click.confirm(f"Erase {len(tasks)} task{'s' * (len(tasks) > 1)} for good?", abort=True, err=True)
    sys.exit(run(lambda reactor: erase_tasks(Client(options.server(reactor, url, token_file)), tasks)))

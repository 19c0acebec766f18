"""The commands of ``merlinctl`` that talk to the admin listener: their options."""

import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from merlind.cli import options
from merlind.cli.exits import Exit
from merlind.cli.options import TASK_NUMBER, Duration

if TYPE_CHECKING:
    from merlind.cli.admin import Admin

_one_format = click.option(
    "--format", type=click.Choice(["table", "jsonl"]), help="[default: table on a terminal, else jsonl]"
)


@click.command()
@click.option("--watch", "-w", is_flag=True, help="Go on until Ctrl+C, in place on a terminal.")
@click.option("--every", default=2.0, type=Duration(), metavar="TIME", help="How often to look.  [default: 2s]")
@options.admin_url
@_one_format
def stats(watch: bool, every: float, admin_url: str, format: str | None) -> None:
    """Tell whether all is well, and if not, why.

    \b
    Examples:
      merlinctl stats                       health and figures
      merlinctl stats --watch               the same, again and again
      merlinctl stats | jq .reasons         for a script: a line of JSON

    Exit status: 0 photos are taken and tasks get on; 1 they don't; 4 merlind can't be reached.
    """
    from merlind.cli import stats as figures

    if not watch:
        _run(admin_url, lambda reactor, admin: figures.show_once(admin, format))
    on_terminal = format != "jsonl" and sys.stdout.isatty()
    show = figures.watch if on_terminal else figures.print_again_and_again
    _run(admin_url, lambda reactor, admin: show(reactor, admin, max(0.2, every)))


@click.command()
@click.option("--state", type=click.Choice(["upload", "poll", "ready", "failed"]), help="Those in this state.")
@options.code
@options.since
@click.option("--limit", metavar="N", default=100, show_default=True, type=click.IntRange(1), help="The most to list.")
@options.admin_url
@options.format
def tasks(
    state: str | None, code: str | None, since: float | None, limit: int, admin_url: str, format: str | None
) -> None:
    """List tasks, the newest first, without names and photos.

    upload and poll are the states of unfinished tasks: before the upstream has the photo, and after.

    \b
    Examples:
      merlinctl tasks --state failed --since 1h
      merlinctl tasks --code gave_up --format csv > gave-up.csv
      merlinctl tasks --state upload | jq -r .last_error | sort | uniq -c
    """
    from merlind.cli.operations import list_tasks

    wanted = _wanted(state, code, since)
    _run(admin_url, lambda reactor, admin: list_tasks(admin, wanted, limit, format))


@click.command()
@click.argument("tasks", nargs=-1, type=TASK_NUMBER, metavar="[NUMBER...]")
@click.option("--failed", is_flag=True, help="All failed tasks whose photo is still kept.")
@options.code
@options.since
@click.option("--yes", "-y", is_flag=True, help="Don't ask.")
@options.admin_url
@_one_format
def retry(
    tasks: Sequence[int],
    failed: bool,
    code: str | None,
    since: float | None,
    yes: bool,
    admin_url: str,
    format: str | None,
) -> None:
    """Start failed tasks anew.

    A task can be retried as long as its photo is kept: merlind's --keep-failed, a day by default.

    \b
    Examples:
      merlinctl retry 158106160351093
      merlinctl retry --failed --code gave_up --since 2h

    \b
    Exit status: 0 all started anew; 1 some of the given numbers can't be retried; 3 not all, because
    too many tasks are unfinished: run it again later.
    """
    from merlind.cli.operations import retry_tasks

    if bool(tasks) == failed or (tasks and (code or since)):
        raise click.UsageError("give either numbers of tasks, or --failed, perhaps with --code and --since")
    which: dict[str, object] = {"ids": list(tasks)} if tasks else _wanted("failed", code, since)
    confirm = None if tasks or yes else _confirm
    _run(admin_url, lambda reactor, admin: retry_tasks(admin, which, confirm, format))


@click.command()
@click.option("--for", "seconds", type=Duration(), metavar="TIME", help="Resume after this time, such as 30m.")
@options.admin_url
@_one_format
def pause(seconds: float | None, admin_url: str, format: str | None) -> None:
    """Send nothing to the upstream for a while.

    Photos are still taken, and no task loses its patience. It lasts until merlinctl resume, across restarts of merlind;
    in a pause, it changes the end.

    \b
    Examples:
      merlinctl pause --for 30m
      merlinctl pause
    """
    from merlind.cli import operations

    _run(admin_url, lambda reactor, admin: operations.pause(admin, seconds, format))


@click.command()
@options.admin_url
@_one_format
def resume(admin_url: str, format: str | None) -> None:
    """End a pause."""
    from merlind.cli import operations

    _run(admin_url, lambda reactor, admin: operations.resume(admin, format))


@click.command()
@options.data_dir
@options.admin_url
@_one_format
def check(data_dir: Path, admin_url: str, format: str | None) -> None:
    """Print what a bug report needs.

    Versions, platform, names of options that are set, health, metrics, disk and database: no name, user, host, path,
    token or password.

    \b
    Examples:
      merlinctl check --format table > report.txt
      docker exec merlind merlinctl check
    """
    from merlind.cli import report

    _run(admin_url, lambda reactor, admin: report.check(admin, data_dir, format))


def _run(admin_url: str, command: "Callable[[Any, Admin], Awaitable[Exit]]") -> None:
    from merlind.cli.admin import Admin
    from merlind.cli.running import run

    sys.exit(run(lambda reactor: command(reactor, Admin(options.server(reactor, admin_url, keep_alive=False)))))


def _wanted(state: str | None, code: str | None, since: float | None) -> dict[str, object]:
    found = {"state": state, "code": code, "since": None if since is None else round(time.time() - since, 3)}
    return {name: value for name, value in found.items() if value is not None}


def _confirm(count: int) -> None:
    from merlind.cli.operations import MOST_COUNTED

    # The reactor would take Ctrl+C, and only look at it when the question is answered.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    how_many = f"{MOST_COUNTED} or more" if count >= MOST_COUNTED else str(count)
    try:
        click.confirm(f"Retry {how_many} failed task{'' if count == 1 else 's'}?", abort=True, err=True)
    finally:
        signal.signal(signal.SIGINT, before)

"""The commands of ``merlinctl`` and their options. What they do is imported when it is asked for: --help is quick."""

import sys
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from merlind import __version__
from merlind.cli.durations import seconds_of
from merlind.cli.exits import CommandError, Exit

if TYPE_CHECKING:
    from merlind.cli.client import Client

PUBLIC = "http://127.0.0.1:8000"


class Duration(click.ParamType[float]):
    """A duration such as 30m, in seconds."""

    name = "duration"

    def convert(self, value: Any, param: "click.Parameter | None", ctx: "click.Context | None") -> float:
        try:
            return value if isinstance(value, float) else seconds_of(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


_url = click.option(
    "--url", default=PUBLIC, envvar="MERLIND_URL", show_default=True, show_envvar=True, help="Where merlind is."
)
_token = click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    envvar="MERLIND_TOKEN_FILE",
    show_envvar=True,
    help="A file with a token to sign in with. For a user and a password, use http://USER:PASSWORD@… in --url.",
)
_format = click.option(
    "--format", type=click.Choice(["table", "jsonl", "csv"]), help="[default: table on a terminal, else jsonl]"
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__)
def cli() -> None:
    """Ask how well names suit people by their photos.

    \b
    merlinctl send face.jpg --name Anna --name Olga     one photo, two names
    merlinctl send --names-from-files album/            Anna.jpg, Boris.png, ...
    merlinctl send --csv people.csv -o done.jsonl       a table; run it again to go on after a break
    """


@cli.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--name", "-n", "names", multiple=True, help="A name to try with each photo; may be given more than once."
)
@click.option("--csv", "table", type=click.Path(path_type=Path), help="A CSV file with the columns photo and name.")
@click.option("--names-from-files", is_flag=True, help="Each file is named after the person: Anna.jpg, Anna_2.jpg.")
@_url
@click.option("--output", "-o", type=click.Path(path_type=Path), help="A journal: a second run goes on from there.")
@click.option("--jobs", default=4, show_default=True, type=click.IntRange(1, 100), help="How many uploads at once.")
@click.option("--no-wait", is_flag=True, help="Don't wait for the scores: send, and print the task numbers.")
@click.option("--timeout", type=Duration(), help="Stop waiting after this time, such as 90s, 30m or 1h.")
@_format
@click.option("--no-progress", is_flag=True, help="Nothing on the standard error but errors.")
@_token
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
    Exit status: 0 all are scored; 1 some failed; 2 the command line is wrong; 3 some are not finished
    yet, run it again; 4 the server can't be reached; 5 not allowed; 130 interrupted.
    """
    from merlind.cli import jobs as planned
    from merlind.cli.commands import print_records, send_all

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
    code = _run(
        lambda reactor: send_all(
            reactor, _client(reactor, url, token_file), todo, output, jobs, not no_wait, timeout, not no_progress,
            partial(print_records, format),
        ),
        "photos that were sent go on; run the same command again for their scores",
    )  # fmt: skip
    sys.exit(code)


@cli.command()
@click.argument("tasks", nargs=-1, required=True, type=click.IntRange(1, 2**53 - 1), metavar="NUMBER...")
@_url
@_format
@_token
def status(tasks: Sequence[int], url: str, format: str | None, token_file: Path | None) -> None:
    """Tell how tasks stand. Exit status 0: all are scored; 1: some failed, or are not known; 3: some wait."""
    from merlind.cli.commands import print_records, status_of_tasks

    show = partial(print_records, format)
    sys.exit(_run(lambda reactor: status_of_tasks(_client(reactor, url, token_file), tasks, show)))


@cli.command()
@click.argument("tasks", nargs=-1, required=True, type=click.IntRange(1, 2**53 - 1), metavar="NUMBER...")
@click.option("--yes", "-y", is_flag=True, help="Don't ask.")
@_url
@_token
def erase(tasks: Sequence[int], yes: bool, url: str, token_file: Path | None) -> None:
    """Cancel tasks, and erase their photos, names and scores. Exit status 1: some are not known."""
    from merlind.cli.commands import erase_tasks

    if not yes:
        click.confirm(f"Erase {len(tasks)} task{'s' * (len(tasks) > 1)} for good?", abort=True, err=True)
    sys.exit(_run(lambda reactor: erase_tasks(_client(reactor, url, token_file), tasks)))


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes a shell complete merlinctl's commands and options.

    \b
    bash:  eval "$(merlinctl completion bash)"       in ~/.bashrc
    zsh:   eval "$(merlinctl completion zsh)"        in ~/.zshrc
    fish:  merlinctl completion fish > ~/.config/fish/completions/merlinctl.fish
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None, "click knows these shells"
    click.echo(kind(cli, {}, "merlinctl", "_MERLINCTL_COMPLETE").source())


def _client(reactor: Any, url: str, token_file: Path | None) -> "Client":
    from merlind.cli.client import Client

    token = None
    if token_file is not None:
        try:
            token = token_file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(Exit.USAGE, f"{token_file} can't be read: {error}") from error
    return Client(reactor, url, None if token is None else f"Bearer {token}")


def _run(command: Callable[[Any], Awaitable[Exit]], when_interrupted: str = "nothing was changed since") -> Exit:
    from merlind.cli.running import run

    return run(command, when_interrupted)


def main() -> None:
    """Run ``merlinctl``; its errors are one line each."""
    try:
        cli(prog_name="merlinctl")
    except CommandError as error:
        click.echo(f"merlinctl: {error}", err=True)
        sys.exit(error.status)

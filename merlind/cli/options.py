"""Options that several commands of ``merlinctl`` have, and how their values are read."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from merlind.cli.durations import seconds_of
from merlind.cli.exits import CommandError, Exit

if TYPE_CHECKING:
    from merlind.cli.http import Server

PUBLIC = "http://127.0.0.1:8000"
ADMIN = "http://127.0.0.1:8001"

TASK_NUMBER = click.IntRange(1, 2**53 - 1)

FILE = click.Path(path_type=Path)


class Duration(click.ParamType[float]):
    """A duration such as 30m, in seconds."""

    name = "duration"

    def convert(self, value: Any, param: "click.Parameter | None", ctx: "click.Context | None") -> float:
        try:
            return value if isinstance(value, float) else seconds_of(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


url = click.option(
    "--url",
    metavar="URL",
    default=PUBLIC,
    envvar="MERLIND_URL",
    show_default=True,
    show_envvar=True,
    help="Where merlind is.",
)
admin_url = click.option(
    "--admin-url",
    metavar="URL",
    default=ADMIN,
    envvar="MERLIND_ADMIN_URL",
    show_default=True,
    show_envvar=True,
    help="Where its admin listener is.",
)
token_file = click.option(
    "--token-file",
    metavar="FILE",
    type=FILE,
    envvar="MERLIND_TOKEN_FILE",
    show_envvar=True,
    help="A file with a token to sign in with. For a user and a password, use http://USER:PASSWORD@… in --url.",
)
format = click.option(
    "--format", type=click.Choice(["table", "jsonl", "csv"]), help="[default: table on a terminal, else jsonl]"
)
data_dir = click.option(
    "--data-dir",
    metavar="DIR",
    default="./merlind-data",
    type=FILE,
    envvar="MERLIND_DATA_DIR",
    show_default=True,
    show_envvar=True,
    help="merlind's data directory.",
)
code = click.option("--code", metavar="CODE", help="Those that failed with this error, such as gave_up.")
since = click.option("--since", type=Duration(), metavar="TIME", help="Those received in the last 30m, 1h, 2d ….")


def server(reactor: Any, url: str, token_file: Path | None = None, keep_alive: bool = True) -> "Server":
    """Return the server at a URL. Raises CommandError."""
    from merlind.cli.http import Server

    token = None
    if token_file is not None:
        try:
            token = token_file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(Exit.USAGE, f"{token_file} can't be read: {error}") from error
    return Server(reactor, url, None if token is None else f"Bearer {token}", keep_alive=keep_alive)

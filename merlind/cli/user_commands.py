"""``merlinctl passwd`` and ``token``: the files of users and tokens that ``--auth`` names."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import click

from merlind.cli import options
from merlind.cli.exits import CommandError, Exit
from merlind.cli.options import FILE

Decorator = Callable[[Callable[..., None]], Callable[..., None]]


def _file(kind: str) -> "Decorator":
    return click.option(
        "--file", "-f", metavar="FILE", type=FILE, help=f"The file.  [default: that of {kind}: in MERLIND_AUTH]"
    )


@click.command()
@click.argument("user")
@_file("htpasswd")
def passwd(user: str, file: Path | None) -> None:
    """Set a user's password, in a file of --auth htpasswd:FILE.

    It is asked for twice on a terminal, and else is the first line of the standard input. merlind reads the file again
    by itself. To take a user's access away, delete the line.

    \b
    Examples:
      merlinctl passwd ann --file /etc/merlind/users
      pwgen 20 1 | tee new-password | merlinctl passwd ann --file /etc/merlind/users
    """
    from merlind.web.auth.passwd import ask_password, set_password

    path = file or _named("htpasswd")
    with _one_line_errors(path):
        set_password(path, user, ask_password())


@click.group()
def token() -> None:
    """Add, list and revoke tokens, in a file of --auth tokens:FILE."""


@token.command()
@click.argument("user")
@click.argument("label", default="")
@_file("tokens")
def add(user: str, label: str, file: Path | None) -> None:
    """Make a token for a user, and print it.

    It is printed this once: the file keeps its SHA-256. LABEL says what it is for, and is what revoke takes.

    \b
    Example:
      merlinctl token add ann laptop --file /etc/merlind/tokens
    """
    from merlind.web.auth.token import add_token

    path = file or _named("tokens")
    with _one_line_errors(path):
        click.echo(add_token(path, user, label, datetime.now(UTC)))


@token.command(name="list")
@click.argument("user", required=False)
@_file("tokens")
@options.format
def list_(user: str | None, file: Path | None, format: str | None) -> None:
    """List the tokens of all users, or of one: when each was made, and what for."""
    from merlind.cli.output import Table, show
    from merlind.web.auth.token import list_tokens

    path = file or _named("tokens")
    with _one_line_errors(path):
        found = [one for one in list_tokens(path) if user in (None, one.user)]
    columns = ("user", "label", "created")
    rows = [(one.user, one.label, one.created) for one in found]
    show(format, [dict(zip(columns, row, strict=True)) for row in rows], columns, Table(columns, rows))


@token.command()
@click.argument("user")
@click.argument("label", default="")
@_file("tokens")
def revoke(user: str, label: str, file: Path | None) -> None:
    """Take a user's tokens with this label away: they don't count any more from the next request on.

    Exit status: 1 there is no such token.
    """
    from merlind.web.auth.token import revoke_tokens

    path = file or _named("tokens")
    with _one_line_errors(path):
        count = revoke_tokens(path, user, label)
    if not count:
        what = f"with the label {label!r}" if label else "without a label"
        raise CommandError(Exit.FAILED, f"{user!r} has no token {what}: see merlinctl token list")
    click.echo(f"{count} token{'' if count == 1 else 's'} revoked", err=True)
    sys.exit(Exit.OK)


def _named(kind: str) -> Path:
    """Return the file that MERLIND_AUTH names for a kind of checker, as the daemon reads it."""
    words = os.environ.get("MERLIND_AUTH", "").split()
    paths = [argument for word in words for name, _, argument in [word.partition(":")] if name == kind]
    if len(paths) != 1:
        raise click.UsageError(f"say which file, with --file: MERLIND_AUTH doesn't name one of {kind}:")
    return Path(paths[0])


@contextmanager
def _one_line_errors(path: Path) -> Iterator[None]:
    from merlind.web.auth.watched_file import BadLine

    try:
        yield
    except BadLine as error:
        raise CommandError(Exit.USAGE, f"{path}, {error}") from error
    except ValueError as error:
        raise CommandError(Exit.USAGE, str(error)) from error
    except OSError as error:
        raise CommandError(Exit.USAGE, f"{path} can't be used: {error.strerror}") from error

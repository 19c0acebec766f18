"""``merlinctl``: its commands, in the order in which its help shows them."""

import os
import sys
from collections.abc import Sequence

import click

from merlind import __version__
from merlind.cli.backup_commands import backup, restore
from merlind.cli.exits import CommandError, Exit
from merlind.cli.operator_commands import check, pause, resume, retry, stats, tasks
from merlind.cli.photo_commands import erase, send, status
from merlind.cli.user_commands import passwd, token


class Sections(click.Group):
    """Commands under headings."""

    def __init__(self, sections: "dict[str, Sequence[click.Command]]", **attributes: object) -> None:
        super().__init__(**attributes)  # type: ignore[arg-type]  # as click calls it
        self._sections = sections
        for commands in sections.values():
            for command in commands:
                self.add_command(command)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        longest = max(map(len, self.commands))
        room = formatter.width - 6 - longest
        for heading, commands in self._sections.items():
            with formatter.section(heading):
                formatter.write_dl(
                    [(f"{command.name or '':{longest}}", command.get_short_help_str(room)) for command in commands]
                )


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes a shell complete merlinctl's commands.

    \b
    bash:  eval "$(merlinctl completion bash)"       in ~/.bashrc
    zsh:   eval "$(merlinctl completion zsh)"        in ~/.zshrc
    fish:  merlinctl completion fish > ~/.config/fish/completions/merlinctl.fish
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None, "click knows these shells"
    click.echo(kind(cli, {}, "merlinctl", "_MERLINCTL_COMPLETE").source())


cli = Sections(
    {
        "Photos": [send, status, erase],
        "Running merlind, by its admin listener": [stats, tasks, retry, pause, resume, check],
        "Running merlind, by its files": [backup, restore, passwd, token],
        "Besides": [completion],
    },
    name="merlinctl",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="""Ask how well names suit people by their photos, and run a merlind.

    \b
    merlinctl send face.jpg --name Anna --name Olga     one photo, two names
    merlinctl send --csv people.csv -o done.jsonl       a table; run it again to go on after a break
    merlinctl stats                                     is all well, and if not, why
    merlinctl tasks --state failed --since 1h           what failed, and with which error
    merlinctl COMMAND --help                            more examples
    """,
)
cli = click.version_option(__version__)(cli)


def main() -> None:
    """Run ``merlinctl``; its errors are one line each."""
    try:
        # False: click would show an error in five lines.
        sys.exit(cli.main(prog_name="merlinctl", standalone_mode=False))
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(Exit.USAGE)
    except click.ClickException as error:
        ctx = getattr(error, "ctx", None)
        command = ctx.command_path if ctx else "merlinctl"
        click.echo(f"{command}: {error.format_message().rstrip('.')} (see {command} --help)", err=True)
        sys.exit(error.exit_code)
    except CommandError as error:
        click.echo(f"merlinctl: {error}", err=True)
        sys.exit(error.status)
    except click.Abort:
        # Ctrl+C, or no to a question.
        click.echo("merlinctl: stopped; nothing was done", err=True)
        sys.exit(Exit.INTERRUPTED)
    except BrokenPipeError:
        # Whoever read the output has seen enough. Python would say so at its end once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(Exit.FAILED)

"""The exit status of ``merlinctl``, and the errors that end a command with one line."""

from collections.abc import Iterable
from enum import IntEnum

from merlind.cli.record import Record, Stage


class Exit(IntEnum):
    """What a status tells a script."""

    OK = 0
    FAILED = 1
    """Some photo got no score, for good."""
    USAGE = 2
    """The command line or a file that it names is wrong; click uses the same."""
    UNFINISHED = 3
    """Some tasks are still unfinished: run the same command again."""
    UNREACHABLE = 4
    """The server can't be reached, or fails."""
    NOT_ALLOWED = 5
    """The server wants another user, or a sign-in."""
    INTERRUPTED = 130
    """Ctrl+C; the shell's own number for it."""


class CommandError(Exception):
    """Ends a command with ``status`` and a line that says why."""

    def __init__(self, status: Exit, message: str) -> None:
        super().__init__(message)
        self.status = status


def status_of(records: Iterable[Record]) -> Exit:
    """Return the status for what became of all photos: unfinished before failed, because a second run helps there."""
    stages = {record.stage for record in records}
    if stages & {Stage.NEW, Stage.WAITING}:
        return Exit.UNFINISHED
    return Exit.FAILED if stages & {Stage.FAILED, Stage.REFUSED, Stage.GONE} else Exit.OK

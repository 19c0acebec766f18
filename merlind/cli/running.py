"""Runs a command on the reactor, and turns how it ended into an exit status."""

import sys
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import Deferred, FirstError
from twisted.python.failure import Failure

from merlind.cli.exits import CommandError, Exit
from merlind.cli.http import Refused, TryLater, Unreachable


def run(command: Callable[[Any], Awaitable[Exit]], when_interrupted: str = "nothing was changed since") -> Exit:
    """Run ``command(reactor)`` to its end and return its status; Ctrl+C ends it with ``when_interrupted``.

    Raises CommandError.
    """
    # Late: to import it installs the reactor.
    from twisted.internet import reactor

    outcome: list[Exit | Failure] = []

    async def start() -> Exit:
        return await command(reactor)

    def end(result: Exit | Failure) -> None:
        outcome.append(result)
        reactor.callWhenRunning(reactor.stop)

    running = start()
    reactor.callWhenRunning(lambda: Deferred.fromCoroutine(running).addBoth(end))
    reactor.run()
    if not outcome:
        # Leaves its "with" blocks, so that a bar gives the terminal back.
        running.close()
        print(f"merlinctl: interrupted; {when_interrupted}", file=sys.stderr)
        return Exit.INTERRUPTED
    return status_after(outcome[0])


def status_after(outcome: Exit | Failure) -> Exit:
    """Return how a command ended. Raises CommandError for the errors that a server can be at fault for."""
    if not isinstance(outcome, Failure):
        return outcome
    failure = outcome.value.subFailure if isinstance(outcome.value, FirstError) else outcome
    match failure.value:
        case Unreachable() | TryLater() as error:
            raise CommandError(Exit.UNREACHABLE, str(error)) from error
        case Refused() as error:
            raise CommandError(Exit.FAILED, str(error)) from error
        case OSError() as error:
            raise CommandError(Exit.USAGE, f"{error.filename} can't be read: {error.strerror}") from error
        case _:
            failure.raiseException()

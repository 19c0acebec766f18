"""What ``merlinctl tasks``, ``retry``, ``pause`` and ``resume`` do, once the command line is read."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from merlind.cli.admin import Admin
from merlind.cli.durations import say
from merlind.cli.exits import Exit
from merlind.cli.output import Table, Values, show

COLUMNS = (
    "task", "received", "age", "state", "attempts", "last_error", "next_attempt", "code", "detail", "source", "size",
    "type", "photo_kept_for",
)  # fmt: skip
"""The names of a listed task's values."""

HEADER = ("task", "age", "state", "tries", "next try", "size", "type", "photo for", "why")

MOST_COUNTED = 10_000
"""How many failed tasks are counted before it is asked whether to retry them."""


async def list_tasks(admin: Admin, wanted: Mapping[str, object], most: int, format: str | None) -> Exit:
    """Show the tasks that match, the newest first."""
    tasks = [_flat(task) for task in await admin.tasks(wanted, most)]
    table = Table(
        HEADER, list(map(_row, tasks)), HEADER[:-1], ("type", "size", "tries", "age", "next try", "photo for")
    )
    show(format, tasks, COLUMNS, table)
    if len(tasks) == most:
        click.echo(f"merlinctl: these are the newest {most}; there may be more: --limit N", err=True)
    return Exit.OK


async def retry_tasks(
    admin: Admin, which: Mapping[str, object], confirm: Callable[[int], None] | None, format: str | None
) -> Exit:
    """Retry failed tasks; ``confirm`` gets how many match, and raises click.Abort if it isn't to be done."""
    if confirm is not None:
        count = len(await admin.tasks({**which, "retryable": "true"}, MOST_COUNTED))
        if count == 0:
            click.echo("merlinctl: none of these can be retried: their photos are deleted", err=True)
            return Exit.OK
        confirm(count)
    done = await admin.retry(which)
    count, complete = done.get("retried", 0), done.get("complete", True)
    show(format, [done], ("retried", "complete"), Table((f"{plural(count, 'task')} started anew",), []))
    if complete:
        # Of those that were named, some may be unknown, no failure, or without their photo.
        named = which.get("ids")
        left = len(set(named)) - count if isinstance(named, list) else 0
        if left:
            click.echo(
                f"merlinctl: {plural(left, 'task')} can't be retried: unknown, not failed, or no photo", err=True
            )
        return Exit.FAILED if left else Exit.OK
    click.echo("merlinctl: not all: --max-pending is reached, or merlind stops; run it again later", err=True)
    return Exit.UNFINISHED


async def pause(admin: Admin, seconds: float | None, format: str | None) -> Exit:
    """Pause the requests to the upstream."""
    return _show_pause(await admin.pause(seconds), format)


async def resume(admin: Admin, format: str | None) -> Exit:
    """End the pause."""
    return _show_pause(await admin.resume(), format)


def _show_pause(state: Values, format: str | None) -> Exit:
    left = state.get("seconds_left")
    until = "until somebody resumes it" if left is None else f"for {say(left)}"
    said = f"paused {until}: photos are taken, and none goes to the upstream" if state.get("paused") else "resumed"
    show(format, [state], ("paused", "until", "seconds_left"), Table((said,), []))
    return Exit.OK


def _flat(task: Mapping[str, Any]) -> Values:
    error = task.get("error") or {}
    values = {**task, **{name: error.get(name) for name in ("code", "detail", "source")}}
    return {name: values.get(name) for name in COLUMNS}


def _row(task: Values) -> Sequence[str]:
    age, following, kept = task["age"], task["next_attempt"], task["photo_kept_for"]
    why = f"{task['code']}: {task['detail']}" if task["code"] else task["last_error"] or ""
    return (
        str(task["task"]),
        "" if age is None else say(age),
        str(task["state"]),
        str(task["attempts"]),
        "" if following is None else "now" if following == 0 else f"in {say(following)}",
        size_of(task["size"] or 0),
        str(task["type"] or "").removeprefix("image/"),
        "" if kept is None else say(kept),
        why,
    )


def size_of(count: float) -> str:
    """Return a number of bytes for people: ``812 B``, ``2.4 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def plural(count: int, what: str) -> str:
    """Return a number of things for people: ``1 task``, ``2 tasks``."""
    return f"{count} {what}{'' if count == 1 else 's'}"

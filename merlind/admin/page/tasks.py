"""The tasks that an operator asked to see, and the forms to choose others and to retry these. No names, no photos."""

from collections.abc import Mapping, Sequence
from typing import Any

from twisted.web.template import Tag, tags

from merlind.admin.page.markup import choice, hidden, post, region
from merlind.admin.page.view import Done, View
from merlind.admin.page.words import NONE, counted, duration, moment, number, optional_duration, size
from merlind.admin.tasks import TaskPage
from merlind.core.listing import Failures, read_position
from merlind.core.task import State

PAGE = 25
"""How many tasks the page shows at once."""

MAX_COUNTED = 10_000
"""How many failed tasks are counted by code, the newest ones: to count them takes some 10 ms of the database's time."""

_STATES = {
    State.UPLOAD: "to be uploaded",
    State.POLL: "waiting for a score",
    State.READY: "scored",
    State.FAILED: "failed",
}

_AGES = (
    (300, "5 minutes"),
    (900, "15 minutes"),
    (3600, "hour"),
    (21600, "6 hours"),
    (86400, "24 hours"),
    (604800, "7 days"),
)

_HEADINGS = ("Task", "Received (UTC)", "State", "Tries and last error", "Next try", "What failed", "Photo", "Retry")


def tasks_section(view: View, page: TaskPage, failures: list[Failures], wall: float) -> Tag:
    """Return the part of the page with tasks; ``failures`` count the failed ones of the view's age, by code."""
    return region(
        "tasks",
        _codes(view, failures),
        _choose(view, failures),
        *_retry_all(view, failures, wall),
        _list(view, page),
        *_pages(view, page),
        heading="Tasks",
    )


def _codes(view: View, failures: list[Failures]) -> Tag:
    """Tell how many failed with which code; each leads to these tasks."""
    if not failures:
        return tags.p("No failed tasks.", class_="hint") if view.age is None else tags.p("None failed.", class_="hint")
    more = sum(each.count for each in failures) >= MAX_COUNTED
    items = []
    for each in failures:
        can = f", {number(each.retryable)} can be retried" if each.retryable else ""
        link = View(State.FAILED, each.code, view.age).link()
        items.append(tags.li(tags.a(tags.code(each.code), href=link + "#tasks"), f" {number(each.count)}{can}"))
    lead = f"Of the newest {number(MAX_COUNTED)} failed tasks:" if more else "Failed tasks, by their error's code:"
    return tags.div(tags.p(lead, class_="hint"), tags.ul(*items, class_="codes"))


def _choose(view: View, failures: list[Failures]) -> Tag:
    """Return the form that chooses tasks; what it asks for is in the address."""
    codes = list(dict.fromkeys([each.code for each in failures] + ([view.code] if view.code else [])))
    ages = [(str(age), f"in the last {text}") for age, text in _AGES]
    chosen_age = "" if view.age is None else str(view.age)
    if chosen_age and chosen_age not in dict(ages):
        ages.append((chosen_age, f"in the last {duration(view.age or 0)}"))
    only = tags.input(type="checkbox", name="retryable", value="true")
    if view.retryable:
        only(checked="checked")
    return tags.form(
        choice(
            "State", "state", [("", "any"), *((str(state), text) for state, text in _STATES.items())], view.state or ""
        ),
        choice("Error", "code", [("", "any or none"), *((code, code) for code in codes)], view.code or ""),
        choice("Received", "age", [("", "at any time"), *ages], chosen_age),
        tags.label(only, tags.span("Only those that can be retried"), class_="check"),
        tags.button("Show"),
        *([tags.a("Show all", href="./#tasks")] if view.filtered else []),
        method="get",
        action="./#tasks",
        class_="line filter",
    )


def _retry_all(view: View, failures: list[Failures], wall: float) -> list[Tag]:
    """Offer to retry all tasks of the view, if they are failed ones; else say where those are that can be retried."""
    if not view.failed_only:
        others = sum(each.retryable for each in failures)
        if not others:
            return []
        link = View(State.FAILED, None, view.age, retryable=True).link()
        text = counted(others, "failed task can be retried", "failed tasks can be retried")
        return [tags.p(tags.a(text, href=link + "#tasks"), ".")]
    count = view.retryable_of(failures)
    if not count:
        return [
            tags.p("None of these can be retried: only what was given up is, while its photo is kept.", class_="hint")
        ]
    counted_all = sum(each.count for each in failures) < MAX_COUNTED
    which = [("since", repr(view.since(wall)))] if view.age is not None else []
    what = f"Retry these {number(count)}" if counted_all else f"Retry all of these (more than {number(count)})"
    note = "They start anew, with all their time, as if they had just been sent."
    return [
        post(
            *hidden([("do", "retry"), *which, *view.first_page.fields()]),
            tags.button("Retry this 1" if count == 1 and counted_all else what, class_="main"),
            tags.span(note, class_="hint"),
        )
    ]


def _list(view: View, page: TaskPage) -> Tag:
    if not page.tasks:
        what = "No more tasks." if view.cursor else "No such tasks." if view.filtered else "No tasks yet."
        return tags.p(what, class_="none")
    # The roles keep it a table for screen readers where it is shown as cards, in a narrow window.
    head = tags.tr(*[tags.th(text, scope="col", role="columnheader") for text in _HEADINGS], role="row")
    rows = [_row(task) for task in page.tasks]
    table = tags.table(
        tags.caption("Tasks, the newest first", class_="unseen"),
        tags.thead(head, role="rowgroup"),
        tags.tbody(*rows, role="rowgroup"),
        role="table",
        class_="tasks",
    )
    return post(*hidden([("do", "retry"), *view.fields()]), table, class_="")


def _row(task: Mapping[str, Any]) -> Tag:
    error = task["error"]
    state = State(task["state"])
    received: list[Any] = [NONE] if task["received"] is None else [
        moment(task["received"]), tags.span(f"{duration(task['age'])} ago", class_="soft"),
    ]  # fmt: skip
    tries: list[Any] = [
        number(task["attempts"]),
        *([tags.span(task["last_error"], class_="soft")] if task["last_error"] else []),
    ]
    failed: list[Any] = [] if error is None else [tags.code(error["code"]), tags.span(error["detail"], class_="soft")]
    cells: tuple[list[Any], ...] = (
        received,
        [tags.span(_STATES[state], class_=f"kind {state}")],
        tries,
        [optional_duration(task["next_attempt"]) if task["next_attempt"] != 0 else "now"],
        failed or [NONE],
        [size(task["size"]), tags.span(task["type"], class_="soft")],
        _retry_one(task),
    )
    named = zip(_HEADINGS[1:], cells, strict=True)
    return tags.tr(
        tags.th(str(task["task"]), scope="row", role="rowheader")(**{"data-label": _HEADINGS[0]}),
        *[
            tags.td(*cell, role="cell", class_="empty" if cell == [NONE] else "")(**{"data-label": label})
            for label, cell in named
        ],
        role="row",
    )


def _retry_one(task: Mapping[str, Any]) -> list[Any]:
    kept = task["photo_kept_for"]
    if kept is None:
        return [NONE]
    button = tags.button("Retry", name="task", value=str(task["task"]))(**{"aria-label": f"Retry task {task['task']}"})
    return [button, tags.span(f"kept {duration(kept)}", class_="soft")]


def _pages(view: View, page: TaskPage) -> Sequence[Tag]:
    links = []
    if view.cursor is not None:
        links.append(tags.a("Newest tasks", href=view.first_page.link() + "#tasks"))
    if page.cursor is not None:
        older = View(view.state, view.code, view.age, view.retryable, read_position(page.cursor))
        links.append(tags.a("Older tasks", href=older.link() + "#tasks"))
    return [tags.nav(*links)(**{"aria-label": "Pages of tasks"})] if links else []


def done_text(done: Done, paused: bool) -> str | None:
    """Say what a form did; None if that is no longer so."""
    match done.did:
        case "paused":
            return "Paused." if paused else None
        case "resumed":
            return None if paused else "Resumed: requests go to the upstream again."
    if done.complete and not done.count:
        return "No task was retried: none of these is failed any more with its photo kept."
    text = counted(done.count, "failed task starts anew.", "failed tasks start anew.")
    if done.complete:
        return text
    return (
        f"{text} Not all: there are as many unfinished tasks as there may be, or merlind stops. Retry the rest later."
    )

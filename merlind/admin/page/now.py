"""How merlind stands at this moment: what an operator should see first."""

from collections.abc import Sequence

from twisted.web.template import Tag, tags

from merlind.admin.overview import Snapshot, UpstreamLimit
from merlind.admin.page.markup import choice, hidden, post, region
from merlind.admin.page.words import NONE, counted, duration, moment, number, optional_duration, size
from merlind.core.limiter import LimiterState

PAUSES = (
    ("300", "5 minutes"),
    ("900", "15 minutes"),
    ("1800", "30 minutes"),
    ("3600", "1 hour"),
    ("7200", "2 hours"),
    ("28800", "8 hours"),
    ("86400", "24 hours"),
    ("", "until resumed"),
)
"""For how long the page offers to pause, in seconds; empty is without end."""

_MOODS = {LimiterState.FULL: "good", LimiterState.REDUCED: "fair", LimiterState.OUTAGE: "bad"}


def now_section(snapshot: Snapshot) -> Tag:
    """Return the part of the page that tells how merlind stands."""
    return region(
        "now",
        tags.div(
            _answer("Taking photos", snapshot.not_taking, []),
            _answer("Working on tasks", snapshot.progress.reasons, snapshot.progress.notes),
            _upstream(snapshot.upstream, snapshot.pause.paused),
            _pause(snapshot),
            class_="answers",
        ),
        _figures(snapshot),
        heading="Now",
    )


def _part(title: str, verdict: str, *content: Tag, mood: str) -> Tag:
    """Return one question with the answer to it, which is good, fair or bad."""
    return tags.div(tags.h3(title), tags.p(verdict, class_=f"verdict {mood}"), *content, class_="answer")


def _answer(title: str, reasons: Sequence[str], notes: Sequence[str]) -> Tag:
    lists = [
        tags.ul(*[tags.li(line) for line in lines], class_=name)
        for name, lines in (("reasons", reasons), ("notes", notes))
        if lines
    ]
    return _part(title, "No" if reasons else "Yes", *lists, mood="bad" if reasons else "good")


def _upstream(upstream: UpstreamLimit, paused: bool) -> Tag:
    """Say how many requests the upstream may have, why, and until when."""
    verdict = f"{number(upstream.limit)} of {number(upstream.most)} at once"
    return _part(
        "Requests to the upstream", verdict, tags.p(why_limited(upstream, paused)), mood=_MOODS[upstream.state]
    )


def why_limited(upstream: UpstreamLimit, paused: bool) -> str:
    """Return why the upstream may have as many requests as it may, and until when, in a few sentences."""
    if upstream.state is LimiterState.FULL:
        return "Nothing holds it back."
    last = f" (last error: {upstream.last_error})" if upstream.last_error else ""
    if upstream.outage_for is None:
        return f"Reduced{last}. It grows with each good response."
    left = upstream.next_request_in or 0.0
    when = "when the pause ends" if paused else f"in {duration(left)}" if left else "now"
    return (
        f"Nobody has got a score for {duration(upstream.outage_for)}{last}. One probe at a time, the next one {when}; "
        "the first good response ends this."
    )


def _pause(snapshot: Snapshot) -> Tag:
    """Offer to pause, or to resume and to move the end."""
    paused, until = snapshot.pause.paused, snapshot.pause.until
    chosen = choice("Pause for" if not paused else "Or pause from now on for", "seconds", PAUSES, "1800")
    form = post(*hidden([("do", "pause")]), chosen, tags.button("Pause" if not paused else "Change"))
    if not paused:
        said = "No new request would go to the upstream. No task loses time to a pause, and it outlasts a restart."
        return _part("Pause", "Not paused", form, tags.p(said, class_="hint"), mood="good")
    if until is None or snapshot.pause_left is None:
        ends = "Until somebody resumes."
    else:
        ends = f"Until {moment(until)} UTC, in {duration(snapshot.pause_left)}."
    resume = post(*hidden([("do", "resume")]), tags.button("Resume now", class_="main"))
    return _part("Pause", "Paused", tags.p(ends), resume, form, mood="bad")


def _figures(snapshot: Snapshot) -> Tag:
    free = NONE if snapshot.disk_free is None else size(snapshot.disk_free)
    figures = (
        ("Unfinished", number(snapshot.unfinished), "tasks without a score yet"),
        ("Due", number(snapshot.due), "wait for a free request"),
        ("In flight", number(snapshot.in_flight), "requests to the upstream"),
        ("Oldest", optional_duration(snapshot.oldest), "unfinished, without pauses"),
        ("Scored", number(snapshot.by_state["ready"]), "and still kept"),
        ("Failed", number(snapshot.by_state["failed"]), "and still kept"),
        ("Disk free", free, f"at least {size(snapshot.min_disk_free)} stay free"),
        ("Photos", size(snapshot.spool_bytes), "kept on the disk"),
    )
    return tags.dl(
        *[tags.div(tags.dt(name), tags.dd(tags.b(value), tags.span(text))) for name, value, text in figures],
        class_="figures",
    )


def summary(snapshot: Snapshot) -> str:
    """Return the title of the page: what matters most, in a few words, for a tab among many."""
    problems = [
        word
        for word, wrong in (
            ("paused", snapshot.pause.paused),
            ("not taking photos", bool(snapshot.not_taking)),
            ("not working", bool(snapshot.progress.reasons) and not snapshot.pause.paused),
        )
        if wrong
    ]
    said = ", ".join(problems) if problems else "all is well"
    return f"merlind: {said}, {counted(snapshot.unfinished, 'unfinished task', 'unfinished tasks')}"

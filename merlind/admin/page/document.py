"""Puts the page together: its head, its style sheet and its one small script, and the policy that allows no others."""

import json
from importlib.resources import files
from typing import Any

from twisted.web.template import Tag, tags

from merlind.admin.overview import Snapshot
from merlind.admin.page.hour import Minutes, hour_section
from merlind.admin.page.now import now_section, summary
from merlind.admin.page.tasks import done_text, tasks_section
from merlind.admin.page.view import Done, View
from merlind.admin.page.words import duration, moment
from merlind.admin.tasks import TaskPage
from merlind.core.listing import Failures
from merlind.web.accept import prefers_html
from merlind.web.page.html import flatten, hash_source, security_policy
from merlind.web.page.html_response import html_response
from merlind.web.response import PROBLEM, Response
from merlind.web.server.head import Head


def _file(package: str, name: str) -> bytes:
    return files(package).joinpath(name).read_bytes()


_STYLE = _file("merlind.web.page", "page.css") + b"\n" + _file("merlind.admin.page", "admin.css")
_SCRIPT = _file("merlind.admin.page", "refresh.js")


def _main(*content: Any) -> Tag:
    """Return the part of the page that isn't the same on each; Twisted doesn't know this tag."""
    return Tag("main", {}, list(content))


POLICY = security_policy(
    {"style-src": [hash_source(_STYLE)], "script-src": [hash_source(_SCRIPT)], "img-src": ["data:"]}
)
"""The Content-Security-Policy: the page's own style sheet and script, and forms to this listener."""

_ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E"
    "%3Crect width='16' height='16' rx='4' fill='%230f6674'/%3E"
    "%3Cpath d='M3 11l3-4 3 2 4-5' fill='none' stroke='%23fff' stroke-width='1.6'/%3E%3C/svg%3E"
)


def admin_page(
    view: View,
    snapshot: Snapshot,
    minutes: Minutes,
    page: TaskPage,
    failures: list[Failures],
    done: Done | None = None,
    refreshes: bool = False,
) -> Response:
    """Return the whole page; if it ``refreshes``, it loads itself again now and then."""
    said = None if done is None else done_text(done, snapshot.pause.paused)
    live = tags.a("Stop refreshing", href="?refresh=off") if refreshes else tags.a("Refresh by itself", href="./")
    facts = f"Version {snapshot.version}, up for {duration(snapshot.uptime)}. As of {moment(snapshot.wall)} UTC. "
    body = (
        tags.header(tags.h1("merlind"), tags.p(facts, live, class_="hint")),
        _main(
            *([tags.p(said, class_="card done", role="status")] if said else []),
            now_section(snapshot),
            hour_section(minutes),
            tasks_section(view, page, failures, snapshot.wall),
        ),
        tags.footer(tags.p("The same for programs: ", tags.code("curl"), " this address. Health, metrics and tasks as "
                           "JSON: docs/contract.md, “Admin side”.")),
    )  # fmt: skip
    return _document(200, summary(snapshot), body, refreshes)


def for_people(head: Head, response: Response) -> Response:
    """Return an error as a page to a browser, and every other response as it is."""
    if response.content_type != PROBLEM or not prefers_html(head):
        return response
    problem = json.loads(response.body)
    body = (
        tags.header(tags.h1("merlind")),
        _main(
            tags.section(
                tags.h2(problem["title"]), tags.p(problem["detail"]), tags.p(tags.a("Back", href="./")), class_="card"
            )
        ),
    )
    page = _document(response.code, f"merlind: {problem['title']}", body)
    return Response(page.code, page.body, page.content_type, (*page.headers, *response.headers))


def _document(status: int, title: str, body: tuple[Tag, ...], with_script: bool = False) -> Response:
    head = flatten(
        tags.transparent(
            tags.meta(charset="utf-8"),
            tags.meta(name="viewport", content="width=device-width, initial-scale=1"),
            tags.meta(name="color-scheme", content="light dark"),
            tags.meta(name="robots", content="noindex"),
            tags.title(title),
            tags.link(rel="icon", href=_ICON),
        )
    )
    # What is in <style> and <script> must not be escaped, so it is no tag.
    html = b'<!doctype html>\n<html lang="en"><head>%b<style>%b</style></head>%b%b</html>\n' % (
        head,
        _STYLE,
        flatten(tags.body(*body, class_="admin")),
        b"<script>%b</script>" % _SCRIPT if with_script else b"",
    )
    return html_response(status, html, POLICY, "en")

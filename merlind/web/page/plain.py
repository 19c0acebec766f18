"""The pages for browsers without JavaScript: an adapter that makes HTML of the API's responses, by their JSON.

A POST leads to the task's page with 303, so that a reload posts nothing; that page loads itself until the task is
finished. Programs, which don't prefer HTML, get their responses as they are.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from twisted.web.template import Tag

from merlind.web.accept import language_in_query, parameters, preferred_language, prefers_html
from merlind.web.page.facts import Facts
from merlind.web.page.html_response import html_response
from merlind.web.page.links import link
from merlind.web.page.measures import score
from merlind.web.page.template import inline, localized, only, read_template, to_html
from merlind.web.page.texts import LANGUAGES, Texts
from merlind.web.response import JSON, PROBLEM, Response
from merlind.web.server.head import Head

REFRESH = 3
"""Seconds after which the page of a task that waits loads itself again."""

_OF_TASK = (b"Location", b"Content-Location", b"Retry-After")
"""Headers of a POST's response that are about the task, and not for the redirection to its page."""


@dataclass(frozen=True, slots=True)
class _View:
    """What a page shows: ``states`` choose the parts of the template, and ``text`` says what is to be said."""

    states: frozenset[str]
    text: str
    number: str = ""
    refresh: bool = False

    @classmethod
    def of(cls, *states: str, text: str, number: str = "", refresh: bool = False) -> "_View":
        return cls(frozenset(states), text, number, refresh)


class PlainPages:
    """Makes the pages. Raises KeyError if one refers to a text that isn't there."""

    def __init__(self, facts: Facts) -> None:
        self._texts = {language: facts.texts(language) for language in LANGUAGES}
        template = read_template("result.html")
        pages = {language: localized(template, self._texts[language], facts.scorer) for language in LANGUAGES}

        @lru_cache(maxsize=64)
        def page(language: str, states: frozenset[str]) -> Tag:
            return only(pages[language], states)

        self._page = page

    def adapt(self, head: Head, response: Response) -> Response:
        """Return a response as a browser should get it, if one asks."""
        if head.path != b"/" or head.method not in (b"GET", b"HEAD", b"POST"):
            return response
        if not response.body or not prefers_html(head):
            return response
        if response.content_type == PROBLEM:
            return self._error(head, response)
        if response.content_type == JSON:
            return self._redirected(head, response) if head.method == b"POST" else self._task(head, response)
        return response

    def _redirected(self, head: Head, response: Response) -> Response:
        """Lead the browser from its POST to the task's page."""
        task_id = int(json.loads(response.body)["task"])
        location = link(language_in_query(head, LANGUAGES), task_id).encode("ascii")
        kept = tuple(header for header in response.headers if header[0] not in _OF_TASK)
        return Response(303, b"", b"text/html; charset=utf-8", ((b"Location", location), *kept))

    def _task(self, head: Head, response: Response) -> Response:
        texts = self._texts[preferred_language(head, LANGUAGES)]
        query = parameters(head.query)
        view = _view_of_task(texts, json.loads(response.body), "erased" in query)
        return self._made(head, response, texts, view, int(query.get("task_id", 0)))

    def _error(self, head: Head, response: Response) -> Response:
        texts = self._texts[preferred_language(head, LANGUAGES)]
        problem = json.loads(response.body)
        return self._made(head, response, texts, _View.of("error", text=_error_text(texts, problem)))

    def _made(self, head: Head, response: Response, texts: Texts, view: _View, task_id: int | None = None) -> Response:
        language = language_in_query(head, LANGUAGES)
        title = texts.say("title")
        html, policy = inline(
            to_html(
                self._page(texts.language, view.states),
                title=f"{view.text} · {title}" if view.number else title,
                text=view.text,
                number=view.number,
                task=str(task_id),
                here=link(language, task_id),
                back=link(language),
                **{each: link(each, task_id) for each in LANGUAGES},
            )
        )
        page = html_response(response.code, html, policy, texts.language)
        refresh = ((b"Refresh", b"%d" % REFRESH),) if view.refresh else ()
        return replace(page, headers=(*page.headers, *refresh, *response.headers))


def _view_of_task(texts: Texts, task: Mapping[str, Any], erased: bool) -> _View:
    match task["status"]:
        case "wait":
            return _View.of("waiting", text=texts.say("plain.waiting", seconds=REFRESH), refresh=True)
        case "ready":
            result = task["result"]
            gauge = ("gauge",) if 0 <= result <= 1 else ()
            text = texts.say("score_is", score=score(texts, result))
            return _View.of("score", *gauge, text=text, number=str(result))
        case "failed":
            return _View.of("failed", text=_failure_text(texts, task["error"]))
        case _ if erased:
            return _View.of("erased", text=texts.say("plain.erased"))
        case _:
            return _View.of("not_found", text=texts.say("error.not_found"))


def _failure_text(texts: Texts, error: Mapping[str, str]) -> str:
    """Return the text for a failed task; what the scoring service says for a code that has none of its own."""
    key = f"failed.{error['code']}"
    return texts.say(key if key in texts else "failed.upstream_error", detail=error["detail"])


def _error_text(texts: Texts, problem: Mapping[str, str]) -> str:
    """Return the text for an error: one for these pages, else the script's, else what the server says to programs."""
    keys = (f"plain.{problem['code']}", f"error.{problem['code']}", "error.other")
    return texts.say(next(key for key in keys if key in texts), detail=problem["detail"])

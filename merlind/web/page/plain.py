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
from merlind.web.page import wording
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
    odds: str = ""
    refresh: bool = False

    @classmethod
    def of(cls, *states: str, text: str, refresh: bool = False) -> "_View":
        return cls(frozenset(states), text, refresh=refresh)

    @classmethod
    def of_score(cls, texts: Texts, scorer: str, result: float) -> "_View":
        odds = wording.odds(texts, scorer, result)
        shown = {"score": True, "gauge": 0 <= result <= 1, "odds": bool(odds)}
        text = texts.say("score_is", score=score(texts, result))
        return cls(frozenset(state for state in shown if shown[state]), text, str(result), odds)


class PlainPages:
    """Makes the pages. Raises KeyError if one refers to a text that isn't there."""

    def __init__(self, facts: Facts) -> None:
        self._scorer = facts.scorer
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
        return Response(303, b"", b"text/html; charset=utf-8", ((b"Location", location), *kept), response.task)

    def _task(self, head: Head, response: Response) -> Response:
        texts = self._texts[preferred_language(head, LANGUAGES)]
        query = parameters(head.query)
        view = _view_of_task(texts, self._scorer, json.loads(response.body), "erased" in query)
        return self._made(head, response, texts, view, int(query.get("task_id", 0)))

    def _error(self, head: Head, response: Response) -> Response:
        texts = self._texts[preferred_language(head, LANGUAGES)]
        problem = json.loads(response.body)
        return self._made(head, response, texts, _View.of("error", text=wording.request_error(texts, problem)))

    def _made(self, head: Head, response: Response, texts: Texts, view: _View, task_id: int | None = None) -> Response:
        language = language_in_query(head, LANGUAGES)
        title = texts.say("title")
        html, policy = inline(
            to_html(
                self._page(texts.language, view.states),
                title=f"{view.text} · {title}" if view.number else title,
                text=view.text,
                number=view.number,
                odds=view.odds,
                task=str(task_id),
                here=link(language, task_id),
                back=link(language),
                **{each: link(each, task_id) for each in LANGUAGES},
            )
        )
        page = html_response(response.code, html, policy, texts.language)
        refresh = ((b"Refresh", b"%d" % REFRESH),) if view.refresh else ()
        headers = (*page.headers, *refresh, *response.headers)
        return replace(page, headers=headers, task=response.task, problem=response.problem)


def _view_of_task(texts: Texts, scorer: str, task: Mapping[str, Any], erased: bool) -> _View:
    match task["status"]:
        case "wait":
            return _View.of("waiting", text=texts.say("plain.waiting", seconds=REFRESH), refresh=True)
        case "ready":
            return _View.of_score(texts, scorer, task["result"])
        case "failed":
            return _View.of("failed", text=wording.failure(texts, task["error"]))
        case _ if erased:
            return _View.of("erased", text=texts.say("plain.erased"))
        case _:
            return _View.of("not_found", text=texts.say("error.not_found"))

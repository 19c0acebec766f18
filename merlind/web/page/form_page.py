"""The page with the form, where a browser begins: one response for each language, made when merlind starts."""

import gzip
import json
from dataclasses import replace
from typing import Any

from merlind.web.accept import accepts_gzip, preferred_language
from merlind.web.page.facts import Facts
from merlind.web.page.html_response import html_response
from merlind.web.page.template import inline, localized, read_template, to_html
from merlind.web.page.texts import LANGUAGES
from merlind.web.response import Response
from merlind.web.server.head import Head

_SERVER_ONLY = "plain."
"""What the keys begin with of texts that the script doesn't need."""


class FormPage:
    """The page. Raises KeyError if it refers to a text that isn't there."""

    def __init__(self, facts: Facts) -> None:
        self._plain = {language: _assemble(facts, language) for language in LANGUAGES}
        self._gzipped = {language: _gzipped(response) for language, response in self._plain.items()}

    def respond(self, head: Head) -> Response:
        """Return the page in the language of the request."""
        responses = self._gzipped if accepts_gzip(head) else self._plain
        return responses[preferred_language(head, LANGUAGES)]


def _assemble(facts: Facts, language: str) -> Response:
    texts = facts.texts(language)
    blocks = {
        "texts": _script_json({key: text for key, text in texts.items() if not key.startswith(_SERVER_ONLY)}),
        "facts": _script_json(facts.for_script(language)),
    }
    html, policy = inline(to_html(localized(read_template("index.html"), texts, facts.scorer, blocks)))
    response = html_response(200, html, policy, language)
    return response.with_header(b"Vary", b"Accept-Encoding")


def _gzipped(response: Response) -> Response:
    smaller = replace(response, body=gzip.compress(response.body, mtime=0))
    return smaller.with_header(b"Content-Encoding", b"gzip")


def _script_json(value: Any) -> str:
    """Return JSON that neither ends the script element that it is in nor needs escapes of HTML."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")

"""Fills the page's templates in; what their attributes mean stands at the top of index.html and result.html."""

import re
from base64 import b64encode
from collections.abc import Collection, Mapping
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any

from twisted.web.template import Comment, Tag, XMLString, flattenString

from merlind.web.page.texts import Texts

_SOURCE = files("merlind.web.page")
_TEXT = "data-t"
_IF = "data-if"

# What a reference to a file looks like when it is flattened. Texts can't: their < is escaped.
_REFERENCE = re.compile(rb'<link rel="stylesheet" href="([a-z_-]+\.css)" />|<script src="([a-z_-]+\.js)"></script>')

_END = re.compile(rb"</(?:script|style)|<!--", re.IGNORECASE)


def read_template(name: str) -> Tag:
    """Read a template, without the comments in it."""
    return _without_comments(Tag("", children=XMLString(_SOURCE.joinpath(name).read_text("utf-8")).load()))


def _without_comments(tag: Tag) -> Tag:
    kept = [child for child in tag.children if not isinstance(child, Comment)]
    return _copy(tag, tag.attributes, [_without_comments(child) if isinstance(child, Tag) else child for child in kept])


def localized(tag: Tag, texts: Texts, scorer: str, blocks: Mapping[str, str] | None = None) -> Tag:
    """Return a template with the texts in their places, for a kind of scorer; ``blocks`` go into elements by id."""
    blocks = blocks or {}
    children = [localized(child, texts, scorer, blocks) if isinstance(child, Tag) else child for child in tag.children]
    attributes: dict[str, Any] = {}
    for name, value in tag.attributes.items():
        plain = str(name)
        if plain == _TEXT:
            children = [texts.say(str(value))]
        elif plain.startswith(_TEXT + "-"):
            attributes[plain.removeprefix(_TEXT + "-")] = texts.say(str(value))
        else:
            attributes[plain] = value
    if attributes.get("id") in blocks:
        children = [blocks[attributes["id"]]]
    if attributes.get("hreflang") == texts.language:
        attributes["aria-current"] = "true"
    if tag.tagName == "html":
        attributes |= {"lang": texts.language, "data-scorer": scorer}
    return _copy(tag, attributes, children)


def only(tag: Tag, states: Collection[str]) -> Tag:
    """Return a template without the elements that are for other states than these."""
    children = []
    for child in tag.children:
        if isinstance(child, Tag):
            wanted = child.attributes.get(_IF)
            if isinstance(wanted, str) and not set(wanted.split()) & set(states):
                continue
            child = only(child, states)
        children.append(child)
    return _copy(tag, {name: value for name, value in tag.attributes.items() if name != _IF}, children)


def _copy(tag: Tag, attributes: Mapping[Any, Any], children: list[Any]) -> Tag:
    return Tag(tag.tagName, dict(attributes), children)


def to_html(tag: Tag, **slots: str) -> bytes:
    """Return a template as HTML, with its slots filled in and everything escaped."""
    whole = tag.clone(deep=False)
    whole.fillSlots(**slots)
    result: list[bytes] = []
    # It waits for nothing, so it fires at once.
    flattenString(None, whole).addCallback(result.append).addErrback(lambda failure: failure.raiseException())
    return b"<!doctype html>\n" + result[0]


def inline(html: bytes) -> tuple[bytes, str]:
    """Put the style sheets and scripts that are referred to into the page itself.

    Returns the page and the Content-Security-Policy that allows these, by their hashes, and nothing else.
    """
    hashes: dict[str, list[str]] = {"style-src": [], "script-src": []}

    def content(found: re.Match[bytes]) -> bytes:
        style, script = found.groups()
        text, text_hash = _read_with_hash((style or script).decode("ascii"))
        hashes["style-src" if style else "script-src"].append(text_hash)
        return b"<style>%b</style>" % text if style else b"<script>%b</script>" % text

    whole = _REFERENCE.sub(content, html)
    directives = ["default-src 'none'"]
    directives += [f"{name} {' '.join(allowed)}" for name, allowed in hashes.items() if allowed]
    directives += [
        "connect-src 'self'",
        "img-src data: blob:",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    ]
    return whole, "; ".join(directives)


@cache
def _read_with_hash(name: str) -> tuple[bytes, str]:
    """Read a style sheet or a script; returns it and its hash as a Content-Security-Policy has it."""
    text = _SOURCE.joinpath(name).read_bytes()
    assert not _END.search(text), f"{name} would end the element that it is in, or begin a comment"
    return text, f"'sha256-{b64encode(sha256(text).digest()).decode('ascii')}'"

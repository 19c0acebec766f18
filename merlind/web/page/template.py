"""Fills the page's templates in; what their attributes mean stands at the top of index.html and result.html."""

import re
from collections.abc import Collection, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from twisted.web.template import Comment, Tag, XMLString

from merlind.web.page.html import flatten, hash_source, security_policy
from merlind.web.page.texts import Texts

_SOURCE = files("merlind.web.page")
_TEXT = "data-t"
_IF = "data-if"

# What a reference to a file looks like when it is flattened. Texts can't: their < is escaped.
_REFERENCES = re.compile(
    rb'(?P<style><link rel="stylesheet" href="[a-z_-]+\.css" />)|(?:<script src="[a-z_-]+\.js"></script>\s*)+'
)
_FILE_NAME = re.compile(rb'"([a-z_-]+\.(?:css|js))"')

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
    return b"<!doctype html>\n" + flatten(whole)


def inline(html: bytes) -> tuple[bytes, str]:
    """Put the style sheets and scripts that are referred to into the page itself; scripts in a row become one.

    Returns the page and the Content-Security-Policy that allows these, by their hashes, and nothing else.
    """
    hashes: dict[str, list[str]] = {"style-src": [], "script-src": []}

    def content(found: re.Match[bytes]) -> bytes:
        text, text_hash = _read_joined(tuple(_FILE_NAME.findall(found[0])))
        hashes["style-src" if found["style"] else "script-src"].append(text_hash)
        return b"<style>%b</style>" % text if found["style"] else b"<script>%b</script>\n" % text

    whole = _REFERENCES.sub(content, html)
    return whole, security_policy({**hashes, "connect-src": ["'self'"], "img-src": ["data:", "blob:"]})


@cache
def _read_joined(names: tuple[bytes, ...]) -> tuple[bytes, str]:
    """Read files as one; returns that and its hash as a Content-Security-Policy has it."""
    text = b"\n".join(_SOURCE.joinpath(name.decode("ascii")).read_bytes() for name in names)
    assert not _END.search(text), f"{names} would end the element that they are in, or begin a comment"
    return text, hash_source(text)

"""The elements that the page is made of."""

from collections.abc import Iterable
from typing import Any

from twisted.web.template import Tag, tags


def region(name: str, *content: Any, class_: str = "card", heading: str) -> Tag:
    """Return a part of the page with a heading of its own; ``name`` is its id."""
    return tags.section(tags.h2(heading, id=f"{name}-heading"), *content, class_=class_, id=name)(
        **{"aria-labelledby": f"{name}-heading"}
    )


def scrolling(*content: Any, label: str) -> Tag:
    """Return what is wider than a small window, in a part that scrolls by itself, also from the keyboard."""
    return tags.div(*content, class_="scroll", tabindex="0", role="region")(**{"aria-label": label})


def hidden(fields: Iterable[tuple[str, str]]) -> list[Tag]:
    """Return fields that a form sends without being seen."""
    return [tags.input(type="hidden", name=name, value=value) for name, value in fields]


def choice(label: str, name: str, options: Iterable[tuple[str, str]], chosen: str) -> Tag:
    """Return a labelled list to choose from; ``options`` are values with what is said for them."""
    shown = [tags.option(text, value=value) for value, text in options]
    for option in shown:
        if option.attributes["value"] == chosen:
            option(selected="selected")
    return tags.label(tags.span(label), tags.select(*shown, name=name))


def post(*content: Any, class_: str = "line") -> Tag:
    """Return a form that posts to the page itself, whatever the query of its address is."""
    return tags.form(*content, method="post", action="./", class_=class_)

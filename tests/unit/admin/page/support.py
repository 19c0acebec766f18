"""Reads the page as a browser does, as far as the tests need it."""

import re
from collections.abc import Iterable
from xml.etree import ElementTree

from twisted.web.template import Tag

from merlind.web.page.html import flatten

_NOT_XML = re.compile(r"<!doctype html>\n|<style>.*?</style>|<script>.*?</script>", re.DOTALL)


class Html:
    """A page, or a part of one. It must be well-formed: what is not escaped breaks it."""

    def __init__(self, html: bytes) -> None:
        self.root = ElementTree.fromstring(_NOT_XML.sub("", html.decode("utf-8")))

    @classmethod
    def of(cls, tag: Tag) -> "Html":
        return cls(flatten(tag))

    @property
    def text(self) -> str:
        """All that one can read, on one line."""
        return words(self.root)

    def all(self, path: str) -> list[ElementTree.Element]:
        return self.root.findall(f".//{path}")

    def texts(self, path: str) -> list[str]:
        return [words(element) for element in self.all(path)]

    def one(self, path: str) -> ElementTree.Element:
        (found,) = self.all(path)
        return found

    def href(self, text: str) -> str:
        """The address of the one link with this text."""
        (found,) = {link.attrib["href"] for link in self.all("a") if words(link) == text}
        return found

    def fields(self, button: str) -> dict[str, str]:
        """What the form with this button sends when it is pressed as the form comes."""
        (form,) = [form for form in self.all("form") if button in {words(each) for each in form.iter("button")}]
        sent = {
            field.attrib["name"]: field.attrib["value"]
            for field in form.iter("input")
            if field.attrib["type"] == "hidden" or "checked" in field.attrib
        }
        for select in form.iter("select"):
            (sent[select.attrib["name"]],) = [
                option.attrib["value"] for option in select.iter("option") if "selected" in option.attrib
            ] or [next(select.iter("option")).attrib["value"]]
        return sent


def words(element: ElementTree.Element) -> str:
    """The text in an element, on one line."""
    return " ".join(_pieces(element.itertext()))


def _pieces(texts: Iterable[str]) -> Iterable[str]:
    for text in texts:
        yield from text.split()

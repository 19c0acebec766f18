"""What the tests of the pages share: a page as a browser's parser reads it."""

from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser

from merlind.web.page.facts import Facts
from merlind.web.server.head import Head

FACTS = Facts("url", "faces.example.org", 2592000.0, 172800.0, 10485760)

VOID = frozenset({"link", "meta", "input", "img", "br"})
"""Elements without an end."""


class Page(HTMLParser):
    """A page: its elements with their attributes, and what is in style and script elements."""

    def __init__(self, html: bytes) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.styles: list[str] = []
        self.scripts: list[str] = []
        self.blocks: dict[str, str] = {}
        """The contents of the script elements that aren't scripts, by id."""
        self.words = ""
        self.open: list[str] = []
        self.feed(html.decode("utf-8"))
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in VOID, tag
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        inside = self.open[-1] if self.open else ""
        attributes = self.elements[-1][1] if self.elements else {}
        if inside == "style":
            self.styles.append(data)
        elif inside == "script" and (attributes.get("type") or "") == "application/json":
            self.blocks[attributes["id"] or ""] = data
        elif inside == "script":
            self.scripts.append(data)
        else:
            self.words += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of all elements with this name."""
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        """The words of the page, with single spaces."""
        return " ".join(self.words.split())


def hash_of(text: str) -> str:
    """The hash of a style sheet or a script, as a Content-Security-Policy has it."""
    return f"'sha256-{b64encode(sha256(text.encode('utf-8')).digest()).decode('ascii')}'"


def directives(policy: str) -> dict[str, list[str]]:
    """A Content-Security-Policy, read."""
    parts = [directive.split() for directive in policy.split(";")]
    return {name: values for name, *values in parts}


def head(target: str = "/", method: str = "GET", **fields: str) -> Head:
    """The head of a request; ``fields`` have _ for -."""
    named = [(name.replace("_", "-").encode("ascii"), value.encode("latin-1")) for name, value in fields.items()]
    return Head(f"{method} {target} HTTP/1.1".encode("ascii"), [(b"Host", b"localhost"), *named])

"""The documentation's links: each leads to a file, and to a heading, that exists."""

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).parents[2]
"""Where the README lies. An installed package has no documentation, so the tests run from a checkout."""

PAGES = (
    "README.md",
    "README.ru.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "bench/README.md",
    *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")),
)

_FENCE = re.compile(r"^ {0,3}(```|~~~).*?^ {0,3}\1[^\n]*$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)", re.DOTALL)
_LINK = re.compile(r"\]\(\s*<?([^\s)>]+)>?[^)]*\)")
_REFERENCE = re.compile(r"^ {0,3}\[[^\]]+\]:\s*<?([^\s>]+)", re.MULTILINE)
_HEADING = re.compile(r"^ {0,3}#{1,6}[ \t]+(.*?)[ \t]*#*[ \t]*$", re.MULTILINE)
_MARKUP = re.compile(r"!?\[([^\]]*)\]\([^)]*\)|<[^>]+>")


def links(text: str) -> list[str]:
    """What the links and images of a page lead to, those in code aside."""
    prose = _CODE.sub("", _FENCE.sub("", text))
    return _LINK.findall(prose) + _REFERENCE.findall(prose)


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them: a heading that comes again gets a number."""
    found: set[str] = set()
    for heading in _HEADING.findall(_FENCE.sub("", text)):
        words = _MARKUP.sub(lambda match: match[1] or "", heading).replace("`", "").strip().lower()
        slug = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        anchor, number = slug, 0
        while anchor in found:
            number += 1
            anchor = f"{slug}-{number}"
        found.add(anchor)
    return found


class LinkTests(SynchronousTestCase):
    """The pages of this repository."""

    def faults(self, page: str) -> list[str]:
        """The links of a page that lead nowhere."""
        path = ROOT / page
        found = []
        for link in links(path.read_text("utf-8")):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.exists() or not target.is_relative_to(ROOT.resolve()):
                found.append(f"{page}: {link}: no such file")
            elif parts.fragment and unquote(parts.fragment) not in anchors(target.read_text("utf-8")):
                found.append(f"{page}: {link}: no such heading")
        return found

    def test_links_lead_somewhere(self) -> None:
        """Every relative link leads to a file of the repository, and its anchor to a heading there."""
        self.assertEqual([fault for page in PAGES for fault in self.faults(page)], [])


class ReadingTests(SynchronousTestCase):
    """What is a link, and what a heading is called."""

    def test_links(self) -> None:
        """Links, images and references count; what only looks like one, in code, doesn't."""
        text = (
            "[a](one.md) and ![b](two.svg) and [c](<three.md> 'title') and [![d](four.svg)](#five)\n\n"
            "[six]: six.md#x\n\n`[no](seven.md)` and ``[no](`eight.md)``\n\n```sh\n[no](nine.md)\n```\n"
        )
        self.assertEqual(links(text), ["one.md", "two.svg", "three.md", "four.svg", "#five", "six.md#x"])

    def test_anchors(self) -> None:
        """Small letters, hyphens for spaces, no punctuation, a number for what comes again."""
        text = (
            "# A `task`, and what becomes of it\n## Waiting (Prefer)\n## [Linked](x.md) words ##\n## Été à -- Осло_1\n"
            "## Again\n### Again\n\n```sh\n# no heading\n```\n#nor this\n"
        )
        expected = {"a-task-and-what-becomes-of-it", "waiting-prefer", "linked-words", "été-à----осло_1"}
        self.assertEqual(anchors(text), {*expected, "again", "again-1"})

"""Checks how a page looks, at all widths and in both themes: axe-core finds nothing, and nothing is too wide."""

import json
from functools import cache
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.browser.support import NARROW, PLAYWRIGHT, SMALL, WIDE

if PLAYWRIGHT:
    import axe_playwright_python  # type: ignore[import-untyped]
    from playwright.sync_api import Page


@cache
def _axe() -> str:
    return (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text("utf-8")


def assert_looks_good(case: SynchronousTestCase, page: "Page") -> None:
    """Check the page as it is now."""
    page.evaluate(_axe())
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme, reduced_motion="reduce")
        for width in (SMALL, NARROW, WIDE):
            page.set_viewport_size({"width": width, "height": 800})
            with case.subTest(theme=theme, width=width):
                found = page.evaluate("axe.run()")["violations"]
                places = [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in found]
                case.assertEqual(places, [], json.dumps(found, indent=1)[:3000])
                case.assertEqual(page.evaluate("document.documentElement.scrollWidth"), width)

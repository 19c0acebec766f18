"""Templates: texts and values in their places, escaped; style and script inlined."""

from importlib.resources import files

from twisted.trial.unittest import SynchronousTestCase
from twisted.web.template import Tag, XMLString

from merlind.web.page import template
from merlind.web.page.template import inline, localized, only, read_template, to_html
from merlind.web.page.texts import Texts

HOSTILE = "<script>alert('&amp;\"')</script>"

SAFE = "&lt;script&gt;alert('&amp;amp;\"')&lt;/script&gt;"


def _parsed(xml: str) -> Tag:
    return Tag("", children=XMLString(f'<t:transparent xmlns:t="{NAMESPACE}">{xml}</t:transparent>').load())


NAMESPACE = "http://twistedmatrix.com/ns/twisted.web.template/0.1"


class TemplateTests(SynchronousTestCase):
    """Filling in."""

    def filled(self, xml: str, **texts: str) -> str:
        """What becomes of a piece of a template."""
        html = to_html(localized(_parsed(xml), Texts("ru", texts), "face", {"block": "{}"}))
        return html.decode("utf-8").removeprefix("<!doctype html>\n")

    def test_texts(self) -> None:
        """Texts are an element's content, or an attribute of it, and what marks their place is gone."""
        self.assertEqual(
            self.filled('<p class="x" data-t="a" data-t-title="b"><b>old</b></p>', a="A", b="B"),
            '<p class="x" title="B">A</p>',
        )

    def test_escaped(self) -> None:
        """No text brings markup of its own."""
        self.assertEqual(self.filled('<p data-t="a"></p>', a=HOSTILE), f"<p>{SAFE}</p>")
        self.assertEqual(self.filled('<p data-t-title="a"></p>', a='"<'), '<p title="&quot;&lt;"></p>')

    def test_slots_escaped(self) -> None:
        """No value does."""
        tag = _parsed('<a><t:attr name="href"><t:slot name="x"/></t:attr><t:slot name="x"/></a>')
        html = to_html(localized(tag, Texts("en", {}), "url"), x='?a&"<').decode("utf-8")
        self.assertEqual(html, '<!doctype html>\n<a href="?a&amp;&quot;&lt;">?a&amp;"&lt;</a>')

    def test_language(self) -> None:
        """The page says its language, its scorer, and which link is to its own language."""
        self.assertEqual(
            self.filled('<html><a hreflang="en"></a><a hreflang="ru"></a></html>'),
            '<html lang="ru" data-scorer="face"><a hreflang="en"></a><a hreflang="ru" aria-current="true"></a></html>',
        )

    def test_blocks(self) -> None:
        """Data goes into an element by its id."""
        self.assertEqual(self.filled('<script id="block"></script>'), '<script id="block">{}</script>')

    def test_only(self) -> None:
        """Elements for other states are left out, with all that is in them."""
        tag = only(_parsed('<p data-if="a b"><i data-if="c">1</i><b data-if="b">2</b></p><u data-if="d"></u>'), {"b"})
        self.assertEqual(to_html(tag), b"<!doctype html>\n<p><b>2</b></p>")

    def test_comments(self) -> None:
        """What the templates tell their authors doesn't go out."""
        for name in ("index.html", "result.html"):
            self.assertNotIn("Comment(", repr(read_template(name)))

    def test_inline_only_references(self) -> None:
        """Only a reference to a file of the page's own becomes its content: a text that looks like one doesn't."""
        html, policy = inline(to_html(localized(_parsed('<p data-t="a"/>'), Texts("en", {"a": SCRIPT}), "url")))
        self.assertNotIn(b"<script", html)
        self.assertNotIn("script-src", policy)
        html, policy = inline(SCRIPT.encode("ascii"))
        self.assertEqual(
            html, b"<script>" + files("merlind.web.page").joinpath("page.js").read_bytes() + b"</script>\n"
        )
        self.assertIn("script-src 'sha256-", policy)

    def test_scripts_in_a_row(self) -> None:
        """Scripts in a row become one, in order: their files are parts of one program."""
        html, policy = inline(b'<script src="text.js"></script>\n' + SCRIPT.encode("ascii"))
        source = files("merlind.web.page")
        texts = [source.joinpath(name).read_bytes() for name in ("text.js", "page.js")]
        self.assertEqual(html, b"<script>" + b"\n".join(texts) + b"</script>\n")
        self.assertEqual(policy.count("sha256-"), 1)

    def test_end_of_script(self) -> None:
        """A script that would end its own element is never served."""
        self.addCleanup(template._read_joined.cache_clear)
        for text in ("x = '</SCRIPT>'", "x = '<!-- <script'"):
            template._read_joined.cache_clear()
            self.patch(template, "_SOURCE", _Files(text))
            self.assertRaises(AssertionError, inline, SCRIPT.encode("ascii"))


SCRIPT = '<script src="page.js"></script>'


class _Files:
    """A directory in which each file has the same text."""

    def __init__(self, text: str) -> None:
        self._text = text

    def joinpath(self, name: str) -> "_Files":
        return self

    def read_bytes(self) -> bytes:
        return self._text.encode("utf-8")

"""The page with the form: one answer, nothing from elsewhere, and a policy that allows just what is in it."""

import gzip
import json
from dataclasses import replace
from urllib.parse import urljoin

from twisted.trial.unittest import SynchronousTestCase

from merlind.web.page.facts import Facts
from merlind.web.page.form_page import FormPage
from merlind.web.response import Response
from tests.unit.web.page.support import FACTS, Page, directives, hash_of, head

MAX_GZIPPED = 30_000
"""The most that the page may weigh, in bytes: that is a second on a slow phone."""

URLS = ("action", "href", "src", "formaction", "poster", "srcset")


def _respond(facts: Facts = FACTS, target: str = "/", **fields: str) -> Response:
    return FormPage(facts).respond(head(target, **fields))


class FormPageTests(SynchronousTestCase):
    """What a browser gets."""

    def test_headers(self) -> None:
        """The page says what it is, in which language, and on what that depends."""
        response = _respond(Accept_Language="ru")
        headers = dict(response.headers)
        self.assertEqual((response.code, response.content_type), (200, b"text/html; charset=utf-8"))
        self.assertEqual(headers[b"Content-Language"], b"ru")
        varies = [value for name, value in response.headers if name == b"Vary"]
        self.assertEqual(b", ".join(varies), b"Accept, Accept-Language, Accept-Encoding")
        self.assertEqual(headers[b"Referrer-Policy"], b"same-origin")
        self.assertNotIn(b"Set-Cookie", headers)

    def test_small(self) -> None:
        """All of it, headers too, is light, for each scorer and in each language."""
        for kind in ("url", "face", "stand-in"):
            for lang in ("en", "ru"):
                response = _respond(replace(FACTS, scorer=kind), f"/?lang={lang}", Accept_Encoding="gzip")
                self.assertLessEqual(len(response.to_bytes()), MAX_GZIPPED, (kind, lang))

    def test_gzip(self) -> None:
        """It comes in gzip to whoever takes that, and is the same."""
        plain = _respond()
        for encoding, expected in (
            ("gzip", True),
            ("gzip, deflate, br, zstd", True),
            ("br;q=1.0, gzip;q=0.2", True),
            ("*", True),
            ("identity", False),
            ("gzip;q=0", False),
            ("br", False),
            ("", False),
        ):
            response = _respond(Accept_Encoding=encoding)
            self.assertEqual(dict(response.headers).get(b"Content-Encoding"), b"gzip" if expected else None, encoding)
            self.assertEqual(gzip.decompress(response.body) if expected else response.body, plain.body)

    def test_policy(self) -> None:
        """The policy allows the page's own style and scripts, by hash, and nothing else."""
        response = _respond()
        page = Page(response.body)
        policy = directives(dict(response.headers)[b"Content-Security-Policy"].decode("ascii"))
        self.assertEqual(
            policy,
            {
                "default-src": ["'none'"],
                "style-src": [hash_of(style) for style in page.styles],
                "script-src": [hash_of(script) for script in page.scripts],
                "connect-src": ["'self'"],
                "img-src": ["data:", "blob:"],
                "form-action": ["'self'"],
                "base-uri": ["'none'"],
                "frame-ancestors": ["'none'"],
                "require-trusted-types-for": ["'script'"],
                "trusted-types": ["'none'"],
            },
        )
        self.assertTrue(page.styles and page.scripts)

    def test_nothing_that_the_policy_forbids(self) -> None:
        """No element has a style or a handler in an attribute."""
        for tag, attributes in Page(_respond().body).elements:
            self.assertEqual([name for name in attributes if name == "style" or name.startswith("on")], [], tag)

    def test_below_a_path(self) -> None:
        """Behind a proxy that takes away a path, all links stay below it, and there is nothing from elsewhere."""
        page = Page(_respond().body)
        links = [value for _, attributes in page.elements for name, value in attributes.items() if name in URLS]
        self.assertTrue(links)
        for reference in links:
            assert reference is not None
            if reference.startswith(("data:", "#")):
                continue
            for url in ("https://example.org/", "https://example.org/face/", "https://example.org/a/face"):
                self.assertEqual(urljoin(url, reference).partition("?")[0], url, reference)
        self.assertEqual([a for a in page.all("script") if "src" in a], [])

    def test_icon(self) -> None:
        """Its icon is in the page, so that no browser asks for one."""
        (icon,) = (link for link in Page(_respond().body).all("link") if link.get("rel") == "icon")
        self.assertTrue((icon["href"] or "").startswith("data:image/"))

    def test_language(self) -> None:
        """The query decides, then Accept-Language, then it is English."""
        for target, accept, expected in (
            ("/", "", "en"),
            ("/", "ru", "ru"),
            ("/", "ru-RU,ru;q=0.9,en-US;q=0.8,en;q=0.7", "ru"),
            ("/", "RU", "ru"),
            ("/", "en-GB,ru;q=0.9", "en"),
            ("/", "de,ru;q=0.2,en;q=0.1", "ru"),
            ("/", "de", "en"),
            ("/", "*", "en"),
            ("/", "ru;q=0, de", "en"),
            ("/", "ru" + ",x" * 1000, "en"),
            ("/", "\xff;;=", "en"),
            ("/?lang=ru", "en", "ru"),
            ("/?lang=en", "ru", "en"),
            ("/?lang=de", "ru", "ru"),
            ("/?lang=%22%3E%3Cscript%3E", "", "en"),
            ("/?lang", "", "en"),
            ("/?" + "&".join(f"a{i}=1" for i in range(100)) + "&lang=ru", "", "en"),
        ):
            response = _respond(target=target, Accept_Language=accept)
            (html,) = Page(response.body).all("html")
            self.assertEqual(html["lang"], expected, (target, accept))
            self.assertEqual(dict(response.headers)[b"Content-Language"], expected.encode("ascii"))

    def test_link_to_the_own_language(self) -> None:
        """The language that is shown is marked as such."""
        links = {link.get("hreflang"): link for link in Page(_respond(target="/?lang=ru").body).all("a")}
        self.assertEqual(links["ru"].get("aria-current"), "true")
        self.assertNotIn("aria-current", links["en"])


class FactsTests(SynchronousTestCase):
    """The page tells how this merlind is set up."""

    def test_what_is_kept(self) -> None:
        """Who scores and what is kept for how long comes from the settings, in both languages."""
        facts = Facts("url", "other.example", 7200.0, 600.0, 1536 * 1024)
        english, russian = (Page(_respond(facts, f"/?lang={lang}").body).text for lang in ("en", "ru"))
        for words in ("to other.example,", "deleted after some 10 minutes", "stay for 2 hours", "up to 1.5 MB"):
            self.assertIn(words, english)
        for words in ("на other.example ", "примерно через 10 минут.", "хранятся 2 часа ", "до 1,5 МБ"):
            self.assertIn(words, russian)

    def test_stand_in(self) -> None:
        """Where the stand-in scores, the page says that it means nothing, and that no photo leaves the server."""
        facts = replace(FACTS, scorer="stand-in", host=None)
        english, russian = (Page(_respond(facts, f"/?lang={lang}").body) for lang in ("en", "ru"))
        self.assertIn("its scores mean nothing", english.text)
        self.assertIn("её оценки ничего не значат", russian.text)
        self.assertIn("sends it to nobody", english.text)
        self.assertEqual(english.all("html")[0]["data-scorer"], "stand-in")

    def test_face(self) -> None:
        """Where the face scorer scores, the page says what that judges."""
        facts = replace(FACTS, scorer="face", host=None)
        english, russian = (Page(_respond(facts, f"/?lang={lang}").body).text for lang in ("en", "ru"))
        self.assertIn("apparent gender (as two classes) and apparent age", english)
        self.assertIn("видимый пол (только два класса) и видимый возраст", russian)
        self.assertNotIn("mean nothing", english)

    def test_for_the_script(self) -> None:
        """The script gets the facts, and the texts with them filled in, but not those for the server's own pages."""
        page = Page(_respond(target="/?lang=ru").body)
        self.assertEqual(
            json.loads(page.blocks["facts"]),
            {
                "lang": "ru",
                "max_photo_bytes": 10485760,
                "retention": 2592000,
                "longest_kept": 172800,
                "scorer": {"kind": "url", "host": "faces.example.org"},
            },
        )
        texts = json.loads(page.blocks["texts"])
        self.assertEqual(texts["error.too_large_by"], "Фото весит {size}, можно не больше 10 МБ.")
        self.assertIn("на faces.example.org", texts["privacy"])
        self.assertEqual(texts["unit.hours"]["few"], "{n} часа")
        self.assertEqual([key for key in texts if key.startswith("plain.")], [])

    def test_hostile_host(self) -> None:
        """Whatever the upstream is called, it stays a text, in the page and in the script's data."""
        for host in ("</script><script>alert(1)</script>", '"&amp;<!--', '<script src="page.js"></script>'):
            response = _respond(replace(FACTS, host=host))
            plain = Page(_respond().body)
            page = Page(response.body)
            self.assertEqual([tag for tag, _ in page.elements], [tag for tag, _ in plain.elements])
            self.assertEqual(page.scripts, plain.scripts)
            self.assertEqual(json.loads(page.blocks["facts"])["scorer"]["host"], host)
            self.assertIn(host, json.loads(page.blocks["texts"])["privacy"])
            self.assertIn(" ".join(host.split()), page.text)

"""The OpenAPI description: who gets it, what links to it, and that it says the same as the code and the docs."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hyperlink import URL
from openapi_spec_validator import OpenAPIV31SpecValidator
from twisted.trial.unittest import SynchronousTestCase

import merlind
from merlind.tasks.refusals import CLIENT_LIMITS
from merlind.upstream.reply import _REJECTIONS
from merlind.web.description import DOCUMENT, link_to_description
from tests.unit.web.support import EdgeCase, get, message, post

ROOT = Path(__file__).parents[3]
CONTRACT = (ROOT / "docs" / "contract.md").read_text("utf-8")
USING = (ROOT / "docs" / "using.md").read_text("utf-8")
OPENAPI = "application/openapi+json"
DESCRIPTION = json.loads(DOCUMENT)


class NegotiationTests(EdgeCase):
    """Who gets the description, and who is told of it."""

    adapters = (link_to_description,)

    def test_who_gets_it(self) -> None:
        """A GET whose Accept prefers it, whatever its query is."""
        for accept, content_type in (
            (OPENAPI, OPENAPI),
            (f"{OPENAPI};version=3.1", OPENAPI),
            ("Application/OpenAPI+JSON", OPENAPI),
            (f"{OPENAPI}, */*;q=0.1", OPENAPI),
            (f"application/json;q=0.9, {OPENAPI}", OPENAPI),
            (f"{OPENAPI}, application/vnd.oai.openapi+json;version=3.1", OPENAPI),
            ("application/vnd.oai.openapi+json;version=3.1", "application/vnd.oai.openapi+json"),
        ):
            for target in ("/", "/?", "/?task_id=5", "/?task_id=x"):
                reply = self.ask(message("GET", target, Accept=accept))
                self.assertEqual((reply.code, reply.body), (200, DOCUMENT), (accept, target))
                self.assertEqual(reply.get("Content-Type"), f"{content_type}; version=3.1")
                self.assertEqual(reply.get("Vary"), "Accept")
        self.assertEqual(self.ask(message("HEAD", "/", Accept=OPENAPI)).code, 200)

    def test_who_does_not(self) -> None:
        """Nobody else: neither who accepts anything, nor who prefers something else."""
        for accept in (
            None,
            "*/*",
            "application/*",
            "application/json",
            f"{OPENAPI};q=0",
            f"application/json, {OPENAPI};q=0.5",
            f"{OPENAPI}, " + "x" * 1024,
        ):
            self.assert_problem(self.ask(message("GET", "/", Accept=accept)), 400, "bad_task_id", closed=False)
        page = self.ask(message("GET", "/", Accept=f"text/html, {OPENAPI};q=0.5"))
        self.assertEqual(page.get("Content-Type"), "text/html; charset=utf-8")
        self.assertEqual(self.ask(message("DELETE", "/", Accept=OPENAPI)).code, 400)

    def test_each_4xx_links_to_it(self) -> None:
        """The link, followed as a client follows it, leads to the description, from whatever path."""
        for data, code in (
            (message("GET", "/"), 400),
            (get(5), 404),
            (get(5, "DELETE"), 404),
            (message("PUT", "/"), 405),
            (message("POST", "/"), 415),
            (post(b"x"), 400),
            (message("GET", "/nothing"), 404),
            (message("GET", "/a/b/"), 404),
            (message("GET", "//x"), 404),
            (message("POST", "/a/b/c?x=/", b"x" * 100_000), 404),
        ):
            reply = self.ask(data)
            self.assertEqual(reply.code, code)
            link = re.fullmatch(r'<([^>]*)>; rel="service-desc"', reply.get("Link") or "")
            assert link is not None, reply.all("Link")
            path = data.split(b" ", 2)[1].decode("ascii")
            below = URL.from_text(f"http://localhost/face{path}").click(link[1])
            self.assertEqual("/" + "/".join(below.path), "/face/", path)
        self.assertEqual(self.ask(message("GET", "/")).get("Link"), '<?>; rel="service-desc"')

    def test_deep_paths(self) -> None:
        """A path with thousands of slashes doesn't make a header as long."""
        reply = self.ask(message("GET", "/" * 5000))
        self.assertEqual(reply.code, 404)
        self.assertLess(len(reply.get("Link") or ""), 200)

    def test_nothing_else_links_to_it(self) -> None:
        """Neither a good response nor one that is the server's fault."""
        self.assertIsNone(self.ask(post()).get("Link"))
        self.assertIsNone(self.ask(message("BREW", "/")).get("Link"))


def section(page: str, heading: str) -> str:
    """The text below a heading of the second level, up to the next."""
    return page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def modules() -> list[Path]:
    """The modules of merlind, but those of its two other listeners."""
    found = sorted((ROOT / "merlind").rglob("*.py"))
    return [path for path in found if not {"admin", "merlinface"} & set(path.relative_to(ROOT).parts)]


def codes_in_source() -> Iterator[tuple[int, str]]:
    """The status and code of each problem that the public side makes, by its source."""
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            match node.func.id, node.args:
                case "problem", [ast.Constant(value=int(status)), ast.Constant(value=str(code)), *_]:
                    yield status, code
                case "unavailable", [ast.Constant(value=str(code)), *_]:
                    yield 503, code
                case "too_many", [ast.Constant(value=str(code)), *_]:
                    yield 429, code
                case "too_many", [ast.JoinedStr(values=[ast.Constant(value="too_many_"), _]), *_]:
                    yield from ((429, f"too_many_{limit}") for limit in CLIENT_LIMITS)
                case (("problem" | "unavailable" | "too_many"), _):
                    assert path.name == "response.py", f"{path}:{node.lineno}: no code that can be read"


def task_codes_in_source() -> Iterator[str]:
    """The code of each TaskError that merlind makes, by its source."""
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.func.id != "TaskError":
                continue
            match node.args:
                case [ast.Constant(value=str(code)), *_]:
                    yield code
                case [ast.JoinedStr(values=[ast.Constant(value="upstream_"), _]), *_]:
                    yield from (f"upstream_{status}" for status in _REJECTIONS)
                case _:
                    assert path.name == "statements.py", f"{path}:{node.lineno}: no code that can be read"


def described_codes() -> Iterator[tuple[int, str]]:
    """The status and code of each problem in the description's responses."""
    for response in DESCRIPTION["components"]["responses"].values():
        for schema in response["content"].get("application/problem+json", {}).get("schema", {}).get("allOf", ()):
            if "properties" in schema:
                for code in schema["properties"]["code"]["enum"]:
                    yield schema["properties"]["status"]["const"], code


OF_OTHER_TARGETS = {(404, "not_found"), (405, "method_not_allowed"), (501, "unknown_method")}
"""Problems of requests that no operation describes: of other paths and methods."""


class AgreementTests(SynchronousTestCase):
    """The description, the code and the contract have the same codes."""

    def test_valid(self) -> None:
        """It is valid OpenAPI 3.1, and of this version of merlind."""
        errors = [error.message for error in OpenAPIV31SpecValidator(DESCRIPTION).iter_errors()]
        self.assertEqual(errors, [])
        self.assertEqual(DESCRIPTION["info"]["version"], merlind.__version__)

    def test_problems(self) -> None:
        """Each problem's status and code is described, and is in the contract's table."""
        source = set(codes_in_source())
        self.assertEqual(set(described_codes()) | OF_OTHER_TARGETS, source)
        table = CONTRACT.partition("### Errors")[2].partition("### Connection")[0]
        rows = {(int(status), code) for status, code in re.findall(r"^\| (\d+) \| `(\w+)` \|", table, re.MULTILINE)}
        self.assertEqual(rows, source)
        cures = re.findall(
            r"^\| `(\w+)` \| ([\d, ]+) \| .+ \| .+ \|$", section(USING, "When a request is refused"), re.MULTILINE
        )
        self.assertEqual({(int(s), code) for code, statuses in cures for s in statuses.split(",")}, source)
        every: list[str] = DESCRIPTION["components"]["schemas"]["Problem"]["properties"]["code"]["enum"]
        self.assertEqual((set(every), len(every)), ({code for _, code in source}, len(set(every))))

    def test_failed_tasks(self) -> None:
        """Each code of a failed task is described, and is in the contract's table."""
        source = set(task_codes_in_source())
        described: Any = DESCRIPTION["components"]["schemas"]["TaskError"]["properties"]["code"]["enum"]
        self.assertEqual(set(described), source)
        table = CONTRACT.partition("| `error.code` |")[2].partition("\n\n")[0]
        rows = {code for line in table.splitlines() for code in re.findall(r"`(\w+)`", line.split("|")[1])}
        self.assertEqual(rows - {"error"}, source)
        cures = re.findall(r"^\| `(\w+)` \| .+ \| .+ \|$", section(USING, "When a task fails"), re.MULTILINE)
        self.assertEqual((set(cures), len(cures)), (source, len(source)))

    def test_links_and_references_lead_somewhere(self) -> None:
        """Each reference and each link's operation exists."""
        operations = {operation["operationId"] for operation in DESCRIPTION["paths"]["/"].values()}

        def walk(value: Any) -> None:
            if isinstance(value, dict):
                if "$ref" in value:
                    found: Any = DESCRIPTION
                    for key in urlsplit(value["$ref"]).fragment.split("/")[1:]:
                        found = found[key]
                if "parameters" in value and "operationId" in value and "responses" not in value:
                    self.assertIn(value["operationId"], operations)
                for inner in value.values():
                    walk(inner)
            elif isinstance(value, list):
                for inner in value:
                    walk(inner)

        walk(DESCRIPTION)

    def test_says_what_a_score_is_worth(self) -> None:
        """It says plainly what is judged, and what is not, and that a POST may be repeated."""
        for words in (
            "apparent gender (as two classes)",
            "mostly of the US",
            "knows nothing of identity",
            "It is a game, no evidence about anyone, and must decide nothing.",
            "that was not measured",
            "the same `POST` is the idempotency key",
            "Prefer: wait=25",
        ):
            self.assertIn(words, DESCRIPTION["info"]["description"])

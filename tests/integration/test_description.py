"""The OpenAPI description against a running merlind: schemathesis makes requests of it and checks the responses."""

import json
import subprocess
import sys
from pathlib import Path

from tests.client import form, png, request
from tests.processes import HOST, ProcessCase, environment
from tests.upstream import Upstream, UpstreamRequest

CONFIG = Path(__file__).with_name("schemathesis.toml")
TYPE = "application/openapi+json"
SECONDS = 180.0
"""How long schemathesis may take; some 30 s is usual."""


def all_fates(asked: UpstreamRequest) -> bool:
    """Score a third of the photos at once, reject a third, and score a third when asked a third time."""
    if asked.kind == "poll":
        return asked.wait(asked.retry_id) if asked.nth < 3 else asked.respond_json(status="ready", result=0.5)
    match sum(asked.fields["name"]) % 3:
        case 0:
            return asked.score()
        case 1:
            return asked.respond(422, b'{"errors": "no face"}')
        case _:
            return asked.wait(asked.sha256.hex())


class DescriptionTest(ProcessCase):
    """What a program makes of the description."""

    def test_responses_are_as_described(self) -> None:
        """Requests made of the description, good and bad, and chains of them by its links, all get what it says."""
        merlind = self.merlind(upstream=Upstream(self.addCleanup, all_fates).url).start()
        command = [
            sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()",
            f"--config-file={CONFIG}", "run", f"http://{HOST}:{merlind.admin}/openapi.json",
            f"--url=http://{HOST}:{merlind.port}", "--max-examples=60", "--seed=1", "--generation-deterministic",
            "--request-timeout=70", "--continue-on-failure", "--no-color",
        ]  # fmt: skip
        ran = subprocess.run(
            command, cwd=self.folder, env=environment(), capture_output=True, text=True, timeout=SECONDS, check=False
        )
        self.assertEqual(ran.returncode, 0, ran.stdout[-8000:] + ran.stderr[-2000:])
        for phase in ("Examples", "Coverage", "Fuzzing", "Stateful"):
            self.assertIn(f"✅ {phase}", ran.stdout)
        self.assertIn("Tested: 5", ran.stdout)
        for outcome in ("scored", "rejected", "pending"):
            asked = merlind.metric(f'merlind_upstream_requests_total{{kind="upload",outcome="{outcome}"}}')
            self.assertGreater(asked, 0, outcome)
        self.assertGreater(merlind.metric('merlind_http_requests_total{code="202",method="POST"}'), 0)
        self.assertGreater(merlind.metric('merlind_http_requests_total{code="204",method="DELETE"}'), 0)
        self.assertEqual(merlind.metric('merlind_http_requests_total{code="500",method="POST"}'), 0)
        self.assert_no_traceback(merlind)
        self.figures(summary=ran.stdout.partition("Test cases:")[2].strip().partition("\n")[0])

    def test_found_by_the_link_of_an_error(self) -> None:
        """Whoever sends nonsense finds the description by the link, at the same URL."""
        merlind = self.merlind().start()
        sent = form("Ada", png())
        reply = request(merlind.port, "POST", "/", sent.body, {"Content-Type": "text/plain"})
        self.assertEqual((reply.code, reply.headers["Link"]), (415, '<?>; rel="service-desc"'))
        found = request(merlind.port, "GET", "/?", headers={"Accept": TYPE})
        self.assertEqual((found.code, found.headers["Content-Type"]), (200, f"{TYPE}; version=3.1"))
        self.assertEqual(json.loads(found.body), request(merlind.admin, "GET", "/openapi.json").json())

"""Metrics, dashboard and alerts, as a real Prometheus takes them. Without one (apt-get install prometheus) it skips."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import yaml  # type: ignore[import-untyped]
from twisted.trial.unittest import SkipTest

from tests.client import GONE_AWAY, Reply, form, png, post, request
from tests.processes import HOST, Merlind, ProcessCase, free_port, until
from tests.upstream import Upstream, UpstreamRequest

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy/prometheus"
DASHBOARD = ROOT / "deploy/grafana/dashboards/merlind.json"

MAY_BE_EMPTY = ("merlind_refused_total", "merlind_paused")
"""What has no data before somebody has reached a limit, or ordered a pause."""


def need(program: str) -> str:
    """Return the path of a program. Raises SkipTest if it isn't installed."""
    path = shutil.which(program)
    if path is None:
        raise SkipTest(f"{program} is not installed")
    return path


def upstream(received: UpstreamRequest) -> bool:
    """Refuse photos of Nobody, let others wait once, then score them."""
    if received.name == "Nobody":
        return received.respond(422, b'{"status":"error","errors":"no face"}')
    if received.kind == "upload":
        return received.wait("handle")
    return received.respond_json(status="ready", result=0.5)


class MonitoringCase(ProcessCase):
    """A merlind that has had some traffic of each kind."""

    def busy(self) -> Merlind:
        """Start merlind, and let some clients come."""
        merlind = self.merlind(upstream=Upstream(self.addCleanup, upstream).url).start()
        self.traffic(merlind, "Ada")
        return merlind

    def traffic(self, merlind: Merlind, name: str) -> None:
        for sent in (name, f"{name} B"):
            post(merlind.port, sent, png(), {"Prefer": "wait=30"})
        post(merlind.port, "Nobody", png(), {"Prefer": "wait=30"})
        wrong = form("Ada", b"not an image")
        request(merlind.port, "POST", "/", wrong.body, {"Content-Type": wrong.content_type})

    def exposition(self, merlind: Merlind) -> bytes:
        return request(merlind.admin, "GET", "/metrics").body


class MetricsTest(MonitoringCase):
    """The metrics page."""

    maxDiff = None

    def test_documented(self) -> None:
        """docs/how-it-works.md lists the metrics that there are, with their types and labels, and no others."""
        text = self.exposition(self.busy()).decode("ascii")
        types = dict(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE))
        labels = {name: set[str]() for name in types}
        for name, found in re.findall(r"^(\w+)\{(.*)\} ", text, re.MULTILINE):
            base = name if name in types else re.sub(r"_(bucket|sum|count)$", "", name)
            labels[base] |= set(re.findall(r'(\w+)="', found)) - {"le"}

        page = (ROOT / "docs/how-it-works.md").read_text("utf-8")
        row = re.compile(
            r"^\| `((?:merlind|process)_\w+)` \| (counter|gauge|histogram) \|(.*)\| \S[^|]* \|$", re.MULTILINE
        )
        listed = {name: (kind, set(re.findall(r"`(\w+)`", words))) for name, kind, words in row.findall(page)}

        # Nobody has reached a limit or signed in here.
        labels["merlind_refused_total"] = {"limit", "by"}
        labels["merlind_sign_ins_refused_total"] = {"reason"}
        self.assertEqual(listed, {name: (kind, labels[name]) for name, kind in types.items()})

    def test_conventions(self) -> None:
        """Names, types and help texts are as Prometheus's own linter wants them."""
        promtool = need("promtool")
        checked = subprocess.run(
            [promtool, "check", "metrics"], input=self.exposition(self.busy()), capture_output=True
        )
        self.assertEqual((checked.returncode, checked.stdout, checked.stderr), (0, b"", b""))


class RulesTest(ProcessCase):
    """Prometheus's configuration and its alerts."""

    def promtool(self, *arguments: object) -> None:
        done = subprocess.run([need("promtool"), *map(str, arguments)], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_configuration(self) -> None:
        """promtool takes the configuration, with the alerts that it includes."""
        self.promtool("check", "config", PROMETHEUS / "prometheus.yml")

    def test_alerts(self) -> None:
        """Each alert fires where it must, and not before."""
        self.promtool("test", "rules", PROMETHEUS / "alerts.test.yml")


class LiveTest(MonitoringCase):
    """A Prometheus that scrapes merlind each second."""

    def setUp(self) -> None:
        super().setUp()
        self.program = need("prometheus")

    def start_prometheus(self, merlind: Merlind) -> None:
        configuration = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text("utf-8"))
        configuration["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        configuration["rule_files"] = [str(PROMETHEUS / "alerts.yml")]
        configuration["scrape_configs"][0]["static_configs"] = [{"targets": [f"{HOST}:{merlind.admin}"]}]
        file = self.folder / "prometheus.yml"
        file.write_text(json.dumps(configuration), "utf-8")  # JSON is YAML
        self.port = free_port()
        command = [
            self.program,
            f"--config.file={file}",
            f"--storage.tsdb.path={self.folder / 'tsdb'}",
            f"--web.listen-address={HOST}:{self.port}",
        ]
        with (self.folder / "prometheus.log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        until(lambda: self.answers("up == 1"), "Prometheus to scrape merlind")

    def ask(self, path: str, **query: str) -> Reply:
        return request(self.port, "GET", f"/api/v1/{path}?{urlencode(query)}")

    def answers(self, expression: str) -> list[Any]:
        """What an expression gives; nothing while Prometheus doesn't answer yet."""
        try:
            reply = self.ask("query", query=expression)
        except GONE_AWAY:
            return []
        return reply.json()["data"]["result"] if reply.code == 200 else []

    def test_dashboard(self) -> None:
        """Each expression of the dashboard answers, with data after some traffic; so does each alert's."""
        merlind = self.busy()
        self.start_prometheus(merlind)
        self.traffic(merlind, "Bob")
        scraped = 'merlind_tasks_finished_total{state="ready"} == 4'
        until(lambda: self.answers(scraped), "Prometheus to see the traffic")
        until(lambda: self.answers("rate(merlind_time_to_score_seconds_count[1m]) > 0"), "there to be rates")

        dashboard = json.loads(DASHBOARD.read_text("utf-8"))
        expressions = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
        for expression in expressions:
            filled = expression.replace("$__rate_interval", "1m").replace("$job", "merlind")
            reply = self.ask("query", query=filled)
            self.assertEqual((reply.code, reply.json()["status"]), (200, "success"), filled)
            if not any(name in filled for name in MAY_BE_EMPTY):
                values = [sample["value"][1] for sample in reply.json()["data"]["result"]]
                self.assertTrue([value for value in values if value != "NaN"], f"{filled}: {values}")

        (group,) = self.ask("rules").json()["data"]["groups"]
        self.assertGreater(len(group["rules"]), 10)
        for rule in group["rules"]:
            self.assertEqual((rule["health"], rule.get("lastError", "")), ("ok", ""), rule["name"])

    def test_down(self) -> None:
        """An alert is pending as soon as merlind is gone, and none is while all is well."""
        merlind = self.busy()
        self.start_prometheus(merlind)
        # Before the first scrape nobody knew of merlind.
        until(lambda: self.alerts() == [], "no alert")
        merlind.kill()
        until(lambda: self.alerts() == ["MerlindDown"], "the alert to be pending")

    def alerts(self) -> list[str]:
        """The alerts that are pending or fire."""
        return [alert["labels"]["alertname"] for alert in self.ask("alerts").json()["data"]["alerts"]]

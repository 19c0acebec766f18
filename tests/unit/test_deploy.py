"""The files in deploy/: well-formed, in step with each other, with the options and with the documentation."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import yaml  # type: ignore[import-untyped]
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from merlind.daemon.options import EnvironmentOptions
from merlind.merlinface.tap import MerlinfaceOptions
from merlind.tap import Options

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
RUNNING = (ROOT / "docs/running.md").read_text("utf-8")


def load(name: str) -> Any:
    """The one document of a YAML file."""
    return yaml.safe_load((DEPLOY / name).read_text("utf-8"))


def metrics_in(text: str) -> set[str]:
    """The names of metrics in an expression, without what a histogram's series have behind theirs."""
    names = re.findall(r"\b(?:merlind|process)_\w+", text)
    return {re.sub(r"(_seconds)_(bucket|count|sum)$", r"\1", name) for name in names}


def documented_metrics() -> set[str]:
    """The metrics that docs/how-it-works.md lists."""
    page = (ROOT / "docs/how-it-works.md").read_text("utf-8")
    return set(re.findall(r"^\| `((?:merlind|process)_\w+)` \| (?:counter|gauge|histogram) ", page, re.MULTILINE))


class OptionsCase(SynchronousTestCase):
    """What can be said of environment variables."""

    def assert_options(self, environment: dict[str, str]) -> None:
        """Check that each variable is that of an option, and that its value can be read."""
        for name, text in environment.items():
            options: type[EnvironmentOptions] = Options if name.startswith("MERLIND_") else MerlinfaceOptions
            variables = {options.variable(option.name): option for option in options.declared}
            self.assertIn(name, variables)
            variables[name].read(name, text)


class ComposeTests(OptionsCase):
    """docker-compose.yml."""

    def setUp(self) -> None:
        self.compose = load("docker-compose.yml")
        self.services = self.compose["services"]

    def test_options(self) -> None:
        """The variables of our own services are options, with values that can be read."""
        for name in ("merlind", "merlinface"):
            self.assert_options(self.services[name]["environment"])

    def test_admin_is_inside(self) -> None:
        """The admin listener's port isn't published; Prometheus gets there by a network that leads nowhere else."""
        self.assertEqual(self.services["merlind"]["ports"], ["8000:8000"])
        (shared,) = set(self.services["merlind"]["networks"]) & set(self.services["prometheus"]["networks"])
        self.assertEqual(self.compose["networks"][shared], {"internal": True})
        self.assertEqual(self.services["merlind"]["environment"]["MERLIND_ADMIN"], "tcp:8001")
        (scrape,) = load("prometheus/prometheus.yml")["scrape_configs"]
        self.assertEqual(scrape["static_configs"], [{"targets": ["merlind:8001"]}])

    def test_grafana_is_for_this_machine(self) -> None:
        """Grafana, where nobody signs in, can be reached from this machine alone."""
        self.assertEqual(self.services["grafana"]["ports"], ["127.0.0.1:3000:3000"])

    def test_complete(self) -> None:
        """Networks, volumes, services and files that are named are there."""
        for name, service in self.services.items():
            self.assertLessEqual(set(service["networks"]), set(self.compose["networks"]), name)
            self.assertLessEqual(set(service.get("depends_on", ())), set(self.services), name)
            self.assertIn("no-new-privileges:true", service["security_opt"], name)
            for volume in service.get("volumes", ()):
                source = volume.partition(":")[0]
                there = (DEPLOY / source).exists() if source.startswith(".") else source in self.compose["volumes"]
                self.assertTrue(there, volume)

    def test_grafana_finds_its_files(self) -> None:
        """What Grafana is told to read lies where compose mounts it."""
        (provider,) = load("grafana/provisioning/dashboards/merlind.yml")["providers"]
        self.assertIn(f"./grafana/dashboards:{provider['options']['path']}:ro", self.services["grafana"]["volumes"])
        (source,) = load("grafana/provisioning/datasources/prometheus.yml")["datasources"]
        self.assertEqual(source["url"], "http://prometheus:9090")


class KubernetesTests(OptionsCase):
    """kubernetes.yaml."""

    def setUp(self) -> None:
        text = (DEPLOY / "kubernetes.yaml").read_text("utf-8")
        self.objects = {(one["kind"], one["metadata"]["name"]): one for one in yaml.safe_load_all(text)}

    def container(self, kind: str, name: str) -> Any:
        (container,) = self.objects[kind, name]["spec"]["template"]["spec"]["containers"]
        return container

    def test_schema(self) -> None:
        """Each object is as the schema of Kubernetes has it, and has no field that it doesn't know."""
        for one in self.objects.values():
            kubernetes_validate.validate(one, "1.31", strict=True)

    def test_options(self) -> None:
        """The variables are options, with values that can be read."""
        for kind, name in (("StatefulSet", "merlind"), ("Deployment", "merlinface")):
            self.assert_options({one["name"]: one["value"] for one in self.container(kind, name)["env"]})

    def test_one_writer(self) -> None:
        """There is one merlind at a time, on a volume for one pod."""
        spec = self.objects["StatefulSet", "merlind"]["spec"]
        self.assertEqual(spec["replicas"], 1)
        (claim,) = spec["volumeClaimTemplates"]
        self.assertEqual(claim["spec"]["accessModes"], ["ReadWriteOncePod"])
        self.assertFalse(spec["template"]["spec"]["enableServiceLinks"])

    def test_probes(self) -> None:
        """It is ended when it isn't alive, and gets no clients when it isn't ready; an outage upstream is neither."""
        container = self.container("StatefulSet", "merlind")
        paths = {probe: container[f"{probe}Probe"]["httpGet"]["path"] for probe in ("startup", "liveness", "readiness")}
        self.assertEqual(paths, {"startup": "/health/live", "liveness": "/health/live", "readiness": "/health/ready"})

    def test_confined(self) -> None:
        """Pods run as nobody special, on a root that can't be written to."""
        for kind, name in (("StatefulSet", "merlind"), ("Deployment", "merlinface")):
            self.assertTrue(self.objects[kind, name]["spec"]["template"]["spec"]["securityContext"]["runAsNonRoot"])
            confined = self.container(kind, name)["securityContext"]
            self.assertTrue(confined["readOnlyRootFilesystem"])
            self.assertEqual(confined["capabilities"], {"drop": ["ALL"]})


class SystemdTests(OptionsCase):
    """The units."""

    def setUp(self) -> None:
        self.service = (DEPLOY / "merlind.service").read_text("utf-8")
        self.socket = (DEPLOY / "merlind.socket").read_text("utf-8")

    def test_socket_name(self) -> None:
        """The line for /etc/merlind.env names the socket as the unit does."""
        (name,) = re.findall(r"^FileDescriptorName=(\w+)$", self.socket, re.MULTILINE)
        self.assertIn(f"\n#   MERLIND_LISTEN=systemd:domain=INET6:name={name}\n", self.socket)

    def test_verified(self) -> None:
        """systemd finds no fault with them, and the documentation has its figure for how exposed the service is."""
        if shutil.which("systemd-analyze") is None:
            raise SkipTest("systemd-analyze is not installed")
        folder = Path(self.mktemp())
        folder.mkdir()
        # It looks for the program, too.
        (folder / "merlind.service").write_text(self.service.replace("/opt/merlind/bin/twistd", "/bin/true"), "utf-8")
        (folder / "merlind.socket").write_text(self.socket, "utf-8")
        units = [str(folder / "merlind.service"), str(folder / "merlind.socket")]
        done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True)
        self.assertEqual((done.returncode, [line for line in done.stderr.splitlines() if "merlind" in line]), (0, []))
        security = ["systemd-analyze", "security", "--offline=true", "--no-pager", units[0]]
        judged = subprocess.run(security, capture_output=True, text=True).stdout
        (figure,) = re.findall(r"Overall exposure level for merlind\.service: ([\d.]+)", judged)
        self.assertLess(float(figure), 2.0)
        (quoted,) = re.findall(r"`systemd-analyze security` gives it (\d\.\d)", RUNNING)
        # Versions of systemd differ by a tenth or two.
        self.assertLess(abs(float(quoted) - float(figure)), 0.4)


class MonitoringTests(SynchronousTestCase):
    """The alerts and the dashboard; tests/integration/test_monitoring.py tries them with Prometheus."""

    def setUp(self) -> None:
        (group,) = load("prometheus/alerts.yml")["groups"]
        self.rules = {rule["alert"]: rule for rule in group["rules"]}

    def test_alerts_are_explained(self) -> None:
        """docs/running.md has a row for each alert: what it means, and what to do."""
        rows = re.findall(r"^\| `(Merlind\w+)` \| [^|]{20,} \| [^|]{20,} \|$", RUNNING, re.MULTILINE)
        self.assertEqual(sorted(rows), sorted(self.rules))

    def test_alerts_are_tested(self) -> None:
        """promtool's tests make each alert fire."""
        tests = load("prometheus/alerts.test.yml")["tests"]
        fired = {one["alertname"] for test in tests for one in test["alert_rule_test"] if one["exp_alerts"]}
        self.assertEqual(fired, set(self.rules))

    def test_metrics_are_documented(self) -> None:
        """Alerts and dashboard ask for metrics that there are."""
        dashboard = json.loads((DEPLOY / "grafana/dashboards/merlind.json").read_text("utf-8"))
        expressions = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
        self.assertGreater(len(expressions), 30)
        used = metrics_in(" ".join([*expressions, *(rule["expr"] for rule in self.rules.values())]))
        self.assertEqual(used - documented_metrics(), set())

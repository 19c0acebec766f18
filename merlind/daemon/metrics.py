"""The metrics of one merlind, in a prometheus_client registry of its own. It knows nothing of who counts."""

from collections.abc import Callable, Iterable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

_LATENCIES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_WAITS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0)


class _Counts(Collector):
    """Counts that somebody else keeps; ``read`` has a function for each set of values of the labels."""

    def __init__(
        self, name: str, text: str, labels: tuple[str, ...], read: dict[tuple[str, ...], Callable[[], float]]
    ) -> None:
        self._name, self._text, self._labels, self._read = name, text, labels, read

    def collect(self) -> Iterable[CounterMetricFamily]:
        family = CounterMetricFamily(self._name, self._text, labels=self._labels)
        for values, read in self._read.items():
            family.add_metric(values, read())
        return [family]


class Metrics:
    """Counters and histograms, and gauges that are read when they are shown. docs/how-it-works.md lists them all."""

    def __init__(self) -> None:
        # When a counter began would be a time series more for each counter, and nobody asks for it.
        disable_created_metrics()
        registry = self._registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = Counter(
            "merlind_http_requests", "Responses on the public listener.", ["method", "code"], registry=registry
        )
        self._problems = Counter(
            "merlind_http_problems",
            "Error responses on the public listener, by their code.",
            ["code"],
            registry=registry,
        )
        self._tasks_finished = Counter(
            "merlind_tasks_finished",
            "Finished tasks, by their state, and by the code of the error if they failed.",
            ["state", "code"],
            registry=registry,
        )
        self._time_to_score = Histogram(
            "merlind_time_to_score_seconds",
            "From a photo's acceptance to its score, in seconds of task time.",
            buckets=_WAITS,
            registry=registry,
        )
        self._upstream_requests = Counter(
            "merlind_upstream_requests", "Requests to the upstream.", ["kind", "outcome"], registry=registry
        )
        self._upstream_seconds = Histogram(
            "merlind_upstream_request_seconds",
            "Duration of a request to the upstream.",
            ["kind"],
            buckets=_LATENCIES,
            registry=registry,
        )
        self.accept_seconds = Histogram(
            "merlind_accept_seconds",
            "From a form's last byte to its task being durable.",
            buckets=_LATENCIES,
            registry=registry,
        )
        self._refused = Counter(
            "merlind_refused",
            "What clients could not have: by the limit, and whether it is each client's or the server's.",
            ["limit", "by"],
            registry=registry,
        )
        self._sign_ins_refused = Counter(
            "merlind_sign_ins_refused",
            "Requests that nobody signed in for, by the reason.",
            ["reason"],
            registry=registry,
        )
        # prometheus_client takes longer to find the child of some labels than to count in it.
        self._tasks_scored = self._tasks_finished.labels("ready", "")
        self._upstream_children: dict[tuple[str, str], tuple[Counter, Histogram]] = {}
        self._request_children: dict[tuple[str, int], Counter] = {}

    def request(self, method: str, code: int) -> None:
        """Count a response. ``method`` must be one of a few: a client could make up endless ones."""
        child = self._request_children.get((method, code))
        if child is None:
            child = self._request_children[method, code] = self._requests.labels(method, str(code))
        child.inc()

    def problem(self, code: str) -> None:
        """Count an error response. ``code`` is one of those that docs/contract.md lists."""
        self._problems.labels(code).inc()

    def scored(self, seconds: float) -> None:
        """Count a task that got its score ``seconds`` after its photo was accepted."""
        self._tasks_scored.inc()
        self._time_to_score.observe(seconds)

    def failed(self, code: str) -> None:
        """Count a task that failed for good. ``code`` is its error's, of which docs/contract.md lists all."""
        self._tasks_finished.labels("failed", code).inc()

    def refused(self, limit: str, by: str) -> None:
        """Count something that a client could not have; ``by`` is ``client`` or ``server``. Never label by client."""
        self._refused.labels(limit, by).inc()

    def sign_in_refused(self, reason: str) -> None:
        """Count a request without good credentials. ``reason`` must be one of a few."""
        self._sign_ins_refused.labels(reason).inc()

    def upstream_request(self, kind: str, outcome: str, seconds: float) -> None:
        """Count a request to the upstream that took ``seconds``."""
        children = self._upstream_children.get((kind, outcome))
        if children is None:
            children = self._upstream_requests.labels(kind, outcome), self._upstream_seconds.labels(kind)
            self._upstream_children[kind, outcome] = children
        children[0].inc()
        children[1].observe(seconds)

    def build_info(self, **versions: str) -> None:
        """Define the metric that has the versions of merlind and of what it runs on as its labels."""
        Info("merlind_build", "The versions of merlind and of what it runs on.", registry=self._registry).info(versions)

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Define a value that ``read`` returns when the metrics are shown."""
        Gauge(name, text, registry=self._registry).set_function(read)

    def gauges(self, name: str, text: str, label: str, read: dict[str, Callable[[], float]]) -> None:
        """Define values of one name, one for each value of ``label``."""
        gauge = Gauge(name, text, [label], registry=self._registry)
        for value, function in read.items():
            gauge.labels(value).set_function(function)

    def count(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Define a count of what happened so far; ``read`` returns it when the metrics are shown."""
        self._registry.register(_Counts(name, text, (), {(): read}))

    def counts(self, name: str, text: str, label: str, read: dict[str, Callable[[], float]]) -> None:
        """Define counts of one name that somebody else keeps, one for each value of ``label``."""
        self._registry.register(_Counts(name, text, (label,), {(value,): function for value, function in read.items()}))

    def exposition(self) -> bytes:
        """Return all metrics in the Prometheus text format."""
        return generate_latest(self._registry)

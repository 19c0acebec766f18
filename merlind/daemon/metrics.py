"""What is counted, by prometheus_client in a registry of our own. Knows nothing of what counts."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_LATENCIES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """The counters of one merlind."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self._requests = Counter(
            "merlind_http_requests", "Answers on the public listener.", ["method", "code"], registry=registry
        )
        self._exchanges = Counter(
            "merlind_upstream_requests", "Exchanges with the upstream.", ["kind", "outcome"], registry=registry
        )
        self._exchange_seconds = Histogram(
            "merlind_upstream_request_seconds",
            "How long an exchange took.",
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
        # Finding the child of some labels takes longer than counting in it.
        self._exchange_children: dict[tuple[str, str], tuple[Counter, Histogram]] = {}
        self._request_children: dict[tuple[bytes, int], Counter] = {}

    def request(self, method: bytes, code: int) -> None:
        """Count an answer. Methods that we don't know share one label, or a client could make up endless ones."""
        child = self._request_children.get((method, code))
        if child is None:
            known = method if method in {b"GET", b"HEAD", b"POST", b"DELETE", b"OPTIONS"} else b"other"
            child = self._requests.labels(known.decode(), str(code))
            if known == method:
                self._request_children[method, code] = child
        child.inc()

    def exchange(self, kind: str, outcome: str, seconds: float) -> None:
        """Count an exchange with the upstream that took ``seconds``."""
        children = self._exchange_children.get((kind, outcome))
        if children is None:
            children = self._exchanges.labels(kind, outcome), self._exchange_seconds.labels(kind)
            self._exchange_children[kind, outcome] = children
        children[0].inc()
        children[1].observe(seconds)

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """A value that is read when it is asked for."""
        Gauge(name, text, registry=self._registry).set_function(read)

    def gauges(self, name: str, text: str, label: str, read: dict[str, Callable[[], float]]) -> None:
        """Values of one name, told apart by a label, that are read when they are asked for."""
        gauge = Gauge(name, text, [label], registry=self._registry)
        for value, function in read.items():
            gauge.labels(value).set_function(function)

    def exposition(self) -> bytes:
        """All of it in the Prometheus text format."""
        return generate_latest(self._registry)

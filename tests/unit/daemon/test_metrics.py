"""The metrics as Prometheus reads them."""

from twisted.trial.unittest import SynchronousTestCase

from merlind.daemon.metrics import Metrics


class MetricsTests(SynchronousTestCase):
    """The metrics of one merlind."""

    def setUp(self) -> None:
        self.metrics = Metrics()

    def lines(self, start: str) -> list[str]:
        """The samples whose name begins like this."""
        return [line for line in self.metrics.exposition().decode().splitlines() if line.startswith(start)]

    def test_requests(self) -> None:
        """Responses are counted by method and code."""
        for method, code in (("GET", 200), ("GET", 200), ("GET", 404), ("POST", 202)):
            self.metrics.request(method, code)
        self.assertEqual(
            set(self.lines("merlind_http_requests_total")),
            {
                'merlind_http_requests_total{code="200",method="GET"} 2.0',
                'merlind_http_requests_total{code="404",method="GET"} 1.0',
                'merlind_http_requests_total{code="202",method="POST"} 1.0',
            },
        )

    def test_count(self) -> None:
        """A count that something else keeps is shown as a counter, with the value of that moment."""
        counted = [3]
        self.metrics.count("merlind_log_lines_dropped", "Lines.", lambda: counted[0])
        self.assertEqual(self.lines("merlind_log_lines"), ["merlind_log_lines_dropped_total 3.0"])
        counted[0] = 4
        self.assertEqual(self.lines("merlind_log_lines"), ["merlind_log_lines_dropped_total 4.0"])
        self.assertIn("# TYPE merlind_log_lines_dropped_total counter", self.metrics.exposition().decode())

    def test_upstream_requests(self) -> None:
        """Requests to the upstream are counted by kind and outcome, and timed by kind."""
        for kind, outcome, seconds in (("poll", "done", 0.5), ("poll", "wait", 0.25), ("upload", "done", 7.0)):
            self.metrics.upstream_request(kind, outcome, seconds)
        self.metrics.upstream_request("poll", "done", 0.25)
        self.assertEqual(
            sorted(self.lines("merlind_upstream_requests_total")),
            [
                'merlind_upstream_requests_total{kind="poll",outcome="done"} 2.0',
                'merlind_upstream_requests_total{kind="poll",outcome="wait"} 1.0',
                'merlind_upstream_requests_total{kind="upload",outcome="done"} 1.0',
            ],
        )
        self.assertEqual(
            sorted(self.lines("merlind_upstream_request_seconds_sum")),
            [
                'merlind_upstream_request_seconds_sum{kind="poll"} 1.0',
                'merlind_upstream_request_seconds_sum{kind="upload"} 7.0',
            ],
        )
        self.assertIn('merlind_upstream_request_seconds_bucket{kind="poll",le="0.25"} 2.0', self.lines("merlind_up"))

    def test_refused(self) -> None:
        """What clients could not have is counted by limit, and by whose limit it is; never by client."""
        for limit, by in (("uploads", "client"), ("uploads", "client"), ("disk", "server")):
            self.metrics.refused(limit, by)
        self.assertEqual(
            set(self.lines("merlind_refused_total")),
            {
                'merlind_refused_total{by="client",limit="uploads"} 2.0',
                'merlind_refused_total{by="server",limit="disk"} 1.0',
            },
        )

    def test_problems(self) -> None:
        """Error responses are counted by their code."""
        for code in ("full", "not_an_image", "full"):
            self.metrics.problem(code)
        self.assertEqual(
            self.lines("merlind_http_problems_total"),
            ['merlind_http_problems_total{code="full"} 2.0', 'merlind_http_problems_total{code="not_an_image"} 1.0'],
        )

    def test_finished(self) -> None:
        """Finished tasks are counted by state and code; those with a score are timed."""
        self.metrics.scored(2.0)
        self.metrics.scored(4.0)
        self.metrics.failed("gave_up")
        self.assertEqual(
            self.lines("merlind_tasks_finished_total"),
            [
                'merlind_tasks_finished_total{code="",state="ready"} 2.0',
                'merlind_tasks_finished_total{code="gave_up",state="failed"} 1.0',
            ],
        )
        self.assertIn('merlind_time_to_score_seconds_bucket{le="2.5"} 1.0', self.lines("merlind_time"))
        self.assertIn("merlind_time_to_score_seconds_sum 6.0", self.lines("merlind_time"))

    def test_build_info(self) -> None:
        """Versions are labels of a metric that is always 1."""
        self.metrics.build_info(version="1.2.3", python="3.13.5")
        self.assertEqual(self.lines("merlind_build_info"), ['merlind_build_info{python="3.13.5",version="1.2.3"} 1.0'])

    def test_process(self) -> None:
        """The process's own figures are there."""
        names = {line.split()[0] for line in self.lines("process_")}
        self.assertLessEqual({"process_resident_memory_bytes", "process_open_fds", "process_max_fds"}, names)

    def test_no_creation_times(self) -> None:
        """No time series tells when a counter began."""
        self.metrics.request("GET", 200)
        self.metrics.accept_seconds.observe(0.01)
        self.assertNotIn("_created", self.metrics.exposition().decode())

    def test_accept(self) -> None:
        """Accepting a form is timed."""
        self.metrics.accept_seconds.observe(0.01)
        self.assertEqual(self.lines("merlind_accept_seconds_count"), ["merlind_accept_seconds_count 1.0"])

    def test_gauges(self) -> None:
        """Gauges are read when they are shown."""
        values = {"a": 1.0, "b": 2.0}
        self.metrics.gauge("one", "One.", lambda: values["a"])
        self.metrics.gauges("more", "More.", "label", {"x": lambda: values["a"], "y": lambda: values["b"]})
        self.assertEqual(self.lines("one"), ["one 1.0"])
        values["a"] = 5.0
        self.assertEqual(self.lines("one"), ["one 5.0"])
        self.assertEqual(self.lines("more"), ['more{label="x"} 5.0', 'more{label="y"} 2.0'])

    def test_apart(self) -> None:
        """Two merlinds in one process have metrics of their own."""
        self.metrics.request("GET", 200)
        self.metrics = Metrics()
        self.assertEqual(self.lines("merlind_http_requests_total"), [])

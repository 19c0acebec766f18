"""How many requests the limiter allows at once, and for which tasks. Many tasks: tests/unit/tasks/test_worlds.py."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from merlind.core.limiter import (
    CUT_AFTER,
    NEWCOMER_INTERVAL,
    NEWCOMER_PAUSE,
    RETRY_AFTER_CAP,
    THRESHOLD,
    Lane,
    Limiter,
    LimiterState,
    Outage,
    Pick,
)
from merlind.core.outcome import Fault, HandleExpired, Outcome, Pending, Rejected, Scored, TaskError, TransientError
from merlind.core.task import State
from tests.unit.support import make_task

AWAY = TransientError("no connection", fault=Fault.UNAVAILABLE)
BAD = TransientError("http 500")
WRONG = TransientError("http 401", fault=Fault.MISCONFIGURED)
GOOD = Scored(0.5)


class LimiterCase(SynchronousTestCase):
    """A limiter, and requests that start and end."""

    def setUp(self) -> None:
        self.make()

    def make(self, concurrency: int = 8, jitter: float = 1.0) -> None:
        self.limiter = Limiter(concurrency, lambda: jitter)

    def request(
        self, outcome: Outcome, task_id: int = 1, now: float = 100.0, began: float | None = None, **task: Any
    ) -> None:
        """Make one request, from its start to its end."""
        what = make_task(task_id, **task)
        began = now if began is None else began
        self.limiter.start(what, began)
        self.limiter.end(task_id)
        self.limiter.learn(what, what, outcome, began, now)

    def requests(self, outcome: Outcome, count: int, now: float = 100.0, began: float = 99.0) -> None:
        """Make a request for each of so many tasks, all at once."""
        for task_id in range(1, count + 1):
            self.request(outcome, task_id, now, began)

    def break_down(self, error: TransientError = AWAY, now: float = 100.0) -> Outage:
        """Begin an outage; return it."""
        for task_id in range(1, 9):
            if self.limiter.outage is None:
                self.request(error, task_id, now)
        return self.outage

    def probe(self, outcome: Outcome = AWAY, task_id: int = 50, **task: Any) -> float:
        """Make the next probe on time; return the pause before the one after it."""
        now = self.outage.probe_at
        self.request(outcome, task_id, now, **task)
        return 0.0 if self.limiter.outage is None else self.outage.probe_at - now

    @property
    def outage(self) -> Outage:
        assert self.limiter.outage is not None
        return self.limiter.outage


class AllowanceTests(LimiterCase):
    """How many at once while all is well."""

    def test_all_that_is_configured(self) -> None:
        """As many requests as are configured may be in flight, and another one for each that ends."""
        for task_id in range(1, 9):
            self.assertEqual(self.limiter.next_lane(0.0, 1, 0), Lane.MAIN)
            self.limiter.start(make_task(task_id), 0.0)
        self.assertIsNone(self.limiter.next_lane(0.0, 1, 0))
        self.limiter.end(3)
        self.assertEqual(self.limiter.next_lane(0.0, 1, 0), Lane.MAIN)
        self.assertEqual((self.limiter.state, self.limiter.limit), (LimiterState.FULL, 8))

    def test_nothing_to_do(self) -> None:
        """Without a ready task there is no lane."""
        self.assertIsNone(self.limiter.next_lane(0.0, 0, 0))

    def started(self, ready: int, suspects: int) -> list[Lane]:
        """Start as many requests as are allowed; return their lanes."""
        lanes: list[Lane] = []
        while lane := self.limiter.next_lane(0.0, ready, suspects):
            lanes.append(lane)
            self.limiter.start(make_task(len(lanes), blamed=int(lane is Lane.SUSPECTS)), 0.0)
            ready -= lane is Lane.MAIN
            suspects -= lane is Lane.SUSPECTS
        return lanes

    def test_lane_of_suspects(self) -> None:
        """Suspects have a quarter of the places, four at most, among others and alone."""
        for concurrency, ready, most in ((32, 90, 4), (32, 0, 4), (8, 90, 2), (4, 90, 1), (2, 0, 1), (1, 0, 1)):
            self.make(concurrency)
            lanes = self.started(ready, 90)
            self.assertEqual(lanes.count(Lane.SUSPECTS), most, concurrency)
            self.assertEqual(len(lanes), concurrency if ready else most)

    def test_few_places(self) -> None:
        """With fewer than four places, a suspect has every fourth start: it neither starves nor crowds out others."""
        self.make(concurrency=1)
        lanes = []
        for task_id in range(12):
            lane = self.limiter.next_lane(0.0, 9, 9)
            lanes.append(lane)
            self.limiter.start(make_task(task_id, blamed=int(lane is Lane.SUSPECTS)), 0.0)
            self.limiter.end(task_id)
        self.assertEqual(lanes, ([Lane.MAIN] * 3 + [Lane.SUSPECTS]) * 3)


class EvidenceTests(LimiterCase):
    """What makes an outage, and what doesn't."""

    def test_distinct_tasks(self) -> None:
        """As many distinct tasks as are allowed at once must fail, five at least; how often one does is nothing."""
        for concurrency, enough in ((32, 32), (8, 8), (2, THRESHOLD), (1, THRESHOLD)):
            self.make(concurrency)
            for _ in range(100):
                self.request(BAD)
            self.requests(BAD, enough - 1)
            self.assertIsNone(self.limiter.outage)
            self.request(BAD, enough)
            self.assertEqual((self.limiter.state, self.limiter.limit), (LimiterState.OUTAGE, 1))

    def test_success_between(self) -> None:
        """A good response for anybody, to an upload or a poll, begins the count anew. So does one of no use."""
        poll = {"state": State.POLL, "retry_id": "a"}
        cases: tuple[tuple[Outcome, dict[str, Any]], ...] = (
            (Pending("a"), {}),
            (Pending(None), poll),
            (GOOD, poll),
            (Rejected(TaskError("upstream_422", "no face")), {}),
            (HandleExpired(), poll),
        )
        for outcome, task in cases:
            self.make()
            for _ in range(3):
                self.requests(BAD, 7)
                self.request(outcome, 99, **task)
            self.assertEqual(self.limiter.state, LimiterState.FULL, outcome)

    def test_suspects_are_no_evidence(self) -> None:
        """Failures of suspects make no outage, no cut, no misconfiguration."""
        for error in (BAD, AWAY, WRONG):
            for task_id in range(100):
                self.request(error, task_id, blamed=1)
        self.assertEqual((self.limiter.state, self.limiter.misconfigured), (LimiterState.FULL, None))
        self.assertIsNone(self.limiter.failing_since)

    def test_last_success(self) -> None:
        """It knows when an upload and when a poll last succeeded; a response of no use is no success."""
        self.request(GOOD, now=3.0)
        self.request(BAD, now=4.0)
        self.request(HandleExpired(), now=5.0, state=State.POLL, retry_id="a")
        self.assertEqual([self.limiter.last_success(kind) for kind in (State.UPLOAD, State.POLL)], [3.0, float("-inf")])

    def test_since_when(self) -> None:
        """It knows since when requests fail, and how the last one did, until one succeeds."""
        self.request(BAD, 1, now=3.0)
        self.request(AWAY, 2, now=7.0)
        self.assertEqual((self.limiter.failing_since, self.limiter.last_error), (3.0, "no connection"))
        self.request(GOOD, 3, now=9.0)
        self.assertEqual((self.limiter.failing_since, self.limiter.last_error), (None, None))

    def test_misconfigured(self) -> None:
        """What points at our settings is kept through other failures, until the upstream answers well."""
        self.request(WRONG)
        for outcome in (BAD, AWAY, HandleExpired()):
            self.request(outcome)
            self.assertEqual(self.limiter.misconfigured, "http 401")
        self.request(GOOD)
        self.assertIsNone(self.limiter.misconfigured)


class CutTests(LimiterCase):
    """An upstream that can't take so many at once."""

    def make(self, concurrency: int = 32, jitter: float = 1.0) -> None:
        super().make(concurrency, jitter)

    def cut(self, now: float, began: float, count: int = CUT_AFTER) -> int:
        """Let requests of some tasks find the upstream unavailable; return the limit."""
        self.requests(AWAY, count, now, began)
        return self.limiter.limit

    def test_once_a_round_trip(self) -> None:
        """When three in a row find it unavailable, the limit is cut to 0.7: once for those in flight at the time."""
        self.assertEqual(self.cut(1.0, 0.0, CUT_AFTER - 1), 32)
        self.assertEqual(self.cut(1.0, 0.0), 22)
        self.assertEqual(self.cut(1.5, 0.9), 22)
        self.assertEqual(self.cut(2.0, 1.1), 15)
        self.assertEqual((self.limiter.state, self.limiter.last_error), (LimiterState.REDUCED, "no connection"))

    def test_not_for_bad_responses(self) -> None:
        """Responses that can't be used don't say that there are too many requests."""
        for error in (BAD, WRONG):
            self.requests(error, 20)
            self.assertEqual(self.limiter.state, LimiterState.FULL)

    def test_one_more_each_round_trip(self) -> None:
        """From there on the limit grows by one a round trip, up to all."""
        self.cut(1.0, 0.0)
        limits = []
        for _ in range(11):
            self.requests(GOOD, self.limiter.limit)
            limits.append(self.limiter.limit)
        self.assertEqual(limits, [23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 32])
        self.assertEqual((self.limiter.state, self.limiter.last_error), (LimiterState.FULL, None))

    def test_never_below_one(self) -> None:
        """However often it is cut, one request may go."""
        self.make(concurrency=2)
        for now in range(2, 40):
            self.requests(AWAY, CUT_AFTER, float(now), now - 0.5)
            self.request(GOOD)
            self.limiter._limit = max(1.0, self.limiter._limit - 0.9)
            self.assertGreaterEqual(self.limiter.limit, 1)


class OutageTests(LimiterCase):
    """From the outage to the first success, and after."""

    def test_one_probe_at_a_time(self) -> None:
        """Nothing is allowed before the probe's time, and then one request alone."""
        at = self.break_down().probe_at
        self.assertEqual(at, 100.5)
        self.assertEqual([self.limiter.next_lane(now, 9, 9) for now in (at - 0.01, at)], [None, Lane.MAIN])
        self.limiter.start(make_task(50), at)
        self.assertIsNone(self.limiter.next_lane(at + 500, 9, 9))
        self.assertEqual((self.limiter.pick, self.limiter.last_probe), (Pick.PROBE, 50))

    def test_pauses_grow(self) -> None:
        """Each failed probe makes the next pause longer: up to a minute, or 5 s if the upstream answers something."""
        for error, cap in ((AWAY, 60.0), (WRONG, 60.0), (BAD, 5.0)):
            self.make()
            self.break_down(error)
            pauses = [self.probe(error) for _ in range(20)]
            self.assertEqual([round(pause, 3) for pause in pauses[:3]], [0.75, 1.125, 1.688])
            self.assertEqual(pauses, sorted(pauses))
            self.assertEqual(pauses[-1], cap)

    def test_jitter(self) -> None:
        """The jitter takes half of a pause at most, and half a second is the shortest."""
        self.make(jitter=0.0)
        self.assertEqual(self.break_down().probe_at, 100.5)
        self.assertEqual([self.probe() for _ in range(20)][-1], 30.0)

    def test_retry_after(self) -> None:
        """A Retry-After makes the pause as long, a minute at most; before an outage it holds up nobody."""
        asking = [TransientError("http 429", after, Fault.UNAVAILABLE) for after in (9.0, 3600.0)]
        self.request(asking[1])
        self.assertEqual(self.limiter.next_lane(100.0, 1, 0), Lane.MAIN)
        self.assertEqual(self.break_down(asking[0]).probe_at, 109.0)
        self.assertEqual(self.probe(asking[1]), RETRY_AFTER_CAP)

    def test_late_failures(self) -> None:
        """A request that began before the outage is no probe: its failure is no news."""
        outage = self.break_down()
        late = make_task(70)
        self.limiter.learn(late, late, TransientError("timed out", 900.0, Fault.UNAVAILABLE), 99.0, 130.0)
        self.assertIs(self.limiter.outage, outage)

    def test_suspect_as_a_probe(self) -> None:
        """With nobody else to ask, a suspect is the probe; that it fails lengthens no pause, and makes no hot loop."""
        at = self.break_down().probe_at
        self.assertEqual(self.limiter.next_lane(at, 0, 3), Lane.SUSPECTS)
        self.assertEqual([self.probe(blamed=1) for _ in range(5)], [0.5] * 5)

    def test_opens_gradually(self) -> None:
        """After the first success, from whenever its request is: one at once, then twice as many each round trip."""
        for began in (50.0, 101.0):
            self.make()
            self.break_down()
            self.request(GOOD, 60, 110.0, began)
            limits = []
            for _ in range(5):
                limits.append(self.limiter.limit)
                self.requests(GOOD, self.limiter.limit, 111.0, 110.5)
            self.assertEqual(limits, [1, 2, 4, 8, 8])
            self.assertEqual(self.limiter.state, LimiterState.FULL)

    def test_answer_of_no_use(self) -> None:
        """A response that doesn't know a retry_id shows that the upstream is back."""
        self.break_down()
        self.probe(HandleExpired(), state=State.POLL, retry_id="a")
        self.assertEqual((self.limiter.state, self.limiter.limit), (LimiterState.REDUCED, 1))

    def test_fails_again(self) -> None:
        """While it opens, five failures make an outage again, with the first and shortest pause."""
        self.break_down()
        for _ in range(9):
            self.probe()
        self.probe(GOOD)
        self.requests(AWAY, THRESHOLD - 1, 900.0, 899.0)
        self.assertIsNone(self.limiter.outage)
        self.request(AWAY, 40, 900.0)
        self.assertEqual((self.outage.failed_probes, self.outage.probe_at), (0, 900.5))

    def test_pick(self) -> None:
        """While all is well it is first come, first served; else a choice in which a crowd hides nobody."""
        seen = [self.limiter.pick]
        self.request(BAD)
        seen.append(self.limiter.pick)
        self.request(GOOD)
        seen.append(self.limiter.pick)
        self.break_down()
        seen.append(self.limiter.pick)
        self.probe(GOOD)
        seen.append(self.limiter.pick)
        for _ in range(8):
            self.request(GOOD)
        seen.append(self.limiter.pick)
        self.assertEqual(seen, [Pick.FIRST, Pick.FAIR, Pick.FIRST, Pick.PROBE, Pick.FAIR, Pick.FIRST])


class NewcomerTests(LimiterCase):
    """A task that comes in an outage."""

    def come(self, now: float) -> tuple[float, Pick]:
        """Let a task come; return when the next probe is, and how its task is picked."""
        self.limiter.arrived(now)
        return self.outage.probe_at, self.limiter.pick

    def long_outage(self, error: TransientError = AWAY) -> float:
        """Return the time of the last failed probe of an outage whose pauses are long."""
        self.break_down(error)
        for _ in range(20):
            self.probe(error)
        return self.outage.probe_at - 60.0

    def test_probed_soon(self) -> None:
        """It is probed 5 s after the last probe, or at once if that was longer ago."""
        for waited, at in ((1.0, NEWCOMER_PAUSE), (30.0, 30.0)):
            self.make()
            last = self.long_outage()
            self.assertEqual(self.come(last + waited), (last + at, Pick.NEWCOMER))

    def test_not_before_its_turn(self) -> None:
        """If the next probe comes sooner than that, it is as it was."""
        before = self.break_down()
        self.assertEqual(self.come(100.1), (before.probe_at, Pick.PROBE))

    def test_only_now_and_then(self) -> None:
        """However many come, newcomers shorten the pause twice a minute at most."""
        first = self.long_outage() + NEWCOMER_PAUSE
        self.come(first)
        self.probe()
        self.assertEqual(self.come(first + 1), (first + NEWCOMER_INTERVAL, Pick.NEWCOMER))
        self.assertEqual(self.come(first + 2), (first + NEWCOMER_INTERVAL, Pick.NEWCOMER))

    def test_not_before_a_retry_after(self) -> None:
        """It waits for what the upstream asked for, as all do."""
        last = self.long_outage(TransientError("http 429", 50.0, Fault.UNAVAILABLE))
        self.assertEqual(self.come(last + 1), (last + 50.0, Pick.NEWCOMER))

    def test_while_all_is_well(self) -> None:
        """Outside of an outage it changes nothing."""
        self.limiter.arrived(5.0)
        self.assertEqual((self.limiter.state, self.limiter.pick), (LimiterState.FULL, Pick.FIRST))

"""Many tasks and an upstream, simulated: what the limiter, the queue and the rules of a task come to together.

Codes such as (U15) are rows of docs/battery.md. All random numbers come from fixed seeds.
"""

from collections.abc import Callable
from itertools import pairwise
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from merlind.core.limiter import LimiterState
from merlind.core.outcome import Fault, HandleExpired, Outcome, Pending, Scored, TransientError
from merlind.core.task import State
from tests.unit.tasks.simulation import Request, World

HONEST_WITHIN = 10.0
"""Seconds from coming to score of an honest task, at most, whatever else there is."""

Respond = Callable[[Request], Outcome]


def score(request: Request) -> Outcome:
    """Take the photo, and have the score when it is polled for."""
    return Pending("a") if request.task.state is State.UPLOAD else Scored(0.5)


def failing(error: Outcome, kind: State | None = None) -> Respond:
    """Respond so to the bad tasks, or to their uploads or polls alone; score the others."""

    def respond(request: Request) -> Outcome:
        bad = request.task.name == "bad" and kind in (None, request.task.state)
        return error if bad else score(request)

    return respond


def error(fault: Fault, retry_after: float = 0.0) -> TransientError:
    return TransientError(f"a {fault} fault", retry_after, fault)


def spread(count: int, start: float, end: float, seed: int) -> list[float]:
    """Return so many random times."""
    random = Random(seed)
    return sorted(random.uniform(start, end) for _ in range(count))


class WorldCase(SynchronousTestCase):
    """Worlds in which honest tasks must be scored in time."""

    def assert_scored(self, world: World, count: int, within: float = HONEST_WITHIN) -> None:
        """Assert that all honest tasks have a score, and had it in time."""
        took = world.took("honest")
        self.assertEqual(len(took), count, world.codes("honest"))
        self.assertLess(took[-1], within)
        self.assertLessEqual(world.most_in_flight, world.concurrency)


class BadTaskTests(WorldCase):
    """Tasks that make the upstream fail, beside honest ones (U15)."""

    def test_crowds(self) -> None:
        """Honest tasks beside 10, 100 and 1,000 that always fail, in whatever way, are scored within 10 s."""
        for fault in Fault:
            for bad in (5, 10, 100, 1000):
                for at in (0.0, 20.0, 200.0):
                    world = World(failing(error(fault)))
                    world.come("bad", [0.0] * bad)
                    world.come("honest", [at] * 20)
                    world.run(at + 60)
                    self.assert_scored(world, 20)

    def test_bad_polls(self) -> None:
        """The same if the upstream takes the photos of the bad, and fails when it is polled for them."""
        for fault in Fault:
            for bad in (10, 100, 1000):
                for at in (0.0, 3.0, 30.0):
                    world = World(failing(error(fault), State.POLL))
                    world.come("bad", [0.0] * bad)
                    world.come("honest", [at] * 20)
                    world.run(at + 60)
                    # Of those that come together none was tried before the others; and this looks like an outage.
                    together = at == 0.0 and fault is Fault.UNAVAILABLE
                    self.assert_scored(world, 20, within=30.0 if together else HONEST_WITHIN)

    def test_streams(self) -> None:
        """The same while as many bad ones as honest ones come, with an upstream that takes 50 ms."""
        for fault in Fault:
            for kind in (None, State.POLL):
                world = World(failing(error(fault), kind))
                world.come("bad", spread(300, 0.0, 30.0, seed=3))
                world.come("honest", spread(300, 0.0, 30.0, seed=4))
                world.run(60)
                self.assert_scored(world, 300)

    def test_stream_to_a_slow_upstream(self) -> None:
        """The same with an upstream that takes 1 s; only one task in six is bad if that looks like overload."""
        for fault, bad in ((Fault.RESPONSE, 600), (Fault.MISCONFIGURED, 600), (Fault.UNAVAILABLE, 120)):
            world = World(failing(error(fault)), latency=1.0)
            world.come("bad", spread(bad, 0.0, 120.0, seed=3))
            world.come("honest", spread(600, 0.0, 120.0, seed=4))
            world.run(200)
            self.assert_scored(world, 600)

    def test_hanging(self) -> None:
        """Bad tasks whose requests hang for 30 s take few places for long."""
        world = World(failing(error(Fault.UNAVAILABLE)), latency=lambda task: 30.0 if task.name == "bad" else 0.05)
        world.come("honest", [n * 0.5 for n in range(600)])
        world.come("bad", [10.0] * 20)
        world.run(400)
        self.assert_scored(world, 600, within=60.0)
        late = [took for took in world.took("honest") if took > HONEST_WITHIN]
        self.assertLess(len(late), 100)

    def test_set_apart_and_bounded(self) -> None:
        """Bad tasks are known as such, never have more than four places, and fail in the end; no honest one does."""
        world = World(failing(error(Fault.RESPONSE)), max_attempts=20)
        world.come("bad", [0.0] * 50)
        world.come("honest", [n * 5.0 for n in range(2000)])
        world.run(60)
        self.assertEqual(world.queue.suspects, 50)
        world.run(12_000)
        self.assert_scored(world, 2000)
        self.assertEqual(world.codes("bad"), {"too_many_attempts": 50})
        per_task = len([request for request in world.ended if request.task.name == "bad"]) / 50
        self.assertTrue(20 <= per_task <= 23, per_task)

    def test_bad_ones_alone(self) -> None:
        """Five bad tasks and nobody else: each backs off by itself, and none is counted as bad."""
        world = World(failing(error(Fault.RESPONSE)))
        world.come("bad", [0.0] * 5)
        world.run(3600)
        self.assertLess(len(world.ended), 250)
        self.assertEqual((world.queue.suspects, world.limiter.state), (0, LimiterState.FULL))

    def test_retry_after_of_some(self) -> None:
        """Five responses that ask for an hour's pause hold up their own tasks; as all there is, everybody for 60 s."""
        asking = failing(error(Fault.UNAVAILABLE, retry_after=3600.0))
        for bad, within in ((5, HONEST_WITHIN), (50, 60.0 + HONEST_WITHIN)):
            world = World(asking)
            world.come("bad", [0.0] * bad)
            world.come("honest", [5.0] * 20)
            world.run(600)
            self.assert_scored(world, 20, within)
            again = [r for r in world.ended if r.task.name == "bad" and r.task.attempts]
            self.assertEqual(again, [])


class FlakyTests(WorldCase):
    """An upstream that fails now and then, or takes few requests at once."""

    def test_a_fifth_fails(self) -> None:
        """If each fifth response is an error, all tasks are scored, most of them at once; none fails for good."""
        for fault in Fault:
            world = World(score)
            world.respond = lambda r, w=world, f=fault: score(r) if w.random.random() > 0.2 else error(f)  # type: ignore[misc]
            world.come("honest", [n * 0.05 for n in range(2000)])
            world.run(600)
            self.assert_scored(world, 2000, within=120.0)
            self.assertLess(world.took("honest")[1000], 3.0)

    def test_few_at_once(self) -> None:
        """An upstream that takes 8 requests at once, and refuses the rest, is kept busy without many refusals."""
        world = World(lambda r: score(r) if r.others < 8 else error(Fault.UNAVAILABLE), latency=1.0)
        world.come("honest", [n * 0.25 for n in range(1200)])
        world.run(900)
        self.assert_scored(world, 1200, within=300.0)
        self.assertLess(len(world.ended), 3000)

    def test_flapping(self) -> None:
        """An upstream that is there for 10 s a minute scores all; nobody fails for good because of it."""
        world = World(lambda r: score(r) if r.now % 60 < 10 else error(Fault.UNAVAILABLE))
        world.come("honest", [n * 0.05 for n in range(4000)])
        world.run(3600)
        self.assert_scored(world, 4000, within=1200.0)

    def test_uploads_fail_and_polls_succeed(self) -> None:
        """While no upload succeeds, no upload is its task's fault, however well the polls of others go."""
        world = World(score, max_attempts=5)
        world.come("polled", [0.0] * 20)
        world.respond = lambda r: Pending("a") if r.now < 1 or r.task.state is State.POLL else error(Fault.UNAVAILABLE)
        world.come("honest", [2.0] * 100)
        world.run(3600)
        self.assertEqual((world.finished, world.queue.suspects), ({}, 0))

    def test_uploads_and_polls(self) -> None:
        """Neither starves: with more of both than the upstream can take, each gets about half of the requests."""
        world = World(lambda r: Pending("a"), latency=1.0, concurrency=4)
        world.come("honest", [0.0] * 400)
        world.run(60)
        polls = sum(request.task.state is State.POLL for request in world.ended)
        self.assertTrue(0.4 < polls / len(world.ended) < 0.6, polls)


class OutageTests(WorldCase):
    """An upstream that is away, and comes back."""

    def test_hour_with_10_000_tasks(self) -> None:
        """An hour of outage with 10,000 tasks, then back: few requests, no herd, all done, none blamed (U12)."""
        for fault, most, tasks in (
            (Fault.UNAVAILABLE, 200, 10_000),
            (Fault.MISCONFIGURED, 200, 1000),
            (Fault.RESPONSE, 1200, 1000),
        ):
            world = World(lambda r, fault=fault: error(fault) if r.now < 3600 else score(r))  # type: ignore[misc]
            world.come("honest", [n * 0.01 for n in range(tasks)])
            world.run(3600)
            self.assertEqual((world.limiter.state, world.queue.suspects), (LimiterState.OUTAGE, 0))
            self.assertLess(len(world.ended), most)
            self.assertEqual(world.finished, {})
            world.run(3800)
            self.assert_scored(world, tasks, within=3800.0)
            self.assert_no_herd(world, since=3600.0)

    def assert_no_herd(self, world: World, since: float) -> None:
        """Assert that after an outage the requests in flight at most double with each that succeeds."""
        for nth, request in enumerate(sorted((r for r in world.ended if r.now > since), key=lambda r: r.now)):
            self.assertLessEqual(request.others, nth, "more in flight than succeeded before")

    def test_under_load(self) -> None:
        """Ten minutes of outage with 2,000 tasks, and 5 more a second all the time: the backlog is gone soon after."""
        world = World(lambda r: error(Fault.UNAVAILABLE) if 10 < r.now < 610 else score(r))
        world.come("honest", [9.0] * 2000)
        world.come("honest", [n * 0.2 for n in range(4000)])
        world.run(900)
        self.assert_scored(world, 6000, within=680.0)
        self.assertLess(sum(world.begun[second] for second in range(20, 610)), 60)
        self.assert_no_herd(world, since=610.0)

    def test_never_the_same_probe_twice(self) -> None:
        """In an outage, no task is probed twice running, and those that were tried least come first."""
        world = World(lambda r: error(Fault.UNAVAILABLE))
        world.come("honest", [n * 1.0 for n in range(300)])
        world.run(7200)
        probes = [request.task for request in world.ended[40:]]
        self.assertGreater(len(probes), 100)
        self.assertFalse([task.id for task, after in pairwise(probes) if task.id == after.id])
        tries = [task.attempts for task in probes]
        self.assertTrue(all(tried <= 1 for tried in tries), tries)

    def test_handles_are_lost(self) -> None:
        """If the upstream forgets all that it had, the photos are uploaded again, once each, and all are scored."""
        world = World(score)
        world.respond = lambda r: (
            HandleExpired() if r.task.state is State.POLL and r.task.retry_id == "old" else
            Pending("old" if r.now < 1 else "new") if r.task.state is State.UPLOAD else Scored(0.5)
        )  # fmt: skip
        world.come("honest", [0.0] * 500)
        world.run(120)
        self.assert_scored(world, 500, within=60.0)
        self.assertEqual({task.uploads for task in world.finished.values()}, {2})

    def test_attempts_are_kept(self) -> None:
        """A day-long outage uses up no task's attempts; those that are bad are still told apart after it."""
        world = World(score, max_attempts=10, give_up_after=2 * 86_400.0)
        world.respond = lambda r: error(Fault.UNAVAILABLE) if r.now < 80_000 else failing(error(Fault.RESPONSE))(r)
        world.come("honest", [0.0] * 50)
        world.come("bad", [0.0] * 5)
        world.run(80_000)
        self.assertEqual((world.finished, world.queue.suspects), ({}, 0))
        world.come("honest", [80_001.0 + n * 3.0 for n in range(1500)])
        world.run(86_000)
        self.assertEqual(len(world.took("honest")), 1550)
        self.assertEqual(world.codes("bad"), {"too_many_attempts": 5})

"""What each outcome makes of a task, as tables and as properties."""

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from merlind.core.backoff import BACKOFF_CAP, backoff
from merlind.core.outcome import Fault, HandleExpired, Outcome, Pending, Rejected, Scored, TaskError, TransientError
from merlind.core.task import Policy, State, Task, advance, fail, miss_deadline, restart
from merlind.upstream.reply import MAX_RETRY_AFTER
from tests.unit.support import make_task

POLICY = Policy(poll_interval=2.0, give_up_after=1000.0, jitter=lambda: 1.0)
NOW = 10.0
WALL = 1e9
NO = TaskError("upstream_422", "no face")

seconds = st.floats(0, 1e7)
outcomes: st.SearchStrategy[Outcome] = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(Scored),
    st.builds(Pending, st.text(min_size=1, max_size=5), st.floats(0, MAX_RETRY_AFTER)),
    st.just(Pending(None)),
    st.just(Rejected(NO)),
    st.just(HandleExpired()),
    st.builds(TransientError, st.text(max_size=5), st.floats(0, MAX_RETRY_AFTER), st.booleans()),
)
policies = st.builds(
    Policy, st.floats(0.01, 1e4), st.floats(0.01, 1e6), st.floats(0, 1).map(lambda jitter: lambda: jitter)
)
checked = settings(max_examples=100, deadline=None, derandomize=True, database=None)


class AdvanceTests(SynchronousTestCase):
    """Applying outcomes."""

    def test_transitions(self) -> None:
        """Each outcome, for an upload and for a poll, changes exactly the fields listed here."""
        upload = make_task(attempts=2, last_error="http 503", due=9.0)
        poll = replace(upload, state=State.POLL, retry_id="old")
        done = {"state": State.READY, "result": 0.5, "retry_id": None, "last_error": None, "finished_at": WALL}
        failed = {"state": State.FAILED, "error": NO, "retry_id": None, "last_error": None, "finished_at": WALL}
        calm = {"state": State.POLL, "attempts": 0, "last_error": None}
        again = {"state": State.UPLOAD, "retry_id": None, "attempts": 3, "last_error": "retry_id expired"}
        for task, outcome, changes in (
            (upload, Scored(0.5), done),
            (poll, Scored(0.5), done),
            (upload, Rejected(NO), failed),
            (poll, Rejected(NO), failed),
            (upload, Pending("new"), {**calm, "retry_id": "new", "due": NOW + 2}),
            (poll, Pending("new"), {**calm, "retry_id": "new", "due": NOW + 2}),
            (poll, Pending(None), {**calm, "retry_id": "old", "due": NOW + 2}),
            (poll, Pending(None, retry_after=1.5), {**calm, "due": NOW + 2}),
            (poll, Pending(None, retry_after=7.0), {**calm, "due": NOW + 7}),
            (poll, HandleExpired(), {**again, "due": NOW + 8}),
            (upload, TransientError("x"), {"attempts": 3, "last_error": "x", "due": NOW + 8}),
            (poll, TransientError("x"), {"attempts": 3, "last_error": "x", "due": NOW + 8}),
            (poll, TransientError("x", retry_after=3.0), {"attempts": 3, "last_error": "x", "due": NOW + 8}),
            (poll, TransientError("x", retry_after=30.0), {"attempts": 3, "last_error": "x", "due": NOW + 30}),
            (
                upload,
                TransientError("x", fault=Fault.MISCONFIGURED),
                {"attempts": 3, "last_error": "x", "due": NOW + 8},
            ),
        ):
            self.assertEqual(advance(task, outcome, NOW, WALL, POLICY), replace(task, **changes), (task.state, outcome))

    def test_never_due_after_the_deadline(self) -> None:
        """No task is due after its deadline, whatever pause the upstream asks for."""
        task = make_task(since=5.0)
        for outcome in (Pending("a", retry_after=3600), TransientError("x", retry_after=3600), Pending("a")):
            policy = replace(POLICY, give_up_after=6.0)
            self.assertEqual(advance(task, outcome, NOW, WALL, policy).due, 11.0)

    def test_backoff_with_a_short_poll_interval(self) -> None:
        """The back-off's base has a minimum, so that a short poll interval makes no hot loop."""
        policy = replace(POLICY, poll_interval=0.01)
        self.assertEqual(advance(make_task(), TransientError("x"), NOW, WALL, policy).due, NOW + 0.1)

    @checked
    @given(st.lists(outcomes, max_size=20), policies, st.data())
    def test_only_finished_tasks_have_an_end(
        self, sequence: list[Outcome], policy: Policy, data: st.DataObject
    ) -> None:
        """After any outcomes: a finished task has an end and exactly one of result and error, others have neither."""
        task, now = make_task(since=data.draw(seconds)), 0.0
        for outcome in sequence:
            now += data.draw(st.floats(0, 1e4))
            if outcome == Pending(None) and task.state is State.UPLOAD:
                continue  # Pending for an upload always has a retry_id: see upstream/reply.py
            before, task = task, advance(task, outcome, task.since + now, WALL, policy)
            self.assertEqual(task.finished, isinstance(outcome, Scored | Rejected))
            self.assertEqual(task.finished, task.state in (State.READY, State.FAILED))
            self.assertEqual(task.result is not None, task.state is State.READY)
            self.assertEqual(task.error is not None, task.state is State.FAILED)
            for kept in ("id", "user", "name", "photo", "since"):
                self.assertEqual(getattr(task, kept), getattr(before, kept))
            if task.finished:
                self.assertEqual((task.retry_id, task.last_error, task.finished_at), (None, None, WALL))
                return
            self.assertTrue(task.due <= task.since + policy.give_up_after)
            self.assertEqual(task.retry_id is not None, task.state is State.POLL)
            if isinstance(outcome, Pending):
                self.assertEqual((task.attempts, task.last_error), (0, None))
                least = min(task.since + now + policy.poll_interval, task.since + policy.give_up_after)
                self.assertTrue(task.due >= least)
            else:
                self.assertEqual(task.attempts, before.attempts + 1)

    @checked
    @given(st.integers(0, 10**6), st.floats(0, 1e6), st.floats(0, 1))
    def test_backoff(self, attempts: int, base: float, jitter: float) -> None:
        """The pause is the jitter's share of an exponential with a cap."""
        most = backoff(attempts, base, 1.0)
        pause = backoff(attempts, base, jitter)
        self.assertTrue(0 <= pause <= most <= BACKOFF_CAP)
        self.assertTrue(most <= backoff(attempts + 1, base, 1.0))
        self.assertEqual(pause, jitter * most)

    def test_backoff_doubles(self) -> None:
        """The pause doubles from the base up to the cap."""
        self.assertEqual([backoff(n, 2.0, 1.0) for n in (0, 1, 2, 7, 8, 10**9)], [2, 4, 8, 256, 300, 300])
        self.assertEqual(backoff(3, 2.0, 0.25), 4.0)
        self.assertEqual(backoff(5, 1.0, 1.0, cap=7.0), 7.0)


class EndTests(SynchronousTestCase):
    """Deadline, failure and restart."""

    def test_deadline_error_names_the_reason(self) -> None:
        """A task past its deadline names its last transient error; without one, how far it got."""
        cases: tuple[tuple[dict[str, Any], str], ...] = (
            ({"last_error": "http 503"}, "http 503"),
            ({"state": State.POLL, "retry_id": "a", "last_error": "http 500"}, "http 500"),
            ({"state": State.POLL, "retry_id": "a"}, "still waiting for a score"),
            ({}, "never reached the upstream"),
        )
        for changes, reason in cases:
            task = miss_deadline(make_task(**changes), WALL)
            self.assertEqual(task.error, TaskError("gave_up", f"no score in time; last: {reason}"))
            self.assertEqual((task.state, task.retry_id, task.last_error), (State.FAILED, None, None))
            self.assertEqual((task.finished_at, task.finished), (WALL, True))

    def test_restarted_task_is_like_new(self) -> None:
        """A failed task that is restarted equals a new one."""
        for before in (
            fail(make_task(state=State.POLL, retry_id="a", attempts=9, last_error="x", since=1.0, due=2.0), NO, WALL),
            miss_deadline(make_task(attempts=9, last_error="x"), WALL),
        ):
            self.assertEqual(restart(before, 50.0), make_task(since=50.0, due=50.0))

    def test_tasks_are_immutable(self) -> None:
        """A task can't be changed in place."""

        def change(task: Task) -> None:
            task.state = State.READY  # type: ignore[misc]

        self.assertRaises(AttributeError, change, make_task())

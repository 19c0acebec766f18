"""What each outcome makes of a task, as tables and as properties."""

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from merlind.core.backoff import BACKOFF_CAP, backoff
from merlind.core.outcome import (
    TOO_FEW_FILES,
    UNEXPECTED,
    Fault,
    HandleExpired,
    Outcome,
    Pending,
    Rejected,
    Scored,
    Source,
    TaskError,
    TransientError,
)
from merlind.core.task import (
    HANDLE_ATTEMPTS,
    MAX_REUPLOADS,
    UNKNOWN_HANDLE,
    Policy,
    Repeat,
    State,
    Task,
    advance,
    fail,
    keep_photo,
    miss_deadline,
    repeat_of,
    restart,
)
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
    st.builds(
        TransientError, st.text(max_size=5), st.floats(0, MAX_RETRY_AFTER), st.sampled_from(Fault), st.booleans()
    ),
)
policies = st.builds(
    Policy, st.floats(0.01, 1e4), st.floats(0.01, 1e6), st.floats(0, 1).map(lambda jitter: lambda: jitter)
)
checked = settings(max_examples=100, deadline=None, derandomize=True, database=None)


class AdvanceTests(SynchronousTestCase):
    """Applying outcomes."""

    def test_transitions(self) -> None:
        """Each outcome, for an upload and for a poll, changes exactly the fields listed here."""
        tried = make_task(attempts=2, last_error="http 503", due=9.0, failed_at=8.0, blamed=1, uploads=3)
        upload, poll = tried, replace(tried, state=State.POLL, retry_id="old", unknown_handle=1)
        done = {"state": State.READY, "result": 0.5, "retry_id": None, "last_error": None, "finished_at": WALL}
        failed = {"state": State.FAILED, "error": NO, "retry_id": None, "last_error": None, "finished_at": WALL}
        calm = {"state": State.POLL, "attempts": 0, "last_error": None, "failed_at": None, "blamed": 0}
        calm = {**calm, "unknown_handle": 0}
        unknown = {"attempts": 3, "last_error": UNKNOWN_HANDLE, "unknown_handle": 2}
        again = {"attempts": 3, "last_error": "x", "failed_at": NOW}
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
            (poll, HandleExpired(), {**unknown, "due": NOW + 4}),
            (upload, TransientError("x"), {**again, "due": NOW + 8}),
            (upload, TransientError("x", sent=False), {**again, "due": NOW + 8, "uploads": 3}),
            (poll, TransientError("x"), {**again, "due": NOW + 8}),
            (poll, TransientError("x", retry_after=3.0), {**again, "due": NOW + 8}),
            (poll, TransientError("x", retry_after=30.0), {**again, "due": NOW + 30}),
            (upload, TransientError("x", fault=Fault.MISCONFIGURED), {**again, "due": NOW + 8}),
        ):
            changed: dict[str, Any] = {"uploads": 4 if task is upload else 3, **changes}
            self.assertEqual(advance(task, outcome, NOW, WALL, POLICY), replace(task, **changed), (task.state, outcome))

    def uploaded(self, task: Task, retry_id: str = "a") -> Task:
        """Return the task after an upload that the upstream took."""
        return advance(task, Pending(retry_id), task.due, WALL, POLICY)

    def unknown(self, task: Task) -> tuple[Task, list[float]]:
        """Let the upstream not know a retry_id until the task is no longer polled; return the pauses, too."""
        pauses = []
        while task.state is State.POLL:
            before, task = task.due, advance(task, HandleExpired(), task.due, WALL, POLICY)
            pauses.append(task.due - before)
        return task, pauses

    def test_unknown_handle_is_asked_again(self) -> None:
        """An unknown retry_id is asked for again, ever later, before the photo is uploaded again (U14)."""
        task, pauses = self.unknown(self.uploaded(make_task()))
        self.assertEqual(pauses, [2, 4, 8, 16, 4])
        self.assertEqual((task.state, task.retry_id, task.reuploads), (State.UPLOAD, None, 1))
        young = advance(self.uploaded(make_task()), HandleExpired(), 5.0, WALL, POLICY)
        known = advance(young, Pending(None), 9.0, WALL, POLICY)
        self.assertEqual((known.unknown_handle, known.reuploads, known.attempts), (0, 0, 0))

    def test_pauses_for_a_handle_have_a_minimum(self) -> None:
        """The jitter leaves half of each pause, and a short poll interval a second: a handle takes time to be known."""
        policy = replace(POLICY, poll_interval=0.01, jitter=lambda: 0.0)
        task, pauses = self.uploaded(make_task()), []
        for _ in range(4):
            before, task = task.due, advance(task, HandleExpired(), task.due, WALL, policy)
            pauses.append(task.due - before)
        self.assertEqual(pauses, [0.5, 1, 2, 4])

    def test_uploads_again_and_again(self) -> None:
        """Each new upload of a photo comes later than the one before, whatever came between; five is the most (U14)."""
        task, pauses = make_task(), []
        for n in range(5):
            between = advance(self.uploaded(task, f"id-{n}"), Pending(None), 0.0, WALL, POLICY)
            task, (*_, last) = self.unknown(between)
            pauses.append(last)
        self.assertEqual((pauses, task.reuploads), ([4, 8, 16, 32, 64], 5))
        task, _ = self.unknown(self.uploaded(task, "id-5"))
        assert task.error is not None
        self.assertEqual((task.state, task.uploads), (State.FAILED, 6))
        self.assertEqual((task.error.code, task.error.source), ("handle_expired", "upstream"))
        self.assertIn("forgot it 6 times", task.error.detail)

    def test_blamed_while_others_succeed(self) -> None:
        """A task that fails again is blamed if another has succeeded since; a good response clears it (U15)."""
        error, task = TransientError("http 500"), make_task()
        seen = []
        for now, last_success in ((1.0, 0.9), (2.0, 0.9), (3.0, 2.5), (4.0, 2.5), (5.0, 4.5)):
            task = advance(task, error, now, WALL, POLICY, last_success)
            seen.append((task.blamed, task.suspect))
        self.assertEqual(seen, [(0, False), (0, False), (1, True), (1, True), (2, True)])
        self.assertEqual(advance(task, Pending("a"), 6.0, WALL, POLICY).suspect, False)

    def test_not_blamed_for_what_was_not_sent(self) -> None:
        """A request that never went out says nothing about its task."""
        task = make_task(failed_at=1.0)
        for sent, blamed in ((True, 1), (False, 0)):
            after = advance(task, TransientError("x", sent=sent), 3.0, WALL, POLICY, last_success=2.0)
            self.assertEqual(after.blamed, blamed)

    def test_too_many_attempts(self) -> None:
        """A task that fails too often while others succeed fails for good; an outage counts for nothing (U15)."""
        policy, task = replace(POLICY, max_attempts=3), make_task()
        for n in range(1, 9):  # an outage
            task = advance(task, TransientError("http 503"), float(n), WALL, policy, 0.5)
        self.assertEqual((task.attempts, task.blamed), (8, 0))
        for n in range(9, 12):
            self.assertFalse(task.finished)
            task = advance(task, TransientError("http 500"), float(n), WALL, policy, n - 0.5)
        self.assertEqual((task.state, task.finished_at), (State.FAILED, WALL))
        self.assertEqual(
            task.error, TaskError("too_many_attempts", "failed 3 times while others succeeded; last: http 500")
        )

    def test_whose_fault_too_many_attempts_are(self) -> None:
        """They are merlind's where its own settings or a bug of its own failed last, otherwise the upstream's."""
        policy, task = replace(POLICY, max_attempts=1), make_task(failed_at=1.0)
        for last, source in (
            (TransientError("http 500"), "upstream"),
            (TransientError("timed out", fault=Fault.UNAVAILABLE), "upstream"),
            (TransientError("http 413, not in the API's form", fault=Fault.MISCONFIGURED), "merlind"),
            (TransientError(UNEXPECTED), "merlind"),
        ):
            failed = advance(task, last, 3.0, WALL, policy, last_success=2.0)
            assert failed.error is not None
            self.assertEqual((failed.error.code, failed.error.source), ("too_many_attempts", source), last)

    def test_fewer_attempts_than_it_has_had(self) -> None:
        """With a lower limit than it has had attempts, a task fails the next time that it is blamed, and not before."""
        policy, task = replace(POLICY, max_attempts=3), make_task(blamed=50, failed_at=1.0, attempts=50)
        outage = advance(task, TransientError("x"), 2.0, WALL, policy, 0.5)
        self.assertEqual((outage.finished, outage.blamed), (False, 50))
        self.assertTrue(advance(outage, TransientError("x"), 4.0, WALL, policy, 3.0).finished)

    def test_repeated_uploads(self) -> None:
        """A photo that is sent again is told from one that is sent for the first time, with the reason (U19)."""
        new, old = make_task(since=5.0), make_task(since=1.0)
        refused = TransientError("no connection", sent=False)
        cut = advance(new, TransientError("cut"), 6.0, WALL, POLICY)
        expired, _ = self.unknown(self.uploaded(new))
        for task, outcome, reason in (
            (new, Scored(0.5), None),
            (old, Scored(0.5), Repeat.RESTART),
            (old, refused, None),
            (cut, Pending("a"), Repeat.TRANSIENT_ERROR),
            (cut, refused, None),
            (expired, Pending("a"), Repeat.HANDLE_EXPIRED),
            (advance(expired, TransientError("x"), 9.0, WALL, POLICY), Scored(0.5), Repeat.TRANSIENT_ERROR),
            (self.uploaded(old), Scored(0.5), None),
        ):
            after = advance(task, outcome, 10.0, WALL, POLICY)
            self.assertEqual(repeat_of(task, after, started=3.0), reason, (task, outcome))

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
            if outcome == HandleExpired() and task.state is State.UPLOAD:
                continue  # only a poll has a handle
            last_success = data.draw(st.floats(0, 1e7))
            before, task = task, advance(task, outcome, task.since + now, WALL, policy, last_success)
            if not isinstance(outcome, TransientError | HandleExpired):
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

    def test_deadline_of_the_misconfigured(self) -> None:
        """A task that got no score because our own settings are wrong says so, and blames merlind."""
        task = miss_deadline(make_task(), WALL, misconfigured="http 401")
        self.assertEqual(task.error, TaskError("gave_up", "no score in time; last: http 401", Source.MERLIND))

    def test_deadline_after_a_fault_of_merlind(self) -> None:
        """A task that got no score because merlind itself failed last blames merlind."""
        for reason in (TOO_FEW_FILES, UNEXPECTED):
            task = miss_deadline(make_task(last_error=reason), WALL)
            self.assertEqual(task.error, TaskError("gave_up", f"no score in time; last: {reason}", Source.MERLIND))

    def test_restarted_task_is_like_new(self) -> None:
        """A failed task that is restarted equals a new one."""
        for before in (
            fail(make_task(state=State.POLL, retry_id="a", attempts=9, last_error="x", since=1.0, due=2.0), NO, WALL),
            miss_deadline(make_task(attempts=9, last_error="x"), WALL),
            fail(make_task(failed_at=2.0, blamed=3, unknown_handle=1, uploads=7, reuploads=5), NO, WALL),
        ):
            for failed in (before, replace(before, kept_until=99.0)):
                self.assertEqual(restart(failed, 50.0, WALL), make_task(since=50.0, due=50.0, received=WALL))

    def test_photos_of_the_given_up_are_kept(self) -> None:
        """What was given up keeps its photo for a while; what was rejected doesn't, nor what has none."""
        for code, kept in (
            ("gave_up", 70.0),
            ("too_many_attempts", 70.0),
            ("handle_expired", 70.0),
            ("upstream_error", None),
            ("upstream_422", None),
            ("photo_lost", None),
        ):
            task = keep_photo(fail(make_task(), TaskError(code, "why"), WALL), 50.0, 20.0)
            self.assertEqual((task.kept_until, task.has_photo), (kept, kept is not None), code)

    def test_given_up_by_each_way(self) -> None:
        """Each way in which a task is given up has one of those codes."""
        expired = make_task(state=State.POLL, retry_id="a", unknown_handle=HANDLE_ATTEMPTS, reuploads=MAX_REUPLOADS)
        failing = make_task(failed_at=1.0, blamed=99)
        for task in (
            miss_deadline(make_task(), WALL),
            miss_deadline(make_task(), WALL, misconfigured="http 401"),
            advance(expired, HandleExpired(), 5.0, WALL, POLICY),
            advance(failing, TransientError("http 500"), 5.0, WALL, POLICY, last_success=2.0),
        ):
            self.assertTrue(keep_photo(task, 5.0, 1.0).has_photo, task.error)

    def test_nothing_to_keep(self) -> None:
        """No photo is kept of a task with a score, nor for no time at all; an unfinished task has its photo."""
        ready = advance(make_task(), Scored(0.5), 5.0, WALL, POLICY)
        for task in (keep_photo(ready, 5.0, 20.0), keep_photo(miss_deadline(make_task(), WALL), 5.0, 0.0)):
            self.assertEqual((task.kept_until, task.has_photo), (None, False))
        self.assertTrue(make_task().has_photo)

    def test_tasks_are_immutable(self) -> None:
        """A task can't be changed in place."""

        def change(task: Task) -> None:
            task.state = State.READY  # type: ignore[misc]

        self.assertRaises(AttributeError, change, make_task())

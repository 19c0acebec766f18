"""What every store of tasks has to do, whatever its engine: a suite that each engine's store is put through.

A test case for an engine inherits StoreSuite, and its hooks make a store, and faults in it (test_sqlite_store.py does
so). Import this module, not its classes: trial runs every test case that it finds in a module. The photos are real, in
a temporary folder.
"""

import builtins
import errno
import itertools
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from merlind.core.interfaces import Accepted, SetAside, StoreBroken, StoreUnavailable, Submission, TaskCounts
from merlind.core.listing import NEWEST, Failures, Position, TaskFilter, position_of
from merlind.core.outcome import Pending, Scored, Source, TaskError, TransientError
from merlind.core.task import Photo, Policy, State, Task, advance, fail, miss_deadline
from merlind.storage.photos.spool import Spool
from merlind.storage.photos.staging import SpooledPhoto
from merlind.storage.store import Store
from tests.unit.support import EPOCH, JPEG, PHOTO, failing, flush_nothing, make_task, raising

POLICY = Policy(2.0, 1000.0, lambda: 1.0)
REJECTION = TaskError("upstream_422", "no face")
FROM_THE_START = (-1.0, 0)
"""The cursor before all tasks."""


def polled(task: Task) -> Task:
    """The task after the upstream took its photo."""
    return advance(task, Pending("x"), task.due, EPOCH, POLICY)


def ready(task: Task, wall: float = EPOCH) -> Task:
    """The task with its score."""
    return advance(task, Scored(0.5), task.due, wall, POLICY)


def failed(task: Task, wall: float = EPOCH) -> Task:
    """The task, rejected by the upstream."""
    return fail(task, REJECTION, wall)


def given_up(task: Task, kept_until: float = 99.0) -> Task:
    """The task, given up, with its photo kept."""
    return replace(miss_deadline(task, EPOCH), kept_until=kept_until)


class StoreHarness(SynchronousTestCase):
    """A store over an engine that the hooks make, with a spool of its own; service time stands at ``time``, the wall
    clock at ``wall``."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        flush_nothing(self)
        self.spool = Spool(self.folder / "spool")
        self.spool.prepare()
        self.time = self.wall = 0.0
        self.ids: Callable[[], int] = itertools.count(1).__next__
        self.broken: list[str] = []
        self.store = self.make_store()

    # What a test case for an engine defines.

    def make_store(self) -> Store:
        """Return a store over ``spool`` and what ``folder`` holds, with ``time`` as its time, ``ids`` as the source of
        ids, and ``broken`` as the list of what it says when it breaks. Called again, it is the next run's.
        """
        raise NotImplementedError

    def settle(self) -> None:
        """Let everything happen that needs no time to pass."""
        raise NotImplementedError

    def commits(self) -> int:
        """How many commits were tried by now, of transactions that write."""
        raise NotImplementedError

    def commits_fail(self) -> AbstractContextManager[object]:
        """Meanwhile, every commit fails with an error that passes."""
        raise NotImplementedError

    def commits_break(self) -> AbstractContextManager[object]:
        """Meanwhile, every commit fails with an error after which the disk can't be trusted."""
        raise NotImplementedError

    def lookups_break(self) -> AbstractContextManager[object]:
        """Meanwhile, every query for a task by its id fails with such an error."""
        raise NotImplementedError

    # Short ways.

    def result(self, d: "Deferred[Any]") -> Any:
        """The result of an operation."""
        self.settle()
        return self.successResultOf(d)

    def reason(self, d: "Deferred[Any]", kind: type[Exception]) -> str:
        """What an operation says that fails."""
        self.settle()
        reason: str = self.failureResultOf(d, kind).getErrorMessage()
        return reason

    def staged(self, photo: bytes = JPEG, in_memory: bool = False) -> SpooledPhoto:
        """A photo that was received whole."""
        staged = self.spool.stage(in_memory)
        staged.write(photo)
        staged.finish()
        return staged

    def submission(self, name: str = "Anna", photo: bytes = JPEG, user: str = "") -> Submission:
        return Submission(user, name, self.staged(photo), "image/jpeg")

    def begin_accepting(self, *args: Any) -> "Deferred[Accepted]":
        """Send a submission without waiting for the answer."""
        return self.store.accept(self.submission(*args))

    def accept(self, name: str = "Anna", photo: bytes = JPEG, user: str = "") -> Task:
        """A task that lies in the store."""
        task: Task = self.result(self.store.accept(self.submission(name, photo, user))).task
        return task

    def accept_many(self, count: int) -> list[Task]:
        """Tasks of different photos."""
        return [self.accept(photo=b"%d" % number) for number in range(count)]

    def save(self, task: Task) -> Task:
        """The task, saved."""
        self.assertIs(self.result(self.store.save(task)), True)
        return task

    def stored(self, task_id: int) -> Task | None:
        """The task as the store has it."""
        task: Task | None = self.result(self.store.get(task_id))
        return task

    def counts(self) -> TaskCounts:
        counts: TaskCounts = self.result(self.store.count())
        return counts

    def hold(self) -> None:
        """Let the store be busy, so that what is asked for next shares a batch."""
        self.store.count().addErrback(lambda _: None)

    def files(self) -> list[str]:
        """What lies in the spool, by its path below it."""
        folder = self.folder / "spool"
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())

    def content(self, task_id: int) -> bytes:
        """The photo of a task."""
        return Path(self.spool.path(task_id)).read_bytes()


class AcceptSuite(StoreHarness):
    """A submission finds its task, or begins it."""

    def test_new_submission_begins_a_task(self) -> None:
        """A new one is in the database, due at once, and its photo is in place."""
        self.time = 3.0
        accepted = self.result(self.store.accept(self.submission("Anna", user="me")))
        task = make_task(1, user="me", since=3.0, due=3.0)
        self.assertEqual(accepted, Accepted(task, None))
        self.assertTrue(accepted.starts)
        self.assertEqual(self.stored(1), task)
        self.assertEqual((self.files(), self.content(1)), (["1"], JPEG))

    def test_photo_from_memory(self) -> None:
        """A photo that was never in a file gets into its place as well."""
        submission = Submission("", "Anna", self.staged(JPEG, in_memory=True), "image/jpeg")
        self.assertTrue(self.result(self.store.accept(submission)).starts)
        self.assertEqual(self.content(1), JPEG)

    def test_equal_submission_finds_its_task(self) -> None:
        """Sent again, it is the same task, in whatever state but failed; nothing begins, and no second photo stays."""
        task = self.accept()
        for state in (task, polled(task), ready(task)):
            self.save(state)
            files = self.files()
            accepted = self.result(self.begin_accepting())
            self.assertEqual(accepted, Accepted(state, state))
            self.assertFalse(accepted.starts)
            self.assertEqual(self.files(), files)

    def test_different_submissions(self) -> None:
        """Another user, another name or another photo is another task."""
        tasks = [
            self.accept("Anna", b"a", "me"),
            self.accept("Otto", b"a", "me"),
            self.accept("Anna", b"b", "me"),
            self.accept("Anna", b"a", "you"),
        ]
        self.assertEqual(len({task.id for task in tasks}), 4)
        self.assertEqual(self.files(), ["1", "2", "3", "4"])

    def test_failed_task_restarts(self) -> None:
        """Sent again, a failed one begins anew under its id, with a photo, of the media type that was sent now."""
        tried = replace(self.accept(), attempts=3, failed_at=1.0, blamed=2, unknown_handle=1, uploads=4, reuploads=1)
        before = self.save(failed(tried))
        self.assertEqual(self.files(), [])
        self.time = 9.0
        accepted = self.result(self.store.accept(replace(self.submission(), media_type="image/heic")))
        self.assertTrue(accepted.starts)
        self.assertEqual(accepted.before, before)
        self.assertEqual(accepted.task, make_task(1, since=9.0, due=9.0, photo=replace(PHOTO, media_type="image/heic")))
        stored = self.stored(1)
        assert stored is not None
        self.assertEqual(replace(stored, photo=accepted.task.photo), accepted.task)
        self.assertEqual(self.files(), ["1"])

    def test_when_it_was_received(self) -> None:
        """A task knows by the wall clock when it was submitted, for the first time or again."""
        self.wall = EPOCH
        task = self.accept()
        self.wall = EPOCH + 5
        self.assertEqual(self.accept(), task)
        self.save(failed(task))
        again = self.accept()
        self.assertEqual((task.received, again.received), (EPOCH, EPOCH + 5))
        self.assertEqual(self.stored(task.id), again)

    def test_given_up_task_restarts(self) -> None:
        """Sent again, a task that was given up has one photo, whatever has become of the one that was kept."""
        for kept in (JPEG, b"damaged", None):
            task = self.accept()
            self.save(given_up(task))
            path = Path(self.spool.path(task.id))
            if kept is None:
                path.unlink()
            else:
                path.write_bytes(kept)
            accepted = self.result(self.begin_accepting())
            self.assertEqual((accepted.task, accepted.starts), (task, True))
            self.assertEqual((self.files(), self.content(task.id)), ([str(task.id)], JPEG))

    def test_given_up_task_that_cannot_restart(self) -> None:
        """If it can't be recorded that it was sent again, it stays as it was, and so does the photo that was kept."""
        before = self.save(given_up(self.accept()))
        with self.commits_fail():
            accepting = self.begin_accepting()
            self.settle()
            self.failureResultOf(accepting, StoreUnavailable)
        self.assertEqual((self.stored(before.id), self.files()), (before, [str(before.id)]))
        self.assertEqual(self.content(before.id), JPEG)

    def test_equal_submissions_at_once(self) -> None:
        """Two equal ones in one transaction make one task with one photo, and only the first begins it."""
        self.hold()
        before = self.commits()
        first, second = [self.begin_accepting() for _ in range(2)]
        one, two = self.result(first), self.result(second)
        self.assertEqual(self.commits() - before, 1)
        self.assertEqual((one.task, one.starts, two.starts), (two.task, True, False))
        self.assertEqual(self.counts().by_state[State.UPLOAD], 1)
        self.assertEqual(self.files(), ["1"])

    def test_failed_and_sent_again_at_once(self) -> None:
        """A task that fails in the batch in which it is sent again restarts, whichever came first; its photo stays."""
        task = self.accept()
        for save_first in (True, False):
            self.hold()
            if save_first:
                saved, accepted = self.store.save(failed(task)), self.begin_accepting()
            else:
                accepted, saved = self.begin_accepting(), self.store.save(failed(task))
            self.assertIs(self.result(saved), True)
            self.assertTrue(self.successResultOf(accepted).starts)
            self.assertEqual((self.stored(task.id), self.files()), (task, ["1"]))

    def test_ids_are_unique(self) -> None:
        """An id that is taken is not given again, not even within a transaction."""
        ids = iter([5, 5, 5, 6, 6, 7])
        self.ids = lambda: next(ids)
        self.hold()
        accepted = [self.begin_accepting("Anna", photo) for photo in (b"a", b"b", b"c")]
        self.assertEqual([self.result(d).task.id for d in accepted], [5, 6, 7])
        self.assertEqual((self.files(), self.content(6)), (["5", "6", "7"], b"b"))

    def test_any_text(self) -> None:
        """Names and users come back as they were, and can't be part of a statement."""
        for number, text in enumerate(("'; DROP TABLE task; --", "Зоя 😀", "a\u0301", '"\\%_', "%s $1 ?"), 1):
            task = self.accept(name=text, user=text)
            self.assertEqual(self.stored(number), task)
            self.assertEqual((task.name, task.user), (text, text))

    def test_large_ids(self) -> None:
        """Ids up to the largest that a client can read are kept exactly."""
        self.ids = lambda: 2**53 - 1
        self.assertEqual(self.stored(self.accept().id), make_task(2**53 - 1))


class SaveSuite(StoreHarness):
    """Progress is recorded."""

    def test_all_that_can_change(self) -> None:
        """It comes back as it was saved, and the photo goes when the task is finished."""
        task = self.accept()
        for changed in (
            polled(task),
            advance(task, TransientError("http 503"), 5.0, EPOCH, POLICY),
            replace(task, since=1.5, due=2.5, attempts=9),
            replace(task, since=0.1 + 0.2, due=EPOCH + 1e-6, attempts=2**31 - 1),
            replace(task, failed_at=0.1 + 0.2, blamed=7, unknown_handle=3, uploads=5, reuploads=4),
        ):
            self.save(changed)
            self.assertEqual((self.stored(1), self.files()), (changed, ["1"]))
        lost = replace(failed(task), error=TaskError("photo_lost", "gone", Source.MERLIND))
        for changed in (given_up(task), failed(task), lost, ready(task)):
            self.save(changed)
            self.assertEqual((self.stored(1), self.files()), (changed, ["1"] if changed == given_up(task) else []))

    def test_says_whether_the_task_is_there(self) -> None:
        """False for a task that was deleted, which stays so; each of a batch gets its own answer."""
        tasks = self.accept_many(3)
        self.result(self.store.delete(tasks[1].id, ""))
        self.hold()
        saved = [self.store.save(ready(task)) for task in (*tasks, make_task(99))]
        self.assertEqual([self.result(d) for d in saved], [True, False, True, False])
        self.assertIsNone(self.stored(tasks[1].id))
        self.assertIsNone(self.stored(99))
        self.assertIs(self.result(self.store.save(make_task(99))), False)

    def test_last_one_counts(self) -> None:
        """Of two saves of one task in a batch, the last one counts, and both say that it is there."""
        task = self.accept()
        self.hold()
        saved = [self.store.save(replace(task, attempts=attempts)) for attempts in (1, 2)]
        self.assertEqual([self.result(d) for d in saved], [True, True])
        self.assertEqual(self.stored(task.id), replace(task, attempts=2))

    def test_what_cannot_change(self) -> None:
        """Photo, name and user are those of the beginning."""
        task = self.accept()
        self.save(replace(task, name="x", user="x", photo=Photo(b"x", 1, "image/png"), attempts=1))
        self.assertEqual(self.stored(task.id), replace(task, attempts=1))

    def test_photo_of_an_unknown_task(self) -> None:
        """A task that isn't there has no photo that could be deleted for it."""
        Path(self.spool.path(99)).write_bytes(b"another's")
        self.assertIs(self.result(self.store.save(ready(make_task(99)))), False)
        self.assertEqual(self.files(), ["99"])

    def test_photo_that_stays(self) -> None:
        """A photo that can't be removed is left to the next start: the task is finished all the same."""
        task = self.accept()
        self.patch(os, "unlink", failing(errno.EACCES))
        self.save(ready(task))
        self.assertEqual((self.stored(task.id), self.files()), (ready(task), ["1"]))


class DeleteSuite(StoreHarness):
    """Tasks are erased."""

    def test_task_and_photo_go(self) -> None:
        """It fires with what the task was; of another user's, or of none, nothing happens."""
        task = self.accept(user="me")
        for task_id, user in ((task.id, "you"), (task.id, ""), (99, "me")):
            self.assertIsNone(self.result(self.store.delete(task_id, user)))
        self.assertEqual((self.stored(task.id), self.files()), (task, ["1"]))
        self.assertEqual(self.result(self.store.delete(task.id, "me")), task)
        self.assertEqual((self.stored(task.id), self.files()), (None, []))

    def test_kept_photo_goes_with_its_task(self) -> None:
        """A photo that is kept though its task failed is deleted when that is erased, or expires."""
        erased, expired = (self.save(given_up(task)) for task in self.accept_many(2))
        self.assertEqual(self.files(), ["1", "2"])
        self.assertEqual(self.result(self.store.delete(erased.id, "")), erased)
        self.assertEqual(self.files(), ["2"])
        self.assertEqual(self.result(self.store.expire(0.0, 9)), [expired])
        self.assertEqual(self.files(), [])

    def test_kept_photos_are_deleted_in_time(self) -> None:
        """Each goes at its time, the first first, its task stays, and it is told what it was."""
        tasks = self.accept_many(3)
        kept = [self.save(given_up(task, kept_until=30.0 - task.id)) for task in tasks]
        self.assertEqual(self.result(self.store.delete_kept(26.9, 1000.0, 9)), [])
        self.assertEqual(self.result(self.store.delete_kept(29.0, 1000.0, 2)), [kept[2], kept[1]])
        self.assertEqual(self.files(), ["1"])
        self.assertEqual(self.stored(2), replace(kept[1], kept_until=None))
        self.assertEqual(self.result(self.store.delete_kept(29.0, 1000.0, 2)), [kept[0]])
        self.assertEqual((self.result(self.store.delete_kept(99.0, 1000.0, 2)), self.files()), ([], []))

    def test_kept_for_a_shorter_time(self) -> None:
        """Where photos are kept for a shorter time than when their task failed, that time counts."""
        self.time = 10.0
        task = self.save(given_up(self.accept(), kept_until=1000.0))
        self.assertEqual(self.result(self.store.delete_kept(29.9, 20.0, 9)), [])
        self.assertEqual(self.result(self.store.delete_kept(30.0, 20.0, 9)), [task])

    def test_kept_photo_of_a_restarted_task(self) -> None:
        """A task that is sent again in the batch that would delete its photo keeps it."""
        self.save(given_up(self.accept()))
        self.hold()
        deleted, accepted = self.store.delete_kept(1000.0, 0.0, 9), self.begin_accepting()
        self.assertEqual((self.result(deleted), self.result(accepted).starts), ([], True))
        self.assertEqual(self.files(), ["1"])

    def test_several_at_once(self) -> None:
        """Of two that erase one task, the second finds none; those of other users find none either."""
        tasks = self.accept_many(2)
        self.hold()
        asked = [(1, "you"), (1, ""), (2, ""), (1, ""), (99, "")]
        deleted = [self.store.delete(task_id, user) for task_id, user in asked]
        self.assertEqual([self.result(d) for d in deleted], [None, tasks[0], tasks[1], None, None])
        self.assertEqual(self.files(), [])

    def test_expire(self) -> None:
        """What finished by a service time is deleted, the oldest first, and told; the wall clock doesn't matter."""
        tasks = self.accept_many(4)
        for task in reversed(tasks):
            self.time = 100.0 - task.id
            self.save(ready(task, wall=EPOCH + task.id))
        tasks = [ready(task, wall=EPOCH + task.id) for task in tasks]
        unfinished = self.accept(photo=b"new")
        self.assertEqual(self.result(self.store.expire(95.5, 9)), [])
        self.assertEqual(self.result(self.store.expire(98.0, 2)), [tasks[3], tasks[2]])
        self.assertEqual(self.result(self.store.expire(98.0, 2)), [tasks[1]])
        self.assertEqual([self.stored(task.id) for task in tasks], [tasks[0], None, None, None])
        self.assertEqual(self.stored(unfinished.id), unfinished)
        self.assertEqual(self.files(), [str(unfinished.id)])

    def test_expire_includes_the_time_itself(self) -> None:
        """A task that finished just then goes, too."""
        self.time = 50.0
        task = self.save(ready(self.accept()))
        self.assertEqual(self.result(self.store.expire(50.0, 9)), [task])

    def test_sweep(self) -> None:
        """Photos of finished tasks go, those of unknown ones are set aside and told, and those of the others stay."""
        finished = self.save(ready(self.accept(photo=b"a")))
        unfinished = self.accept(photo=b"b")
        kept = self.save(given_up(self.accept(photo=b"c")))
        for task_id in (finished.id, 99):
            Path(self.spool.path(task_id)).write_bytes(b"stray")
        self.time = 7.0
        swept = self.result(self.store.sweep_photos([finished.id, unfinished.id, kept.id, 99, 100]))
        self.assertEqual((swept, self.files()), (SetAside(1, 5), [str(unfinished.id), str(kept.id)]))
        self.assertEqual((self.folder / "lost" / "99.7").read_bytes(), b"stray")

    def test_expire_lost(self) -> None:
        """What was set aside by a service time is deleted, and told."""
        self.assertEqual(self.result(self.store.expire_lost(1e9)), 0)
        for time in (1, 2, 3):
            self.time = float(time)
            Path(self.spool.path(90 + time)).write_bytes(b"stray")
            self.result(self.store.sweep_photos([90 + time]))
        self.assertEqual(self.result(self.store.expire_lost(2.0)), 2)
        self.assertEqual(os.listdir(self.folder / "lost"), ["93.3"])


class RetrySuite(StoreHarness):
    """Failed tasks are started anew by their numbers."""

    def test_starts_anew(self) -> None:
        """A task that was given up is like new, with the photo that was kept; what it was is told, too."""
        before = self.save(given_up(replace(self.accept(), attempts=3, uploads=4, reuploads=1)))
        self.time, self.wall = 9.0, EPOCH
        ((was, now),) = self.result(self.store.retry([before.id]))
        self.assertEqual((was, now), (before, make_task(1, since=9.0, due=9.0, received=EPOCH)))
        self.assertEqual((self.stored(1), self.files(), self.content(1)), (now, ["1"], JPEG))
        self.assertEqual(self.counts().by_state[State.UPLOAD], 1)

    def test_those_that_can_be(self) -> None:
        """Nothing happens to one that is unfinished, scored, rejected, without its photo, or unknown."""
        tasks = self.accept_many(5)
        states = [polled(tasks[0]), ready(tasks[1]), failed(tasks[2]), replace(given_up(tasks[3]), kept_until=None)]
        for state in states:
            self.save(state)
        last = self.save(given_up(tasks[4]))
        retried = self.result(self.store.retry([1, 2, 3, 4, 5, 5, 99]))
        self.assertEqual([was for was, _ in retried], [last])
        self.assertEqual([self.stored(task.id) for task in states], states)

    def test_with_others_at_once(self) -> None:
        """Retried, sent again, erased and deleted in one batch, a task starts once, and never without its photo."""
        first, second, third, fourth = (self.save(given_up(task)).id for task in self.accept_many(4))
        self.hold()
        retried = [self.store.retry([first, second]), self.store.retry([first])]
        accepted = self.begin_accepting("Anna", b"1")
        self.store.delete(third, "")
        late = self.store.retry([third])
        self.store.delete_kept(1000.0, 0.0, 9)
        too_late = self.store.retry([fourth])
        self.assertTrue(self.result(accepted).starts)  # of the second task, before all others
        ids = [[now.id for _, now in self.successResultOf(d)] for d in (*retried, late, too_late)]
        self.assertEqual(ids, [[first], [], [], []])
        self.assertEqual(self.files(), [str(first), str(second)])

    def test_not_stored(self) -> None:
        """If it can't be stored, all are what they were, with their photos."""
        before = self.save(given_up(self.accept()))
        with self.commits_fail():
            retried = self.store.retry([before.id])
            self.settle()
            self.failureResultOf(retried, StoreUnavailable)
        self.assertEqual((self.stored(before.id), self.files()), (before, [str(before.id)]))


class ListSuite(StoreHarness):
    """Operators list tasks."""

    def fill(self) -> None:
        """Make ``tasks``, in all states."""
        self.tasks: list[Task] = []
        changes = (polled, ready, failed, given_up, lambda task: task, given_up, ready)
        for number, change in enumerate(changes):
            self.wall = EPOCH + number // 2  # two at a time
            self.tasks.append(self.save(change(self.accept(photo=b"%d" % number))))

    def listed(self, after: Position = NEWEST, limit: int = 99, **wanted: Any) -> list[int]:
        """The places in ``tasks`` of those that are listed."""
        page: list[Task] = self.result(self.store.list_tasks(TaskFilter(**wanted), after, limit))
        return [self.tasks.index(task) for task in page]

    def test_failures(self) -> None:
        """The failed ones are counted by code, and those of them that can be retried; if asked, the newest alone."""
        self.fill()
        for since, most, found in (
            (0.0, 99, [Failures("gave_up", 2, 2), Failures("upstream_422", 1, 0)]),
            (EPOCH + 2, 99, [Failures("gave_up", 1, 1)]),
            (0.0, 2, [Failures("gave_up", 2, 2)]),
            (EPOCH + 9, 99, []),
        ):
            self.assertEqual(self.result(self.store.count_failures(since, most)), found, (since, most))

    def test_newest_first(self) -> None:
        """All tasks are listed, the newest first, and of those of one time the greatest number."""
        self.fill()
        self.assertEqual(self.listed(), [6, 5, 4, 3, 2, 1, 0])

    def test_pages(self) -> None:
        """A page goes on behind the last task of the one before."""
        self.fill()
        for wanted in ({}, {"state": State.FAILED}, {"code": "gave_up"}, {"state": State.READY}, {"since": EPOCH + 1}):
            found: list[int] = []
            position = NEWEST
            while page := self.listed(position, 2, **wanted):
                found += page
                position = position_of(self.tasks[page[-1]])
            self.assertEqual(found, self.listed(**wanted), wanted)

    def test_filters(self) -> None:
        """By state, by code, by when they were received, by whether they can be retried; and by all of them."""
        self.fill()
        cases: tuple[tuple[dict[str, Any], list[int]], ...] = (
            ({"state": State.UPLOAD}, [4]),
            ({"state": State.POLL}, [0]),
            ({"state": State.READY}, [6, 1]),
            ({"state": State.FAILED}, [5, 3, 2]),
            ({"code": "gave_up"}, [5, 3]),
            ({"code": "no_such"}, []),
            ({"since": EPOCH + 2}, [6, 5, 4]),
            ({"since": EPOCH + 2.5}, [6]),
            ({"retryable": True}, [5, 3]),
            ({"state": State.FAILED, "code": "upstream_422", "since": EPOCH + 1}, [2]),
            ({"state": State.FAILED, "code": "upstream_422", "since": EPOCH + 2}, []),
            ({"state": State.READY, "code": "gave_up"}, []),
            ({"state": State.UPLOAD, "retryable": True}, []),
        )
        for wanted, found in cases:
            self.assertEqual(self.listed(**wanted), found, wanted)

    def test_unknown_time(self) -> None:
        """Tasks of which it is unknown when they were received come last, and are of no time."""
        self.fill()
        self.wall = 0.0
        self.tasks.append(self.accept(photo=b"old"))
        self.assertEqual(self.listed()[-2:], [0, 7])
        self.assertNotIn(7, self.listed(since=1.0))
        self.assertEqual(self.listed(position_of(self.tasks[0])), [7])


class ReadSuite(StoreHarness):
    """Tasks are found and counted."""

    def test_unknown(self) -> None:
        """There is no such task."""
        self.assertIsNone(self.stored(1))

    def test_each_its_own(self) -> None:
        """Of several that ask at once, each gets its own task, or is told that there is none."""
        tasks = self.accept_many(2)
        self.hold()
        found = [self.store.get(task_id) for task_id in (tasks[0].id, 999, tasks[1].id, tasks[0].id)]
        self.assertEqual([self.result(d) for d in found], [tasks[0], None, tasks[1], tasks[0]])

    def test_pages_of_unfinished_tasks(self) -> None:
        """In order of (due, id), behind a cursor, and no more than asked for."""
        dues = (5, 1, 5, 3, 1, 9)
        tasks = [self.save(replace(task, due=due)) for task, due in zip(self.accept_many(6), dues, strict=True)]
        self.save(ready(tasks[3]))
        order = [tasks[n] for n in (1, 4, 0, 2, 5)]
        for after, limit, page in (
            (FROM_THE_START, 9, order),
            (FROM_THE_START, 2, order[:2]),
            ((1.0, tasks[1].id), 2, order[1:3]),
            ((5.0, tasks[0].id), 9, order[3:]),
            ((5.0, tasks[0].id - 1), 1, order[2:3]),
            ((9.0, tasks[5].id), 9, []),
        ):
            self.assertEqual(self.result(self.store.unfinished(after, limit)), page)

    def test_count(self) -> None:
        """All states are counted, and the bytes of the photos of unfinished tasks and of those given up."""
        self.assertEqual(self.counts(), TaskCounts({"upload": 0, "poll": 0, "ready": 0, "failed": 0}, 0))
        tasks = [self.accept(photo=b"x" * n) for n in range(1, 7)]
        for change, task in zip((ready, ready, failed, polled), tasks, strict=False):
            self.save(change(task))
        self.assertEqual(self.counts(), TaskCounts({"upload": 2, "poll": 1, "ready": 2, "failed": 1}, 4 + 5 + 6))
        self.save(given_up(tasks[4]))
        self.assertEqual(self.counts(), TaskCounts({"upload": 1, "poll": 1, "ready": 2, "failed": 2}, 4 + 5 + 6))

    def test_oldest(self) -> None:
        """The earliest start of all unfinished tasks, or None."""
        self.assertIsNone(self.result(self.store.oldest_unfinished()))
        tasks = []
        for n in range(3):
            self.time = 10.0 * n
            tasks.append(self.accept(photo=b"%d" % n))
        self.save(ready(tasks[0]))
        self.assertEqual(self.result(self.store.oldest_unfinished()), 10.0)


class UpkeepSuite(StoreHarness):
    """What keeps the store in order."""

    def test_check(self) -> None:
        """It commits a transaction, and leaves nothing; it fails where a photo couldn't be written."""
        before = self.commits()
        self.assertIsNone(self.result(self.store.check()))
        self.assertEqual((self.commits() - before, self.files()), (1, []))
        self.patch(os, "write", failing(errno.EROFS))
        self.assertEqual(self.reason(self.store.check(), StoreUnavailable), "Read-only file system")

    def test_check_files(self) -> None:
        """It costs no commit where all is well."""
        self.accept()
        before = self.commits()
        self.assertIsNone(self.result(self.store.check_files()))
        self.assertEqual(self.commits(), before)

    def test_record_time(self) -> None:
        """It is a transaction of its own."""
        before = self.commits()
        self.assertIsNone(self.result(self.store.record_time()))
        self.assertEqual(self.commits() - before, 1)

    def test_compact(self) -> None:
        """Nothing erased stays in any file, and what wasn't is still there."""
        kept = self.accept(photo=b"kept")
        task = self.accept(name="Rumpelstilzchen")
        self.result(self.store.delete(task.id, ""))
        self.assertIsNone(self.result(self.store.compact()))
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        self.assertEqual([path for path in files if b"Rumpelstilzchen" in path.read_bytes()], [])
        self.assertEqual([path for path in files if JPEG in path.read_bytes()], [])
        self.assertEqual(self.stored(kept.id), kept)

    def test_drained(self) -> None:
        """It fires at once where there is nothing, else when all that was asked for is done."""
        self.successResultOf(self.store.drained())
        accepted = self.begin_accepting()
        counted = self.store.count()
        drained = [self.store.drained(), self.store.drained()]
        for d in drained:
            self.assertNoResult(d)
        self.settle()
        self.successResultOf(accepted)
        self.successResultOf(counted)
        for d in drained:
            self.successResultOf(d)

    def test_next_run(self) -> None:
        """What was acknowledged is there in the next run."""
        task = self.accept()
        finished = self.save(ready(self.accept(photo=b"another")))
        self.store = self.make_store()
        self.assertEqual((self.stored(task.id), self.stored(finished.id)), (task, finished))
        self.assertFalse(self.result(self.begin_accepting()).starts)

    def test_asked_from_a_result(self) -> None:
        """An operation's callback may ask for the next operation."""
        d = self.store.count().addCallback(lambda _: self.begin_accepting())
        self.assertTrue(self.result(d).starts)


class BatchSuite(StoreHarness):
    """Operations that wait share a transaction."""

    def test_one_commit_for_all_that_wait(self) -> None:
        """All that comes while a transaction is in flight shares the next one."""
        before = self.commits()
        first = self.begin_accepting("Anna", b"first")
        rest = [self.begin_accepting("Anna", b"%d" % number) for number in range(20)]
        ids = [self.result(d).task.id for d in (first, *rest)]
        self.assertEqual(ids, list(range(1, 22)))
        self.assertEqual(self.commits() - before, 2)

    def test_more_than_one_statement_takes(self) -> None:
        """Many of a kind are done as one is: each gets its own result."""
        self.hold()
        accepted = [self.begin_accepting("Anna", b"%d" % number) for number in range(100)]
        tasks = [self.result(d).task for d in accepted]
        self.assertEqual([task.photo.sha256 for task in tasks],
                         [self.staged(b"%d" % number).sha256() for number in range(100)])  # fmt: skip
        self.hold()
        saved = [self.store.save(replace(task, attempts=task.id)) for task in tasks]
        self.assertEqual([self.result(d) for d in saved], [True] * 100)
        found = [self.store.get(task.id) for task in tasks]
        self.assertEqual([self.result(d) for d in found], [replace(task, attempts=task.id) for task in tasks])

    def test_order_within_a_batch(self) -> None:
        """Saves come first, then submissions, then the rest as it was asked for; results come in that order."""
        told: list[str] = []

        def tell(what: str, d: "Deferred[Any]") -> None:
            d.addCallback(lambda result: told.append(f"{what} {getattr(result, 'state', result)}"))

        task = self.accept()
        self.hold()
        tell("get", self.store.get(task.id))
        tell("delete", self.store.delete(task.id, ""))
        tell("accept", self.begin_accepting().addCallback(lambda accepted: accepted.task))
        tell("count", self.store.count().addCallback(lambda counts: sum(counts.by_state.values())))
        tell("delete", self.store.delete(task.id, ""))
        tell("get", self.store.get(task.id))
        tell("save", self.store.save(ready(task)))
        before = self.commits()
        self.settle()
        self.assertEqual(self.commits() - before, 1)
        self.assertEqual(
            told, ["get upload", "get upload", "save True", "accept ready", "delete ready", "count 0", "delete None"]
        )

    def test_reads_commit_nothing(self) -> None:
        """Operations that only read need no transaction that writes."""
        before = self.commits()
        self.hold()
        self.counts()
        self.stored(1)
        self.assertEqual(self.commits(), before)


class UnavailableSuite(StoreHarness):
    """The disk is full, or can't be written to for now."""

    def test_nothing_remains_of_what_failed(self) -> None:
        """No row and no file, for none of those that shared the transaction; afterwards all is well."""
        kept = self.accept(photo=b"kept")
        with self.commits_fail():
            self.hold()
            doomed = [self.begin_accepting("Anna", b"%d" % number) for number in range(3)]
            for d in doomed:
                reason = self.reason(d, StoreUnavailable)
                self.assertEqual(self.store.last_error, reason)
        self.assertEqual(self.files(), [str(kept.id)])
        self.assertEqual(self.counts().by_state[State.UPLOAD], 1)
        self.assertEqual((self.store.broken, self.broken), (False, []))
        self.accept(photo=b"again")
        self.assertIsNone(self.store.last_error)

    def test_no_photo_is_removed(self) -> None:
        """What could not be deleted or finished keeps its photo."""
        task = self.accept()
        with self.commits_fail():
            self.hold()
            self.reason(self.store.delete(task.id, ""), StoreUnavailable)
            self.reason(self.store.save(ready(task)), StoreUnavailable)
        self.assertEqual((self.stored(task.id), self.files()), (task, ["1"]))

    def test_photo_of_an_unfinished_task_stays(self) -> None:
        """A rollback removes no photo that a task still needs, even if the transaction committed it anew."""
        task = self.accept()
        with self.commits_fail():
            self.hold()
            saved = self.store.save(failed(task))
            self.reason(self.begin_accepting(), StoreUnavailable)
            self.reason(saved, StoreUnavailable)
        self.assertEqual(self.stored(task.id), task)
        self.assertEqual((self.files(), self.content(1)), (["1"], JPEG))

    def test_reads_go_on(self) -> None:
        """What only reads works on, in the same batch, too."""
        task = self.accept()
        with self.commits_fail():
            self.hold()
            saved, counted, found = self.store.save(ready(task)), self.store.count(), self.store.get(task.id)
            reason = self.reason(saved, StoreUnavailable)
            self.assertEqual(self.successResultOf(found), task)
            self.assertEqual(self.successResultOf(counted).by_state[State.UPLOAD], 1)
            self.assertEqual(self.result(self.store.unfinished(FROM_THE_START, 9)), [task])
            self.assertEqual(self.store.last_error, reason)

    def test_photos_that_cannot_be_committed(self) -> None:
        """A photo that can't be put in its place, the first or a later one, fails all, and no row or file remains."""
        real = os.rename
        for good in range(3):
            renames: list[str] = []

            def rename(old: str, new: str, good: int = good, renames: list[str] = renames) -> None:
                if len(renames) == good:
                    raise OSError(errno.ENOSPC, "No space left on device")
                renames.append(new)
                real(old, new)

            self.patch(os, "rename", rename)
            self.hold()
            doomed = [self.begin_accepting("Anna", b"%d" % number) for number in range(3)]
            for d in doomed:
                self.assertEqual(self.reason(d, StoreUnavailable), "No space left on device")
            self.patch(os, "rename", real)
            self.assertEqual(len(renames), good)
            self.assertEqual((self.files(), self.counts().by_state[State.UPLOAD]), ([], 0))

    def test_photos_that_cannot_be_written(self) -> None:
        """So does a photo from memory that can't be written; even an I/O error passes then, for nothing was flushed."""
        for number in (errno.EIO, errno.ENOSPC):
            submission = Submission("", "Anna", self.staged(b"small", in_memory=True), "image/jpeg")
            real = os.write
            self.patch(os, "write", failing(number))
            self.assertEqual(self.reason(self.store.accept(submission), StoreUnavailable), os.strerror(number))
            self.patch(os, "write", real)
            self.assertEqual(self.files(), [])
        self.assertEqual(self.broken, [])

    def test_photo_that_cannot_be_discarded(self) -> None:
        """The operation fails with its own reason all the same."""
        with self.commits_fail():
            accepted = self.begin_accepting()
            self.patch(os, "unlink", failing(errno.EACCES))
            self.assertNotIn("Permission", self.reason(accepted, StoreUnavailable))

    def test_mistakes_of_ours(self) -> None:
        """What isn't the disk's fault is handed on as it is, and rolled back; the next one works."""
        self.ids = raising(ZeroDivisionError())
        self.reason(self.begin_accepting(), ZeroDivisionError)
        self.assertEqual(self.files(), [])
        self.ids = lambda: 5
        self.assertEqual(self.accept().id, 5)


class BrokenSuite(StoreHarness):
    """A disk that can't be trusted any more."""

    def assert_broken(self, reason: str) -> None:
        """It was told once, and nothing is tried any more: no operation succeeds, and nothing is flushed."""
        self.assertEqual(self.broken, [reason])
        self.assertTrue(self.store.broken)
        flushes: list[int] = []
        self.patch(os, "fsync", flushes.append)
        before = self.commits()
        refused: list[Deferred[Any]] = [
            self.begin_accepting("Anna", b"later"),
            self.store.save(make_task()),
            self.store.get(1),
            self.store.delete(1, ""),
            self.store.count(),
            self.store.check(),
            self.store.compact(),
        ]
        for d in refused:
            self.assertEqual(self.reason(d, StoreBroken), reason)
        self.assertEqual((self.commits() - before, flushes, self.broken), (0, [], [reason]))
        self.assertEqual([name for name in self.files() if name.startswith("incoming/")], [])
        self.successResultOf(self.store.drained())

    def test_commit_that_fails(self) -> None:
        """It breaks the store for all that share the transaction, and leaves nothing of it."""
        with self.commits_break():
            self.hold()
            doomed: list[Deferred[Any]] = [self.store.save(make_task()), self.begin_accepting(), self.store.count()]
            reasons = {self.reason(d, StoreBroken) for d in doomed}
        self.assertEqual(self.files(), [])
        (reason,) = reasons
        self.assert_broken(reason)

    def test_query_that_fails(self) -> None:
        """So does a query that finds the database damaged, once for all that ask."""
        with self.lookups_break():
            self.hold()
            reasons = {self.reason(d, StoreBroken) for d in [self.store.get(number) for number in range(3)]}
        (reason,) = reasons
        self.assert_broken(reason)

    def test_flush_of_a_photo_that_fails(self) -> None:
        """So does the flush of a photo, which is not tried again; nothing remains of what shared it."""
        task = self.accept(photo=b"before")
        flushes = []

        def fsync(descriptor: int) -> None:
            flushes.append(descriptor)
            raise OSError(errno.EIO, "Input/output error")

        self.patch(os, "fsync", fsync)
        first: Deferred[Any] = self.begin_accepting("Anna", b"a")
        waiting: list[Deferred[Any]] = [self.begin_accepting("Anna", b"b"), self.store.get(task.id)]
        reason = "the photo spool failed: Input/output error"
        for d in [first, *waiting]:
            self.assertEqual(self.reason(d, StoreBroken), reason)
        self.assertEqual(len(flushes), 1)
        self.assertEqual(self.files(), [str(task.id)])
        self.assert_broken(reason)

    def test_photo_that_cannot_be_read(self) -> None:
        """So does a photo that can't be read to be hashed: what else was written can't be trusted either."""
        accepted = self.begin_accepting()
        patch = self.patch(builtins, "open", failing(errno.EIO))
        reason = self.reason(accepted, StoreBroken)
        patch.restore()
        self.assertEqual((reason, self.files()), ("the photo spool failed: Input/output error", []))
        self.assert_broken(reason)


class StoreSuite(
    AcceptSuite,
    SaveSuite,
    DeleteSuite,
    RetrySuite,
    ListSuite,
    ReadSuite,
    UpkeepSuite,
    BatchSuite,
    UnavailableSuite,
    BrokenSuite,
):
    """All of it."""

"""Tasks in the database, photos beside it: one transaction for all that waits, all of it or nothing."""

import builtins
import errno
import os
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from merlind.core.interfaces import Accepted, StoreBroken, StoreUnavailable
from merlind.core.outcome import Pending, Scored, TaskError, TransientError
from merlind.core.task import Policy, State, Task, advance, fail
from merlind.storage import store as store_module
from merlind.storage.sqlite.database import service_time
from merlind.storage.sqlite.statements import MOST
from merlind.storage.store import MAX_BATCH
from tests.unit.support import EPOCH, JPEG, Core, fail_on, make_task, raising, sqlite_error

POLICY = Policy(2.0, 1000.0, lambda: 1.0)
NO = TaskError("upstream_422", "no face")


def ready(task: Task, wall: float = EPOCH) -> Task:
    return advance(task, Scored(0.5), task.due, wall, POLICY)


def failed(task: Task, wall: float = EPOCH) -> Task:
    return fail(task, NO, wall)


class StoreCase(SynchronousTestCase):
    """A store over a real database and spool."""

    def setUp(self) -> None:
        self.core = Core(self)
        self.store = self.core.store
        self.now = self.core.now
        self.watch = self.core.watch

    def save(self, task: Task) -> Task:
        self.now(self.store.save(task))
        return task

    def fails(self, d: "Deferred[Any]", kind: type[Exception]) -> str:
        """What an operation says that fails."""
        self.core.settle()
        return self.failureResultOf(d, kind).getErrorMessage()

    def accepted(self, *deferreds: "Deferred[Accepted]") -> list[Accepted]:
        self.core.settle()
        return [self.successResultOf(d) for d in deferreds]


class AcceptTests(StoreCase):
    """A submission finds its task, or begins it."""

    def test_new(self) -> None:
        """A new one is in the database, due at once, and its photo in place."""
        self.core.reactor.advance(3)
        accepted = self.now(self.store.accept(self.core.submission("Anna", user="me")))
        task = make_task(1, user="me", since=3.0, due=3.0)
        self.assertEqual(accepted, Accepted(task, None))
        self.assertTrue(accepted.starts)
        self.assertEqual(self.core.stored(1), task)
        self.assertEqual(self.core.files(), ["1"])
        self.assertEqual(Path(self.core.spool.path(1)).read_bytes(), JPEG)

    def test_same(self) -> None:
        """The same again is the same task, at whatever state but failed; nothing begins, and no second photo stays."""
        task = self.core.accept()
        for state in (task, advance(task, Pending("x"), 0.0, EPOCH, POLICY), ready(task)):
            self.save(state)
            files = self.core.files()
            accepted = self.now(self.store.accept(self.core.submission()))
            self.assertEqual(accepted, Accepted(state, state))
            self.assertFalse(accepted.starts)
            self.assertEqual(self.core.files(), files)

    def test_other(self) -> None:
        """Another user, another name or another photo is another task."""
        tasks = [
            self.core.accept("Anna", b"a", "me"),
            self.core.accept("Otto", b"a", "me"),
            self.core.accept("Anna", b"b", "me"),
            self.core.accept("Anna", b"a", "you"),
        ]
        self.assertEqual(len({task.id for task in tasks}), 4)
        self.assertEqual(self.core.files(), ["1", "2", "3", "4"])

    def test_failed_retries(self) -> None:
        """A failed one begins again under its number, with a photo, of the type that was sent now."""
        before = self.save(failed(replace(self.core.accept(), attempts=3)))
        self.assertEqual(self.core.files(), [])
        self.core.reactor.advance(9)
        submission = replace(self.core.submission(), media_type="image/heic")
        accepted = self.now(self.store.accept(submission))
        photo = replace(before.photo, media_type="image/heic")
        self.assertTrue(accepted.starts)
        self.assertEqual(accepted.before, before)
        self.assertEqual(accepted.task, make_task(1, since=9.0, due=9.0, photo=photo))
        self.assertEqual(replace(self.core.stored(1), photo=photo), accepted.task)
        self.assertEqual(self.core.files(), ["1"])

    def test_twice_at_once(self) -> None:
        """Two equal ones in one transaction make one row and one photo, and only the first begins it."""
        self.store.count()
        one, two = self.accepted(*(self.store.accept(self.core.submission()) for _ in range(2)))
        self.assertEqual(self.watch.count("BEGIN"), 1)
        self.assertEqual((one.task, one.starts, two.starts), (two.task, True, False))
        self.assertEqual(self.now(self.store.count()).by_state[State.UPLOAD], 1)
        self.assertEqual(self.core.files(), ["1"])

    def test_failed_and_sent_again_at_once(self) -> None:
        """A photo that its task's end would remove stays, if the same transaction begins the task again."""
        task = self.core.accept()
        self.store.count()
        saved = self.store.save(failed(task))
        (accepted,) = self.accepted(self.store.accept(self.core.submission()))
        self.successResultOf(saved)
        self.assertEqual(self.watch.count("BEGIN"), 2)
        self.assertTrue(accepted.starts)
        self.assertEqual(self.core.files(), ["1"])

    def test_numbers(self) -> None:
        """A number that is taken is not given again, in the same transaction neither."""
        numbers = iter([5, 5, 5, 6, 6, 7])
        self.core.ids = lambda: next(numbers)
        self.store.count()
        accepted = self.accepted(
            *(self.store.accept(self.core.submission(photo=photo)) for photo in (b"a", b"b", b"c"))
        )
        self.assertEqual([one.task.id for one in accepted], [5, 6, 7])
        self.assertEqual(self.core.files(), ["5", "6", "7"])

    def test_any_text(self) -> None:
        """Names and users come back as they were, and can't be SQL."""
        for number, text in enumerate(("'; DROP TABLE task; --", "Зоя 😀", "a\u0301", '"\\%_'), 1):
            task = self.core.accept(name=text, user=text)
            self.assertEqual(self.core.stored(number), task)
            self.assertEqual((task.name, task.user), (text, text))


class OperationTests(StoreCase):
    """The other things that can be asked for."""

    def test_save(self) -> None:
        """Everything that can change comes back as it was saved; the photo goes with the end."""
        task = self.core.accept()
        for changed in (
            advance(task, Pending("x"), 5.0, EPOCH, POLICY),
            advance(task, TransientError("http 503"), 5.0, EPOCH, POLICY),
            replace(task, since=1.5, due=2.5, attempts=9),
            failed(task),
            ready(task),
        ):
            self.assertEqual(self.core.files(), ["1"] if self.core.stored(1).state is not State.FAILED else [])
            self.save(changed)
            self.assertEqual(self.core.stored(1), changed)
        self.assertEqual(self.core.files(), [])

    def test_save_deleted(self) -> None:
        """A deleted task stays deleted."""
        task = self.core.accept()
        self.now(self.store.delete(task.id, ""))
        self.save(ready(task))
        self.assertIsNone(self.core.stored(task.id))

    def test_delete(self) -> None:
        """Row and photo are gone, and what it was is told; of another user's, or of none, nothing happens."""
        task = self.core.accept(user="me")
        for task_id, user in ((task.id, "you"), (task.id, ""), (99, "me")):
            self.assertIsNone(self.now(self.store.delete(task_id, user)))
        self.assertEqual((self.core.stored(task.id), self.core.files()), (task, ["1"]))
        self.assertEqual(self.now(self.store.delete(task.id, "me")), task)
        self.assertEqual((self.core.stored(task.id), self.core.files()), (None, []))

    def test_get_unknown(self) -> None:
        """There is none."""
        self.assertIsNone(self.core.stored(1))

    def test_page(self) -> None:
        """Unfinished tasks in order of (due, number), behind a place, and no more than asked for."""
        tasks = [
            self.save(replace(self.core.accept(photo=b"%d" % n), due=due)) for n, due in enumerate((5, 1, 5, 3, 1, 9))
        ]
        self.save(ready(tasks[3]))
        order = [tasks[n] for n in (1, 4, 0, 2, 5)]
        for after, limit, page in (
            ((-1.0, 0), 9, order),
            ((-1.0, 0), 2, order[:2]),
            ((1.0, tasks[1].id), 2, order[1:3]),
            ((5.0, tasks[0].id), 9, order[3:]),
            ((5.0, tasks[0].id - 1), 1, order[2:3]),
            ((9.0, tasks[5].id), 9, []),
        ):
            self.assertEqual(self.now(self.store.unfinished(after, limit)), page)

    def test_census(self) -> None:
        """All states are counted, and the bytes of the photos in place."""
        empty = self.now(self.store.count())
        self.assertEqual((empty.by_state, empty.photo_bytes), ({"upload": 0, "poll": 0, "ready": 0, "failed": 0}, 0))
        tasks = [self.core.accept(photo=b"x" * n) for n in range(1, 7)]
        for change, task in zip((ready, ready, failed), tasks, strict=False):
            self.save(change(task))
        self.save(advance(tasks[3], Pending("x"), 0.0, EPOCH, POLICY))
        census = self.now(self.store.count())
        self.assertEqual(census.by_state, {"upload": 2, "poll": 1, "ready": 2, "failed": 1})
        self.assertEqual(census.photo_bytes, 4 + 5 + 6)

    def test_oldest(self) -> None:
        """The earliest start of what is unfinished."""
        self.assertIsNone(self.now(self.store.oldest_unfinished()))
        tasks = []
        for n in range(3):
            tasks.append(self.core.accept(photo=b"%d" % n))
            self.core.reactor.advance(10)
        self.save(ready(tasks[0]))
        self.assertEqual(self.now(self.store.oldest_unfinished()), 10.0)

    def test_expire(self) -> None:
        """What was over before a time is forgotten, the oldest first, and told."""
        tasks = [self.save(ready(self.core.accept(photo=b"%d" % n), wall=100.0 - n)) for n in range(4)]
        unfinished = self.core.accept(photo=b"new")
        self.assertEqual(self.now(self.store.expire(96.5, 9)), [])
        self.assertEqual(self.now(self.store.expire(99.0, 2)), [tasks[3], tasks[2]])
        self.assertEqual(self.now(self.store.expire(99.0, 2)), [tasks[1]])
        self.assertEqual([self.core.stored(task.id) for task in tasks], [tasks[0], None, None, None])
        self.assertEqual(self.core.stored(unfinished.id), unfinished)
        self.assertEqual(self.core.files(), [str(unfinished.id)])

    def test_sweep(self) -> None:
        """Photos of what is over or unknown go, those of the others stay."""
        over = self.save(ready(self.core.accept(photo=b"a")))
        unfinished = self.core.accept(photo=b"b")
        for task_id in (over.id, 99):
            Path(self.core.spool.path(task_id)).write_bytes(b"stray")
        self.now(self.store.sweep_photos([over.id, unfinished.id, 99, 100]))
        self.assertEqual(self.core.files(), [str(unfinished.id)])

    def test_check(self) -> None:
        """It writes into database and spool, and leaves nothing."""
        self.now(self.store.check())
        self.assertEqual((self.watch.count("BEGIN"), self.watch.count("COMMIT")), (1, 1))
        self.assertEqual(self.core.files(), [])
        self.patch(os, "write", raising(OSError(errno.EROFS, "Read-only file system")))
        self.assertEqual(self.fails(self.store.check(), StoreUnavailable), "Read-only file system")

    def test_compact(self) -> None:
        """The write-ahead log is emptied: nothing erased stays in any file."""
        task = self.core.accept(name="Rumpelstilzchen")
        self.assertEqual(self.core.remains(b"Rumpelstilzchen"), ["tasks.sqlite-wal"])
        self.now(self.store.delete(task.id, ""))
        self.now(self.store.compact())
        self.assertEqual(self.core.remains(b"Rumpelstilzchen"), [])
        self.assertEqual((self.core.path / "tasks.sqlite-wal").stat().st_size, 0)
        self.assertEqual(self.core.remains(JPEG), [])

    def test_drained(self) -> None:
        """It fires when all that was asked for is done, and at once where there is nothing."""
        self.successResultOf(self.store.drained())
        first = self.store.accept(self.core.submission())
        second = self.store.count()
        drained = [self.store.drained(), self.store.drained()]
        self.core.reactor.getDelayedCalls()[0].func()
        self.core.reactor.getDelayedCalls()[0].cancel()
        self.successResultOf(first)
        for d in drained:
            self.assertNoResult(d)
        self.core.settle()
        self.successResultOf(second)
        for d in drained:
            self.successResultOf(d)

    def test_restart(self) -> None:
        """What was acknowledged is there after a kill, and service time goes on from the last commit."""
        self.core.reactor.advance(100)
        task = self.core.accept()
        self.core.reactor.advance(50)
        doomed = self.store.save(ready(task))
        self.core.restart()
        self.assertNoResult(doomed)
        self.assertEqual(self.core.clock.now(), 100.0)
        self.assertEqual(self.core.stored(task.id), task)
        self.core.reactor.advance(7)
        self.core.accept(photo=b"another")
        self.assertEqual(service_time(self.core.path / "tasks.sqlite"), 107.0)


class GroupCommitTests(StoreCase):
    """Operations that wait share a transaction."""

    def test_shared(self) -> None:
        """All that comes while one is under way share the next one, and one flush of the photos' folder."""
        first = self.store.accept(self.core.submission(photo=b"first"))
        rest = [self.store.accept(self.core.submission(photo=b"%d" % n)) for n in range(20)]
        self.accepted(first, *rest)
        self.assertEqual((self.watch.count("BEGIN"), self.watch.count("COMMIT")), (2, 2))

    def test_bounded(self) -> None:
        """There is a most of operations that share one."""
        self.store.count()
        for n in range(MAX_BATCH + 1):
            self.store.save(make_task(n))
        self.core.settle()
        self.assertEqual(self.watch.count("BEGIN"), 2)
        self.assertEqual(self.watch.count("UPDATE task"), MAX_BATCH // MOST + 1)

    def test_in_order(self) -> None:
        """They are done, and told, kind by kind: who asks, then saves, submissions and the rest."""
        told: list[str] = []

        def tell(what: str, d: "Deferred[Any]") -> None:
            d.addCallback(lambda result: told.append(f"{what} {getattr(result, 'state', '-')}"))

        task = self.core.accept()
        self.store.count()
        tell("get", self.store.get(task.id))
        tell("delete", self.store.delete(task.id, ""))
        self.store.accept(self.core.submission()).addCallback(lambda accepted: tell("accept", succeed(accepted.task)))
        tell("delete", self.store.delete(task.id, ""))
        tell("get", self.store.get(task.id))
        tell("save", self.store.save(ready(task)))
        self.core.settle()
        self.assertEqual(self.watch.count("BEGIN"), 2)
        self.assertEqual(told, ["get upload", "get upload", "save -", "accept ready", "delete ready", "delete -"])

    def test_shared_statements(self) -> None:
        """Those of one kind share a statement or two, as long as they are not too many for one."""
        self.store.count()
        waiting = [self.store.accept(self.core.submission(photo=b"%d" % n)) for n in range(MOST)]
        tasks = [accepted.task for accepted in self.accepted(*waiting)]
        self.assertEqual((self.watch.count("SELECT id"), self.watch.count("INSERT")), (1, 1))
        self.store.count()
        for task in tasks:
            self.store.save(replace(task, attempts=2))
        self.core.settle()
        self.assertEqual(self.watch.count("UPDATE task"), 1)
        self.assertEqual([self.core.stored(task.id) for task in tasks], [replace(task, attempts=2) for task in tasks])

    def test_asked_for(self) -> None:
        """Those that ask while they wait share one query, and each is told of its own task, or that there is none."""
        tasks = [self.core.accept(photo=b"%d" % n) for n in range(2)]
        self.store.count()
        before = self.watch.count("SELECT id")
        found = [self.store.get(task_id) for task_id in (tasks[0].id, 999, tasks[1].id, tasks[0].id)]
        self.core.settle()
        self.assertEqual([self.successResultOf(d) for d in found], [tasks[0], None, tasks[1], tasks[0]])
        self.assertEqual(self.watch.count("SELECT id") - before, 1)

    def test_asking_takes_turns(self) -> None:
        """Who asks waits for the batch under way alone, and keeps nobody waiting for more than one of theirs."""
        told: list[str] = []
        tasks = [self.core.accept(photo=b"%d" % n) for n in range(2)]

        def ask_again(_: Task | None) -> None:
            told.append("get")
            if len(told) < 6:
                self.store.get(2).addCallback(ask_again)

        self.store.save(tasks[0]).addCallback(lambda _: told.append("first"))
        self.store.save(tasks[1]).addCallback(lambda _: told.append("save"))
        self.store.get(1).addCallback(ask_again)
        self.core.settle()
        self.assertEqual(told, ["first", "get", "save", "get", "get", "get"])

    def test_saved_twice(self) -> None:
        """Of two saves of one task the last one counts."""
        task = self.core.accept()
        self.store.count()
        self.store.save(replace(task, attempts=1))
        self.store.save(replace(task, attempts=2))
        self.core.settle()
        self.assertEqual(self.core.stored(task.id), replace(task, attempts=2))

    def test_sent_again_and_failing(self) -> None:
        """A task that fails in the batch in which it is sent again begins anew, whichever came first."""
        task = self.core.accept()
        self.store.count()
        accepted = self.store.accept(self.core.submission())
        saved = self.store.save(failed(task))
        self.core.settle()
        self.assertIsNone(self.successResultOf(saved))
        self.assertTrue(self.successResultOf(accepted).starts)
        self.assertEqual((self.core.stored(task.id).state, self.core.files()), (State.UPLOAD, ["1"]))

    def test_reading_alone(self) -> None:
        """What only reads takes no lock."""
        self.now(self.store.count())
        self.assertEqual(self.watch.count("BEGIN"), 0)

    def test_next_one_begins_first(self) -> None:
        """The next transaction begins before the results of the last are looked at; they are told in order."""
        seen = []
        for _ in range(2):
            self.store.count().addCallback(lambda _: seen.append(len(self.core.reactor.getDelayedCalls())))
        self.core.settle()
        self.assertEqual(seen, [1, 0])

    def test_asked_from_a_result(self) -> None:
        """An operation may ask for the next one."""
        d = self.store.count().addCallback(lambda _: self.store.accept(self.core.submission()))
        self.assertTrue(self.now(d).starts)


class UnavailableTests(StoreCase):
    """Disks that are full, or can't be written to for now."""

    def test_rolled_back(self) -> None:
        """A transaction that fails leaves no row and no file, for none of those that share it."""
        kept = self.core.accept(photo=b"kept")
        for start in ("BEGIN", "INSERT", "UPDATE clock", "COMMIT"):
            self.watch.fault = fail_on(start, sqlite_error("SQLITE_FULL", "database or disk is full"))
            self.store.count()
            doomed = [self.store.accept(self.core.submission(photo=b"%d" % n)) for n in range(3)]
            for d in doomed:
                why = self.fails(d, StoreUnavailable)
                self.assertEqual(why, "database or disk is full (SQLITE_FULL)")
                self.assertEqual(self.store.trouble, why)
            self.watch.fault = lambda sql: None
            self.assertEqual(self.core.files(), [str(kept.id)], start)
            self.assertEqual(self.now(self.store.count()).by_state[State.UPLOAD], 1)
            self.assertFalse(self.store.broken)
        self.assertEqual(self.core.broken, [])
        self.core.accept(photo=b"again")
        self.assertIsNone(self.store.trouble)

    def test_photos_not_placed(self) -> None:
        """So does one whose photos can't be put in place, at the first or in the midst of them."""
        real = os.rename
        for good in range(3):
            renames: list[str] = []

            def rename(old: str, new: str, good: int = good, renames: list[str] = renames) -> None:
                if len(renames) == good:
                    raise OSError(errno.ENOSPC, "No space left on device")
                renames.append(new)
                real(old, new)

            self.patch(os, "rename", rename)
            self.store.count()
            doomed = [self.store.accept(self.core.submission(photo=b"%d" % n)) for n in range(3)]
            for d in doomed:
                self.assertEqual(self.fails(d, StoreUnavailable), "No space left on device")
            self.patch(os, "rename", real)
            self.assertEqual(len(renames), good)
            self.assertEqual(self.core.files(), [])
            self.assertEqual(self.now(self.store.count()).by_state[State.UPLOAD], 0)

    def test_photo_of_another_state(self) -> None:
        """A rollback removes no photo that a task still needs, even if the transaction had placed it anew."""
        task = self.core.accept()
        self.watch.fault = fail_on("COMMIT", sqlite_error("SQLITE_FULL"))
        self.store.count()
        self.store.save(failed(task)).addErrback(lambda failure: None)
        self.fails(self.store.accept(self.core.submission()), StoreUnavailable)
        self.watch.fault = lambda sql: None
        self.assertEqual(self.core.stored(task.id), task)
        self.assertEqual(self.core.files(), ["1"])
        self.assertEqual(Path(self.core.spool.path(1)).read_bytes(), JPEG)

    def test_nothing_removed(self) -> None:
        """A transaction that fails removes no photo."""
        task = self.core.accept()
        self.watch.fault = fail_on("COMMIT", sqlite_error("SQLITE_FULL"))
        self.store.count()
        self.fails(self.store.delete(task.id, ""), StoreUnavailable)
        self.fails(self.store.save(ready(task)), StoreUnavailable)
        self.watch.fault = lambda sql: None
        self.assertEqual((self.core.stored(task.id), self.core.files()), (task, ["1"]))

    def test_reads_go_on(self) -> None:
        """What only reads works on, in the same batch too."""
        task = self.core.accept()
        self.watch.fault = fail_on("BEGIN", sqlite_error("SQLITE_READONLY", "attempt to write a readonly database"))
        self.store.count()
        saved, found = self.store.save(ready(task)), self.store.get(task.id)
        self.fails(saved, StoreUnavailable)
        self.assertEqual(self.successResultOf(found), task)
        self.assertEqual(self.now(self.store.unfinished((-1.0, 0), 9)), [task])
        self.assertEqual(self.store.trouble, "attempt to write a readonly database (SQLITE_READONLY)")

    def test_real_full_database(self) -> None:
        """With a database that may really not grow: 503 for what writes, and on by itself when there is room."""
        self.core.accept(photo=b"first")
        (connection,) = self.core.pool.connections.values()
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")
        outcomes = []
        for n in range(200):
            d = self.store.accept(self.core.submission(name="x" * 200, photo=b"%d" % n))
            d.addCallbacks(lambda _: True, lambda failure: failure.trap(StoreUnavailable) and False)
            outcomes.append(self.now(d))
        self.assertFalse(outcomes[-1])
        self.assertEqual(len(self.core.files()), 1 + outcomes.count(True))
        connection.execute("PRAGMA max_page_count = 1000000")
        self.core.accept(photo=b"later")
        self.assertIsNone(self.store.trouble)

    def test_write_errors_explained(self) -> None:
        """A write error of SQLite's passes, if the spool on the same disk is full or read-only; without, it doesn't."""
        for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            self.watch.fault = fail_on("UPDATE clock", sqlite_error("SQLITE_IOERR_WRITE", "disk I/O error"))
            self.patch(self.core.spool, "probe", raising(OSError(number, os.strerror(number))))
            self.assertEqual(self.fails(self.store.save(make_task()), StoreUnavailable), os.strerror(number))
        self.assertEqual(self.core.broken, [])
        self.patch(self.core.spool, "probe", raising(OSError(errno.EIO, "Input/output error")))
        self.fails(self.store.save(make_task()), StoreBroken)
        self.assertEqual(self.core.broken, ["the database failed: disk I/O error (SQLITE_IOERR_WRITE)"])

    def test_locked(self) -> None:
        """A backup that holds the lock for too long is no fault of the disk."""
        self.watch.fault = fail_on("BEGIN", sqlite_error("SQLITE_BUSY", "database is locked"))
        self.assertEqual(self.fails(self.store.check(), StoreUnavailable), "database is locked (SQLITE_BUSY)")

    def test_cannot_be_opened(self) -> None:
        """A database that can't be opened fails what was asked for, and is opened when it can be."""
        real = self.core.pool.openfun
        self.core.pool.openfun = raising(sqlite_error("SQLITE_CANTOPEN", "unable to open database file"))
        for d in (self.store.count(), self.store.check()):
            self.assertEqual(self.fails(d, StoreUnavailable), "unable to open database file (SQLITE_CANTOPEN)")
        self.core.pool.openfun = real
        self.now(self.store.count())
        self.flushLoggedErrors(sqlite3.OperationalError)

    def test_bugs(self) -> None:
        """What isn't the disk's is handed on as it is, and rolled back; the next one works."""
        self.core.ids = raising(ZeroDivisionError())
        self.fails(self.store.accept(self.core.submission()), ZeroDivisionError)
        self.assertEqual(self.core.files(), [])
        self.core.ids = lambda: 5
        self.assertEqual(self.core.accept().id, 5)

    def test_photo_not_removed(self) -> None:
        """A photo that can't be removed is told, and left to the next start: the task is over all the same."""
        task = self.core.accept()
        self.patch(store_module, "remove", raising(OSError(errno.EACCES, "Permission denied")))
        self.save(ready(task))
        self.assertEqual(self.core.files(), ["1"])

    def test_failed_rollback(self) -> None:
        """A rollback that fails too is told, and the failure is the first one's."""
        self.watch.fault = lambda sql: (
            sqlite_error("SQLITE_FULL", "full") if sql == "COMMIT" else
            sqlite_error("SQLITE_ERROR", "no rollback") if sql == "ROLLBACK" else None
        )  # fmt: skip
        self.assertEqual(self.fails(self.store.accept(self.core.submission()), StoreUnavailable), "full (SQLITE_FULL)")

    def test_compact(self) -> None:
        """A log that can't be emptied just now is no fault of the disk, nor is a database that can't be opened."""
        self.watch.fault = fail_on("PRAGMA wal_checkpoint", sqlite_error("SQLITE_BUSY", "locked"))
        self.assertEqual(self.fails(self.store.compact(), StoreUnavailable), "locked (SQLITE_BUSY)")
        self.core.restart()
        self.core.pool.openfun = raising(sqlite_error("SQLITE_CANTOPEN", "unable to open"))
        self.assertEqual(self.fails(self.core.store.compact(), StoreUnavailable), "unable to open (SQLITE_CANTOPEN)")
        self.flushLoggedErrors(sqlite3.OperationalError)
        self.assertEqual(self.core.broken, [])

    def test_checkpoint(self) -> None:
        """So with a checkpoint that the store makes by itself: it is tried again after as many writes."""
        self.patch(store_module, "CHECKPOINT_EVERY", 3)
        self.watch.fault = fail_on("PRAGMA wal_checkpoint", sqlite_error("SQLITE_BUSY", "locked"))
        for n in range(7):
            self.save(make_task(n))
        self.assertEqual(self.watch.count("PRAGMA wal_checkpoint(PASSIVE)"), 2)
        self.assertEqual(self.core.broken, [])


class BrokenTests(StoreCase):
    """Disks that can't be trusted any more."""

    def assert_broken(self, why: str) -> None:
        """It was told once, and nothing is tried any more, neither SQL nor a flush."""
        self.assertEqual(self.core.broken, [why])
        self.assertTrue(self.store.broken)
        self.watch.fault = lambda sql: None
        before = list(self.watch.statements)
        flushes: list[int] = []
        self.patch(os, "fsync", flushes.append)
        submission = self.core.submission(photo=b"later")
        for d in (
            self.store.accept(submission),
            self.store.save(make_task()),
            self.store.get(1),
            self.store.count(),
            self.store.check(),
        ):
            self.assertEqual(self.fails(d, StoreBroken), why)
        self.assertEqual((self.watch.statements, flushes, self.core.broken), (before, [], [why]))
        self.assertNotIn(submission.photo.path, self.core.files())
        self.successResultOf(self.store.drained())

    def test_photo_flush(self) -> None:
        """A flush of a photo that fails breaks it, for all that share the transaction and all that wait."""
        flushes = []

        def fsync(descriptor: int) -> None:
            flushes.append(descriptor)
            raise OSError(errno.EIO, "Input/output error")

        task = self.core.accept(photo=b"before")
        self.patch(os, "fsync", fsync)
        first = self.store.accept(self.core.submission(photo=b"a"))
        waiting = [self.store.accept(self.core.submission(photo=b"b")), self.store.get(task.id)]
        why = "the photo spool failed: Input/output error"
        for d in (first, *waiting):
            self.assertEqual(self.fails(d, StoreBroken), why)
        self.assertEqual(len(flushes), 1)
        self.assertEqual(self.core.files(), [str(task.id)])
        self.assert_broken(why)

    def test_photo_read(self) -> None:
        """So does a photo that can't be read to be hashed: what else was written can't be trusted either."""
        submission = self.core.submission(photo=b"a")
        self.patch(builtins, "open", raising(OSError(errno.EIO, "Input/output error")))
        why = self.fails(self.store.accept(submission), StoreBroken)
        self.assertEqual(why, "the photo spool failed: Input/output error")
        self.assertEqual(self.core.files(), [])

    def test_commit(self) -> None:
        """So does a flush of the database, even if the disk seems full too."""
        self.patch(self.core.spool, "probe", raising(OSError(errno.ENOSPC, "full")))
        self.watch.fault = fail_on("COMMIT", sqlite_error("SQLITE_IOERR_FSYNC", "disk I/O error"))
        self.fails(self.store.save(make_task()), StoreBroken)
        self.assert_broken("the database failed: disk I/O error (SQLITE_IOERR_FSYNC)")

    def test_corrupt(self) -> None:
        """So does a database that is found to be damaged, by a read too."""
        for name in ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_IOERR_READ"):
            self.setUp()
            self.watch.fault = fail_on("SELECT", sqlite_error(name, "damaged", sqlite3.DatabaseError))
            self.fails(self.store.get(1), StoreBroken)
            self.assert_broken(f"the database failed: damaged ({name})")

    def test_compact(self) -> None:
        """So does a checkpoint."""
        self.watch.fault = fail_on("PRAGMA wal_checkpoint", sqlite_error("SQLITE_IOERR_FSYNC", "disk I/O error"))
        self.fails(self.store.compact(), StoreBroken)
        self.assert_broken("the database failed: disk I/O error (SQLITE_IOERR_FSYNC)")

    def test_checkpoint(self) -> None:
        """So does one that the store makes by itself after so many writes."""
        self.patch(store_module, "CHECKPOINT_EVERY", 3)
        self.watch.fault = fail_on("PRAGMA wal_checkpoint", sqlite_error("SQLITE_IOERR_FSYNC", "disk I/O error"))
        for n in range(3):
            self.assertEqual(self.core.broken, [])
            self.now(self.store.save(make_task(n)))
        self.assert_broken("the database failed: disk I/O error (SQLITE_IOERR_FSYNC)")

    def test_compact_afterwards(self) -> None:
        """Then the log is left alone as well."""
        self.watch.fault = fail_on("COMMIT", sqlite_error("SQLITE_IOERR_FSYNC", "disk I/O error"))
        self.fails(self.store.save(make_task()), StoreBroken)
        self.fails(self.store.compact(), StoreBroken)
        self.assertEqual(self.watch.count("PRAGMA wal_checkpoint"), 0)

    def test_once(self) -> None:
        """However many find out at once, it is told once."""
        self.watch.fault = fail_on("SELECT id", sqlite_error("SQLITE_CORRUPT", "damaged"))
        self.store.count()
        deferreds = [self.store.get(n) for n in range(3)]
        compacted = self.store.compact()
        for d in deferreds:
            self.fails(d, StoreBroken)
        self.successResultOf(compacted)
        self.assert_broken("the database failed: damaged (SQLITE_CORRUPT)")

    def test_cannot_be_opened(self) -> None:
        """A database that turns out to be damaged when it is opened breaks it as well."""
        self.core.pool.openfun = raising(sqlite_error("SQLITE_NOTADB", "no database", sqlite3.DatabaseError))
        self.fails(self.store.get(1), StoreBroken)
        self.flushLoggedErrors(sqlite3.DatabaseError)
        self.assert_broken("the database failed: no database (SQLITE_NOTADB)")

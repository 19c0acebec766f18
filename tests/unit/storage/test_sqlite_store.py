"""The store over SQLite: what every store has to do, and what only SQLite does or suffers."""

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from merlind.core.interfaces import Moment, StoreBroken, StoreUnavailable
from merlind.core.task import State
from merlind.storage import store as store_module
from merlind.storage.sqlite.database import service_time
from merlind.storage.sqlite.engine import SqliteEngine
from merlind.storage.sqlite.files import OpenFiles
from merlind.storage.sqlite.last_commit import LastCommit, read_last_commit
from merlind.storage.sqlite.statements import MAX_ROWS
from merlind.storage.store import MAX_BATCH, Store
from tests.unit.storage import store_suite
from tests.unit.storage.store_suite import FROM_THE_START, failed, ready
from tests.unit.support import (
    JPEG,
    Reactor,
    Watch,
    fail_on,
    failing,
    make_task,
    open_pool,
    prepare_fast,
    raising,
    sqlite_error,
)


class SqliteHarness(store_suite.StoreHarness):
    """A store over a real database; ``watch`` sees its statements, and makes them fail."""

    def setUp(self) -> None:
        self.reactor = Reactor()
        self.watch = Watch()
        super().setUp()

    @property
    def file(self) -> Path:
        return self.folder / "tasks.sqlite"

    def make_store(self) -> Store:
        if hasattr(self, "pool"):
            self.pool.close()
        prepare_fast(self.file)
        self.pool: Any = open_pool(self.file, self.reactor, self.watch)
        self.addCleanup(self.close, self.pool)
        last_commit = LastCommit(self.folder / "last-commit")
        self.addCleanup(last_commit.close)
        engine = SqliteEngine(self.pool, self.spool, OpenFiles(self.file), last_commit, lambda: self.ids())
        return Store(engine, lambda: Moment(self.time, self.time, self.wall), self.broken.append)

    def close(self, pool: Any) -> None:
        if pool.connections:
            pool.close()

    def settle(self) -> None:
        self.reactor.settle()

    def commits(self) -> int:
        return self.watch.count("COMMIT")

    @contextmanager
    def fault(self, start: str, error: Exception) -> Iterator[None]:
        """Meanwhile, statements that begin so fail."""
        self.watch.fault = fail_on(start, error)
        yield
        self.watch.fault = lambda sql: None

    def commits_fail(self) -> AbstractContextManager[object]:
        return self.fault("COMMIT", sqlite_error("SQLITE_FULL", "database or disk is full"))

    def commits_break(self) -> AbstractContextManager[object]:
        return self.fault("COMMIT", sqlite_error("SQLITE_IOERR_FSYNC", "disk I/O error"))

    def lookups_break(self) -> AbstractContextManager[object]:
        return self.fault("SELECT id", sqlite_error("SQLITE_CORRUPT", "damaged", sqlite3.DatabaseError))


class SuiteTests(SqliteHarness, store_suite.StoreSuite):
    """What every store has to do."""


class LogTests(SqliteHarness):
    """The write-ahead log, and what a kill leaves."""

    def remains(self, content: bytes) -> list[str]:
        """The files that hold ``content``."""
        files = (path for path in self.folder.rglob("*") if path.is_file())
        return sorted(path.name for path in files if content in path.read_bytes())

    def test_compact(self) -> None:
        """The log is emptied: nothing erased stays in any file."""
        task = self.accept(name="Rumpelstilzchen")
        self.assertEqual(self.remains(b"Rumpelstilzchen"), ["tasks.sqlite-wal"])
        self.result(self.store.delete(task.id, ""))
        self.result(self.store.compact())
        self.assertEqual(self.remains(b"Rumpelstilzchen"), [])
        self.assertEqual((self.folder / "tasks.sqlite-wal").stat().st_size, 0)
        self.assertEqual(self.remains(JPEG), [])

    def test_killed(self) -> None:
        """What was acknowledged is there after a kill, and service time goes on from the last commit."""
        self.time = 100.0
        task = self.accept()
        self.time = 150.0
        doomed = self.store.save(ready(task))
        for call in self.reactor.getDelayedCalls():
            call.cancel()
        self.store = self.make_store()
        self.assertNoResult(doomed)
        self.assertEqual(service_time(self.file), 100.0)
        self.assertEqual(self.stored(task.id), task)
        self.time = 107.0
        self.accept(photo=b"another")
        self.assertEqual(service_time(self.file), 107.0)

    def test_checkpoint(self) -> None:
        """The log is moved into the database after so many writes, and not emptied."""
        self.patch(store_module, "CHECKPOINT_EVERY", 3)
        for number in range(6):
            self.result(self.store.save(make_task(number)))
        self.assertEqual(self.watch.count("PRAGMA wal_checkpoint(PASSIVE)"), 2)
        self.assertEqual(self.watch.count("PRAGMA wal_checkpoint(TRUNCATE)"), 0)


class StatementTests(SqliteHarness):
    """Operations of a kind share statements."""

    def test_one_transaction(self) -> None:
        """All that waits shares one BEGIN and one COMMIT, and the service time is recorded once."""
        self.hold()
        accepted = [self.begin_accepting("Anna", b"%d" % number) for number in range(20)]
        self.settle()
        for d in accepted:
            self.successResultOf(d)
        counts = [self.watch.count(start) for start in ("BEGIN IMMEDIATE", "UPDATE clock", "COMMIT")]
        self.assertEqual(counts, [1, 1, 1])

    def test_check(self) -> None:
        """A check is a transaction that writes."""
        self.result(self.store.check())
        self.assertEqual([self.watch.count(start) for start in ("BEGIN", "COMMIT")], [1, 1])

    def test_commits_are_noted(self) -> None:
        """The time of each commit is noted outside of the database, once it is durable, and only then (D12)."""
        for time in (7.25, 7.5):
            self.time = time
            self.accept(photo=b"%r" % time)
            self.assertEqual(read_last_commit(self.folder / "last-commit"), time)
        self.time = 8.0
        with self.commits_fail():
            self.reason(self.begin_accepting(), StoreUnavailable)
        self.counts()
        self.assertEqual(read_last_commit(self.folder / "last-commit"), 7.5)

    def test_commit_that_cannot_be_noted(self) -> None:
        """On a full disk it stands all the same: nothing is lost by it."""
        self.patch(os, "pwrite", failing(errno.ENOSPC))
        self.assertEqual(self.stored(self.accept().id), make_task())

    def test_disk_that_fails_behind_a_commit(self) -> None:
        """Nobody is told of a commit if the disk fails just behind it: it may be gone after a power loss (D2)."""
        self.patch(os, "pwrite", failing(errno.EIO))
        self.reason(self.begin_accepting(), StoreBroken)

    def test_reads_take_no_lock(self) -> None:
        """What only reads begins no transaction."""
        self.counts()
        self.stored(1)
        self.assertEqual(self.watch.count("BEGIN"), 0)

    def test_statements_of_a_full_batch(self) -> None:
        """A full batch of saves takes as few statements as there are portions of it."""
        tasks = [self.accept()] + [make_task(number) for number in range(2, MAX_BATCH + 2)]
        self.watch.statements.clear()
        self.hold()
        for task in tasks:
            self.store.save(task)
        self.settle()
        self.assertEqual(self.watch.count("BEGIN"), 2)
        self.assertEqual(self.watch.count("UPDATE task"), MAX_BATCH // MAX_ROWS + 1)

    def test_submissions_and_saves(self) -> None:
        """As many as one statement takes share a query and an insert, or an update, and nothing else."""
        self.hold()
        accepted = [self.begin_accepting("Anna", b"%d" % number) for number in range(MAX_ROWS)]
        tasks = [self.result(d).task for d in accepted]
        self.hold()
        self.watch.statements.clear()
        changed = [replace(task, attempts=2) for task in tasks]
        saved = [self.store.save(task) for task in changed]
        self.settle()
        self.assertEqual([self.successResultOf(d) for d in saved], [True] * MAX_ROWS)
        self.assertEqual([sql.split()[0] for sql in self.watch.statements],
                         ["SELECT", "SELECT", "BEGIN", "UPDATE", "UPDATE", "COMMIT"])  # fmt: skip
        self.assertEqual([self.stored(task.id) for task in tasks], changed)

    def test_submissions(self) -> None:
        """So do submissions: a query, an insert, the time."""
        self.hold()
        self.settle()
        self.watch.statements.clear()
        self.hold()
        for number in range(MAX_ROWS):
            self.begin_accepting("Anna", b"%d" % number)
        self.settle()
        statements = [" ".join(sql.split()[:2]) for sql in self.watch.statements]
        self.assertEqual(statements[2:], ["BEGIN IMMEDIATE", "SELECT id,", "INSERT INTO", "UPDATE clock", "COMMIT"])

    def test_lookups(self) -> None:
        """Those that wait share one query."""
        tasks = self.accept_many(2)
        self.hold()
        before = self.watch.count("SELECT id")
        found = [self.store.get(task_id) for task_id in (tasks[0].id, 999, tasks[1].id, tasks[0].id)]
        self.settle()
        self.assertEqual([self.successResultOf(d) for d in found], [tasks[0], None, tasks[1], tasks[0]])
        self.assertEqual(self.watch.count("SELECT id") - before, 1)


class UnavailableTests(SqliteHarness):
    """A database that is full, read-only or locked for now."""

    def test_rolled_back(self) -> None:
        """Whichever statement fails, no row and no file remains, for none of those that share the transaction."""
        kept = self.accept(photo=b"kept")
        for start in ("BEGIN", "INSERT", "UPDATE clock", "COMMIT"):
            with self.fault(start, sqlite_error("SQLITE_FULL", "database or disk is full")):
                self.hold()
                doomed = [self.begin_accepting("Anna", b"%d" % number) for number in range(3)]
                for d in doomed:
                    reason = self.reason(d, StoreUnavailable)
                    self.assertEqual(reason, "database or disk is full (SQLITE_FULL)")
                    self.assertEqual(self.store.last_error, reason)
            self.assertEqual(self.files(), [str(kept.id)], start)
            self.assertEqual(self.counts().by_state[State.UPLOAD], 1)
            self.assertFalse(self.store.broken)
        self.assertEqual(self.broken, [])
        self.accept(photo=b"again")
        self.assertIsNone(self.store.last_error)

    def test_read_only(self) -> None:
        """A database that can't be written to still answers."""
        task = self.accept()
        with self.fault("BEGIN", sqlite_error("SQLITE_READONLY", "attempt to write a readonly database")):
            self.hold()
            saved, found = self.store.save(ready(task)), self.store.get(task.id)
            self.reason(saved, StoreUnavailable)
            self.assertEqual(self.successResultOf(found), task)
            self.assertEqual(self.result(self.store.unfinished(FROM_THE_START, 9)), [task])
            self.assertEqual(self.store.last_error, "attempt to write a readonly database (SQLITE_READONLY)")

    def test_really_full(self) -> None:
        """With a database that may not grow, what writes fails; it goes on by itself when there is room."""
        self.accept(photo=b"first")
        (connection,) = self.pool.connections.values()
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")
        outcomes: list[bool] = []
        for number in range(200):
            accepted = self.begin_accepting("x" * 200, b"%d" % number)
            d = accepted.addCallbacks(lambda _: True, lambda failure: not failure.trap(StoreUnavailable))
            outcomes.append(self.result(d))
        self.assertFalse(outcomes[-1])
        self.assertEqual(len(self.files()), 1 + outcomes.count(True))
        connection.execute("PRAGMA max_page_count = 1000000")
        self.accept(photo=b"later")
        self.assertIsNone(self.store.last_error)

    def test_write_error_explained_by_the_spool(self) -> None:
        """A write error passes if the spool on the same disk is full or read-only; otherwise it breaks the store."""
        for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            with self.fault("UPDATE clock", sqlite_error("SQLITE_IOERR_WRITE", "disk I/O error")):
                self.patch(self.spool, "probe", failing(number))
                self.assertEqual(self.reason(self.store.save(make_task()), StoreUnavailable), os.strerror(number))
        self.assertEqual(self.broken, [])
        with self.fault("UPDATE clock", sqlite_error("SQLITE_IOERR_WRITE", "disk I/O error")):
            self.patch(self.spool, "probe", failing(errno.EIO))
            self.reason(self.store.save(make_task()), StoreBroken)
        self.assertEqual(self.broken, ["the database failed: disk I/O error (SQLITE_IOERR_WRITE)"])

    def test_locked(self) -> None:
        """A backup that holds the lock for too long is no fault of the disk."""
        with self.fault("BEGIN", sqlite_error("SQLITE_BUSY", "database is locked")):
            self.assertEqual(self.reason(self.store.check(), StoreUnavailable), "database is locked (SQLITE_BUSY)")

    def test_cannot_be_opened(self) -> None:
        """A database that can't be opened fails what was asked for, and is opened when it can be."""
        real = self.pool.openfun
        self.pool.openfun = raising(sqlite_error("SQLITE_CANTOPEN", "unable to open database file"))
        for d in (self.store.count(), self.store.check()):
            self.assertEqual(self.reason(d, StoreUnavailable), "unable to open database file (SQLITE_CANTOPEN)")
        self.pool.openfun = real
        self.counts()
        self.flushLoggedErrors(sqlite3.OperationalError)

    def test_failed_rollback(self) -> None:
        """A rollback that fails, too, is logged, and the reason is that of the first failure."""
        self.watch.fault = lambda sql: (
            sqlite_error("SQLITE_FULL", "full") if sql == "COMMIT" else
            sqlite_error("SQLITE_ERROR", "no rollback") if sql == "ROLLBACK" else None
        )  # fmt: skip
        self.assertEqual(self.reason(self.begin_accepting(), StoreUnavailable), "full (SQLITE_FULL)")

    def test_rolled_back_by_sqlite(self) -> None:
        """Where SQLite has rolled back by itself, nothing is rolled back twice, and the photo goes all the same."""

        def fault(sql: str) -> Exception | None:
            if sql != "COMMIT":
                return None
            (connection,) = self.pool.connections.values()
            connection.rollback()
            return sqlite_error("SQLITE_FULL", "full")

        self.accept(photo=b"first")
        self.watch.fault = fault
        self.reason(self.begin_accepting(), StoreUnavailable)
        self.assertEqual((self.watch.count("ROLLBACK"), self.files()), (0, ["1"]))

    def test_compact(self) -> None:
        """A log that can't be emptied just now is no fault of the disk, nor is a database that can't be opened."""
        with self.fault("PRAGMA wal_checkpoint", sqlite_error("SQLITE_BUSY", "locked")):
            self.assertEqual(self.reason(self.store.compact(), StoreUnavailable), "locked (SQLITE_BUSY)")
        self.store = self.make_store()
        self.pool.openfun = raising(sqlite_error("SQLITE_CANTOPEN", "unable to open"))
        self.assertEqual(self.reason(self.store.compact(), StoreUnavailable), "unable to open (SQLITE_CANTOPEN)")
        self.flushLoggedErrors(sqlite3.OperationalError)
        self.assertEqual(self.broken, [])

    def test_checkpoint(self) -> None:
        """Nor is a checkpoint that fails so: it is tried again after as many writes."""
        self.patch(store_module, "CHECKPOINT_EVERY", 3)
        self.watch.fault = fail_on("PRAGMA wal_checkpoint", sqlite_error("SQLITE_BUSY", "locked"))
        for number in range(7):
            self.result(self.store.save(make_task(number)))
        self.assertEqual(self.watch.count("PRAGMA wal_checkpoint(PASSIVE)"), 2)
        self.assertEqual(self.broken, [])


class BrokenTests(SqliteHarness):
    """A database that can't be trusted any more."""

    def assert_broken(self, reason: str) -> None:
        """It was told once, and nothing is tried any more, neither a statement nor a flush."""
        self.watch.fault = lambda sql: None
        before = list(self.watch.statements)
        flushes: list[int] = []
        self.patch(os, "fsync", flushes.append)
        for d in (
            self.begin_accepting("Anna", b"later"),
            self.store.save(make_task()),
            self.store.get(1),
            self.store.count(),
            self.store.check(),
            self.store.compact(),
        ):
            self.assertEqual(self.reason(d, StoreBroken), reason)
        self.assertEqual((self.watch.statements, flushes, self.broken), (before, [], [reason]))
        self.assertTrue(self.store.broken)
        self.assertEqual([name for name in self.files() if name.startswith("incoming/")], [])
        self.successResultOf(self.store.drained())

    def test_flush_that_fails(self) -> None:
        """A flush of the database breaks it, even if the disk seems full, too."""
        self.patch(self.spool, "probe", failing(errno.ENOSPC))
        with self.commits_break():
            self.reason(self.store.save(make_task()), StoreBroken)
        self.assert_broken("the database failed: disk I/O error (SQLITE_IOERR_FSYNC)")

    def test_reads_of_the_batch(self) -> None:
        """What shares a batch with it and only reads is not tried any more, either."""
        self.hold()
        with self.commits_break():
            saved, counted = self.store.save(make_task()), self.store.count()
            self.reason(saved, StoreBroken)
            self.failureResultOf(counted, StoreBroken)
        # A count is two statements: those of ``hold``, and those before the commit.
        self.assertEqual(self.watch.count("SELECT count"), 4)

    def test_damaged(self) -> None:
        """So does a database that is found to be damaged, by a read, too."""
        for name in ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_IOERR_READ"):
            self.setUp()
            with self.fault("SELECT", sqlite_error(name, "damaged", sqlite3.DatabaseError)):
                self.reason(self.store.get(1), StoreBroken)
            self.assert_broken(f"the database failed: damaged ({name})")

    def test_compact(self) -> None:
        """So does a compaction."""
        with self.fault("PRAGMA wal_checkpoint", sqlite_error("SQLITE_IOERR_FSYNC", "disk I/O error")):
            self.reason(self.store.compact(), StoreBroken)
        self.assert_broken("the database failed: disk I/O error (SQLITE_IOERR_FSYNC)")

    def test_checkpoint(self) -> None:
        """So does a checkpoint that the store makes by itself after so many writes."""
        self.patch(store_module, "CHECKPOINT_EVERY", 3)
        with self.fault("PRAGMA wal_checkpoint", sqlite_error("SQLITE_IOERR_FSYNC", "disk I/O error")):
            for number in range(3):
                self.assertEqual(self.broken, [])
                self.result(self.store.save(make_task(number)))
        self.assert_broken("the database failed: disk I/O error (SQLITE_IOERR_FSYNC)")

    def test_compact_afterwards(self) -> None:
        """Then the log is left alone as well."""
        with self.commits_break():
            self.reason(self.store.save(make_task()), StoreBroken)
            self.reason(self.store.compact(), StoreBroken)
        self.assertEqual(self.watch.count("PRAGMA wal_checkpoint"), 0)

    def test_told_once(self) -> None:
        """However many find out at once; a compaction that was asked for before still ends."""
        with self.lookups_break():
            self.hold()
            deferreds = [self.store.get(number) for number in range(3)]
            compacted = self.store.compact()
            for d in deferreds:
                self.reason(d, StoreBroken)
            self.successResultOf(compacted)
        self.assert_broken("the database failed: damaged (SQLITE_CORRUPT)")

    def test_cannot_be_opened(self) -> None:
        """A database that turns out to be damaged when it is opened breaks it as well."""
        self.pool.openfun = raising(sqlite_error("SQLITE_NOTADB", "no database", sqlite3.DatabaseError))
        self.reason(self.store.get(1), StoreBroken)
        self.flushLoggedErrors(sqlite3.DatabaseError)
        self.assert_broken("the database failed: no database (SQLITE_NOTADB)")

    def test_photo_removed_before_the_failure(self) -> None:
        """A task that failed in the same transaction keeps its photo, for it may still be unfinished on the disk."""
        task = self.accept()
        with self.commits_break():
            self.reason(self.store.save(failed(task)), StoreBroken)
        self.assertEqual(self.files(), ["1"])

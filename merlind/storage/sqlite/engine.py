"""The engine for SQLite, through adbapi: one connection, one thread, and one transaction for a batch that writes."""

import errno
import sqlite3
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

from twisted.enterprise.adbapi import ConnectionPool
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from merlind.core.interfaces import Moment, StoreBroken, StoreUnavailable
from merlind.storage.operations import Operation
from merlind.storage.photos.changes import PhotoChanges
from merlind.storage.photos.spool import Spool
from merlind.storage.sqlite import statements
from merlind.storage.sqlite.errors import judge
from merlind.storage.sqlite.files import OpenFiles
from merlind.storage.sqlite.kinds import Kinds, Work
from merlind.storage.sqlite.last_commit import LastCommit


class SqliteEngine:
    """An Engine (storage.engine) over a pool of one connection (database.open_pool) and a spool on the same disk.

    ``files`` are those that have to stay where they are while merlind runs; each commit is noted in ``last_commit``.
    ``new_id`` draws an id for a new task; another one is drawn where it is taken. It runs in the pool's thread.
    """

    _log = Logger()

    def __init__(
        self,
        pool: ConnectionPool,
        spool: Spool,
        files: OpenFiles,
        last_commit: LastCommit,
        new_id: Callable[[], int],
    ) -> None:
        self._pool = pool
        self._spool = spool
        self._files = files
        self._last_commit = last_commit
        self._kinds = Kinds(spool, files, new_id)

    def run(self, batch: Sequence[Operation], now: Moment) -> "Deferred[list[Any]]":
        """Do a batch, see Engine."""
        d: Deferred[list[Any]] = self._pool.runWithConnection(self._run, batch, now)
        return d.addErrback(self._judge_failure)

    def checkpoint(self) -> "Deferred[None]":
        """Move the write-ahead log into the database, as far as nobody reads it."""
        return self._checkpoint("PASSIVE")

    def compact(self) -> "Deferred[None]":
        """Move the write-ahead log into the database and empty it, so that nothing erased stays in it."""
        return self._checkpoint("TRUNCATE")

    def close(self) -> None:
        """Close the connection, and wait for the thread to end."""
        self._pool.close()
        self._last_commit.close()

    def _checkpoint(self, mode: str) -> "Deferred[None]":
        d: Deferred[None] = self._pool.runWithConnection(self._move_log, mode)
        return d.addErrback(self._judge_failure)

    def _judge_failure(self, failure: Failure) -> Failure:
        # What failed before the thread's own part began, such as to open the database.
        if isinstance(failure.value, sqlite3.Error | OSError):
            return Failure(self._judge(failure.value))
        return failure

    def _judge(self, error: sqlite3.Error | OSError) -> StoreUnavailable | StoreBroken:
        return judge(error, self._spool.probe)

    # In the pool's thread: batches.

    def _run(self, connection: Any, batch: Sequence[Operation], now: Moment) -> list[Any]:
        self._files.remember()
        work = Work(connection.cursor(), PhotoChanges(self._spool), now)
        do = self._transact if any(operation.writes for operation in batch) else self._do
        results = self._attempt(do, work, batch)
        if not isinstance(results, Failure):
            return results
        if isinstance(results.value, StoreBroken):
            return [results] * len(batch)
        # What only reads works on a full or a read-only disk, too.
        return [results if one.writes else self._read_alone(work, one) for one in batch]

    def _read_alone(self, work: Work, operation: Operation) -> Any:
        results = self._attempt(self._do, work, [operation])
        return results if isinstance(results, Failure) else results[0]

    def _attempt(
        self, do: Callable[[Work, Sequence[Operation]], list[Any]], work: Work, batch: Sequence[Operation]
    ) -> list[Any] | Failure:
        try:
            return do(work, batch)
        except (sqlite3.Error, OSError) as error:
            return Failure(self._judge(error))
        except StoreBroken as broken:
            return Failure(broken)

    def _do(self, work: Work, batch: Sequence[Operation]) -> list[Any]:
        results: list[Any] = []
        for kind, same in groupby(batch, type):
            results += self._kinds.do(work, kind, list(same))
        return results

    def _transact(self, work: Work, batch: Sequence[Operation]) -> list[Any]:
        work.cursor.execute("BEGIN IMMEDIATE")
        try:
            results = self._do(work, batch)
            work.photos.before_commit()
            statements.record_time(work.cursor, work.now.service)
            work.cursor.execute("COMMIT")
        except BaseException:
            self._roll_back(work)
            raise
        # Before anybody is told, and before a photo goes: rows in a file that was deleted are gone with the process.
        self._files.check_soon()
        self._note_commit(work.now.service)
        work.photos.after_commit()
        return results

    def _note_commit(self, now: float) -> None:
        try:
            self._last_commit.note(now)
        except OSError as error:
            if error.errno == errno.EIO:
                # The disk fails just behind the commit, so that its flush may have reached nothing: tell nobody of it.
                raise StoreBroken(f"a commit could not be noted: {error.strerror}") from error
            # The commit stands. Only if the database is lost as well, and restored from an older copy, is this missed.
            self._log.warn("a commit could not be noted: {error}", error=error.strerror)

    def _roll_back(self, work: Work) -> None:
        try:
            # After some errors, such as a full disk, SQLite has rolled back by itself.
            if work.cursor.connection.in_transaction:
                work.cursor.execute("ROLLBACK")
            work.photos.after_rollback(lambda ids: self._with_photo(work, ids))
        except sqlite3.Error as error:
            # The next start sweeps photos that belong to no task.
            self._log.warn("a transaction could not be undone: {error}", error=error)

    def _with_photo(self, work: Work, task_ids: list[int]) -> set[int]:
        return {task_id for task_id, has in statements.have_photos(work.cursor, task_ids).items() if has}

    def _move_log(self, connection: Any, mode: str) -> None:
        # Outside of any transaction, where SQLite wants it.
        try:
            connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()
        except sqlite3.Error as error:
            raise self._judge(error) from error

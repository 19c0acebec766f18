"""The engine for SQLite, through adbapi: one connection, one thread, and one transaction for a batch that writes."""

import errno
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from twisted.enterprise.adbapi import ConnectionPool
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from merlind.core.interfaces import Accepted, DedupKey, Moment, SetAside, StoreBroken, StoreUnavailable, Submission
from merlind.core.task import Photo, State, Task, restart
from merlind.storage import operations
from merlind.storage.operations import Operation
from merlind.storage.photos.changes import PhotoChanges
from merlind.storage.photos.spool import Spool
from merlind.storage.sqlite import statements
from merlind.storage.sqlite.errors import judge
from merlind.storage.sqlite.files import OpenFiles
from merlind.storage.sqlite.last_commit import LastCommit


@dataclass(frozen=True, slots=True)
class _Work:
    """What a batch works with: the cursor, what it does to photos, and when it was asked for."""

    cursor: sqlite3.Cursor
    photos: PhotoChanges
    now: Moment


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
        self._new_id = new_id
        self._methods: dict[type[Operation], Callable[[_Work, list[Any]], Sequence[Any]]] = {
            operations.Accept: self._accept,
            operations.Save: self._save,
            operations.Get: self._get,
            operations.Delete: self._delete,
            operations.Unfinished: self._unfinished,
            operations.Count: self._count,
            operations.OldestUnfinished: self._oldest_unfinished,
            operations.Expire: self._expire,
            operations.DeleteKept: self._delete_kept,
            operations.ExpireLost: self._expire_lost,
            operations.SweepPhotos: self._sweep_photos,
            operations.Check: self._check,
            operations.CheckFiles: self._check_files,
            operations.RecordTime: self._record_time,
        }

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
        work = _Work(connection.cursor(), PhotoChanges(self._spool), now)
        do = self._transact if any(operation.writes for operation in batch) else self._do
        results = self._attempt(do, work, batch)
        if not isinstance(results, Failure):
            return results
        if isinstance(results.value, StoreBroken):
            return [results] * len(batch)
        # What only reads works on a full or a read-only disk, too.
        return [results if one.writes else self._read_alone(work, one) for one in batch]

    def _read_alone(self, work: _Work, operation: Operation) -> Any:
        results = self._attempt(self._do, work, [operation])
        return results if isinstance(results, Failure) else results[0]

    def _attempt(
        self, do: Callable[[_Work, Sequence[Operation]], list[Any]], work: _Work, batch: Sequence[Operation]
    ) -> list[Any] | Failure:
        try:
            return do(work, batch)
        except (sqlite3.Error, OSError) as error:
            return Failure(self._judge(error))
        except StoreBroken as broken:
            return Failure(broken)

    def _do(self, work: _Work, batch: Sequence[Operation]) -> list[Any]:
        results: list[Any] = []
        for kind, same in groupby(batch, type):
            results += self._methods[kind](work, list(same))
        return results

    def _transact(self, work: _Work, batch: Sequence[Operation]) -> list[Any]:
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

    def _roll_back(self, work: _Work) -> None:
        try:
            # After some errors, such as a full disk, SQLite has rolled back by itself.
            if work.cursor.connection.in_transaction:
                work.cursor.execute("ROLLBACK")
            work.photos.after_rollback(lambda ids: self._with_photo(work, ids))
        except sqlite3.Error as error:
            # The next start sweeps photos that belong to no task.
            self._log.warn("a transaction could not be undone: {error}", error=error)

    def _with_photo(self, work: _Work, task_ids: list[int]) -> set[int]:
        return {task_id for task_id, has in statements.have_photos(work.cursor, task_ids).items() if has}

    def _move_log(self, connection: Any, mode: str) -> None:
        # Outside of any transaction, where SQLite wants it.
        try:
            connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()
        except sqlite3.Error as error:
            raise self._judge(error) from error

    # In the pool's thread: one method for each kind of operation.

    def _accept(self, work: _Work, accepts: list[operations.Accept]) -> list[Accepted]:
        keyed = [(accept.submission.dedup_key, accept.submission) for accept in accepts]
        tasks = statements.find(work.cursor, list(dict.fromkeys(key for key, _ in keyed)))
        created = self._create(work, [(key, submission) for key, submission in keyed if key not in tasks])
        restarted: list[Task] = []
        results: list[Accepted] = []
        for key, submission in keyed:
            before = tasks.get(key)
            if before is not None and before.state is not State.FAILED:
                work.photos.drop(submission.photo)
                results.append(Accepted(before, before))
                continue
            if before is None:
                task = created[key]
            else:
                photo = replace(before.photo, media_type=submission.media_type)
                task = restart(replace(before, photo=photo), work.now.service, work.now.wall)
                restarted.append(task)
            tasks[key] = task  # for an equal one in the same batch
            work.photos.keep(submission.photo, task.id)
            results.append(Accepted(task, before))
        statements.update(work.cursor, restarted, work.now.service)
        return results

    def _create(self, work: _Work, keyed: list[tuple[DedupKey, Submission]]) -> dict[DedupKey, Task]:
        """Insert a task for each key, under an id that no other task has."""
        created: dict[DedupKey, Task] = {}
        now = work.now.service
        for key, one in keyed:
            if key not in created:
                photo = Photo(key[0], one.photo.size, one.media_type)
                task_id = self._new_id()
                created[key] = Task(task_id, one.user, one.name, photo, since=now, due=now, received=work.now.wall)
        for keys in statements.portions(list(created)):
            try:
                statements.insert(work.cursor, [created[key] for key in keys])
            except sqlite3.IntegrityError:
                created.update((key, self._insert(work, created[key])) for key in keys)
        return created

    def _insert(self, work: _Work, task: Task) -> Task:
        """Insert one task, under another id where its own is taken."""
        while True:
            try:
                statements.insert(work.cursor, [task])
            except sqlite3.IntegrityError:
                self._log.info("a task id was taken; drew another one")
                task = replace(task, id=self._new_id())
            else:
                return task

    def _save(self, work: _Work, saves: list[operations.Save]) -> list[bool]:
        tasks = [save.task for save in saves]
        unknown = statements.update(work.cursor, tasks, work.now.service)
        work.photos.remove([task.id for task in tasks if not task.has_photo and task.id not in unknown])
        return [task.id not in unknown for task in tasks]

    def _get(self, work: _Work, gets: list[operations.Get]) -> list[Task | None]:
        found = statements.get(work.cursor, [get.task_id for get in gets])
        return [found.get(get.task_id) for get in gets]

    def _delete(self, work: _Work, deletes: list[operations.Delete]) -> list[Task | None]:
        found = statements.get(work.cursor, [delete.task_id for delete in deletes])
        results: list[Task | None] = []
        for delete in deletes:
            task = found.get(delete.task_id)
            # Of two that delete one task, the second finds none.
            mine = task is not None and task.user == delete.user
            results.append(found.pop(delete.task_id) if mine else None)
        erased = [task.id for task in results if task is not None]
        statements.delete(work.cursor, erased)
        work.photos.remove(erased)
        return results

    def _unfinished(self, work: _Work, pages: list[operations.Unfinished]) -> list[list[Task]]:
        return [statements.list_unfinished(work.cursor, page.after, page.limit) for page in pages]

    def _count(self, work: _Work, counts: list[operations.Count]) -> list[Any]:
        return [statements.count(work.cursor)] * len(counts)

    def _oldest_unfinished(self, work: _Work, asked: list[operations.OldestUnfinished]) -> list[Any]:
        return [statements.oldest_unfinished(work.cursor)] * len(asked)

    def _expire(self, work: _Work, expiries: list[operations.Expire]) -> list[list[Task]]:
        results = []
        for expire in expiries:
            expired = statements.list_expired(work.cursor, expire.finished_by, expire.limit)
            statements.delete(work.cursor, [task.id for task in expired])
            work.photos.remove([task.id for task in expired if task.has_photo])
            results.append(expired)
        return results

    def _delete_kept(self, work: _Work, asked: list[operations.DeleteKept]) -> list[list[Task]]:
        results = []
        for one in asked:
            tasks = statements.list_kept_photos(work.cursor, one.now, one.keep, one.limit)
            statements.update(work.cursor, [replace(task, kept_until=None) for task in tasks], work.now.service)
            work.photos.remove([task.id for task in tasks])
            results.append(tasks)
        return results

    def _expire_lost(self, work: _Work, expiries: list[operations.ExpireLost]) -> list[int]:
        return [self._spool.expire_lost(expire.set_aside_by) for expire in expiries]

    def _sweep_photos(self, work: _Work, sweeps: list[operations.SweepPhotos]) -> list[SetAside]:
        return [self._sweep(work, list(sweep.task_ids)) for sweep in sweeps]

    def _sweep(self, work: _Work, task_ids: list[int]) -> SetAside:
        known = statements.have_photos(work.cursor, task_ids)
        work.photos.remove([task_id for task_id, has in known.items() if not has])
        sizes = []
        for task_id in task_ids:
            if task_id not in known:
                try:
                    sizes.append(self._spool.set_aside(task_id, work.now.service))
                except FileNotFoundError:
                    continue
                except OSError as error:
                    self._log.warn("a photo of no task stays in the spool: {error}", error=error.strerror)
        return SetAside(len(sizes), sum(sizes))

    def _check(self, work: _Work, checks: list[operations.Check]) -> list[None]:
        self._files.check()
        self._spool.probe()
        return [None] * len(checks)

    def _check_files(self, work: _Work, checks: list[operations.CheckFiles]) -> list[None]:
        self._files.check()
        return [None] * len(checks)

    def _record_time(self, work: _Work, asked: list[operations.RecordTime]) -> list[None]:
        return [None] * len(asked)  # the end of the transaction does it

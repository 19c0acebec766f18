"""What each kind of operation does: a method for each kind, within a transaction of the engine's, in its thread."""

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from twisted.logger import Logger

from merlind.core.interfaces import Accepted, DedupKey, Moment, SetAside, Submission
from merlind.core.listing import Failures
from merlind.core.task import Photo, State, Task, restart
from merlind.storage import operations
from merlind.storage.operations import Operation
from merlind.storage.photos.changes import PhotoChanges
from merlind.storage.photos.spool import Spool
from merlind.storage.sqlite import listing, statements
from merlind.storage.sqlite.files import OpenFiles


@dataclass(frozen=True, slots=True)
class Work:
    """What a batch works with: the cursor, what it does to photos, and when it was asked for."""

    cursor: sqlite3.Cursor
    photos: PhotoChanges
    now: Moment


class Kinds:
    """Does all operations of one kind that follow each other in a batch. ``new_id`` draws an id for a new task."""

    _log = Logger()

    def __init__(self, spool: Spool, files: OpenFiles, new_id: Callable[[], int]) -> None:
        self._spool = spool
        self._files = files
        self._new_id = new_id
        self._methods: dict[type[Operation], Callable[[Work, list[Any]], Sequence[Any]]] = {
            operations.Accept: self._accept,
            operations.Save: self._save,
            operations.Get: self._get,
            operations.Delete: self._delete,
            operations.Unfinished: self._unfinished,
            operations.Count: self._count,
            operations.OldestUnfinished: self._oldest_unfinished,
            operations.ListTasks: self._list_tasks,
            operations.CountFailures: self._count_failures,
            operations.Retry: self._retry,
            operations.Expire: self._expire,
            operations.DeleteKept: self._delete_kept,
            operations.ExpireLost: self._expire_lost,
            operations.SweepPhotos: self._sweep_photos,
            operations.Check: self._check,
            operations.CheckFiles: self._check_files,
            operations.SavePause: self._save_pause,
            operations.RecordTime: self._record_time,
        }

    def do(self, work: Work, kind: type[Operation], same: list[Any]) -> Sequence[Any]:
        """Do operations of a kind; returns a result for each. Raises sqlite3.Error or OSError."""
        return self._methods[kind](work, same)

    def _accept(self, work: Work, accepts: list[operations.Accept]) -> list[Accepted]:
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
                task = restart(replace(before, photo=photo), work.now.tasks, work.now.wall)
                restarted.append(task)
            tasks[key] = task  # for an equal one in the same batch
            work.photos.keep(submission.photo, task.id)
            results.append(Accepted(task, before))
        statements.update(work.cursor, restarted, work.now.service)
        return results

    def _create(self, work: Work, keyed: list[tuple[DedupKey, Submission]]) -> dict[DedupKey, Task]:
        """Insert a task for each key, under an id that no other task has."""
        created: dict[DedupKey, Task] = {}
        now = work.now.tasks
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

    def _insert(self, work: Work, task: Task) -> Task:
        """Insert one task, under another id where its own is taken."""
        while True:
            try:
                statements.insert(work.cursor, [task])
            except sqlite3.IntegrityError:
                self._log.info("a task id was taken; drew another one")
                task = replace(task, id=self._new_id())
            else:
                return task

    def _save(self, work: Work, saves: list[operations.Save]) -> list[bool]:
        tasks = [save.task for save in saves]
        unknown = statements.update(work.cursor, tasks, work.now.service)
        work.photos.remove([task.id for task in tasks if not task.has_photo and task.id not in unknown])
        return [task.id not in unknown for task in tasks]

    def _get(self, work: Work, gets: list[operations.Get]) -> list[Task | None]:
        found = statements.get(work.cursor, [get.task_id for get in gets])
        return [found.get(get.task_id) for get in gets]

    def _delete(self, work: Work, deletes: list[operations.Delete]) -> list[Task | None]:
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

    def _unfinished(self, work: Work, pages: list[operations.Unfinished]) -> list[list[Task]]:
        return [statements.list_unfinished(work.cursor, page.after, page.limit) for page in pages]

    def _count(self, work: Work, counts: list[operations.Count]) -> list[Any]:
        return [statements.count(work.cursor)] * len(counts)

    def _oldest_unfinished(self, work: Work, asked: list[operations.OldestUnfinished]) -> list[Any]:
        return [statements.oldest_unfinished(work.cursor)] * len(asked)

    def _count_failures(self, work: Work, asked: list[operations.CountFailures]) -> list[list[Failures]]:
        return [listing.count_failures(work.cursor, one.since, one.most) for one in asked]

    def _list_tasks(self, work: Work, pages: list[operations.ListTasks]) -> list[list[Task]]:
        return [listing.list_tasks(work.cursor, page.wanted, page.after, page.limit) for page in pages]

    def _retry(self, work: Work, retries: list[operations.Retry]) -> list[list[tuple[Task, Task]]]:
        results = []
        for retry in retries:
            found = statements.get(work.cursor, list(retry.task_ids)).values()
            retried = [(task, restart(task, work.now.tasks, work.now.wall)) for task in found if task.retryable]
            statements.update(work.cursor, [after for _, after in retried], work.now.service)
            results.append(retried)
        return results

    def _expire(self, work: Work, expiries: list[operations.Expire]) -> list[list[Task]]:
        results = []
        for expire in expiries:
            expired = statements.list_expired(work.cursor, expire.finished_by, expire.limit)
            statements.delete(work.cursor, [task.id for task in expired])
            work.photos.remove([task.id for task in expired if task.has_photo])
            results.append(expired)
        return results

    def _delete_kept(self, work: Work, asked: list[operations.DeleteKept]) -> list[list[Task]]:
        results = []
        for one in asked:
            tasks = statements.list_kept_photos(work.cursor, one.now, one.keep, one.limit)
            statements.update(work.cursor, [replace(task, kept_until=None) for task in tasks], work.now.service)
            work.photos.remove([task.id for task in tasks])
            results.append(tasks)
        return results

    def _expire_lost(self, work: Work, expiries: list[operations.ExpireLost]) -> list[int]:
        return [self._spool.expire_lost(expire.set_aside_by) for expire in expiries]

    def _sweep_photos(self, work: Work, sweeps: list[operations.SweepPhotos]) -> list[SetAside]:
        return [self._sweep(work, list(sweep.task_ids)) for sweep in sweeps]

    def _sweep(self, work: Work, task_ids: list[int]) -> SetAside:
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

    def _check(self, work: Work, checks: list[operations.Check]) -> list[None]:
        self._files.check()
        self._spool.probe()
        return [None] * len(checks)

    def _check_files(self, work: Work, checks: list[operations.CheckFiles]) -> list[None]:
        self._files.check()
        return [None] * len(checks)

    def _save_pause(self, work: Work, saves: list[operations.SavePause]) -> list[None]:
        statements.save_pause(work.cursor, saves[-1].pause)
        return [None] * len(saves)

    def _record_time(self, work: Work, asked: list[operations.RecordTime]) -> list[None]:
        return [None] * len(asked)  # the end of the transaction does it

"""Backups: what merlind does meanwhile, what is damaged, and what a restore takes."""

import hashlib
import os
import shutil
import sqlite3
import tarfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from merlind.core.outcome import Source, TaskError
from merlind.core.pause import Pause
from merlind.core.task import Photo, State, Task
from merlind.storage import backup, pairing
from merlind.storage.archive import ArchiveUnusable, ArchiveWriter
from merlind.storage.backup import LOOKS, BackupFailed, Contents, back_up
from merlind.storage.restore import PART, RestoreFailed, check_empty, restore
from merlind.storage.sqlite import copy, database, statements
from merlind.storage.sqlite.errors import DatabaseUnusable
from tests.unit.support import flush_nothing, make_task


class DirectoryCase(SynchronousTestCase):
    """A data directory in which the test plays merlind: one connection that writes, and photos beside it."""

    def setUp(self) -> None:
        flush_nothing(self)
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.file, self.target = self.folder / "backup.tar", self.folder / "restored"
        self.data = self.folder / "data"
        self.database, self.spool = self.data / "tasks.sqlite", self.data / "spool"
        self.data.mkdir()
        pairing.prepare(self.database, self.spool, self.data / "last-commit")
        # As the daemon has it open: nothing of what is written below is in the database's own file.
        self.connection = sqlite3.connect(self.database, isolation_level=None)
        self.addCleanup(self.connection.close)
        database.configure(self.connection)

    def add(self, *tasks: Task) -> None:
        """Store tasks, and the photos of those that have one."""
        for task in tasks:
            if task.has_photo:
                (self.spool / str(task.id)).write_bytes(photo_of(task.id))
        statements.insert(self.connection.cursor(), tasks)

    def save(self, task: Task) -> None:
        """Record what became of a task, and delete its photo if it has none any more."""
        statements.update(self.connection.cursor(), [task], 5.0)
        if not task.has_photo:
            (self.spool / str(task.id)).unlink()

    def erase(self, task_id: int) -> None:
        """Erase a task."""
        statements.delete(self.connection.cursor(), [task_id])
        (self.spool / str(task_id)).unlink()

    def back_up(self, meanwhile: "Callable[[], None] | None" = None) -> Contents:
        """Make a backup; ``meanwhile`` happens after the first photo that was looked for."""
        waiting = [meanwhile] if meanwhile else []

        def report(done: int, total: int) -> None:
            if waiting:
                waiting.pop()()

        return back_up(self.database, self.spool, self.file, report)

    def restore(self) -> Contents:
        """Restore the backup, and check that merlind would start on it."""
        self.target.mkdir()
        contents = restore(self.file, self.target)
        pairing.prepare(self.target / "tasks.sqlite", self.target / "spool", self.target / "last-commit")
        return contents

    def restored(self) -> dict[int, Task]:
        """Restore the backup, and return its tasks."""
        self.restore()
        with closing(sqlite3.connect(self.target / "tasks.sqlite")) as connection:
            ids = [row[0] for row in connection.execute("SELECT id FROM task")]
            return statements.get(connection.cursor(), ids)

    def photos(self) -> dict[int, bytes]:
        """The photos that were restored."""
        found = (path for path in (self.target / "spool").iterdir() if path.name != pairing.MARK)
        return {int(path.name): path.read_bytes() for path in found}


def photo_of(task_id: int) -> bytes:
    return b"photo %d" % task_id


def task(task_id: int, **changes: object) -> Task:
    content = photo_of(task_id)
    photo = Photo(hashlib.sha256(content).digest(), len(content), "image/png")
    return make_task(task_id, name=f"name {task_id}", photo=photo, **changes)


def ready(one: Task) -> Task:
    return replace(one, state=State.READY, result=0.5, finished_at=100.0)


def failed(one: Task) -> Task:
    error = TaskError("gave_up", "no score in time", Source.UPSTREAM)
    return replace(one, state=State.FAILED, error=error, finished_at=100.0, kept_until=1000.0)


class BackupTests(DirectoryCase):
    """What is in a backup."""

    def test_all_is_there(self) -> None:
        """Unfinished, finished and failed tasks come back as they were, with the photos that they need."""
        tasks = {
            one.id: one for one in (task(1), task(2, state=State.POLL, retry_id="r"), ready(task(3)), failed(task(4)))
        }
        self.add(*tasks.values())
        statements.save_pause(self.connection.cursor(), Pause(began=3.0))

        contents = self.back_up()

        self.assertEqual((contents.photos, contents.without_photo), (3, []))
        self.assertEqual(contents.photo_bytes, 3 * len(photo_of(1)))
        self.assertEqual(self.restored(), tasks)
        self.assertEqual(self.photos(), {number: photo_of(number) for number in (1, 2, 4)})
        self.assertEqual(database.pause(self.target / "tasks.sqlite"), Pause(began=3.0))

    def test_it_is_a_data_directory(self) -> None:
        """Unpacking the archive makes a data directory, without merlinctl."""
        self.add(task(1))
        self.back_up()
        with tarfile.open(self.file) as tar:
            tar.extractall(self.target, filter="tar")
        pairing.prepare(self.target / "tasks.sqlite", self.target / "spool", self.target / "last-commit")
        self.assertEqual(self.photos(), {1: photo_of(1)})
        unpacked = [self.target / "spool", self.target / "spool" / "1", self.target / "tasks.sqlite"]
        self.assertEqual([path.stat().st_mode & 0o77 for path in unpacked], [0, 0, 0])

    def test_finished_meanwhile(self) -> None:
        """A task that finished before its photo was copied is in the backup as finished: it needs none."""
        self.add(task(1), task(2))
        contents = self.back_up(lambda: self.save(ready(task(2))))
        self.assertEqual((contents.photos, contents.without_photo), (1, []))
        self.assertEqual(self.restored(), {1: task(1), 2: ready(task(2))})

    def test_erased_meanwhile(self) -> None:
        """What was erased before its photo was copied is not in the backup at all."""
        self.add(task(1), task(2))
        self.back_up(lambda: self.erase(2))
        self.assertNotIn(b"name 2", self.file.read_bytes())
        self.assertEqual(self.restored(), {1: task(1)})

    def test_failed_and_retried_meanwhile(self) -> None:
        """A task that failed and started anew between two looks has its photo."""
        self.add(task(1), task(2))
        anew = task(2, since=7.0, due=7.0)

        def retry_later() -> None:
            self.save(replace(failed(task(2)), kept_until=None))
            renew = copy.DatabaseCopy.renew

            def renew_after(one: copy.DatabaseCopy, *arguments: object) -> object:
                self.save_with_photo(anew)
                return renew(one, *arguments)  # type: ignore[arg-type]

            self.patch(copy.DatabaseCopy, "renew", renew_after)

        contents = self.back_up(retry_later)
        self.assertEqual((contents.photos, contents.without_photo), (2, []))
        self.assertEqual(self.restored(), {1: task(1), 2: anew})
        self.assertEqual(self.photos()[2], photo_of(2))

    def save_with_photo(self, one: Task) -> None:
        (self.spool / str(one.id)).write_bytes(photo_of(one.id))
        self.save(one)

    def test_the_time_is_that_of_the_youngest_task(self) -> None:
        """What was copied later brings the clock with it, so that no task is of the future."""
        self.add(task(1), task(2))

        def finish() -> None:
            self.save(ready(task(2)))
            statements.record_time(self.connection.cursor(), 77.0)

        self.back_up(finish)
        self.restore()
        self.assertEqual(database.service_time(self.target / "tasks.sqlite"), 77.0)

    def test_lost_and_damaged_photos(self) -> None:
        """What merlind itself has lost doesn't keep the rest from being backed up, and is told."""
        self.add(task(1), task(2), task(3), task(4))
        (self.spool / "2").unlink()
        (self.spool / "3").write_bytes(b"other 3")
        (self.spool / "4").write_bytes(b"cut")
        self.assertEqual(self.back_up().without_photo, [2, 3, 4])
        self.assertEqual(self.restore().without_photo, [2, 3, 4])
        self.assertEqual(self.photos(), {1: photo_of(1)})

    def test_lost_photos_are_looked_for_a_few_times(self) -> None:
        """A photo that never comes ends the search."""
        self.add(task(1))
        (self.spool / "1").unlink()
        with patch.object(copy.DatabaseCopy, "renew", autospec=True, side_effect=copy.DatabaseCopy.renew) as renew:
            self.back_up()
        self.assertEqual(renew.call_count, LOOKS)

    def test_upgraded_meanwhile(self) -> None:
        """A merlind of a newer version that starts meanwhile ends the backup."""
        self.add(task(1), task(2))

        def upgrade() -> None:
            self.save(ready(task(2)))
            self.connection.execute("PRAGMA user_version = 99")

        error = self.assertRaises(DatabaseUnusable, self.back_up, upgrade)
        self.assertIn("upgraded meanwhile", str(error))
        self.assertEqual(self.leftovers(), [])

    def test_nothing_to_back_up(self) -> None:
        """A folder without a database, another's database, and one of another version are named."""
        for prepare, why in (
            (lambda path: None, "is missing"),
            (lambda path: path.touch(), "is empty"),
            (lambda path: path.write_bytes(b"x" * 5000), "not a database"),
            (lambda path: self.version(path, 3), "is of version 3"),
        ):
            path = self.folder / "tasks.sqlite"
            path.unlink(missing_ok=True)
            prepare(path)
            error = self.assertRaises(DatabaseUnusable, back_up, path, self.spool, self.file)
            self.assertIn(why, str(error))
            self.assertEqual(self.leftovers(), ["tasks.sqlite"] if path.exists() else [])

    def version(self, path: Path, version: int) -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            self.connection.backup(connection)
            connection.execute("PRAGMA journal_mode = DELETE").fetchall()
            connection.execute(f"PRAGMA user_version = {version}")

    def leftovers(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir() if path != self.data)

    def test_full_disk(self) -> None:
        """A disk that is full leaves the earlier backup, and nothing else."""
        self.add(task(1))
        self.back_up()
        before = self.file.read_bytes()
        with patch.object(ArchiveWriter, "add_photo", side_effect=OSError(28, "No space left on device")):
            self.assertRaises(OSError, self.back_up)
        self.assertEqual((self.file.read_bytes(), self.leftovers()), (before, ["backup.tar"]))

    def test_what_was_written_is_read_again(self) -> None:
        """A disk that keeps something else than it was given is found out."""
        self.add(task(1))

        def write(*arguments: object) -> Contents:
            contents = whole(*arguments)  # type: ignore[arg-type]
            output = arguments[0]
            output.seek(output.tell() - 15_000)  # type: ignore[attr-defined]  # in the database
            output.write(b"\1" * 4096)  # type: ignore[attr-defined]
            return contents

        whole = backup._write
        self.patch(backup, "_write", write)
        self.assertRaises(BackupFailed, self.back_up)
        self.assertEqual(self.leftovers(), [])

    def test_two_at_once(self) -> None:
        """A second backup to the same file ends at once, and does the first no harm."""
        self.add(task(1))
        self.back_up(lambda: self.assertIn("another backup", str(self.assertRaises(BackupFailed, self.back_up))))
        self.assertEqual(self.restored(), {1: task(1)})

    def test_while_merlind_stands_still(self) -> None:
        """After an end in order there is no log, and after kill -9 there is one, with all that is new."""
        self.add(task(1))
        killed = self.folder / "killed"
        shutil.copytree(self.data, killed)
        self.connection.close()
        for data in (self.data, killed):
            log = data / "tasks.sqlite-wal"
            self.assertEqual(log.exists(), data is killed)
            with self.subTest(data.name):
                contents = back_up(data / "tasks.sqlite", data / "spool", self.file)
                self.assertEqual(contents.photos, 1)
                # merlind starts on what was backed up.
                pairing.prepare(data / "tasks.sqlite", data / "spool", data / "last-commit")
                self.assertEqual(self.restored(), {1: task(1)})
                shutil.rmtree(self.target)


class RestoreTests(DirectoryCase):
    """What a restore refuses."""

    def setUp(self) -> None:
        super().setUp()
        self.add(task(1), ready(task(2)))
        self.back_up()

    def refused(self, kind: type[Exception], why: str) -> None:
        self.target.mkdir(exist_ok=True)
        self.assertIn(why, str(self.assertRaises(kind, restore, self.file, self.target)))
        self.assertEqual(list(self.target.iterdir()), [])

    def test_not_empty(self) -> None:
        """Nothing is overwritten; the lock, and what a killed restore left, are no content."""
        self.target.mkdir()
        (self.target / "lock").touch()
        (self.target / PART).mkdir()
        (self.target / PART / "tasks.sqlite").touch()
        check_empty(self.target)
        (self.target / "spool").mkdir()
        self.assertIn("'spool'", str(self.assertRaises(RestoreFailed, restore, self.file, self.target)))
        check_empty(self.folder / "new")

    def test_cut_short(self) -> None:
        """However little is missing, a backup that isn't whole is refused."""
        whole = self.file.read_bytes()
        end = whole.rstrip(b"\0")
        for size in (0, 100, 512, 1500, len(whole) // 2, len(end) - 5000):
            self.file.write_bytes(whole[:size])
            self.refused(ArchiveUnusable, "was cut short")

    def test_damaged(self) -> None:
        """A photo or a database that isn't what it was is told."""
        whole = self.file.read_bytes()
        self.file.write_bytes(whole.replace(photo_of(1), b"other 1"))
        self.refused(ArchiveUnusable, "the photo of task 1 is damaged")
        place = whole.index(b"name 1")
        self.file.write_bytes(whole[: place - 200] + b"\xff" * 150 + whole[place - 50 :])
        self.target.mkdir(exist_ok=True)
        self.assertRaises((ArchiveUnusable, DatabaseUnusable), restore, self.file, self.target)
        self.assertEqual(list(self.target.iterdir()), [])

    def test_another_archive(self) -> None:
        """No other file is unpacked: neither paths that lead out, nor links, nor what no backup has."""
        for name, kind in (
            ("../evil", tarfile.REGTYPE),
            ("/evil", tarfile.REGTYPE),
            ("spool/1/2", tarfile.REGTYPE),
            ("spool/01", tarfile.REGTYPE),
            ("spool/2", tarfile.SYMTYPE),
            ("spool/3", tarfile.LNKTYPE),
            ("tasks.sqlite", tarfile.DIRTYPE),
            ("notes.txt", tarfile.REGTYPE),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            with tarfile.open(self.file, "w") as tar:
                tar.addfile(member)
            self.refused(ArchiveUnusable, "is no part of a backup")
        self.file.write_bytes(os.urandom(5000))
        self.refused(ArchiveUnusable, "it is damaged")

    def test_photos_of_another_database(self) -> None:
        """An archive that was put together from two is refused."""
        with self.file.open("wb") as file, ArchiveWriter(file) as archive:
            archive.add_mark("another")
            path = self.folder / "copy"
            copy.take_copy(self.database, path).close()
            archive.add_database(path)
        self.refused(ArchiveUnusable, "don't belong together")

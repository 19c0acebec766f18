"""A database and a spool that belong together, and what is refused where they don't (D12)."""

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from merlind.storage import pairing
from merlind.storage.pairing import Pair, WrongPair, mismatch
from merlind.storage.photos.spool import Spool
from merlind.storage.sqlite import database
from merlind.storage.sqlite.last_commit import LastCommit
from merlind.storage.sqlite.migrations import SCHEMA
from tests.unit.support import flush_nothing, prepare_fast


class MismatchTests(SynchronousTestCase):
    """The decision."""

    def test_every_case(self) -> None:
        """What goes together, and what doesn't, for each thing that may be found."""
        paths = Path("/d/tasks.sqlite"), Path("/d/spool"), Path("/d/last-commit")
        for marked, photos, needed, wrong in (
            ("a", False, 0, None),
            ("a", True, 2, None),
            ("a", False, 2, None),  # each of the tasks fails and says so
            ("b", False, 0, None),  # nothing could be lost
            ("b", True, 0, "another database"),
            ("b", False, 2, "another database"),
            ("b", True, 2, "another database"),
            (None, False, 0, None),  # new, or from before there were ids
            (None, True, 0, None),
            (None, True, 2, None),
            (None, False, 2, "none of the photos that 2 tasks"),
        ):
            found = mismatch(Pair("a", marked, photos, needed), *paths)
            if wrong is None:
                self.assertIsNone(found, (marked, photos, needed))
            else:
                self.assertIn(wrong, str(found))
        for noted, wrong in ((None, None), (6.5, None), (7.0, None), (7.5, "lacks what was committed last")):
            found = mismatch(Pair("a", "a", False, 0, 7.0, noted), *paths)
            self.assertEqual(found is None, wrong is None)
            self.assertIn(wrong or "", str(found))
            # Noted by another database, or before there were ids.
            self.assertIsNone(mismatch(Pair("a", "b", False, 0, 7.0, noted), *paths))


class PrepareTests(SynchronousTestCase):
    """A data directory as an operator may leave it."""

    def setUp(self) -> None:
        flush_nothing(self)
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.file, self.spool = self.folder / "tasks.sqlite", self.folder / "spool"
        self.log = self.folder / "tasks.sqlite-wal"
        self.mark = self.spool / pairing.MARK
        self.last_commit = self.folder / "last-commit"

    def prepare(self) -> str:
        """Prepare it, as a start does; returns the database's id."""
        pairing.prepare(self.file, self.spool, self.last_commit)
        return database.identity(self.file)

    def refused(self) -> str:
        """Why a start is refused, in one line, with all files left as they are."""
        before = self.content()
        line = str(self.assertRaises(WrongPair, self.prepare))
        self.assertEqual(self.content(), before)
        self.assertNotIn("\n", line)
        return line

    def content(self) -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in self.folder.rglob("*") if path.is_file()}

    def execute(self, statement: str) -> None:
        with closing(sqlite3.connect(self.file, isolation_level=None)) as connection:
            connection.execute(statement)

    def add_task(self, task_id: int = 7, photo: bool = True) -> None:
        """An unfinished task, and its photo."""
        self.execute(
            "INSERT INTO task (id, user, name, sha256, size, media_type, state, since, due, attempts) "
            f"VALUES ({task_id}, '', 'Anna', x'0{task_id}', 5, 'image/png', 'upload', 0, 0, 0)"
        )
        if photo:
            (self.spool / str(task_id)).write_bytes(b"photo")

    def test_fresh_start(self) -> None:
        """In an empty directory, both are made, and the spool is marked; the next start changes nothing."""
        first = self.prepare()
        self.assertEqual(self.mark.read_text(), f"{first}\n")
        before = self.content()
        self.assertEqual(self.prepare(), first)
        self.assertEqual(self.content(), before)
        self.assertEqual(list(Spool(self.spool).stored()), [])

    def test_no_database_but_photos(self) -> None:
        """Photos without their database are refused, whether it is missing or empty, and with its log or without."""
        self.prepare()
        self.add_task()

        def empty(path: Path) -> None:
            path.unlink()
            with closing(sqlite3.connect(path)) as connection:
                connection.execute("PRAGMA journal_mode = WAL")

        for damage, why in ((Path.unlink, "missing"), (lambda path: path.write_bytes(b""), "empty"), (empty, "empty")):
            for log in (b"", b"frames"):
                whole = self.file.read_bytes()
                damage(self.file)
                if log and damage is not empty:
                    self.log.write_bytes(log)
                line = self.refused()
                self.assertIn(f"{self.file} is {why}, but {self.spool} holds photos of tasks that only it knows", line)
                self.assertIn("restore it from a backup, or, to start anew without those tasks, move", line)
                self.log.unlink(missing_ok=True)
                self.file.write_bytes(whole)
        self.prepare()

    def test_way_forward_without_the_database(self) -> None:
        """With the spool moved away, as the line says, the start is a fresh one."""
        first = self.prepare()
        self.add_task()
        self.file.unlink()
        self.refused()
        self.spool.rename(self.folder / "aside")
        self.assertNotEqual(self.prepare(), first)

    def test_log_alone(self) -> None:
        """A log without its database is not thrown away either, as SQLite would do."""
        self.prepare()
        for damage in (Path.unlink, lambda path: path.write_bytes(b"")):
            damage(self.file)
            self.log.write_bytes(b"frames")
            self.assertIn(f"but {self.log} holds tasks", self.refused())
            self.log.unlink()
            self.prepare()

    def test_killed_while_the_database_was_made(self) -> None:
        """A database without tables, with a log that holds no commit, is what a kill leaves, and no loss."""
        with closing(sqlite3.connect(self.file, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode = WAL").fetchall()
            whole = self.file.read_bytes()
        self.file.write_bytes(whole)
        self.log.write_bytes(b"frames")
        self.prepare()

    def test_killed_before_the_mark(self) -> None:
        """A start that was killed between the two is made good by the next one."""
        prepare_fast(self.file)
        self.spool.mkdir()
        (self.spool / f"{pairing.MARK}.part").write_bytes(b"ha")
        first = self.prepare()
        self.assertEqual(self.mark.read_text(), f"{first}\n")
        self.assertEqual(os.listdir(self.spool), [pairing.MARK])

    def test_another_database(self) -> None:
        """A database in place of the right one is refused, until the mark is deleted as the line says."""
        self.prepare()
        self.add_task()
        self.file.unlink()
        database.prepare(self.file)
        line = self.refused()
        self.assertIn(f"{self.spool} holds the photos of another database than {self.file}", line)
        self.assertIn(f"to go on with both as they are, delete {self.mark}", line)
        self.mark.unlink()
        self.prepare()
        self.assertEqual((self.spool / "7").read_bytes(), b"photo")

    def commit(self, now: float) -> None:
        """Commit something at a service time, as merlind does."""
        self.execute(f"UPDATE clock SET now = {now}")
        commits = LastCommit(self.last_commit)
        commits.note(now)
        commits.close()

    def test_log_lost_or_older_copy(self) -> None:
        """A database that lacks commits is refused, until the note of the last one is deleted as the line says."""
        first = self.prepare()
        self.commit(1.5)
        older = self.file.read_bytes()
        self.commit(2.5)
        self.assertEqual(self.prepare(), first)
        self.file.write_bytes(older)
        line = self.refused()
        self.assertIn(f"{self.file} lacks what was committed last: its log was deleted or emptied, or it is", line)
        self.assertIn(f"delete {self.last_commit}", line)
        self.last_commit.unlink()
        self.assertEqual(self.prepare(), first)

    def test_power_loss(self) -> None:
        """A note that is older than the database, or that a power loss left empty or garbled, says nothing."""
        first = self.prepare()
        self.commit(9.5)
        for note in (b"9.25\n", b"", b"\0" * 32, b"nan", b"inf", b"9,5", b"\xff"):
            self.last_commit.write_bytes(note)
            self.assertEqual(self.prepare(), first)

    def test_new_database_begins_anew(self) -> None:
        """Where no photo was left, a database that is made anew is no older copy."""
        first = self.prepare()
        self.commit(1.5)
        self.file.unlink()
        self.assertNotEqual(self.prepare(), first)
        self.assertFalse(self.last_commit.exists())

    def test_polls_need_no_photo(self) -> None:
        """Tasks that the upstream has already go on without their photos."""
        self.prepare()
        self.add_task(photo=False)
        self.execute("UPDATE task SET state = 'poll', retry_id = 'x'")
        shutil.rmtree(self.spool)
        self.prepare()

    def test_spool_not_mounted(self) -> None:
        """Tasks whose photos aren't there are refused where the spool isn't theirs, until somebody says so."""
        first = self.prepare()
        self.add_task()
        shutil.move(self.spool, self.folder / "elsewhere")
        line = self.refused()
        self.assertIn(f"{self.spool} has none of the photos that 1 tasks in {self.file} need: is its disk", line)
        self.spool.mkdir()
        self.refused()
        self.mark.write_text(first)
        self.prepare()

    def test_kept_photos_are_missed(self) -> None:
        """The photo of a task that was given up belongs to its database, too, for as long as it is kept."""
        self.prepare()
        self.add_task()
        self.execute("UPDATE task SET state = 'failed', error_code = 'gave_up', finished = 1, kept_until = 9")
        shutil.move(self.spool, self.folder / "elsewhere")
        self.assertIn("has none of the photos that 1 tasks", self.refused())
        self.execute("UPDATE task SET kept_until = NULL")
        self.prepare()

    def test_from_before_there_were_ids(self) -> None:
        """A data directory of an older merlind gets its mark, with photos or without."""
        for photos in (True, False):
            with self.subTest(photos=photos):
                shutil.rmtree(self.folder)
                self.folder.mkdir()
                self.make_version_1()
                if photos:
                    self.spool.mkdir()
                    (self.spool / "7").write_bytes(b"photo")
                first = self.prepare()
                self.assertEqual(self.mark.read_text(), f"{first}\n")

    def make_version_1(self) -> None:
        schema = Path(self.mktemp())
        schema.mkdir()
        (schema / "1.sql").write_text(SCHEMA.joinpath("1.sql").read_text("utf-8"))
        database.prepare(self.file, schema)

    def test_garbage_mark(self) -> None:
        """A mark that is empty says nothing; one that is garbage names another database."""
        self.prepare()
        self.add_task()
        self.mark.write_bytes(b"\xff\x00")
        self.refused()
        self.mark.write_bytes(b"\n")
        first = self.prepare()
        self.assertEqual(self.mark.read_text(), f"{first}\n")

    def test_bad_database_is_left_alone(self) -> None:
        """A database that is no database of ours is refused as ever, and nothing is made."""
        self.file.write_bytes(b"garbage" * 1000)
        error: Any = self.assertRaises(database.DatabaseUnusable, self.prepare)
        self.assertIn("is not a database that can be read", str(error))
        self.assertEqual(os.listdir(self.folder), ["tasks.sqlite"])

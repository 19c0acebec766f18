"""Upgrades of the database: from the version before, after a copy, and all or nothing."""

import errno
import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from merlind.core.outcome import Source, TaskError
from merlind.core.task import State
from merlind.storage.sqlite import database, migrations
from merlind.storage.sqlite.errors import DatabaseUnusable
from merlind.storage.sqlite.migrations import SCHEMA, back_up, read_scripts
from merlind.storage.sqlite.statements import get
from tests.unit.support import failing, open_files

GOOD = "ALTER TABLE task ADD COLUMN colour TEXT NOT NULL DEFAULT 'blue';\nCREATE TABLE extra (a);"
"""An upgrade to version 2."""

FAILING = "CREATE TABLE extra (a);\nUPDATE clock SET now = 77;\nDROP TABLE no_such_table;\nCREATE TABLE more (a);"
"""One that fails in its middle."""


class ScriptTests(SynchronousTestCase):
    """The scripts of the schema."""

    def test_numbered_without_gaps(self) -> None:
        """All scripts of the folder are found, and nothing else lies there."""
        names = {entry.name for entry in SCHEMA.iterdir()}
        self.assertEqual(names, {f"{number}.sql" for number in range(1, len(read_scripts()) + 1)})

    def test_leave_the_transaction_alone(self) -> None:
        """No script begins or ends a transaction: an upgrade would not be all or nothing."""
        for script in read_scripts():
            statements = [line.split("--")[0].strip().upper() for line in script.splitlines()]
            self.assertFalse([line for line in statements if line.startswith(("BEGIN", "COMMIT", "END", "ROLLBACK"))])


class MigrationCase(SynchronousTestCase):
    """A database of version 1 with a task, and a folder of scripts to add to."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.schema = self.folder / "schema"
        self.data = self.folder / "data"
        for folder in (self.folder, self.schema, self.data):
            folder.mkdir()
        self.write(1, (SCHEMA / "1.sql").read_text("utf-8"))
        self.file = self.data / "tasks.sqlite"
        self.prepare()
        self.execute(
            "INSERT INTO task VALUES (7, 'me', 'Anna', x'00ff', 9, 'image/png', 'poll', 1.5, 2.5, 'r-1', 3, 'http 503',"
            " NULL, NULL, NULL, NULL)",
            "UPDATE clock SET now = 42.5",
        )

    def write(self, version: int, script: str) -> None:
        """A script of the schema."""
        (self.schema / f"{version}.sql").write_text(script, "utf-8")

    def prepare(self) -> None:
        database.prepare(self.file, self.schema)

    def refusal(self) -> str:
        """Why the database can't be used: one line that names it, and no file is left open."""
        error = str(self.assertRaises(DatabaseUnusable, self.prepare))
        self.assertIn(str(self.file), error)
        self.assertNotIn("\n", error)
        self.assertEqual([path for path in open_files() if path.startswith(str(self.data))], [])
        return error

    def execute(self, *statements: str, file: Path | None = None) -> list[tuple[Any, ...]]:
        """Execute statements on a connection of their own; returns the rows of the last one."""
        rows: list[tuple[Any, ...]] = []
        with closing(sqlite3.connect(file or self.file, isolation_level=None)) as connection:
            for statement in statements:
                rows = connection.execute(statement).fetchall()
        return rows

    def version(self, file: Path | None = None) -> int:
        ((version,),) = self.execute("PRAGMA user_version", file=file)
        return int(version)

    def tables(self, file: Path | None = None) -> set[str]:
        return {name for (name,) in self.execute("SELECT name FROM sqlite_schema WHERE type = 'table'", file=file)}

    def dump(self, file: Path | None = None) -> list[str]:
        """All that a database holds."""
        with closing(sqlite3.connect(file or self.file)) as connection:
            return list(connection.iterdump())

    def names(self) -> list[str]:
        """What lies in the data directory."""
        return sorted(os.listdir(self.data))


class VersionTests(MigrationCase):
    """What the upgrades that there were do to a database of version 1."""

    def upgrade_to(self, version: int) -> None:
        for number in range(2, version + 1):
            self.write(number, (SCHEMA / f"{number}.sql").read_text("utf-8"))
        self.prepare()

    def test_retention_begins_anew(self) -> None:
        """In version 3, what was finished is kept from the upgrade on; the rest has no such time yet."""
        for task_id, state, result, finished in ((8, "'ready'", "0.5", "1e9"), (9, "'failed'", "NULL", "2e9")):
            self.execute(
                f"INSERT INTO task VALUES ({task_id}, 'me', 'Otto', x'0{task_id}', 9, 'image/png', {state}, 1.5, 2.5, "
                f"NULL, 3, NULL, {result}, NULL, NULL, {finished})"
            )
        self.upgrade_to(3)
        rows = self.execute("SELECT id, finished, kept_since FROM task ORDER BY id")
        self.assertEqual(rows, [(7, None, None), (8, 1e9, 42.5), (9, 2e9, 42.5)])

    def test_identity(self) -> None:
        """Since version 3 a database has an id."""
        self.upgrade_to(3)
        self.assertRegex(database.identity(self.file), "^[0-9a-f]{32}$")


class UpgradeTests(MigrationCase):
    """An upgrade that works."""

    def test_data_is_kept(self) -> None:
        """What was there in version 1 is there in version 2, and so is what the script added."""
        (before,) = self.execute("SELECT * FROM task")
        self.write(2, GOOD)
        self.prepare()
        self.assertEqual((self.version(), self.tables()), (2, {"task", "clock", "extra"}))
        self.assertEqual(self.execute("SELECT * FROM task"), [(*before, "blue")])
        self.assertEqual(database.service_time(self.file), 42.5)
        self.assertEqual(self.execute("PRAGMA application_id"), [(migrations.APPLICATION_ID,)])
        self.assertEqual(self.execute("PRAGMA integrity_check"), [("ok",)])

    def test_of_version_1(self) -> None:
        """A database of version 1 becomes one of today: what is there now has a value for each task."""
        failed = "'image/png', 'failed', 1, 2, NULL, 3, NULL, NULL, '{}', 'why', 9)"
        self.execute(
            "INSERT INTO task VALUES (8, 'me', 'Bo', x'01', 9, " + failed.format("photo_lost"),
            "INSERT INTO task VALUES (9, 'me', 'Cy', x'02', 9, " + failed.format("upstream_422"),
            "INSERT INTO task VALUES (10, 'me', 'Di', x'03', 9, 'image/png', 'upload', 1.5, 2.5, NULL, 0, NULL, NULL,"
            " NULL, NULL, NULL)",
        )
        database.prepare(self.file)
        self.assertEqual((self.version(), database.service_time(self.file)), (database.VERSION, 42.5))
        with closing(sqlite3.connect(self.file)) as connection:
            tasks = get(connection.cursor(), [7, 8, 9, 10])
        anna = tasks[7]
        self.assertEqual((anna.name, anna.state, anna.last_error), ("Anna", State.POLL, "http 503"))
        self.assertEqual((anna.failed_at, anna.blamed, anna.unknown_handle, anna.reuploads), (None, 0, 0, 0))
        self.assertEqual([tasks[n].uploads for n in (7, 10)], [1, 0])
        self.assertEqual(
            [tasks[n].error for n in (7, 8, 9)],
            [None, TaskError("photo_lost", "why", Source.MERLIND), TaskError("upstream_422", "why", Source.UPSTREAM)],
        )

    def test_copied_first(self) -> None:
        """A copy of the old database lies beside it, whole, for us alone; and nothing else does."""
        self.addCleanup(os.umask, os.umask(0))
        before = self.dump()
        self.write(2, GOOD)
        self.prepare()
        self.assertEqual(self.names(), ["tasks.sqlite", "tasks.sqlite.before-v2"])
        backup = self.data / "tasks.sqlite.before-v2"
        self.assertEqual(stat.S_IMODE(backup.stat().st_mode), 0o600)
        self.assertEqual((self.version(backup), self.dump(backup)), (1, before))
        self.assertEqual(self.execute("PRAGMA integrity_check", file=backup), [("ok",)])

    def test_copy_can_be_used(self) -> None:
        """The copy in the place of the database is one that the older merlind takes."""
        self.write(2, GOOD)
        self.prepare()
        (self.data / "tasks.sqlite.before-v2").replace(self.file)
        (self.schema / "2.sql").unlink()
        self.prepare()
        self.assertEqual(database.service_time(self.file), 42.5)

    def test_copy_is_durable_first(self) -> None:
        """The copy is flushed under its first name, and its folder under its last one, before anything is changed."""
        seen: list[tuple[str, int]] = []
        real = os.fsync

        def fsync(descriptor: int) -> None:
            seen.append((Path(os.readlink(f"/proc/self/fd/{descriptor}")).name, self.version()))
            real(descriptor)

        self.patch(os, "fsync", fsync)
        self.write(2, GOOD)
        self.prepare()
        self.assertEqual(seen, [("tasks.sqlite.before-v2.part", 1), ("data", 1)])

    def test_several_versions(self) -> None:
        """It goes through all of them, with one copy; a new database has the same tables."""
        self.write(2, GOOD)
        self.write(3, "ALTER TABLE extra ADD COLUMN b;")
        self.prepare()
        self.assertEqual((self.version(), self.names()), (3, ["tasks.sqlite", "tasks.sqlite.before-v3"]))
        new = self.data / "new.sqlite"
        database.prepare(new, self.schema)
        schema = "SELECT type, name, sql FROM sqlite_schema ORDER BY name"
        self.assertEqual(self.execute(schema), self.execute(schema, file=new))
        self.assertEqual((self.version(new), self.execute("PRAGMA user_version", file=new)), (3, [(3,)]))

    def test_once(self) -> None:
        """An upgraded database is left as it is by the next start."""
        self.write(2, GOOD)
        self.prepare()
        before = self.file.read_bytes()
        self.prepare()
        self.assertEqual((self.file.read_bytes(), len(self.names())), (before, 2))

    def test_after_a_crash(self) -> None:
        """What a crash left in the log is in the copy and in the upgraded database."""
        crashed = self.data / "crashed.sqlite"
        with closing(sqlite3.connect(self.file, isolation_level=None)) as connection:
            database.configure(connection)
            connection.execute("UPDATE clock SET now = 99")
            for ending in ("", "-wal"):
                Path(f"{crashed}{ending}").write_bytes(Path(f"{self.file}{ending}").read_bytes())
        self.write(2, GOOD)
        database.prepare(crashed, self.schema)
        for file in (crashed, self.data / "crashed.sqlite.before-v2"):
            self.assertEqual(self.execute("SELECT now FROM clock", file=file), [(99.0,)])

    def test_newer_is_refused(self) -> None:
        """A database of a newer version is refused, and neither copied nor changed."""
        self.write(2, GOOD)
        self.prepare()
        (self.schema / "2.sql").unlink()
        before = self.file.read_bytes(), self.names()
        self.assertIn("is of version 2; this merlind knows versions up to 1", self.refusal())
        self.assertEqual((self.file.read_bytes(), self.names()), before)


class NameTests(MigrationCase):
    """Names of copies."""

    def test_nothing_is_overwritten(self) -> None:
        """Whatever lies under the copy's name stays, and the copy gets a number."""
        first, second = (self.data / f"tasks.sqlite.before-v2{ending}" for ending in ("", ".2"))
        first.write_bytes(b"precious")
        second.symlink_to("nowhere")
        self.write(2, GOOD)
        self.prepare()
        self.assertEqual((first.read_bytes(), os.readlink(second)), (b"precious", "nowhere"))
        self.assertEqual(self.version(self.data / "tasks.sqlite.before-v2.3"), 1)

    def test_equal_copy_is_enough(self) -> None:
        """A start that fails again and again makes one copy; one after a change makes another."""
        self.write(2, FAILING)
        for _ in range(3):
            self.assertIn("tasks.sqlite.before-v2 is a copy of it", self.refusal())
        self.assertEqual(self.names(), ["tasks.sqlite", "tasks.sqlite.before-v2"])
        self.execute("UPDATE clock SET now = 50")
        self.assertIn("tasks.sqlite.before-v2.2 is a copy of it", self.refusal())
        self.assertEqual(self.names(), ["tasks.sqlite", "tasks.sqlite.before-v2", "tasks.sqlite.before-v2.2"])

    def test_leftover_of_a_crash(self) -> None:
        """A half copy that a kill left is replaced."""
        (self.data / "tasks.sqlite.before-v2.part").write_bytes(b"half")
        self.write(2, GOOD)
        self.prepare()
        self.assertEqual(self.names(), ["tasks.sqlite", "tasks.sqlite.before-v2"])
        self.assertEqual(self.version(self.data / "tasks.sqlite.before-v2"), 1)


class FailureTests(MigrationCase):
    """An upgrade that doesn't work leaves the database as it was."""

    def assert_untouched(self, before: list[str], *others: str) -> None:
        """It is of version 1 as before, with these files beside it; and a good script upgrades it."""
        self.assertEqual((self.version(), self.dump()), (1, before))
        self.assertEqual(self.names(), sorted(["tasks.sqlite", *others]))
        self.write(2, GOOD)
        self.prepare()
        self.assertEqual(self.version(), 2)

    def test_in_the_middle(self) -> None:
        """A script that fails in its middle changes nothing, and the line names the copy."""
        before = self.dump()
        self.write(2, FAILING)
        error = self.refusal()
        self.assertIn("can't be upgraded from version 1 to 2 (no such table: no_such_table)", error)
        self.assertIn("it was left as it was", error)
        self.assertIn(str(self.data / "tasks.sqlite.before-v2"), error)
        self.assert_untouched(before, "tasks.sqlite.before-v2")

    def test_in_the_last_of_several(self) -> None:
        """Several versions are one step, too: none of them remains."""
        before = self.dump()
        self.write(2, GOOD)
        self.write(3, "SELECT junk();")
        self.assertIn("can't be upgraded from version 1 to 3", self.refusal())
        (self.schema / "3.sql").unlink()
        self.assert_untouched(before, "tasks.sqlite.before-v3")

    def test_killed_in_the_middle(self) -> None:
        """What a kill leaves of an upgrade in its middle is a database of version 1."""
        before = self.dump()
        killed = self.folder / "killed"
        killed.mkdir()
        with closing(sqlite3.connect(self.file, isolation_level=None)) as connection:
            database.configure(connection)
            # So small a cache that what is not committed yet goes into the log.
            connection.execute("PRAGMA cache_size = 1").fetchall()
            connection.executescript(f"BEGIN IMMEDIATE; {GOOD} PRAGMA user_version = 2;")
            connection.execute("INSERT INTO extra SELECT hex(randomblob(50000))")
            connection.execute("INSERT INTO extra SELECT a FROM extra")
            for name in self.names():
                if not name.endswith("-shm"):
                    (killed / name).write_bytes((self.data / name).read_bytes())
        self.assertNotEqual((killed / "tasks.sqlite-wal").stat().st_size, 0)
        self.data, self.file = killed, killed / "tasks.sqlite"
        self.assertEqual((self.version(), self.dump()), (1, before))
        self.assert_untouched(before)

    def fails_to_copy(self, why: str) -> None:
        """The copy fails, and the line says so; no part of it remains, and nothing was changed."""
        before = self.dump()
        error = self.refusal()
        self.assertIn("is of version 1, and was left so: it can't be copied before the upgrade", error)
        self.assertIn(why, error)
        self.assertEqual((self.version(), self.dump(), self.names()), (1, before, ["tasks.sqlite"]))

    def test_no_room_for_the_copy(self) -> None:
        """A disk that is full while the copy is written."""
        before = self.dump()
        self.write(2, GOOD)
        real = sqlite3.connect

        class Full(sqlite3.Connection):
            """A connection to a database that may not grow."""

            def backup(self, target: sqlite3.Connection, **options: Any) -> None:
                target.execute("PRAGMA max_page_count = 3").fetchall()
                super().backup(target, **options)

        self.patch(sqlite3, "connect", lambda *args, **kwargs: real(*args, **{**kwargs, "factory": Full}))
        self.assertIn("database or disk is full", self.refusal())
        self.patch(sqlite3, "connect", real)
        self.assert_untouched(before)

    def test_copy_not_made(self) -> None:
        """A folder in which no file can be made, a flush or a rename that fails."""
        before = self.dump()
        self.write(2, GOOD)
        for name, number in (("open", errno.ENOSPC), ("fsync", errno.EIO), ("rename", errno.EACCES)):
            patch = self.patch(os, name, failing(number))
            self.fails_to_copy(os.strerror(number))
            patch.restore()
        self.assert_untouched(before)

    def test_full_disk_in_the_upgrade(self) -> None:
        """A disk that is full while the upgrade is written."""
        before = self.dump()
        self.write(2, f"{GOOD}\nPRAGMA max_page_count = 1;\nINSERT INTO extra VALUES (zeroblob(1000000));")
        self.assertIn("database or disk is full", self.refusal())
        self.assert_untouched(before, "tasks.sqlite.before-v2")

    def test_locked(self) -> None:
        """A database that somebody else writes to."""
        self.patch(database, "configure", lambda connection: connection.execute("PRAGMA busy_timeout = 0"))
        before = self.dump()
        self.write(2, GOOD)
        with closing(sqlite3.connect(self.file, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            error = str(self.assertRaises(DatabaseUnusable, self.prepare))
        self.assertIn("database is locked", error)
        self.assert_untouched(before, "tasks.sqlite.before-v2")

    def test_killed_before_the_rename(self) -> None:
        """Whatever ends the copy, no part of it remains where it can be removed."""
        self.patch(os, "fsync", failing(errno.EIO))
        with closing(sqlite3.connect(self.file)) as connection:
            self.assertRaises(OSError, back_up, connection, self.file, 2)
        self.assertEqual(self.names(), ["tasks.sqlite"])

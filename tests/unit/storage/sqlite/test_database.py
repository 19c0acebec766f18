"""The database file: made, recognised, and left alone when it isn't ours."""

import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from merlind.storage.sqlite import database, migrations
from merlind.storage.sqlite.database import DatabaseUnusable, configure, identity, prepare, service_time, why_empty


class DatabaseTests(SynchronousTestCase):
    """What prepare() makes, takes and refuses."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.file = self.folder / "tasks.sqlite"

    def execute(self, *statements: str) -> list[tuple[object, ...]]:
        """Execute statements on a connection of their own; returns the rows of the last one."""
        rows: list[tuple[object, ...]] = []
        with closing(sqlite3.connect(self.file, isolation_level=None)) as connection:
            for statement in statements:
                rows = connection.execute(statement).fetchall()
        return rows

    def assert_ours(self) -> None:
        """The file is a new database of this version, with nothing beside it."""
        self.assertEqual(os.listdir(self.folder), ["tasks.sqlite"])
        self.assertEqual(self.execute("PRAGMA application_id"), [(0x6D65726C,)])
        self.assertEqual(self.execute("PRAGMA user_version"), [(database.VERSION,)])
        self.assertEqual(self.execute("SELECT count(*) FROM task"), [(0,)])
        self.assertEqual(self.execute("PRAGMA journal_mode"), [("wal",)])

    def assert_refused(self, reason: str) -> None:
        """It is refused with one line that names the file and the reason, and is left as it was, to the byte."""
        before = self.file.read_bytes(), self.file.stat(), os.listdir(self.folder)
        error = self.assertRaises(DatabaseUnusable, prepare, self.file)
        self.assertIn(str(self.file), str(error))
        self.assertIn(reason, str(error))
        self.assertNotIn("\n", str(error))
        after = self.file.read_bytes(), self.file.stat(), os.listdir(self.folder)
        self.assertEqual(before[0], after[0])
        self.assertEqual(before[1].st_mtime_ns, after[1].st_mtime_ns)
        self.assertEqual(before[1].st_mode, after[1].st_mode)
        self.assertEqual(before[2], after[2])

    def test_too_old_an_sqlite(self) -> None:
        """An SQLite that doesn't know our statements is refused, and nothing is made."""
        self.patch(sqlite3, "sqlite_version_info", (3, 32, 9))
        error = self.assertRaises(DatabaseUnusable, prepare, self.file)
        self.assertIn("merlind needs 3.33.0 or newer", str(error))
        self.assertEqual(os.listdir(self.folder), [])

    def test_made(self) -> None:
        """Where there is none, or an empty file, it is made, for us alone."""
        prepare(self.file)
        self.assertEqual(stat.S_IMODE(self.file.stat().st_mode), 0o600)
        self.assert_ours()
        self.file.write_bytes(b"")
        prepare(self.file)
        self.assert_ours()

    def test_made_in_an_empty_database(self) -> None:
        """So it is in a database without tables: a crash while it was made leaves that."""
        self.execute("PRAGMA journal_mode = WAL")
        self.assertNotEqual(self.file.stat().st_size, 0)
        prepare(self.file)
        self.assert_ours()

    def test_recognised(self) -> None:
        """One of ours is left as it is."""
        prepare(self.file)
        self.execute("UPDATE clock SET now = 42.5")
        before = self.file.read_bytes()
        prepare(self.file)
        self.assertEqual(self.file.read_bytes(), before)
        self.assert_ours()
        self.assertEqual(service_time(self.file), 42.5)

    def test_new_service_time(self) -> None:
        """The first run's service time begins at zero."""
        prepare(self.file)
        self.assertEqual(service_time(self.file), 0.0)
        self.assertIs(type(service_time(self.file)), float)

    def test_after_a_crash(self) -> None:
        """One of ours with the log that a crash left beside it is usable, and what was committed is there."""
        prepare(self.file)
        crashed = self.folder / "crashed"
        crashed.mkdir()
        with closing(sqlite3.connect(self.file, isolation_level=None)) as connection:
            configure(connection)
            connection.execute("UPDATE clock SET now = 7")
            for name in ("tasks.sqlite", "tasks.sqlite-wal"):
                (crashed / name).write_bytes((self.folder / name).read_bytes())
        self.assertNotEqual((crashed / "tasks.sqlite-wal").stat().st_size, 0)
        prepare(crashed / "tasks.sqlite")
        self.assertEqual(service_time(crashed / "tasks.sqlite"), 7.0)

    def test_garbage(self) -> None:
        """A file that is no database is refused."""
        for content in (b"xx", b"garbage " * 1000, b"SQLite format 3\0" + b"\xff" * 4096):
            self.file.write_bytes(content)
            self.assert_refused("is not a database that can be read")

    def test_cut_short(self) -> None:
        """One of ours of which only a part is left is refused."""
        prepare(self.file)
        content = self.file.read_bytes()
        for size in (50, 100, 4096):
            self.file.write_bytes(content[:size])
            self.assert_refused("is not a database that can be read")

    def test_other_application(self) -> None:
        """Somebody else's is refused, with an application id or without one."""
        self.execute("CREATE TABLE t (a)")
        self.assert_refused("not one of merlind's")
        self.file.unlink()
        self.execute("PRAGMA application_id = 99")
        self.assert_refused("not one of merlind's")
        self.execute("PRAGMA journal_mode = WAL")
        self.assert_refused("not one of merlind's")

    def test_unknown_version(self) -> None:
        """A newer version is refused, and so is none."""
        prepare(self.file)
        for version in (database.VERSION + 1, 0):
            self.execute(f"PRAGMA user_version = {version}")
            self.assert_refused(f"is of version {version}; this merlind knows versions up to {database.VERSION}")

    def test_identity(self) -> None:
        """Each database that is made has an id of its own, which it keeps."""
        prepare(self.file)
        other = self.folder / "other.sqlite"
        prepare(other)
        first = identity(self.file)
        self.assertRegex(first, "^[0-9a-f]{32}$")
        self.assertNotEqual(identity(other), first)
        prepare(self.file)
        self.assertEqual(identity(self.file), first)

    def test_why_empty(self) -> None:
        """A file that isn't there, or holds nothing yet, is told from one that does, and nothing is made or changed."""
        self.assertEqual(why_empty(self.file), "missing")
        for content, why in ((b"", "empty"), (b"xx", None)):
            self.file.write_bytes(content)
            self.assertEqual(why_empty(self.file), why)
        self.file.unlink()
        self.execute("PRAGMA journal_mode = WAL")
        self.assertEqual(why_empty(self.file), "empty")
        self.execute("CREATE TABLE t (a)")
        self.assertIsNone(why_empty(self.file))
        self.assertEqual(os.listdir(self.folder), ["tasks.sqlite"])

    def test_directory(self) -> None:
        """A directory in its place is refused."""
        self.file.mkdir()
        (self.file / "x").write_bytes(b"")
        error = self.assertRaises(DatabaseUnusable, prepare, self.file)
        self.assertIn("is not a database that can be read", str(error))

    def test_not_to_be_made(self) -> None:
        """None can be made in a folder that isn't there."""
        error = self.assertRaises(DatabaseUnusable, prepare, self.folder / "nowhere" / "tasks.sqlite")
        self.assertIn("cannot be made", str(error))

    def test_all_or_nothing(self) -> None:
        """A schema that fails half-way leaves a database without tables, which the next start uses."""
        self.patch(migrations, "APPLICATION_ID", "1; SELECT junk()")
        error = self.assertRaises(DatabaseUnusable, prepare, self.file)
        self.assertIn("cannot be made", str(error))
        self.assertEqual(self.execute("SELECT count(*) FROM sqlite_schema"), [(0,)])

    def test_configure(self) -> None:
        """Each connection flushes every commit, and overwrites what is deleted."""
        prepare(self.file)
        with closing(sqlite3.connect(self.file, isolation_level=None)) as connection:
            configure(connection)
            for pragma, value in (("journal_mode", "wal"), ("synchronous", 2), ("secure_delete", 1)):
                self.assertEqual(connection.execute(f"PRAGMA {pragma}").fetchone()[0], value)

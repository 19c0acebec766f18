"""Files that are deleted or replaced under a process that has them open (D12)."""

import errno
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from merlind.core.interfaces import StoreBroken, StoreUnavailable
from merlind.storage import store as store_module
from merlind.storage.sqlite.files import OpenFiles
from tests.unit.storage.store_suite import ready
from tests.unit.storage.test_sqlite_store import SqliteHarness
from tests.unit.support import failing, raising


class OpenFilesTests(SynchronousTestCase):
    """What is noticed."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.database, self.log, self.lock = (
            self.folder / name for name in ("tasks.sqlite", "tasks.sqlite-wal", "lock")
        )
        for path in (self.database, self.log, self.lock):
            path.write_bytes(b"")
        self.files = OpenFiles(self.database, [self.lock])
        self.files.remember()

    def why(self) -> str:
        """Why they are not those of the beginning, by either check."""
        errors = [self.assertRaises(StoreBroken, check) for check in (self.files.check, self.files.check_soon)]
        self.assertNotIn("\n", str(errors[0]))
        return str(errors[0])

    def test_nothing_happened(self) -> None:
        """Files that were written to or cut are the same, and those of others don't matter."""
        self.database.write_bytes(b"more")
        os.truncate(self.log, 0)
        (self.folder / "tasks.sqlite-shm").write_bytes(b"")
        for _ in range(2):
            self.files.check()
            self.files.check_soon()

    def test_deleted_or_renamed(self) -> None:
        """Each of them is missed, and named, and found again under its name."""
        for path in (self.database, self.log, self.lock):
            path.rename(self.folder / "aside")
            self.assertEqual(self.why(), f"{path} was deleted or renamed while merlind was running")
            (self.folder / "aside").rename(path)
            self.files.check()

    def test_replaced(self) -> None:
        """So is one in whose place another lies, even with the same content."""
        for path in (self.database, self.log, self.lock):
            path.rename(self.folder / "aside")
            path.write_bytes(b"")
            self.assertEqual(self.why(), f"{path} was replaced while merlind was running")
            (self.folder / "aside").replace(path)

    def test_folder(self) -> None:
        """A folder that is renamed takes all of them along."""
        moved = self.folder.with_name("moved")
        self.folder.rename(moved)
        self.assertEqual(self.why(), f"{self.database} was deleted or renamed while merlind was running")
        self.folder.write_bytes(b"a file")
        self.assertIn("was deleted or renamed", self.why())

    def test_not_there_at_the_beginning(self) -> None:
        """What isn't there when it should be open is missed at once."""
        self.log.unlink()
        self.assertRaises(StoreBroken, OpenFiles(self.database).remember)

    def test_soon_is_cheap(self) -> None:
        """As long as nothing changed in the folder, only the folder is looked at."""
        self.files.check_soon()
        seen: list[Any] = []
        real = os.stat

        def stat(path: Any) -> os.stat_result:
            seen.append(path)
            return real(path)

        self.patch(os, "stat", stat)
        self.files.check_soon()
        self.assertEqual(seen, [str(self.folder)])

    def test_cannot_be_looked_at(self) -> None:
        """An error that says nothing about the files is told by the full check alone."""
        self.patch(os, "stat", failing(errno.EACCES))
        self.files.check_soon()
        self.assertRaises(PermissionError, self.files.check)


class StoreTests(SqliteHarness):
    """What the store makes of it."""

    def lose(self, name: str = "tasks.sqlite") -> None:
        """Delete one of the files."""
        (self.folder / name).unlink()

    def test_nothing_is_acknowledged(self) -> None:
        """From the moment on in which database or log are gone, no submission and no save succeeds; no photo goes."""
        for name in ("tasks.sqlite", "tasks.sqlite-wal"):
            with self.subTest(name):
                self.setUp()
                task = self.accept(photo=b"first")
                self.lose(name)
                self.hold()
                saved, accepted = self.store.save(ready(task)), self.begin_accepting()
                reason = f"{self.folder / name} was deleted or renamed while merlind was running"
                for d in (saved, accepted):
                    self.assertEqual(self.reason(d, StoreBroken), reason)
                self.assertEqual(self.broken, [reason])
                self.assertIn(str(task.id), self.files())

    def test_noticed_without_a_transaction(self) -> None:
        """The check that costs no transaction notices, and so does the one that readiness makes."""
        checks = (lambda store: store.check_files(), lambda store: store.check())
        for check in checks:
            self.setUp()
            self.accept()
            self.lose()
            self.reason(check(self.store), StoreBroken)
            self.assertEqual(len(self.broken), 1)

    def test_gone_before_the_first_operation(self) -> None:
        """A database that lost its log before anything was asked breaks the store, too."""
        self.patch(OpenFiles, "remember", raising(StoreBroken("gone")))
        self.assertEqual(self.reason(self.store.count(), StoreBroken), "gone")

    def test_cannot_be_looked_at(self) -> None:
        """An error that passes is no reason to end."""
        self.accept()
        self.patch(OpenFiles, "check", failing(errno.EACCES))
        self.assertEqual(self.reason(self.store.check_files(), StoreUnavailable), "Permission denied")
        self.assertEqual(self.broken, [])

    def test_log_stays(self) -> None:
        """SQLite keeps its log, whatever it does with it, and so do other connections: nothing is reported."""
        self.patch(store_module, "CHECKPOINT_EVERY", 3)
        for number in range(8):
            self.accept(photo=b"%d" % number)
            self.result(self.store.compact())
            with closing(sqlite3.connect(self.file)) as other:
                other.execute("SELECT count(*) FROM task").fetchall()
                other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            self.assertIsNone(self.result(self.store.check_files()))

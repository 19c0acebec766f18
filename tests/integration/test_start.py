"""What ends a start: one clear line, a status that is not zero, and nothing touched."""

import hashlib
import socket
import sqlite3

from merlind.storage.sqlite import database
from tests.processes import Merlind, ProcessCase


class RefusedStartTest(ProcessCase):
    """Starts that have to be refused."""

    def assert_refused(self, merlind: Merlind, *words: str) -> None:
        """It ends with a failure, and says why in one line."""
        self.assertNotEqual(merlind.spawn().wait(), 0)
        lines = [line for line in merlind.log().splitlines() if "merlind: " in line]
        self.assertEqual(len(lines), 1, merlind.log())
        for word in words:
            self.assertIn(word, lines[0])
        self.assert_no_traceback(merlind)
        self.assertEqual(merlind.log().splitlines()[-1], lines[0])

    def test_wrong_values(self) -> None:
        """A wrong value is named, with the option or the variable that has it."""
        cases: tuple[tuple[str, dict[str, str], str], ...] = (
            ("--poll-interval=soon", {}, "--poll-interval"),
            ("--poll-interval=nan", {}, "--poll-interval"),
            ("--max-photo-bytes=-1", {}, "--max-photo-bytes"),
            ("--upstream=gopher://x", {}, "--upstream"),
            ("--admin=nowhere:1:2", {}, "--admin"),
            ("--retention=-1", {}, "--retention"),
            ("--colour=red", {}, "colour"),
            ("--log-json", {"MERLIND_GIVE_UP_AFTER": "never"}, "MERLIND_GIVE_UP_AFTER"),
        )
        for number, (option, env, word) in enumerate(cases):
            with self.subTest(option=option, env=env):
                merlind = Merlind(self.addCleanup, self.folder / str(number), option, env=env)
                self.assert_refused(merlind, word)
                self.assertFalse(merlind.data.exists())

    def test_port_in_use(self) -> None:
        """Somebody has the port, the public one or that for operators."""
        for which in ("port", "admin"):
            with self.subTest(which), socket.socket() as taken:
                merlind = Merlind(self.addCleanup, self.folder / which)
                taken.bind(("127.0.0.1", getattr(merlind, which)))
                taken.listen()
                self.assert_refused(merlind, str(getattr(merlind, which)), "in use")

    def test_second_process(self) -> None:
        """A data directory belongs to one process; the second one refuses, and the first one works on (D9)."""
        first = self.merlind().start()
        second = Merlind(self.addCleanup, self.folder / "second", data=first.data)
        self.assert_refused(second, str(first.data), "in use")
        self.assertEqual(first.health().code, 200)

    def test_bad_databases(self) -> None:
        """A database that is garbage, newer, or another program's is left as it is (D10)."""

        def garbage(path: str) -> None:
            with open(path, "wb") as file:
                file.write(b"no database at all\n" * 500)

        def newer(path: str) -> None:
            connection = sqlite3.connect(path)
            connection.executescript(f"CREATE TABLE task (id); PRAGMA application_id = {0x6D65726C};")
            connection.execute(f"PRAGMA user_version = {database.VERSION + 1}")
            connection.close()

        def foreign(path: str) -> None:
            connection = sqlite3.connect(path)
            connection.executescript("CREATE TABLE recipe (title); PRAGMA application_id = 7;")
            connection.close()

        for make in (garbage, newer, foreign):
            with self.subTest(make.__name__):
                merlind = Merlind(self.addCleanup, self.folder / make.__name__)
                merlind.data.mkdir(parents=True)
                file = merlind.data / "tasks.sqlite"
                make(str(file))
                before = hashlib.sha256(file.read_bytes()).digest()
                self.assert_refused(merlind, str(file))
                self.assertEqual(hashlib.sha256(file.read_bytes()).digest(), before)
                self.assertEqual(sorted(path.name for path in merlind.data.iterdir()), ["lock", "tasks.sqlite"])

    def test_directory_not_usable(self) -> None:
        """The data directory can't be made."""
        (self.folder / "file").write_text("in the way")
        merlind = Merlind(self.addCleanup, self.folder / "merlind", data=self.folder / "file" / "data")
        self.assert_refused(merlind, "can't be used")

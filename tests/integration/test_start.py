"""A start that fails says why in one line, exits with a status other than zero, and changes nothing.

Codes such as D9 are rows of docs/battery.md.
"""

import hashlib
import socket
import sqlite3

from merlind.storage.sqlite import database
from tests.processes import Merlind, ProcessCase


class FailedStartTest(ProcessCase):
    """Starts that must fail."""

    def assert_start_fails(self, merlind: Merlind, *words: str) -> None:
        """Start it, and check that it fails and that its last line, the only one about it, has all the words."""
        self.assertNotEqual(merlind.spawn().wait(), 0)
        lines = [line for line in merlind.log().splitlines() if "merlind: " in line]
        self.assertEqual(len(lines), 1, merlind.log())
        for word in words:
            self.assertIn(word, lines[0])
        self.assert_no_traceback(merlind)
        self.assertEqual(merlind.log().splitlines()[-1], lines[0])

    def test_wrong_value_names_its_option(self) -> None:
        """The line names the option, or the environment variable, whose value is wrong."""
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
                self.assert_start_fails(merlind, word)
                self.assertFalse(merlind.data.exists())

    def test_port_in_use(self) -> None:
        """The line names a port that another process has taken, the public one or the admin one."""
        for which in ("port", "admin"):
            with self.subTest(which), socket.socket() as taken:
                merlind = Merlind(self.addCleanup, self.folder / which)
                taken.bind(("127.0.0.1", getattr(merlind, which)))
                taken.listen()
                self.assert_start_fails(merlind, str(getattr(merlind, which)), "in use")

    def test_second_process_on_the_same_data(self) -> None:
        """A second process on the same data directory doesn't start, and the first one goes on (D9)."""
        first = self.merlind().start()
        second = Merlind(self.addCleanup, self.folder / "second", data=first.data)
        self.assert_start_fails(second, str(first.data), "in use")
        self.assertEqual(first.health().code, 200)

    def test_bad_database_stays_untouched(self) -> None:
        """A database that is garbage, newer, or another program's ends the start and stays as it is (D10)."""

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
                self.assert_start_fails(merlind, str(file))
                self.assertEqual(hashlib.sha256(file.read_bytes()).digest(), before)
                self.assertEqual(sorted(path.name for path in merlind.data.iterdir()), ["lock", "tasks.sqlite"])

    def test_unusable_data_directory(self) -> None:
        """A data directory that can't be made ends the start."""
        (self.folder / "file").write_text("in the way")
        merlind = Merlind(self.addCleanup, self.folder / "merlind", data=self.folder / "file" / "data")
        self.assert_start_fails(merlind, "can't be used")

"""A start that fails says why in one line, exits with a status other than zero, and changes nothing.

Codes such as D9 are rows of docs/battery.md.
"""

import hashlib
import os
import shutil
import socket
import sqlite3
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from unittest import SkipTest

from merlind.storage.sqlite import database
from tests.client import png, post
from tests.processes import Merlind, ProcessCase, environment, until

NOBODY = "http://127.0.0.1:9/"
"""An upstream that isn't there: tasks wait."""

NOBODYS_ID = 65534
"""The user nobody, and its group."""


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

    def test_lost_database_is_no_fresh_start(self) -> None:
        """Photos whose database, or its log, is gone, emptied or another one end the start, and stay (D12)."""

        def unlink(data: Path, name: str) -> None:
            (data / name).unlink()

        def empty(data: Path, name: str) -> None:
            os.truncate(data / name, 0)

        def swap(data: Path, name: str) -> None:
            for file in data.glob(f"{name}*"):
                file.unlink()
            database.prepare(data / name)

        for number, (damage, name, words) in enumerate(
            (
                (unlink, "tasks.sqlite", "is missing"),
                (empty, "tasks.sqlite", "is empty"),
                (swap, "tasks.sqlite", "another database"),
                (unlink, "tasks.sqlite-wal", "lacks what was committed last"),
                (empty, "tasks.sqlite-wal", "lacks what was committed last"),
            )
        ):
            with self.subTest(f"{damage.__name__} {name}"):
                merlind = Merlind(self.addCleanup, self.folder / str(number), upstream=NOBODY).start()
                for photo in range(3):
                    post(merlind.port, str(photo), png())
                merlind.kill()
                photos = {path: path.read_bytes() for path in merlind.spooled()}
                self.assertEqual(len(photos), 3)
                damage(merlind.data, name)
                self.assert_start_fails(merlind, words)
                self.assertEqual({path: path.read_bytes() for path in merlind.spooled()}, photos)
                self.assertFalse((merlind.data / "lost").exists())

    def test_goes_on_without_lost_commits(self) -> None:
        """With the note of the last commit deleted, as the line says, it starts, and the photos are in lost/ (D12)."""
        merlind = self.merlind(upstream=NOBODY).start()
        post(merlind.port, "Ada", png())
        merlind.kill()
        (merlind.data / "tasks.sqlite-wal").unlink()
        self.assert_start_fails(merlind, str(merlind.data / "last-commit"))
        (merlind.data / "last-commit").unlink()
        merlind.start()
        until(lambda: merlind.spooled() == [], "the sweep")
        self.assertEqual(len(list((merlind.data / "lost").iterdir())), 1)

    def test_folder_in_incoming(self) -> None:
        """A folder where uploads come in doesn't prevent the start, nor the uploads (D15)."""
        merlind = self.merlind(upstream=NOBODY)
        for number in range(3):
            (merlind.data / "spool" / "incoming" / f"{number}.part").mkdir(parents=True)
        merlind.start()
        self.assertEqual(post(merlind.port, "Ada", png(400)).code, 202)
        self.assertEqual(merlind.log().count("is not merlind's, and stays"), 3)

    def test_directory_open_to_everybody(self) -> None:
        """A data directory of ours that everybody can write to is closed, with a line (D15)."""
        merlind = self.merlind(upstream=NOBODY)
        merlind.data.mkdir(parents=True)
        merlind.data.chmod(0o777)
        merlind.start()
        self.assertEqual(stat.S_IMODE(merlind.data.stat().st_mode), 0o755)
        self.assertIn("had mode 0777", merlind.log())

    def test_starts_as_root_and_runs_as_another(self) -> None:
        """With --uid, what is made before the switch can be used after it (D15); needs root."""
        merlind = self.merlind_of_nobody()
        for _ in range(2):
            merlind.start()
            self.assertEqual(post(merlind.port, "Ada", png(400)).code, 202)
            self.assertEqual(merlind.health().code, 200)
            merlind.stop()
        owners = {path.stat().st_uid for path in (merlind.data, *merlind.data.rglob("*"))}
        self.assertEqual(owners, {NOBODYS_ID})
        self.assert_no_traceback(merlind)

    def test_directory_of_root(self) -> None:
        """With --uid, a directory that only root can use ends the start, with a line that says who can't (D15)."""
        merlind = self.merlind_of_nobody()
        merlind.data.mkdir(mode=0o700)
        self.assert_start_fails(merlind, str(merlind.data), f"can't be used by user {NOBODYS_ID}")

    def merlind_of_nobody(self) -> Merlind:
        """Make a merlind that root starts and nobody runs; skip the test where nobody can't read this Python."""
        if os.geteuid() != 0:
            raise SkipTest("needs root")
        ask = [sys.executable, "-c", "import merlind.build"]
        try:
            subprocess.run(
                ask, check=True, cwd="/", user=NOBODYS_ID, group=NOBODYS_ID, extra_groups=[], env=environment(),
                stderr=subprocess.DEVNULL,
            )  # fmt: skip
        except (OSError, subprocess.CalledProcessError):
            raise SkipTest("needs a Python that nobody can read") from None
        folder = Path(tempfile.mkdtemp())  # where nobody gets to
        self.addCleanup(shutil.rmtree, folder)
        folder.chmod(0o755)
        merlind = self.merlind(upstream=NOBODY, data=folder / "data")
        at = merlind.command.index("merlind")
        merlind.command[at:at] = [f"--uid={NOBODYS_ID}", f"--gid={NOBODYS_ID}"]
        return merlind

    def test_unusable_data_directory(self) -> None:
        """A data directory that can't be made ends the start."""
        (self.folder / "file").write_text("in the way")
        merlind = Merlind(self.addCleanup, self.folder / "merlind", data=self.folder / "file" / "data")
        self.assert_start_fails(merlind, "can't be used")

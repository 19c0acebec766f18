"""Which photos go with which names."""

import os
from collections.abc import Callable
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from merlind.cli.exits import CommandError, Exit
from merlind.cli.jobs import Job, by_file_names, by_table, each_with_each, photos_in


class JobTests(SynchronousTestCase):
    """Jobs from a folder that the test fills."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()

    def put(self, name: str, text: str = "") -> Path:
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path

    def assert_wrong(self, said: str, call: Callable[..., object], *arguments: object) -> None:
        error = self.assertRaises(CommandError, call, *arguments)
        self.assertIn(said, str(error))
        self.assertEqual(error.status, Exit.USAGE)

    def test_photos(self) -> None:
        """A folder stands for its photos in order; a file that is named is taken whatever it is called."""
        b, a, text = self.put("b.JPG"), self.put("a.heic"), self.put("notes.txt")
        (self.folder / "deeper.jpg").mkdir()
        self.assertEqual(photos_in([self.folder]), [a, b])
        self.assertEqual(photos_in([text]), [text])

    def test_no_photos(self) -> None:
        """A path that isn't there and a folder without photos are named."""
        self.assert_wrong("no file", photos_in, [self.folder / "x.jpg"])
        self.assert_wrong("has no photos", photos_in, [self.folder])

    def test_each_with_each(self) -> None:
        """Every photo meets every name."""
        a, b = Path("a"), Path("b")
        self.assertEqual(each_with_each([a, b], ["X", "Y"]), [Job(a, "X"), Job(a, "Y"), Job(b, "X"), Job(b, "Y")])

    def test_names_of_files(self) -> None:
        """A file's name is the person's, without the number of a copy."""
        for stem, name in (
            ("Anna", "Anna"),
            ("Anna_2", "Anna"),
            ("Anna (3)", "Anna"),
            ("Anna-Maria", "Anna-Maria"),
            ("Анна 10", "Анна"),
        ):
            self.assertEqual(by_file_names([Path(f"x/{stem}.jpg")])[0].name, name)

    def test_no_names_in_files(self) -> None:
        """A camera's number is no name, nor is what isn't text."""
        for name in (b"1234.jpg", b"J\xf6rg.jpg", b"a\nb.jpg"):
            self.assert_wrong("says no name", by_file_names, [Path(os.fsdecode(name))])

    def test_table(self) -> None:
        """A table's paths start at its own folder; other columns and a byte order mark don't matter."""
        photo = self.put("a.jpg")
        table = self.put("people.csv", '\ufeffname,age,photo\n"Anna, the first",9,a.jpg\nБорис,7,a.jpg\n')
        self.assertEqual(by_table(table), [Job(photo, "Anna, the first"), Job(photo, "Борис")])

    def test_wrong_tables(self) -> None:
        """What is wrong with a table is told with its line."""
        self.put("a.jpg")
        for text, said in (
            ("photo,title\na.jpg,Anna\n", "line 1"),
            ("", "line 1"),
            ("photo,name\na.jpg,Anna\na.jpg,\n", "line 3"),
            ("photo,name\na.jpg\n", "line 2"),
            ("photo,name\nb.jpg,Anna\n", "line 2: there is no file"),
            ('photo,name\n"a.jpg,Anna\n', "no CSV file"),
        ):
            self.assert_wrong(said, by_table, self.put("t.csv", text))
        (self.folder / "latin.csv").write_bytes(b"photo,name\na.jpg,J\xf6rg\n")
        self.assert_wrong("UTF-8", by_table, self.folder / "latin.csv")
        self.assert_wrong("can't be read", by_table, self.folder / "none.csv")

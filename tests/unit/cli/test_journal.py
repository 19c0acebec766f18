"""The journal: what a second run knows of the first."""

import os
from dataclasses import replace
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from merlind.cli.exits import CommandError
from merlind.cli.journal import Journal
from merlind.cli.record import Record, Stage, from_line, to_line

SENT = Record("a.jpg", "Анна", "ab" * 32, 5, Stage.WAITING)


class JournalTests(SynchronousTestCase):
    """A journal in a file."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp())

    def test_read_again(self) -> None:
        """The last line of a photo and name holds."""
        journal = Journal(self.path)
        done = replace(SENT, stage=Stage.READY, result=0.5)
        other = replace(SENT, name="Bo", stage=Stage.REFUSED, task=None, error="no")
        for record in (SENT, other, done):
            journal.note(record)
        again = Journal(self.path)
        self.assertEqual([again.find(record.key) for record in (SENT, other)], [done, other])
        self.assertIsNone(again.find(("0" * 64, "Анна")))

    def test_cut_anywhere(self) -> None:
        """A line that was cut short counts as not written, and the next one is whole."""
        whole = to_line(SENT).encode()
        later = replace(SENT, name="Bo")
        for cut in range(len(whole)):
            self.path.write_bytes(whole + whole[:cut])
            Journal(self.path).note(later)
            again = Journal(self.path)
            self.assertEqual((again.find(SENT.key), again.find(later.key)), (SENT, later))

    def test_another_file(self) -> None:
        """A file that is no journal is left alone, and told with the line."""
        for data in (b"notes\n", b'{"photo": "x"}\n', b"[]\n", to_line(SENT).encode() + b"\xff\n", b'{"a": 1}\n'):
            self.path.write_bytes(data)
            error = self.assertRaises(CommandError, Journal, self.path)
            self.assertIn("no journal", str(error))
            self.assertEqual(self.path.read_bytes(), data)

    def test_unusable(self) -> None:
        """A folder in its place is told."""
        self.path.mkdir()
        self.assertRaises(CommandError, Journal, self.path)

    def test_full_disk(self) -> None:
        """A journal that can't be written ends the command: a second run would send everything again."""
        journal = Journal(self.path)
        full = os.fdopen(os.open("/dev/full", os.O_WRONLY), "w")
        self.addCleanup(lambda: self.assertRaises(OSError, full.close))
        self.patch(journal, "_file", full)
        self.assertIn("written", str(self.assertRaises(CommandError, journal.note, SENT)))

    def test_lines(self) -> None:
        """A record is the same after it was a line."""
        for record in (SENT, Record("", ""), replace(SENT, stage=Stage.READY, result=0.25, photo="a\nb")):
            self.assertEqual(from_line(to_line(record)), record)

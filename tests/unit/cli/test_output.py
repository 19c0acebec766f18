"""Records for people and for programs."""

import csv
import io
import json

from twisted.trial.unittest import SynchronousTestCase

from merlind.cli.durations import say, seconds_of
from merlind.cli.exits import Exit, status_of
from merlind.cli.output import Table, as_csv, as_text, fitted, jsonl
from merlind.cli.photos import to_table
from merlind.cli.progress import Tally, plain_lines
from merlind.cli.record import COLUMNS, Record, Stage, to_dict

RECORDS = [
    Record("a.jpg", "Анна", "ab", 5, Stage.READY, 0.83),
    Record("b.jpg", "张伟", "cd", 6, Stage.FAILED, None, "no face found"),
    Record("a\x1b[31m.jpg", "B, o", "ef", 7, Stage.WAITING),
]


class OutputTests(SynchronousTestCase):
    """The three formats."""

    def test_table(self) -> None:
        """Columns are aligned whatever the script, and a terminal obeys nothing of it."""
        lines = as_text(to_table(RECORDS)).splitlines()
        self.assertEqual(lines[1], "a.jpg       Анна  0.83 ████████░░")
        self.assertEqual(lines[2], "b.jpg       张伟  failed: no face found")
        self.assertEqual(lines[3], "a?[31m.jpg  B, o  waiting")

    def test_jsonl(self) -> None:
        """One object a line."""
        values = [json.loads(line) for line in jsonl(map(to_dict, RECORDS)).splitlines()]
        self.assertEqual([value["status"] for value in values], ["ready", "failed", "waiting"])
        self.assertEqual(values[0]["result"], 0.83)

    def test_csv(self) -> None:
        """What a spreadsheet reads back."""
        rows = list(csv.DictReader(io.StringIO(as_csv(map(to_dict, RECORDS), COLUMNS))))
        self.assertEqual([row["name"] for row in rows], ["Анна", "张伟", "B, o"])
        self.assertEqual(rows[0]["task"], "5")

    def test_odd_scores(self) -> None:
        """A score beyond 0 and 1 is told without a bar."""
        odd = to_table([Record("a", "b", result=12.5, stage=Stage.READY)])
        self.assertTrue(as_text(odd).endswith("12.50\n"))

    def test_nothing_is_broken_or_obeyed(self) -> None:
        """A line is as long as it has to be in a pipe, and what looks like rich's markup is text."""
        self.assertEqual(as_text(Table(("a",), [("[red]" + "x" * 500,)])), f"a\n[red]{'x' * 500}\n")

    def test_narrow_terminal(self) -> None:
        """What is spare goes first, one by one, and what tells most stays."""
        whole = Table(
            ("task", "size", "type", "why"),
            [("123456", "66.5 kB", "jpeg", "w" * 80)],
            ("task", "size", "type"),
            ("type", "size"),
        )
        for width, header in (
            (45, "task size type why"),
            (44, "task size type why"),
            (42, "task size why"),
            (36, "task why"),
            (5, "task why"),
        ):
            self.assertEqual(" ".join(fitted(whole, width).header), header, width)
        self.assertEqual(fitted(whole, 30).rows, [["123456", "w" * 80]])


class ExitTests(SynchronousTestCase):
    """The exit status for what became of all photos."""

    def test_statuses(self) -> None:
        """What a second run can mend comes first."""
        for stages, status in (
            ([], Exit.OK),
            ([Stage.READY], Exit.OK),
            ([Stage.READY, Stage.FAILED], Exit.FAILED),
            ([Stage.REFUSED], Exit.FAILED),
            ([Stage.GONE], Exit.FAILED),
            ([Stage.FAILED, Stage.WAITING], Exit.UNFINISHED),
            ([Stage.NEW], Exit.UNFINISHED),
        ):
            self.assertEqual(status_of(Record("", "", stage=stage) for stage in stages), status)


class DurationTests(SynchronousTestCase):
    """Durations as people write them."""

    def test_read(self) -> None:
        for text, seconds in (("90", 90), ("90s", 90), ("30m", 1800), ("1.5h", 5400), ("2D", 172800), (" 5 m ", 300)):
            self.assertEqual(seconds_of(text), seconds)

    def test_wrong(self) -> None:
        for text in ("", "m", "-5", "1h30m", "5 weeks", "inf", "nan", "٣m"):
            self.assertRaises(ValueError, seconds_of, text)

    def test_said(self) -> None:
        for seconds, text in ((0, "0s"), (59.6, "1m"), (61, "1m 1s"), (3600, "1h"), (90061, "1d 1h"), (86400, "1d")):
            self.assertEqual(say(seconds), text)


class ProgressTests(SynchronousTestCase):
    """Progress where there is no terminal."""

    def test_tally(self) -> None:
        """A photo counts once, by its newest state."""
        tally = Tally(3)
        for record in (RECORDS[2], Record("a\x1b[31m.jpg", "B, o", "ef", 7, Stage.READY, 0.5), RECORDS[1]):
            tally.add(record)
        self.assertEqual((str(tally), tally.finished), ("1 of 3 scored, 0 waiting, 1 failed", 2))

    def test_plain_lines(self) -> None:
        """A line every five seconds at most, and one at the end."""
        stream, now = io.StringIO(), [0.0]
        with plain_lines(2, lambda: now[0], stream) as report:
            report(RECORDS[2])
            now[0] = 5.0
            report(RECORDS[0])
            report(RECORDS[0])
        self.assertEqual(stream.getvalue(), "1 of 2 scored, 1 waiting\n" * 2)

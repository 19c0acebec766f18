"""Measuring the face scorer on a table of portraits."""

import io
from contextlib import redirect_stdout
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from merlind.merlinface.scorer.judgement import Judgement, Refused
from tests.unit.merlinface.scorer.support import MISSING

if not MISSING:
    from merlind.merlinface.scorer.evaluate import BadTable, Person, describe, main, measure, read_people
    from merlind.merlinface.scorer.names import Names
    from tests.unit.merlinface.scorer.pictures import PORTRAITS

HEADING = "file,first_name,born,gender_on_record"


class ScriptedJudge:
    """Judges photos by what is written in them: "0.9 30" is a face, other text the reason of a refusal."""

    def look(self, photo: bytes) -> Judgement:
        try:
            female, age = map(float, photo.split())
        except ValueError:
            raise Refused(photo.decode()) from None
        return Judgement(female, age)


class TableTests(SynchronousTestCase):
    """Reading the table."""

    skip = MISSING

    def test_lines(self) -> None:
        """Year and gender may be left open, as may their columns."""
        lines = [HEADING, "us/1.jpg,Alma,1946,F", "2.jpg,Robert,,"]

        self.assertEqual(
            list(read_people(lines, Path("/faces"))),
            [
                Person(Path("/faces/us/1.jpg"), "Alma", 1946, "F"),
                Person(Path("/faces/2.jpg"), "Robert", None, None),
            ],
        )
        self.assertEqual(
            list(read_people(["first_name,file", "Alma,1.jpg"], Path())), [Person(Path("1.jpg"), "Alma", None, None)]
        )

    def test_a_broken_line(self) -> None:
        """It is named by its number."""
        for lines in (
            ["file,name", "1.jpg,Alma"],
            [HEADING, "1.jpg,Alma,1946,F", "2.jpg,Otto,old,M"],
            [HEADING, "1.jpg"],
        ):
            error = self.assertRaises(BadTable, list, read_people(lines, Path()))
            self.assertIn(f"line {len(lines)}", str(error))


class MeasureTests(SynchronousTestCase):
    """From photos to a report."""

    skip = MISSING

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()

    def people(self, *lines: str) -> "list[Person]":
        """Write photos from lines like "Anna 1994 F: 0.9 30"."""
        found = []
        for number, line in enumerate(lines):
            person, _, photo = line.partition(": ")
            name, born, gender = person.split()
            file = self.folder / str(number)
            file.write_text(photo)
            found.append(Person(file, name, int(born), gender))
        return found

    def test_a_report(self) -> None:
        """It tells how well names are ranked, what was refused and why, and how judgements differ from the records."""
        people = self.people(
            "Linda 1950 F: 0.98 72",
            "Ashley 1990 F: 0.98 32",
            "Robert 1950 M: 0.02 72",
            "Xqzt 1990 M: 0.3 34",
            "Anna 1990 F: no face found",
        )

        report = measure(ScriptedJudge(), Names.load(), people, 2022)  # type: ignore[arg-type]

        self.assertEqual((len(report.looks), dict(report.refusals)), (4, {"no face found": 1}))
        self.assertEqual(report.unknown_names, 1)
        self.assertGreater(report.ranking.any.mean, 0.8)
        text = "\n".join(describe(report))
        for line in (
            "photos judged     4 (refused: 1 no face found)",
            "names             4, 1 in no table",
            "gender as on record 1.0000 (4 photos)",
            "judged age less age in 2022: +0.5 years on average",
        ):
            self.assertIn(line, text)

    def test_one_name_is_too_few(self) -> None:
        """There is nothing to compare with."""
        people = self.people("Linda 1950 F: 0.98 72", "Linda 1950 F: 0.9 60")

        self.assertRaises(BadTable, measure, ScriptedJudge(), Names.load(), people, 2022)

    def test_from_the_command_line(self) -> None:
        """A table of the portraits that ship with the tests gets its report, and a broken one the reason."""
        table = self.folder / "people.csv"
        table.write_text(f"{HEADING}\n{PORTRAITS}/astronaut.jpg,Eileen,1956,F\n{PORTRAITS}/astronaut.heic,Robert,,\n")

        printed = io.StringIO()
        with redirect_stdout(printed):
            self.assertIsNone(main([str(table), "--year", "1999"]))

        self.assertIn("photos judged     2 (refused: none)", printed.getvalue())
        table.write_text("no,table\n1,2\n")
        self.assertIn("line 2", str(main([str(table)])))
        self.assertIn("No such file", str(main([str(self.folder / "none.csv")])))

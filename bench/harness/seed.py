"""Fills a data directory with tasks: ``python seed.py merlind|peer DATA FINISHED UNFINISHED``.

Runs with the server's own code on its path. The task numbers are always the same ones, see ``task_ids``. Each
unfinished one has a small photo: links to a few files, because a million of their own would take minutes to make.
"""

import hashlib
import os
import random
import sqlite3
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LINKS = 50_000
"""How many names one photo has at most; ext4 allows 65,000."""

PHOTO = b"\xff\xd8\xff\xe0" + b"\0" * 508


def task_ids(count: int) -> list[int]:
    """The numbers of the first ``count`` tasks; the finished ones come first."""
    numbers = random.Random(12345)
    ids: dict[int, None] = {}
    while len(ids) < count:
        ids[numbers.randrange(1, 2**53)] = None
    return list(ids)


def _tasks(finished: int, unfinished: int) -> Iterator[dict[str, Any]]:
    wall = time.time()
    for number, task_id in enumerate(task_ids(finished + unfinished)):
        over = number < finished
        yield {
            "id": task_id,
            "user": "",
            "name": f"Merlin {number}",
            "sha256": hashlib.sha256(b"%d" % number).digest(),
            "size": len(PHOTO),
            "media_type": "image/jpeg",
            "state": "ready" if over else "poll",
            "since": 0.0,
            "due": 0.0 if over else number % 2000 / 1000,
            "retry_id": None if over else f"seeded-{number}",
            "attempts": 0,
            "result": number / 7 if over else None,
            "finished": wall if over else None,
        }


def _insert(path: Path, columns: str, finished: int, unfinished: int) -> None:
    names = columns.split()
    sql = f"INSERT INTO task ({', '.join(names)}) VALUES ({', '.join(f':{name}' for name in names)})"
    connection = sqlite3.connect(path)
    with connection:
        connection.executemany(sql, _tasks(finished, unfinished))
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def seed_merlind(data: Path, finished: int, unfinished: int) -> Path:
    """merlind's data directory; returns where its photos are."""
    from merlind.datadir import DataDir

    from merlind import database

    directory = DataDir(data)
    directory.acquire()
    database.prepare(directory.database)
    columns = "id user name sha256 size media_type state since due retry_id attempts result finished"
    _insert(directory.database, columns, finished, unfinished)
    directory.release()
    return Path(directory.spool)


def seed_peer(data: Path, finished: int, unfinished: int) -> Path:
    """A peer's data directory; returns where its photos are."""
    from core import SCHEMA

    data.mkdir(parents=True)
    connection = sqlite3.connect(data / "tasks.sqlite")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.executescript(SCHEMA)
    connection.close()
    _insert(data / "tasks.sqlite", "id user name sha256 state retry_id result", finished, unfinished)
    return data / "photos"


def seed_photos(folder: Path, ids: list[int]) -> None:
    """A photo for each task."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for number, task_id in enumerate(ids):
        if number % LINKS == 0:
            first = folder / str(task_id)
            first.write_bytes(PHOTO)
        else:
            os.link(first, folder / str(task_id))


if __name__ == "__main__":
    what, where, finished, unfinished = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    seed = seed_merlind if what == "merlind" else seed_peer
    seed_photos(seed(where, finished, unfinished), task_ids(finished + unfinished)[finished:])

"""Fills a server's data directory with tasks. Their numbers are always the same, see ``task_ids``."""

import hashlib
import os
import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from harness.processes import Kind, running

LINKS = 50_000  # names of one photo at most: ext4 allows 65,000, and a million files would take minutes to make
PHOTO = b"\xff\xd8\xff\xe0" + b"\0" * 508


def task_ids(count: int) -> list[int]:
    """The numbers of the first ``count`` tasks; the finished ones come first."""
    numbers = random.Random(12345)
    ids: dict[int, None] = {}
    while len(ids) < count:
        ids[numbers.randrange(1, 2**53)] = None
    return list(ids)


async def seed(kind: Kind, folder: Path, finished: int, unfinished: int) -> list[int]:
    """Make a data directory with so many tasks, and a photo for each unfinished one; returns the tasks' numbers.

    The server makes the directory and the database itself, in a short run beforehand: so this needs to know the
    columns of its table alone.
    """
    async with running(kind, folder, polls=-1) as server:
        data = server.data
    ids = task_ids(finished + unfinished)
    with closing(sqlite3.connect(data / "tasks.sqlite")) as connection:
        known = {row[1] for row in connection.execute("PRAGMA table_info(task)")}
        columns = [column for column in next(_rows(ids, 0)) if column in known]
        sql = f"INSERT INTO task ({', '.join(columns)}) VALUES ({', '.join(f':{column}' for column in columns)})"
        with connection:
            connection.executemany(sql, _rows(ids, finished))
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for number, task_id in enumerate(ids[finished:]):
        if number % LINKS == 0:
            first = data / kind.photos / str(task_id)
            first.write_bytes(PHOTO)
        else:
            os.link(first, data / kind.photos / str(task_id))
    return ids


def _rows(ids: list[int], finished: int) -> Iterator[dict[str, Any]]:
    """The rows of the tasks, with the columns of merlind's table; a peer's table has some of them."""
    wall = time.time()
    for number, task_id in enumerate(ids):
        ready = number < finished
        yield {
            "id": task_id,
            "user": "",
            "name": f"Merlin {number}",
            "sha256": hashlib.sha256(b"%d" % number).digest(),
            "size": len(PHOTO),
            "media_type": "image/jpeg",
            "state": "ready" if ready else "poll",
            "since": 0.0,
            "due": 0.0 if ready else number % 2000 / 1000,
            "retry_id": None if ready else f"seeded-{number}",
            "attempts": 0,
            "result": number / 7 if ready else None,
            "finished": wall if ready else None,
            "kept_since": 0.0 if ready else None,
        }

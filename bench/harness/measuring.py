"""What the workloads share: how much to do, meters, and steps that several of them take."""

import asyncio
import json
import resource
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from time import monotonic

from harness.client import END, closed_loop, photo_maker
from harness.processes import Server

Figures = dict[str, float]


@dataclass(frozen=True)
class Size:
    """How long to measure, in seconds, and what share of the tasks to use."""

    seconds: float
    tasks: float

    def count(self, full: int) -> int:
        return max(50, int(full * self.tasks))


FULL = Size(seconds=10.0, tasks=1.0)
QUICK = Size(seconds=3.0, tasks=0.1)


@asynccontextmanager
async def metered(server: Server) -> AsyncIterator[Figures]:
    """Measure what a block takes: the dict is filled when the block ends.

    It has the seconds, the processor time of the server, the load and the upstream and what share of a core that is,
    what the upstream counted (``uploads``, ``polls``, ``done``), and the server's memory at the end.
    """
    figures: Figures = {}
    before = await _read(server)
    yield figures
    after = await _read(server)
    figures |= {name: after[name] - before[name] for name in after}
    figures |= {f"{who}cpu_share": figures[f"{who}cpu_s"] / figures["seconds"] for who in ("", "load_", "upstream_")}
    figures["rss_mb"] = server.rss() / 1e6


async def _read(server: Server) -> Figures:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        **await server.upstream.command(),
        "seconds": monotonic(),
        "cpu_s": server.cpu(),
        "load_cpu_s": usage.ru_utime + usage.ru_stime,
        "upstream_cpu_s": server.upstream.cpu(),
    }


async def until(server: Server, count: str, least: int, none_unfinished: bool = False) -> None:
    """Wait until the upstream counted so many ``uploads`` or ``done``, and, if asked for, no task is unfinished.

    Raises RuntimeError when that takes more than 5 minutes.
    """
    end = monotonic() + 300
    # The database is read only when the upstream has done its part.
    while (await server.upstream.command())[count] < least or (none_unfinished and _unfinished(server)):
        if monotonic() > end:
            raise RuntimeError(f"waited in vain for the {count} of {least} photos")
        await asyncio.sleep(0.02)


def _unfinished(server: Server) -> int:
    with closing(sqlite3.connect(f"file:{server.data}/tasks.sqlite?mode=ro", uri=True)) as connection:
        return int(connection.execute("SELECT count(*) FROM task WHERE state IN ('upload', 'poll')").fetchone()[0])


async def send_photos(server: Server, count: int, size: int) -> list[int]:
    """Send so many photos of a size over 32 connections; returns the tasks' numbers."""
    make = photo_maker(size)
    left = iter(range(count))
    tasks: list[int] = []

    def note(body: bytes) -> None:
        tasks.append(json.loads(body)["task"])

    load = await closed_loop(server.port, 32, lambda: make() if next(left, None) is not None else END, 300, note)
    load.expect(202)
    if len(tasks) < count:
        raise RuntimeError(f"only {len(tasks)} photos of {count} were accepted in time")
    return tasks

"""What the workloads share: sizes, meters, and ways to wait."""

import asyncio
import json
import resource
import sqlite3
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from harness.client import Answers, closed_loop
from harness.photos import photo_maker
from harness.processes import Kind, Server

Figures = dict[str, float]

Workload = Callable[[Kind, Path, "Size"], Awaitable[Figures]]

FOR_EVER = -1
NO_POLLS = 600.0
"""A poll interval, in seconds, that is longer than any run."""


@dataclass(frozen=True)
class Size:
    """How much of everything; ``quick`` is for seeing that it works."""

    seconds: float
    tasks: float

    def count(self, full: int) -> int:
        return max(50, int(full * self.tasks))


FULL = Size(seconds=10.0, tasks=1.0)
QUICK = Size(seconds=3.0, tasks=0.1)


class Meter:
    """What the server, the upstream and the load use from here on, and how many answers the upstream gave."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def start(self) -> "Meter":
        self._before = await self._read()
        return self

    async def _read(self) -> dict[str, float]:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return {
            **await self._server.upstream.command(),
            "time": time.perf_counter(),
            "server": self._server.cpu(),
            "upstream": self._server.upstream.cpu(),
            "load": usage.ru_utime + usage.ru_stime,
        }

    async def stop(self) -> Figures:
        after = await self._read()
        spent = {name: after[name] - self._before[name] for name in after}
        seconds = spent["time"]
        return {
            "seconds": seconds,
            "cpu_s": spent["server"],
            "cpu_share": spent["server"] / seconds,
            "load_cpu_share": spent["load"] / seconds,
            "upstream_cpu_share": spent["upstream"] / seconds,
            "uploads": spent["uploads"],
            "polls": spent["polls"],
            "done": spent["done"],
            "rss_mb": self._server.rss() / 1e6,
        }


def latencies(answers: Answers) -> Figures:
    return {"p50_ms": answers.quantile(0.5) * 1e3, "p99_ms": answers.quantile(0.99) * 1e3}


def unfinished(server: Server) -> int:
    """How many tasks are not over, as the database has it."""
    connection = sqlite3.connect(f"file:{server.data}/tasks.sqlite?mode=ro", uri=True)
    try:
        return int(connection.execute("SELECT count(*) FROM task WHERE state IN ('upload', 'poll')").fetchone()[0])
    finally:
        connection.close()


async def until(condition: Callable[[], Awaitable[bool]], seconds: float, what: str) -> None:
    """Wait until it is so. Raises RuntimeError when it takes too long."""
    end = time.monotonic() + seconds
    while not await condition():
        if time.monotonic() > end:
            raise RuntimeError(f"waited in vain: {what}")
        await asyncio.sleep(0.02)


async def send_all(server: Server, count: int, photo: int) -> tuple[list[int], Answers]:
    """Send so many photos over 32 connections; returns the tasks' numbers."""
    make = photo_maker(photo)
    left = iter(range(count))
    tasks: list[int] = []

    def note(code: int, body: bytes) -> None:
        if code in (200, 202):
            tasks.append(json.loads(body)["task"])

    answers, _ = await closed_loop(server.port, 32, lambda: make() if next(left, None) is not None else None, 300, note)
    answers.expect(202)
    if len(tasks) < count:
        raise RuntimeError(f"only {len(tasks)} photos of {count} were taken in time")
    return tasks, answers


def all_over(server: Server, count: int) -> Callable[[], Awaitable[bool]]:
    """Whether so many are answered upstream, and over in the database too."""

    async def check() -> bool:
        # The database is looked into only when the upstream has done its part.
        return (await server.upstream.command())["done"] >= count and unfinished(server) == 0

    return check

"""W9 and W10: what hostile clients cost the others, and what stays of them."""

import asyncio
import json
import sys
from contextlib import suppress
from pathlib import Path
from time import monotonic

from harness.client import Connection, Load, Request, connect, get_status
from harness.measuring import Figures, Size, send_photos
from harness.processes import BENCH, NEVER, Kind, Process, Server, running

BYSTANDER = "127.0.0.2"  # an address of its own: servers may limit what one address takes
LONGEST = 60.0  # s that a bystander waits for a response; this is then the wait
SETTLED = 20.0  # s from the last connection's end until the memory is read
ATTACKERS = 2  # processes


async def w9(kind: Kind, folder: Path, size: Size) -> Figures:
    """The worst wait of a bystander beside 1, 16 and 64 clients that pipeline as fast as they can."""
    async with running(kind, folder, NEVER) as server:
        (task,) = await send_photos(server, 1, 2000)
        figures: Figures = {}
        for clients, reads in ((1, True), (16, True), (64, True), (64, False)):
            command = [sys.executable, "-m", "harness.flood", str(server.port), str(task), str(clients), str(reads)]
            flood = Process(0, command, {"PYTHONPATH": str(BENCH)}, folder / "flood.log")
            try:
                await asyncio.sleep(1.0)
                load = await stand_by(server, get_status(task), size.seconds)
            finally:
                flood.stop()
            load.expect(200, 202)
            name = f"beside_{clients}" if reads else f"beside_{clients}_unread"
            figures |= {f"{name}_worst_ms": max(load.latencies) * 1e3, **load.figures(f"{name}_")}
            await asyncio.sleep(1.0)
        return {**figures, "rss_mb": server.rss() / 1e6}


async def stand_by(server: Server, request: Request, seconds: float) -> Load:
    """Send a request every 20 ms on one connection, each after the response before, until time is up."""
    load = Load()
    opened: list[Connection] = []

    async def run() -> None:
        opened.append(await connect(server.port, BYSTANDER))
        while monotonic() < began + seconds and not load.lost:
            await load.send(opened[0], request)
            await asyncio.sleep(0.02)

    began = monotonic()
    try:
        async with asyncio.timeout(seconds + LONGEST):
            await run()
    except TimeoutError:
        load.latencies.append(LONGEST)
    for connection in opened:
        connection.transport.close()
    return load


async def w10(kind: Kind, folder: Path, size: Size) -> Figures:
    """A million hostile requests of all kinds (tests/hostile.py): how much larger the server is afterwards."""
    async with running(kind, folder, NEVER) as server:
        await send_photos(server, 500, 100_000)
        await asyncio.sleep(SETTLED)
        before, cpu, began = server.rss(), server.cpu(), monotonic()
        each = size.count(1_000_000) // ATTACKERS
        sent = await asyncio.gather(*(attack(server.port, each, seed) for seed in range(ATTACKERS)))
        seconds, used = monotonic() - began, server.cpu() - cpu
        await asyncio.sleep(SETTLED)
        after = server.rss()
        load = await stand_by(server, get_status(1), 1.0)
    load.expect(404)
    return {
        "grown_mb": (after - before) / 1e6,
        "before_mb": before / 1e6,
        "requests": float(sum(sent)),
        "per_s": sum(sent) / seconds,
        "cpu_share": used / seconds,
    }


async def attack(port: int, requests: int, seed: int) -> int:
    """Send hostile requests from a process of its own; returns how many. The process ends with the bench."""
    command = ["-m", "tests.hostile", str(port), f"--requests={requests}", f"--seed={seed}", "--clients=64"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, cwd=BENCH.parent, stdout=asyncio.subprocess.PIPE
    )
    try:
        output, _ = await process.communicate()
        return int(json.loads(output)["sent"])
    finally:
        with suppress(ProcessLookupError):
            process.kill()

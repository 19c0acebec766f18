"""The workloads that send photos: W1, W1b, W1slow, W6 and W7. Each runs a kind of server once."""

import asyncio
import contextlib
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

from harness.client import Request, closed_loop, open_loop
from harness.common import FOR_EVER, NO_POLLS, Figures, Meter, Size, latencies
from harness.photos import photo_maker
from harness.processes import BENCH, Kind, Server

IN_HAND = 4000
"""How many unfinished tasks W6 has at most: the photos on the disk come and go, and don't pile up."""


async def posts(kind: Kind, folder: Path, photo: int, warm: float, seconds: float) -> Figures:
    """Photos over 32 keep-alive connections, uploads running; the upstream says wait, and is not polled meanwhile."""
    server = await Server.start(kind, folder, FOR_EVER, NO_POLLS)
    try:
        make = photo_maker(photo)
        (await closed_loop(server.port, 32, make, warm))[0].expect(202)
        meter = await Meter(server).start()
        answers, took = await closed_loop(server.port, 32, make, seconds)
        figures = await meter.stop()
        answers.expect(202)
    finally:
        server.end()
    count = len(answers.latencies)
    return {
        "per_s": count / took,
        **latencies(answers),
        "cpu_ms_each": figures["cpu_s"] / count * 1e3,
        "uploaded_share": figures["uploads"] / count,
        **figures,
    }


async def w1(kind: Kind, folder: Path, size: Size) -> Figures:
    return await posts(kind, folder, 100_000, 2.0, size.seconds)


async def w1b(kind: Kind, folder: Path, size: Size) -> Figures:
    return await posts(kind, folder, 2_000_000, 1.0, size.seconds / 2)


async def w1_slow(kind: Kind, folder: Path, size: Size) -> Figures:
    """W1 on a disk that takes 2 ms longer for each flush."""
    folder.mkdir(parents=True, exist_ok=True)
    shim = folder / "slowsync.so"
    compiler = shutil.which("cc")
    if compiler is None:
        raise RuntimeError("W1slow needs a C compiler")
    subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", shim, BENCH / "slowsync.c", "-ldl"], check=True)
    return await w1(replace(kind, env={**kind.env, "LD_PRELOAD": str(shim)}), folder, size)


async def w6(kind: Kind, folder: Path, size: Size) -> Figures:
    """A minute of 100 KB photos that are ready at the first poll, and then removed; counted after its first third."""
    server = await Server.start(kind, folder, polls=1)
    try:
        make = photo_maker(100_000)
        sent = done = 0

        def request() -> Request:
            nonlocal sent
            if sent - done >= IN_HAND:
                return ()
            sent += 1
            return make()

        async def watch() -> None:
            nonlocal done
            while True:
                done = (await server.upstream.command())["done"]
                await asyncio.sleep(0.05)

        watching = asyncio.create_task(watch())
        load = asyncio.create_task(closed_loop(server.port, 32, request, size.seconds * 6))
        await asyncio.sleep(size.seconds * 2)
        meter = await Meter(server).start()
        answers, _ = await load
        figures = await meter.stop()
        answers.expect(202)
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
    finally:
        server.end()
    return {
        "per_s": figures["done"] / figures["seconds"],
        **latencies(answers),
        "cpu_ms_each": figures["cpu_s"] / max(1, figures["done"]) * 1e3,
        **figures,
    }


async def w7(kind: Kind, folder: Path, size: Size) -> Figures:
    """400 photos of 100 KB a second, whatever the answers do."""
    server = await Server.start(kind, folder, FOR_EVER, NO_POLLS)
    try:
        make = photo_maker(100_000)
        (await closed_loop(server.port, 32, make, 1.0))[0].expect(202)
        meter = await Meter(server).start()
        answers = await open_loop(server.port, 400, size.seconds, make)
        figures = await meter.stop()
        answers.expect(202)
    finally:
        server.end()
    return {**latencies(answers), **figures}

"""The workloads, each of which runs a server of a kind once, in a folder of its own, and returns figures.

W9 and W10 are in hostile.py. They raise when the figures would mean nothing. report.py says what each must be.
"""

import asyncio
import json
import random
import shutil
import subprocess
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from time import monotonic

from harness.client import (
    END,
    NOT_YET,
    Connection,
    Load,
    Request,
    closed_loop,
    connections,
    fetch,
    get_status,
    open_loop,
    photo_maker,
)
from harness.hostile import w9, w10
from harness.measuring import Figures, Size, metered, send_photos, until
from harness.processes import BENCH, NEVER, Kind, Server, running
from harness.seed import seed

NO_POLLS = 600.0  # s between polls: longer than any run
UNFINISHED = 4000  # tasks at most in W6: so photos come and go, and don't pile up on the disk
PREFERRED = 60  # s that a client of W8 prefers to wait


async def w1(kind: Kind, folder: Path, size: Size, photo: int = 100_000) -> Figures:
    """Photos of 100 KB over 32 keep-alive connections; each is uploaded, and none is polled meanwhile."""
    async with running(kind, folder, NEVER, NO_POLLS) as server:
        make = photo_maker(photo)
        (await closed_loop(server.port, 32, make, 2.0)).expect(202)
        async with metered(server) as used:
            load = await closed_loop(server.port, 32, make, size.seconds)
        load.expect(202)
    count = len(load.latencies)
    return {
        "per_s": count / load.seconds,
        **load.figures(),
        "cpu_ms_each": used["cpu_s"] / count * 1e3,
        "uploaded_share": used["uploads"] / count,
        **used,
    }


async def w1b(kind: Kind, folder: Path, size: Size) -> Figures:
    """W1 with photos of 2 MB, for half the time."""
    return await w1(kind, folder, replace(size, seconds=size.seconds / 2), 2_000_000)


async def w1slow(kind: Kind, folder: Path, size: Size) -> Figures:
    """W1 on a disk that takes 2 ms longer for each flush."""
    folder.mkdir(parents=True, exist_ok=True)
    library = folder / "slowsync.so"
    compiler = shutil.which("cc")
    if compiler is None:
        raise RuntimeError("W1slow needs a C compiler")
    subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", library, BENCH / "slowsync.c", "-ldl"], check=True)
    return await w1(replace(kind, env={"LD_PRELOAD": str(library)}), folder, size)


async def w2(kind: Kind, folder: Path, size: Size, tasks: int = 100_000, clients: int = 64) -> Figures:
    """Status requests over 64 connections for random ones of 100,000 finished tasks."""
    ids = await seed(kind, folder, tasks, 0)
    async with running(kind, folder, NEVER) as server:
        requests = [get_status(task_id) for task_id in ids]
        # Ask for each task once, for at most 20 s: afterwards a server that caches results has them in memory.
        shuffled = iter(random.Random(1).sample(requests, tasks))
        first = await closed_loop(server.port, clients, lambda: next(shuffled, END), 20.0)
        first.expect(200)
        chance = random.Random(2).random
        async with metered(server) as used:
            load = await closed_loop(server.port, clients, lambda: requests[int(chance() * tasks)], size.seconds)
        load.expect(200)
        await _check_status(server, ids[7], {"status": "ready", "result": 1.0})
    count = len(load.latencies)
    return {
        "per_s": count / load.seconds,
        **load.figures(),
        "first_per_s": len(first.latencies) / first.seconds,
        "cpu_us_each": used["cpu_s"] / count * 1e6,
        **used,
    }


async def w3(kind: Kind, folder: Path, size: Size) -> Figures:
    """5,000 photos of 10 KB at once, each ready at its second poll: that takes two intervals of 2 s at least."""
    async with running(kind, folder, polls=2) as server:
        await send_photos(server, 200, 10_000)
        await until(server, "done", 200, none_unfinished=True)
        count = size.count(5000)
        async with metered(server) as used:
            began = monotonic()
            tasks = await send_photos(server, count, 10_000)
            sent = monotonic() - began
            await until(server, "done", 200 + count, none_unfinished=True)
            took = monotonic() - began
        for task_id in tasks[:: max(1, count // 50)]:
            await _check_status(server, task_id, {"status": "ready"})
    return {"over_floor_s": took - 4.0, "sent_s": sent, "cpu_ms_each": used["cpu_s"] / count * 1e3, **used}


async def w4(kind: Kind, folder: Path, size: Size) -> Figures:
    """10,000 tasks that are polled every 2 s, first alone, then with 200 status requests a second."""
    async with running(kind, folder, NEVER) as server:
        await send_photos(server, 200, 2000)
        await asyncio.sleep(1.0)
        before = server.rss()
        count = size.count(10_000)
        tasks = await send_photos(server, count, 2000)
        await until(server, "uploads", 200 + count)
        await asyncio.sleep(3.0)
        memory = server.rss() - before
        async with metered(server) as used:
            await asyncio.sleep(size.seconds)
        chance = random.Random(3)
        load = await open_loop(server.port, 200, size.seconds, lambda: get_status(chance.choice(tasks)))
        load.expect(202)
    return {
        "cpu_us_per_poll": used["cpu_s"] / used["polls"] * 1e6,
        "kb_per_task": memory / count / 1e3,
        "polls_per_s": used["polls"] / used["seconds"],
        **load.figures("get_"),
        **used,
    }


async def w5(kind: Kind, folder: Path, size: Size, tasks: int | None = None) -> Figures:
    """A start with 100,000 unfinished tasks and their photos: the first response, and those of the next 5 seconds.

    From the first response on, 8 connections share 200 status requests a second. A latency counts from when the
    request was due, which is earlier than when it was sent if all 8 were waiting.
    """
    ids = await seed(kind, folder, 0, tasks or size.count(100_000))
    async with running(kind, folder, NEVER, target=f"/?task_id={ids[-1]}", code=202) as server:
        chance = random.Random(5)
        load = await open_loop(
            server.port, 200, 5.0, lambda: get_status(chance.choice(ids)), server.answered, count=8, most=8
        )
        load.expect(202)
        return {
            "first_answer_s": server.answered - server.started,
            **load.figures("early_get_"),
            "polls": (await server.upstream.command())["polls"],
            "rss_mb": server.rss() / 1e6,
        }


async def w6(kind: Kind, folder: Path, size: Size) -> Figures:
    """A minute of 100 KB photos that are ready at their first poll and then removed; measured after 20 seconds."""
    async with running(kind, folder, polls=1) as server:
        make = photo_maker(100_000)
        sent = done = 0

        def next_request() -> Request:
            nonlocal sent
            if sent - done >= UNFINISHED:
                return NOT_YET
            sent += 1
            return make()

        async def watch() -> None:
            nonlocal done
            while True:
                done = (await server.upstream.command())["done"]
                await asyncio.sleep(0.05)

        watching = asyncio.create_task(watch())
        sending = asyncio.create_task(closed_loop(server.port, 32, next_request, size.seconds * 6))
        await asyncio.sleep(size.seconds * 2)
        async with metered(server) as used:
            load = await sending
        load.expect(202)
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
    return {
        "per_s": used["done"] / used["seconds"],
        **load.figures(),
        "cpu_ms_each": used["cpu_s"] / max(1, used["done"]) * 1e3,
        **used,
    }


async def w7(kind: Kind, folder: Path, size: Size) -> Figures:
    """400 photos of 100 KB a second, whatever the responses do."""
    async with running(kind, folder, NEVER, NO_POLLS) as server:
        make = photo_maker(100_000)
        (await closed_loop(server.port, 32, make, 1.0)).expect(202)
        async with metered(server) as used:
            load = await open_loop(server.port, 400, size.seconds, make)
        load.expect(202)
    return {**load.figures(), **used}


async def w8(kind: Kind, folder: Path, size: Size) -> Figures:
    """10,000 long polls: the memory of one, and the time from the upstream's response to the client's."""
    # Polled every 10 s, so that no server is busy with polls alone.
    async with running(kind, folder, NEVER, poll=10.0) as server:
        count = size.count(10_000)
        tasks = await send_photos(server, count, 2000)
        await until(server, "uploads", count)
        await asyncio.sleep(1.0)
        load = Load()

        async def poll(client: Connection, task_id: int) -> None:
            code, body, arrived = await client.send(get_status(task_id, f"Prefer: wait={PREFERRED}"))
            load.codes[code] += 1
            # The result is the time at which the upstream gave it; a client that got none has waited in vain.
            load.latencies.append(arrived - json.loads(body)["result"] if code == 200 else PREFERRED)

        before = server.rss()
        async with connections(server.port, count) as clients:
            polls = asyncio.gather(*map(poll, clients, tasks))
            await asyncio.sleep(3.0)
            memory = server.rss() - before
            async with metered(server) as used:
                await server.upstream.command("/release")
                await asyncio.wait_for(polls, 90)
        load.expect(200, 202)
    return {"kb_per_client": memory / count / 1e3, "let_go": load.codes[202], **load.figures(), **used}


async def _check_status(server: Server, task_id: int, expected: dict[str, object]) -> None:
    # A result may be in the database for a moment before the server may tell it: hence a long poll.
    code, body = await fetch(server.port, get_status(task_id, "Prefer: wait=5"))
    if code != 200 or not expected.items() <= json.loads(body).items():
        raise RuntimeError(f"a wrong response: {code} {body!r}")


WORKLOADS = {run.__name__.capitalize(): run for run in (w1, w1b, w1slow, w2, w3, w4, w5, w6, w7, w8, w9, w10)}
"""By the names that ``--only`` and the tables use, in the order in which they run."""

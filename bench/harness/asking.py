"""The workloads that ask for a task's status: W2 and W8. Each runs a kind of server once."""

import asyncio
import json
import random
import time
from pathlib import Path

from harness.client import Answers, ask, closed_loop, connect, fetch
from harness.client import Connection as Client
from harness.common import FOR_EVER, Figures, Meter, Size, latencies, send_all, until
from harness.processes import Kind, Server
from harness.seed import task_ids

FIRST_PASS = 20.0
"""Seconds that asking for each task once may take: for who remembers answers they are in memory by then."""

HELD = 60
"""Seconds that a client prefers to wait."""

HELD_POLL = 10.0
"""Seconds between two polls in W8: long enough that no server is busy with polls alone."""


async def w2(kind: Kind, folder: Path, size: Size) -> Figures:
    """Status requests over 64 connections for random ones of 100,000 finished tasks."""
    return await statuses(kind, folder, 100_000, 64, size)


async def statuses(kind: Kind, folder: Path, tasks: int, connections: int, size: Size) -> Figures:
    folder.mkdir(parents=True, exist_ok=True)
    kind.seed(folder / "data", tasks, 0)
    server = await Server.start(kind, folder, FOR_EVER)
    try:
        ids = task_ids(tasks)
        requests = [ask(task_id) for task_id in ids]
        # Each task once, in case somebody remembers.
        order = iter(random.Random(1).sample(requests, len(requests)))
        first, first_took = await closed_loop(server.port, connections, lambda: next(order, None), FIRST_PASS)
        first.expect(200)
        choose = random.Random(2).random
        meter = await Meter(server).start()
        answers, took = await closed_loop(
            server.port, connections, lambda: requests[int(choose() * tasks)], size.seconds
        )
        figures = await meter.stop()
        answers.expect(200)
        code, body = await fetch(server.port, ask(ids[7]))
        if (code, json.loads(body)) != (200, {"status": "ready", "result": 1.0}):
            raise RuntimeError(f"a wrong answer: {code} {body!r}")
    finally:
        server.end()
    count = len(answers.latencies)
    return {
        "per_s": count / took,
        **latencies(answers),
        "first_per_s": len(first.latencies) / first_took,
        "cpu_us_each": figures["cpu_s"] / count * 1e6,
        **figures,
    }


async def w8(kind: Kind, folder: Path, size: Size) -> Figures:
    """10,000 clients that prefer to wait: what one costs, and how long an answer takes from the upstream to it."""
    server = await Server.start(kind, folder, FOR_EVER, HELD_POLL)
    try:
        count = size.count(10_000)
        tasks, _ = await send_all(server, count, 2000)

        async def uploaded() -> bool:
            return (await server.upstream.command())["uploads"] >= count

        await until(uploaded, 120, "all uploads")
        await asyncio.sleep(1.0)
        answers = Answers()
        done = asyncio.get_running_loop().create_future()

        def answered(client: Client, code: int, body: bytes) -> None:
            # The result is the time at which the upstream gave it.
            answers.codes[code] += 1
            # One that was let go before has waited for as long as it may.
            answers.latencies.append(time.monotonic() - json.loads(body)["result"] if code == 200 else HELD)
            if sum(answers.codes.values()) + answers.lost == count:
                done.set_result(None)

        def lost() -> None:
            answers.lost += 1

        before = server.rss()
        clients = await connect(server.port, count, answered, lost)
        for client, task_id in zip(clients, tasks, strict=True):
            client.send(ask(task_id, f"Prefer: wait={HELD}"))
        await asyncio.sleep(3.0)
        memory = server.rss() - before
        meter = await Meter(server).start()
        await server.upstream.command("/release")
        await asyncio.wait_for(done, 90)
        figures = await meter.stop()
        answers.expect(200, 202)
        for client in clients:
            client.close()
    finally:
        server.end()
    return {"kb_per_client": memory / count / 1e3, "let_go": answers.codes[202], **latencies(answers), **figures}

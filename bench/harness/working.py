"""The workloads about what goes on in the background: W3, W4 and W5. Each runs a kind of server once."""

import asyncio
import json
import random
import time
from pathlib import Path

from harness.client import ask, fetch, open_loop
from harness.common import FOR_EVER, Figures, Meter, Size, all_over, send_all, until
from harness.processes import Kind, Server, Upstream, answers
from harness.seed import task_ids


async def w3(kind: Kind, folder: Path, size: Size) -> Figures:
    """5,000 tasks of 10 KB at once, each ready at the second poll: two intervals of 2 s at least."""
    server = await Server.start(kind, folder, polls=2)
    try:
        await send_all(server, 200, 10_000)
        await until(all_over(server, 200), 60, "the warm-up")
        count = size.count(5000)
        meter = await Meter(server).start()
        began = time.monotonic()
        tasks, _ = await send_all(server, count, 10_000)
        sent = time.monotonic() - began
        await until(all_over(server, 200 + count), 300, "all to be ready")
        took = time.monotonic() - began
        figures = await meter.stop()
        for task_id in tasks[:: max(1, len(tasks) // 50)]:
            code, body = await fetch(server.port, ask(task_id))
            if code != 200 or json.loads(body)["status"] != "ready":
                raise RuntimeError(f"not ready: {code} {body!r}")
    finally:
        server.end()
    return {"over_floor_s": took - 4.0, "sent_s": sent, "cpu_ms_each": figures["cpu_s"] / count * 1e3, **figures}


async def w4(kind: Kind, folder: Path, size: Size) -> Figures:
    """10,000 tasks that wait and are polled every 2 s, first alone, then with 200 status requests a second."""
    server = await Server.start(kind, folder, FOR_EVER)
    try:
        count = size.count(10_000)
        await send_all(server, 200, 2000)
        await asyncio.sleep(1.0)
        before = server.rss()
        tasks, _ = await send_all(server, count, 2000)

        async def uploaded() -> bool:
            return (await server.upstream.command())["uploads"] >= count + 200

        await until(uploaded, 120, "all uploads")
        await asyncio.sleep(3.0)
        memory = server.rss() - before
        meter = await Meter(server).start()
        await asyncio.sleep(size.seconds)
        figures = await meter.stop()
        requests = [ask(task_id) for task_id in tasks]
        choose = random.Random(3)
        answers = await open_loop(server.port, 200, size.seconds, lambda: choose.choice(requests))
        answers.expect(202)
    finally:
        server.end()
    return {
        "cpu_us_per_poll": figures["cpu_s"] / figures["polls"] * 1e6,
        "kb_per_task": memory / count / 1e3,
        "polls_per_s": figures["polls"] / figures["seconds"],
        "get_p50_ms": answers.quantile(0.5) * 1e3,
        "get_p99_ms": answers.quantile(0.99) * 1e3,
        **figures,
    }


async def w5(kind: Kind, folder: Path, size: Size) -> Figures:
    """A start with 100,000 unfinished tasks and their photos: how long until the first answer."""
    return await starting(kind, folder, size.count(100_000))


async def starting(kind: Kind, folder: Path, tasks: int) -> Figures:
    folder.mkdir(parents=True, exist_ok=True)
    kind.seed(folder / "data", 0, tasks)
    upstream = Upstream(folder, FOR_EVER)
    server = None
    try:
        await answers(upstream, upstream.port, "/stats")
        server = Server(kind, folder, folder / "data", 2.0, upstream)
        ids = task_ids(tasks)
        first = await answers(server, server.port, f"/?task_id={ids[-1]}") - server.started
        choose = random.Random(5)
        # And how it serves while it is busy with what it found.
        asked = await open_loop(server.port, 50, 5.0, lambda: ask(choose.choice(ids)))
        asked.expect(202)
        figures = {
            "first_answer_s": first,
            "get_p99_ms": asked.quantile(0.99) * 1e3,
            "polls": (await upstream.command())["polls"],
            "rss_mb": server.rss() / 1e6,
        }
    finally:
        if server is not None:
            server.kill()
        upstream.kill()
    return figures

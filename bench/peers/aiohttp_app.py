"""The same on aiohttp's own server. ``python aiohttp_app.py PORT DATA UPSTREAM POLL_SECONDS``"""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import uvloop
from aiohttp import BodyPartReader, web
from core import HEADERS, MAX_PHOTO, NOT_FOUND, BadForm, Tasks, preferred_wait


async def read_form(request: web.Request) -> tuple[str, bytes]:
    """The form's name and photo."""
    fields: dict[str, bytes] = {}
    async for part in await request.multipart():
        if not isinstance(part, BodyPartReader) or part.name not in ("name", "photo"):
            raise BadForm(400, "the form may have the fields name and photo alone")
        fields[part.name] = bytes(await part.read())
    if len(fields) < 2:
        raise BadForm(400, "the form has no name or no photo")
    return fields["name"].decode(), fields["photo"]


def make_app(data: Path, upstream: str, poll: float) -> web.Application:
    """The application with its tasks."""
    tasks: Tasks

    async def lifespan(app: web.Application) -> AsyncIterator[None]:
        nonlocal tasks
        tasks = Tasks(data, upstream, poll)
        async with tasks.lifespan():
            yield

    async def submit(request: web.Request) -> web.Response:
        try:
            task = await tasks.submit(*await read_form(request))
        except BadForm as error:
            return web.json_response({"title": str(error)}, status=error.status, headers=HEADERS)
        if task.state != "ready" and (wait := preferred_wait(request.headers.get("Prefer"))) is not None:
            task = await tasks.hold(task.id, wait) or task
        code, body, headers = task.received()
        return web.json_response(body, status=code, headers=headers)

    async def tell(request: web.Request) -> web.Response:
        try:
            task_id = int(request.query["task_id"])
        except (KeyError, ValueError):
            return web.json_response({"title": "ask with one task_id"}, status=400, headers=HEADERS)
        wait = preferred_wait(request.headers.get("Prefer"))
        task = await (tasks.find(task_id) if wait is None else tasks.hold(task_id, wait))
        if task is None:
            return web.json_response(NOT_FOUND, status=404, headers=HEADERS)
        code, body, headers = task.status()
        return web.json_response(body, status=code, headers=headers)

    app = web.Application(client_max_size=MAX_PHOTO + 65536)
    app.cleanup_ctx.append(lifespan)
    app.add_routes([web.post("/", submit), web.get("/", tell)])
    return app


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    web.run_app(
        make_app(Path(sys.argv[2]), sys.argv[3], float(sys.argv[4])),
        host="127.0.0.1", port=int(sys.argv[1]), backlog=1024, print=None,
    )  # fmt: skip

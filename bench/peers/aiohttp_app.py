"""The same on aiohttp's own server. ``python aiohttp_app.py PORT DATA UPSTREAM POLL_SECONDS``"""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import uvloop
from aiohttp import BodyPartReader, web
from core import HEADERS, MAX_PHOTO, BadForm, Tasks


async def read_form(request: web.Request) -> tuple[str, bytes]:
    """The form's name and photo. Raises BadForm."""
    fields: dict[str, bytes] = {}
    async for part in await request.multipart():
        if not isinstance(part, BodyPartReader) or part.name not in ("name", "photo"):
            raise BadForm(400, "the form may have the fields name and photo alone")
        fields[part.name] = bytes(await part.read())
    if len(fields) < 2:
        raise BadForm(400, "the form has no name or no photo")
    return fields["name"].decode(), fields["photo"]


async def post(request: web.Request) -> web.Response:
    try:
        code, body, headers = await tasks.post(*await read_form(request), request.headers.get("Prefer"))
    except BadForm as error:
        return web.json_response({"title": str(error)}, status=error.status, headers=HEADERS)
    return web.json_response(body, status=code, headers=headers)


async def get(request: web.Request) -> web.Response:
    try:
        task_id = int(request.query["task_id"])
    except (KeyError, ValueError):
        return web.json_response({"title": "ask with one task_id"}, status=400, headers=HEADERS)
    code, body, headers = await tasks.get(task_id, request.headers.get("Prefer"))
    return web.json_response(body, status=code, headers=headers)


async def lifespan(app: web.Application) -> AsyncIterator[None]:
    async with tasks.lifespan():
        yield


logging.basicConfig(level=logging.INFO)
asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
port, data, upstream, poll = sys.argv[1:]
tasks = Tasks(Path(data), upstream, float(poll))
app = web.Application(client_max_size=MAX_PHOTO + 65536)
app.cleanup_ctx.append(lifespan)
app.add_routes([web.post("/", post), web.get("/", get)])
web.run_app(app, host="127.0.0.1", port=int(port), backlog=1024, print=None)
